import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { getEventListeners } from 'node:events';
import type { Hsm, SymmetricKeyHsm, TpmHsm, X509Hsm } from '../../src/core/attestation.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { HubSession, HubTransport } from '../../src/core/hub.js';
import type { DpsChallenge, DpsReply, DpsTransport } from '../../src/core/transport.js';
import type { JsonObject, Twin } from '../../src/core/twin.js';
import { PROGRESS_CHANNEL } from '../../src/diagnostics.js';
import { ProgressLog } from '../../src/progress-log.js';
import { provisionWith } from '../../src/provision.js';
import type { ProvisioningParts } from '../../src/provisioning-parts.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { PaceRule } from './effect-rules.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import type { AnswerCounter } from './machine-targets.js';
import { ensure, settledOrCode } from './properties.js';
import { randomError } from './random-errors.js';
import { ASSIGNED, ASSIGNED_TPM, ASSIGNING, randomChallenge, randomReply } from './service-corpus.js';

const TWIN: Twin = { desired: { version: 2, properties: {} }, reported: { version: 1, properties: {} } };

/** The loop that performs what the machine orders, with parts that do anything at any time. */
export function loopTarget(counter: AnswerCounter = { answers: 0 }): FuzzTarget {
  return {
    name: 'loop',
    run: async (random) => {
      const bench = new LoopBench(random, counter);
      const outcome = await bench.run();
      await bench.requireNothingLeft();
      return outcome;
    },
  };
}

const MAX_ROUNDS = 20_000;
const ROUNDING_MS = 1e-3;
const NEVER: AbortSignal = new AbortController().signal;

class LoopBench {
  readonly #random: FuzzRandom;
  readonly #counter: AnswerCounter;
  readonly #clock: ManualClock = new ManualClock();
  readonly #pace: PaceRule = new PaceRule('requests to DPS');
  readonly #deadlineMs: number;
  readonly #cancellation: AbortController = new AbortController();
  readonly #kind: Hsm['kind'];
  readonly #helpful: boolean;
  /** What the fakes have under way, to tell their timers from the loop's. */
  #fakeTimers = 0;
  #connections = 0;
  #sessions = 0;
  #isOver = false;

  constructor(random: FuzzRandom, counter: AnswerCounter) {
    this.#random = random;
    this.#counter = counter;
    this.#deadlineMs = random.note('deadlineMs', random.pick([1, 5_000, 100_000, 300_000]));
    this.#kind = random.note('kind', random.pick(['symmetricKey', 'x509', 'tpm'] as const));
    this.#helpful = random.chance(0.5);
  }

