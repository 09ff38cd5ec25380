import type { Now } from '../../src/core/clock.js';
import type { JourneyConfig, JourneyInput } from '../../src/core/journey.js';
import type { Twin } from '../../src/core/twin.js';
import { type AnyEffect, EffectRules } from './effect-rules.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { journeyMachine, type Machine, randomConfig, registrationMachine } from './machines.js';
import { ensure } from './properties.js';
import { randomError } from './random-errors.js';
import { ASSIGNED, ASSIGNED_TPM, ASSIGNING, randomChallenge, randomReply } from './service-corpus.js';

const TWIN: Twin = { desired: { version: 1, properties: {} }, reported: { version: 1, properties: {} } };

/** A machine and its service in virtual time: what is counted here is one answer of the service each. */
export interface AnswerCounter {
  answers: number;
}

export function registrationTarget(counter: AnswerCounter = { answers: 0 }): FuzzTarget {
  return {
    name: 'registration machine',
    run: (random) => drive(random, registrationMachine, REGISTRATION_STRAYS, counter),
  };
}

export function journeyTarget(counter: AnswerCounter = { answers: 0 }): FuzzTarget {
  return {
    name: 'journey machine',
    run: (random) => drive(random, journeyMachine, JOURNEY_STRAYS, counter),
  };
}

function drive(
  random: FuzzRandom,
  make: (config: JourneyConfig) => Machine,
  strays: readonly StrayInput[],
  counter: AnswerCounter,
): string {
  const config = random.note('config', randomConfig(random));
  const world = new World(random, { machine: make(config), strays }, config, counter);
  return world.run();
}

/** An input on its way to the machine. */
interface Coming {
  readonly atMs: number;
  readonly input: JourneyInput;
}

/** No run needs as many: one that does is going round in circles. */
const MAX_INPUTS = 20_000;
const STALE_TICKETS = 20;

/** Everything around a machine: a host that performs, a service that answers anything at any time, and clocks. */
class World {
  readonly #random: FuzzRandom;
  readonly #machine: Machine;
  readonly #strays: readonly StrayInput[];
  readonly #config: JourneyConfig;
  readonly #counter: AnswerCounter;
  readonly #rules: EffectRules;
  /** How this service is, for the whole of the run. */
  readonly #mood: Mood;
  /** The host's timer fires so much after its time at most. */
  readonly #latenessMs: number;
  readonly #startedAtMs: number;
  #nowMs: number;
  #wallOffsetMs: number;
  /** End of the last sleep. */
  #awakeSinceMs = 0;
  #coming: Coming[] = [];
  #tickets: number[] = [];
  #inputs = 0;

  constructor(
    random: FuzzRandom,
    { machine, strays }: { readonly machine: Machine; readonly strays: readonly StrayInput[] },
    config: JourneyConfig,
    counter: AnswerCounter,
  ) {
    this.#random = random;
    this.#machine = machine;
    this.#strays = strays;
    this.#config = config;
    this.#counter = counter;
    this.#rules = new EffectRules(config.slots);
    this.#mood = randomMood(random);
    this.#latenessMs = random.pick([0, 0, 1, 40]);
    this.#startedAtMs = random.pick([0, 12_345.678, 1e12]);
    this.#nowMs = this.#startedAtMs;
    this.#wallOffsetMs = Date.UTC(2026, 10, 21) - this.#nowMs;
    random.note('mood', this.#mood);
    random.note('inputs', [] as string[]);
  }

  run(): string {
    const random = this.#random;
    // Before the start nothing does anything.
    if (random.chance(0.1)) this.#feed(this.#strayInput());
    this.#feed({ type: 'Started' });
    while (this.#rules.outcome === undefined) {
      ensure(this.#inputs < MAX_INPUTS, `it ends within ${MAX_INPUTS} inputs`);
      if (random.chance(0.15)) this.#disturb();
      else this.#next();
    }
    const lateMs = this.#nowMs - Math.max(this.#startedAtMs + this.#config.deadlineMs, this.#awakeSinceMs);
    ensure(lateMs <= this.#latenessMs + 1e-3, `it ends by its deadline, not ${lateMs} ms later`);
    ensure(this.#machine.wakeAtMs() === undefined, 'after the end nobody is to be woken');
    for (let index = 0; index < 5; index += 1) this.#feed(this.#strayInput());
    this.#feed({ type: 'Woke' });
    const { outcome } = this.#rules;
    return outcome.kind === 'failed' ? outcome.error.code : outcome.kind;
  }

  /** The next thing that happens: an answer, or the host's timer. */
  #next(): void {
    const wakeAtMs = this.#machine.wakeAtMs();
    ensure(wakeAtMs !== undefined, `in state ${this.#machine.stateName} something is waited for`);
    const [answer] = this.#coming;
    if (answer !== undefined && answer.atMs <= wakeAtMs) {
      this.#coming.shift();
      this.#passUntil(answer.atMs);
      this.#counter.answers += 1;
      this.#feed(answer.input);
      return;
    }
    this.#passUntil(wakeAtMs);
    this.#passUntil(this.#timerAtMs(wakeAtMs));
    this.#feed({ type: 'Woke' });
    const next = this.#machine.wakeAtMs();
    ensure(
      next === undefined || next > this.#nowMs,
      `being woken in time moves on, in state ${this.#machine.stateName} too`,
    );
  }

  /** Something that has no business here. */
  #disturb(): void {
    const random = this.#random;
    switch (random.below(7)) {
      case 0:
        this.#wallOffsetMs = random.pick([
          0,
          -1e15,
          1e15,
          Number.NaN,
          Date.UTC(2026, 1, 1) - this.#nowMs,
          this.#wallOffsetMs,
        ]);
        return;
      case 1:
        // Waking early does no harm.
        this.#feed({ type: 'Woke' });
        return;
      case 2:
        if (random.chance(0.02))
          this.#feed({ type: 'CancelRequested', reason: random.pick([undefined, 'enough', null]) });
        return;
      case 3:
        // The host was busy: what comes next comes late.
        if (random.chance(0.2)) this.#passUntil(this.#timerAtMs(this.#machine.wakeAtMs() ?? this.#nowMs));
        return;
      case 4:
        // The device slept for hours.
        if (random.chance(0.02)) {
          this.#passUntil(this.#nowMs + random.fraction() * 1e8);
          this.#awakeSinceMs = this.#nowMs;
        }
        return;
      default:
        this.#feed(this.#strayInput());
    }
  }

  /** When the host's timer goes off: in its own time, but never much too late. */
  #timerAtMs(wakeAtMs: number): number {
    return Math.min(this.#nowMs, wakeAtMs) + this.#random.fraction() * this.#latenessMs;
  }

  #passUntil(atMs: number): void {
    this.#nowMs = Math.max(this.#nowMs, atMs);
  }

  #feed(input: JourneyInput): void {
    this.#inputs += 1;
    const now: Now = { monotonicMs: this.#nowMs, wallMs: this.#nowMs + this.#wallOffsetMs, random: this.#draw() };
    const before = this.#machine.stateName;
    if (input.type === 'CredentialReady') this.#rules.prepared(input.ticket);
    if (input.type === 'ConnectionOpened') this.#rules.connected(input.ticket);
    if (input.type === 'IdentityCommitted') this.#rules.committed(input.ticket);
    const effects = this.#machine.step(input, now);
    this.#remember(input, before, effects);
    for (const effect of effects) {
      this.#rules.see(effect, this.#nowMs);
      this.#perform(effect);
    }
  }

  #remember(input: JourneyInput, before: string, effects: readonly AnyEffect[]): void {
    const log = this.#random.notes.find(([label]) => label === 'inputs')?.[1] as string[];
    log.push(`${this.#nowMs} ${before} ${input.type} -> ${effects.map(({ type }) => type).join(' ')}`);
    if (log.length > 60) log.shift();
  }

  #draw(): number {
    return this.#random.pick([0, 1 - 2 ** -53, this.#random.fraction()]);
  }

  /** The service, or the host's own parts, get an order: what they say to it comes later, or never. */
  #perform(effect: AnyEffect): void {
    if (!('ticket' in effect)) return;
    const { ticket } = effect;
    this.#tickets.push(ticket);
    if (this.#tickets.length > STALE_TICKETS) this.#tickets.shift();
    const random = this.#random;
    const { silence, failure, delaysMs } = this.#mood;
    if (random.chance(silence)) return;
    const input: JourneyInput = random.chance(failure)
      ? { type: 'OperationFailed', ticket, error: randomError(random) }
      : this.#answerTo(effect, ticket);
    this.#schedule(input, random.pick(delaysMs));
    // The same answer twice.
    if (random.chance(0.05)) this.#schedule(input, random.pick(delaysMs));
  }

  #schedule(input: JourneyInput, delayMs: number): void {
    this.#coming.push({ atMs: this.#nowMs + delayMs * this.#random.fraction(), input });
    this.#coming.sort((a, b) => a.atMs - b.atMs);
  }

  #answerTo(effect: AnyEffect, ticket: number): JourneyInput {
    switch (effect.type) {
      case 'PrepareCredential':
        return { type: 'CredentialReady', ticket };
      case 'OpenConnection':
        return { type: 'ConnectionOpened', ticket };
      case 'ActivateChallenge':
        return { type: 'ChallengeActivated', ticket };
      case 'StageIdentity':
        return { type: 'IdentityStaged', ticket };
      case 'CommitIdentity':
        return { type: 'IdentityCommitted', ticket };
      case 'OpenHub':
        return { type: 'HubReached', ticket, twin: TWIN };
      default:
        return { type: 'ReplyReceived', ticket, reply: this.#mood.reply(this.#random) };
    }
  }

  /** Late, early, or for nobody: a ticket of old, of the future, of no kind, or the right one for the wrong state. */
  #strayInput(): JourneyInput {
    const random = this.#random;
    const ticket = random.chance(0.3)
      ? random.pick([-1, 0, 1e9, 1.5, Number.NaN])
      : (random.pick([...this.#tickets.slice(0, -1), 0]) ?? 0);
    return random.pick(this.#strays)(ticket, random);
  }
}

type StrayInput = (ticket: number, random: FuzzRandom) => JourneyInput;

const REGISTRATION_STRAYS: readonly StrayInput[] = [
  () => ({ type: 'Started' }),
  (ticket) => ({ type: 'CredentialReady', ticket }),
  (ticket) => ({ type: 'ConnectionOpened', ticket }),
  (ticket, random) => ({ type: 'ReplyReceived', ticket, reply: randomReply(random) }),
  (ticket) => ({ type: 'ChallengeActivated', ticket }),
  (ticket, random) => ({ type: 'OperationFailed', ticket, error: randomError(random) }),
];

const JOURNEY_STRAYS: readonly StrayInput[] = [
  ...REGISTRATION_STRAYS,
  (ticket) => ({ type: 'IdentityStaged', ticket }),
  (ticket) => ({ type: 'HubReached', ticket, twin: TWIN }),
  (ticket) => ({ type: 'IdentityCommitted', ticket }),
];

/** What a service is like: bent on one thing, or anything goes. */
interface Mood {
  readonly name: string;
  /** Chance that an order is never answered. */
  readonly silence: number;
  /** Chance that it fails. */
  readonly failure: number;
  /** An answer takes up to one of these. */
  readonly delaysMs: readonly number[];
  reply(random: FuzzRandom): ReturnType<typeof randomReply> | ReturnType<typeof randomChallenge>;
}

function randomMood(random: FuzzRandom): Mood {
  const anything = (from: FuzzRandom): ReturnType<Mood['reply']> =>
    from.chance(0.05) ? randomChallenge(from) : randomReply(from);
  const endless = endlessReply(random);
  return random.pick<Mood>([
    { name: 'anything', silence: 0.05, failure: 0.1, delaysMs: [0, 10, 5_000, 70_000], reply: anything },
    { name: 'anything at once', silence: 0, failure: 0.02, delaysMs: [0], reply: anything },
    {
      name: 'endless',
      silence: 0.01,
      failure: 0,
      delaysMs: [0, 5],
      reply: (from) => (from.chance(0.97) ? endless : anything(from)),
    },
    { name: 'failing', silence: 0.02, failure: 0.8, delaysMs: [0, 100], reply: anything },
    { name: 'helpful', silence: 0.03, failure: 0.1, delaysMs: [0, 200, 20_000], reply: helpfulReply },
    { name: 'helpful', silence: 0.03, failure: 0.3, delaysMs: [0, 200], reply: helpfulReply },
    { name: 'silent', silence: 0.8, failure: 0.05, delaysMs: [0, 100_000], reply: anything },
  ]);
}

/** Nearly always what it should be, so that runs get as far as the hub. */
function helpfulReply(random: FuzzRandom): ReturnType<Mood['reply']> {
  if (random.chance(0.05)) return randomReply(random);
  const [status, body] = random.pick([
    [202, ASSIGNING],
    [200, ASSIGNED],
    [200, ASSIGNED_TPM],
  ] as const);
  return { kind: 'reply', status, body: new TextEncoder().encode(JSON.stringify(body)), retryAfter: '0' };
}

/** An answer that never ends the matter. */
function endlessReply(random: FuzzRandom): ReturnType<typeof randomReply> {
  const [status, body] = random.pick([
    [202, '{"operationId":"op","status":"assigning"}'],
    [429, ''],
    [503, '{}'],
    [404, '{"errorCode":404204}'],
    [401, '{"errorCode":401002}'],
    [409, '{}'],
    [500, '<html>'],
  ] as const);
  const retryAfter = random.pick([undefined, '0', '-5', '0.001', 'Thu, 01 Jan 1970 00:00:00 GMT']);
  return {
    kind: 'reply',
    status,
    body: new TextEncoder().encode(body),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  };
}