  async run(): Promise<string> {
    const log = new ProgressLog();
    const events = readAll(log);
    const stopWatching = this.#watchProgress();
    const work = provisionWith(this.#parts(), log);
    const settled = settledOrCode(work).finally(() => {
      this.#isOver = true;
      stopWatching();
    });
    settled.catch(() => {});
    await this.#letTimePass();
    const outcome = await settled;
    const types = await events;
    const lateMs = this.#clock.monotonicMs() - this.#deadlineMs;
    ensure(lateMs <= ROUNDING_MS, `it ends by its deadline, not ${lateMs} ms later`);
    const last = 'code' in outcome ? 'ended' : 'provisioned';
    const ends = types.filter((type) => type === 'ended' || type === 'provisioned');
    // Nothing was started when there was no identity to start with.
    ensure(types.length === 0 || (types.at(-1) === last && ends.length === 1), `the last event is ${last}, once`);
    return 'code' in outcome ? outcome.code : 'provisioned';
  }

  async requireNothingLeft(): Promise<void> {
    const timers = this.#clock.pending - this.#fakeTimers;
    ensure(timers === 0, `${timers} timers are left`);
    // What a deaf part opens when all is over is closed all the same.
    while (this.#clock.advanceToNext()) await new Promise((resolve) => setImmediate(resolve));
    ensure(this.#connections === 0, `${this.#connections} connections to DPS are left open`);
    ensure(this.#sessions === 0, `${this.#sessions} hub sessions are left open`);
    const listeners = getEventListeners(this.#cancellation.signal, 'abort').length;
    ensure(listeners === 0, `${listeners} listeners are left on the caller's signal`);
  }

  async #letTimePass(): Promise<void> {
    const cancelAtRound = this.#random.chance(0.2) ? this.#random.below(30) : -1;
    for (let round = 0; !this.#isOver; round += 1) {
      ensure(round < MAX_ROUNDS, `it settles within ${MAX_ROUNDS} rounds`);
      if (round === cancelAtRound) this.#cancellation.abort(new Error('enough'));
      await new Promise((resolve) => setImmediate(resolve));
      if (!this.#isOver && !this.#clock.advanceToNext())
        ensure(this.#isOver, 'without a timer nothing will ever happen');
    }
  }

  /** A subscriber is called in the middle of things, and may cancel there. */
  #watchProgress(): () => void {
    let eventsLeft = this.#random.chance(0.1) ? this.#random.below(12) : Number.POSITIVE_INFINITY;
    const onEvent = (): void => {
      eventsLeft -= 1;
      if (eventsLeft < 0) this.#cancellation.abort(new Error('enough of this'));
    };
    subscribe(PROGRESS_CHANNEL, onEvent);
    return () => unsubscribe(PROGRESS_CHANNEL, onEvent);
  }

  #parts(): ProvisioningParts {
    const random = this.#random;
    return {
      idScope: '0ne00111111',
      endpoint: 'dps.example',
      hsm: this.#hsm(),
      dps: this.#transport(),
      hub: this.#hub(),
      clock: this.#clock,
      random: () => random.fraction(),
      deadlineMs: this.#deadlineMs,
      connectTimeoutMs: random.pick([50, 20_000]),
      requestTimeoutMs: random.pick([50, 10_000]),
      hubTimeoutMs: random.pick([50, 50_000]),
      tokenLifeSeconds: random.pick([30, 3_600]),
      signal: this.#cancellation.signal,
    };
  }

  /** Some work of a part: at once, later, never; done, failed, or given up when it is told to, unless it is deaf. */
  async #does<T>(signal: CancelSignal, make: () => T): Promise<T> {
    const random = this.#random;
    const isNever = random.chance(this.#helpful ? 0.01 : 0.1);
    const delayMs = isNever ? Number.POSITIVE_INFINITY : random.pick([0, 0, 1, 2_000, 30_000]) * random.fraction();
    const heard = random.chance(0.03) && !isNever ? NEVER : signal;
    if (delayMs > 0) await this.#wait(delayMs, heard);
    if (random.chance(this.#helpful ? 0.02 : 0.15)) throw randomError(random);
    return make();
  }

  #wait(ms: number, signal: CancelSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const stop = this.#after(ms, () => {
        signal.removeEventListener('abort', giveUp);
        resolve();
      });
      const giveUp = (): void => {
        stop();
        reject(signal.reason);
      };
      if (signal.aborted) giveUp();
      else signal.addEventListener('abort', giveUp, { once: true });
    });
  }

  #after(ms: number, fn: () => void): () => void {
    if (ms === Number.POSITIVE_INFINITY) return () => {};
    this.#fakeTimers += 1;
    let isSet = true;
    const over = (): void => {
      if (isSet) this.#fakeTimers -= 1;
      isSet = false;
    };
    const stop = this.#clock.after(ms, () => {
      over();
      fn();
    });
    return () => {
      stop();
      over();
    };
  }

  #transport(): DpsTransport {
    return {
      name: 'fake',
      open: (_parameters, signal) =>
        this.#does(signal, () => {
          this.#connections += 1;
          let isOpen = true;
          return {
            exchange: (_request, within) => {
              ensure(isOpen, 'a closed connection is not used');
              this.#pace.take(this.#clock.monotonicMs());
              return this.#does(within, () => this.#answer());
            },
            close: async () => {
              if (isOpen) this.#connections -= 1;
              isOpen = false;
            },
          };
        }),
    };
  }

  #answer(): DpsReply | DpsChallenge {
    const random = this.#random;
    this.#counter.answers += 1;
    if (this.#helpful && random.chance(0.9)) {
      const [status, body] = random.pick([
        [202, ASSIGNING],
        [200, ASSIGNED],
        [200, ASSIGNED_TPM],
      ] as const satisfies readonly (readonly [number, JsonObject])[]);
      return { kind: 'reply', status, body: new TextEncoder().encode(JSON.stringify(body)), retryAfter: '0' };
    }
    return random.chance(0.1) ? randomChallenge(random) : randomReply(random);
  }

  #hub(): HubTransport {
    return {
      name: 'fake',
      open: (_parameters, signal) =>
        this.#does(signal, () => {
          this.#sessions += 1;
          let isOpen = true;
          const close = async (): Promise<void> => {
            if (isOpen) this.#sessions -= 1;
            isOpen = false;
          };
          return { twin: TWIN, closed: new Promise(() => {}), close } as unknown as HubSession;
        }),
      connectionInfo: () => ({
        mqttOptions: () => Promise.reject(new Error('unused')),
        connectionString: () => Promise.reject(new Error('unused')),
      }),
    };
  }

  #hsm(): Hsm {
    const named = {
      registrationId: (signal: CancelSignal) => this.#identity(signal, () => 'dev-1'),
      slots: this.#random.pick([1, 2]),
    };
    const sign = (_data: Uint8Array, _slot: number, signal: CancelSignal): Promise<Uint8Array> =>
      this.#does(signal, () => new Uint8Array(32));
    const act = (_blob: Uint8Array, signal: CancelSignal): Promise<void> => this.#does(signal, () => undefined);
    const endorsement = (signal: CancelSignal): ReturnType<TpmHsm['endorsement']> =>
      this.#identity(signal, () => ({ endorsementKey: new Uint8Array(4), storageRootKey: new Uint8Array(4) }));
    switch (this.#kind) {
      case 'symmetricKey':
        return { kind: 'symmetricKey', ...named, sign } satisfies SymmetricKeyHsm;
      case 'x509':
        return {
          kind: 'x509',
          ...named,
          tlsCredential: (_slot, signal) => this.#does(signal, () => ({ certificateChainPem: '', privateKeyPem: '' })),
        } satisfies X509Hsm;
      case 'tpm':
        return {
          kind: 'tpm',
          ...named,
          endorsement,
          activate: act,
          sign,
          stage: act,
          commit: (signal) => this.#does(signal, () => undefined),
          discard: async () => {},
        } satisfies TpmHsm;
    }
  }

  /** Reading the identity comes first: it has to work mostly, or nothing else is ever tried. */
  #identity<T>(signal: CancelSignal, make: () => T): Promise<T> {
    return this.#random.chance(0.95) ? Promise.resolve(make()) : this.#does(signal, make);
  }
}

async function readAll(log: ProgressLog): Promise<string[]> {
  const types: string[] = [];
  for await (const event of log) types.push(event.type);
  return types;
}
