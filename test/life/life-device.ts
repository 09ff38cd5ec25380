import type { Now } from '../../src/core/clock.js';
import { isPlausibleWallMs } from '../../src/core/clock.js';
import {
  type Journey,
  type JourneyConfig,
  type JourneyEffect,
  type JourneyInput,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from '../../src/core/journey.js';
import { decodeRecord, encodeRecord } from '../../src/core/record.js';
import { type DpsError, HsmError, StoreError } from '../../src/errors.js';
import type { FuzzRandom } from '../fuzz/fuzz-random.js';
import { type Asker, BIRTH_WALL_MS, type Cloud } from './cloud.js';
import type { EventQueue } from './event-queue.js';
import { clockFailure, lossFailure, networkFailure, refusal, throttled, untrusted } from './failures.js';
import type { LifeRules } from './life-rules.js';
import { TpmModel } from './tpm-model.js';

type Ordered<Type extends JourneyEffect['type']> = Extract<JourneyEffect, { readonly type: Type }>;

export interface LifeSurroundings {
  readonly random: FuzzRandom;
  readonly cloud: Cloud;
  readonly queue: EventQueue<() => void>;
  readonly rules: LifeRules;
  /** Notes a line for the report of a failing life. */
  tell(line: string | (() => string)): void;
  nowMs(): number;
}

/** What of an order has been done when the power goes. */
interface Doing {
  readonly effect: JourneyEffect;
  isAbandoned: boolean;
}

/** The device: a host that performs what the real machine orders, with a disk, a TPM, clocks and a plug. */
export class LifeDevice {
  readonly #config: JourneyConfig;
  readonly #around: LifeSurroundings;
  readonly tpm: TpmModel = new TpmModel();
  readonly hasBattery: boolean;
  wallErrorMs = 0;
  /** X.509: which certificate it has. */
  certificate = 0;
  #disk: Uint8Array | undefined;
  #journey: Journey;
  #isRunning = false;
  #doing: Doing | undefined;
  #asker: Asker | undefined;
  #slot = 0;
  #bootAtMs = 0;
  #session: string | undefined;
  /** `once`: the journey has ended well, and the application is at the hub. */
  #isServed = false;
  #cutAfterEffects = -1;
  /** Of processes and sessions, so that what belongs to an earlier one is told apart. */
  #generation = 0;
  boots = 0;
  steps = 0;

  constructor(config: JourneyConfig, around: LifeSurroundings) {
    this.#config = config;
    this.#around = around;
    this.hasBattery = around.random.chance(0.6);
    this.#journey = newJourney(config);
  }

  get isAtHub(): boolean {
    return this.#session !== undefined || this.#isServed;
  }

  get isRunning(): boolean {
    return this.#isRunning;
  }

  /** Where it is, or was last. */
  get hub(): string | undefined {
    return this.#session;
  }

  /** In true time, and whole milliseconds: sums of fractions miss the moment that was asked for by a hair. */
  get wakeAtMs(): number {
    const wakeAtMs = this.#isRunning ? journeyWakeAtMs(this.#journey) : undefined;
    return wakeAtMs === undefined ? Number.POSITIVE_INFINITY : Math.ceil(wakeAtMs) + this.#bootAtMs;
  }

  wake(): void {
    this.feed({ type: 'Woke' });
    if (this.#isRunning) this.#around.rules.woken(this.#journey, this.#monotonicMs());
  }

  /** The power is there. */
  boot(): void {
    const { random, queue, cloud } = this.#around;
    if (this.#isRunning) return;
    this.boots += 1;
    this.#bootAtMs = this.#around.nowMs();
    if (!this.hasBattery) {
      this.wallErrorMs = -BIRTH_WALL_MS - this.#bootAtMs;
      const setAtMs = Math.max(this.#bootAtMs, cloud.untilMs.get('network') ?? 0) + random.between(100, 120_000);
      this.#disturb(setAtMs);
      const bootAtMs = this.#bootAtMs;
      queue.push(setAtMs, () => {
        if (this.#bootAtMs === bootAtMs && !cloud.has('clock', this.#around.nowMs())) this.wallErrorMs = 0;
      });
    }
    this.#start();
  }

  /** The plug is pulled: now, or between two of the next effects. */
  cut(): void {
    const { random } = this.#around;
    if (!this.#isRunning) return;
    if (random.chance(0.5)) this.#powerOff();
    else this.#cutAfterEffects = random.below(8);
  }

  feed(input: JourneyInput): void {
    if (!this.#isRunning) return;
    const { rules } = this.#around;
    const before = this.#journey.state.name;
    const step = stepJourney(this.#journey, input, this.#now());
    this.steps += 1;
    this.#journey = step.journey;
    this.#tell(input, before, step.effects);
    const generation = this.#generation;
    for (const effect of step.effects) {
      if (this.#cutAfterEffects === 0) {
        this.#powerOff();
        return;
      }
      if (effect.type !== 'ReportProgress') this.#cutAfterEffects -= 1;
      rules.see(effect, this.#around.nowMs(), this.#monotonicMs());
      this.#perform(effect);
    }
    // Performing may have ended the process.
    if (generation === this.#generation) rules.stepped(this.#journey, this.#around.nowMs(), this.#monotonicMs());
  }

  /** The session, or the application's own, is gone. */
  loseHub(error: DpsError = lossFailure(this.#session ?? 'hub')): void {
    const { rules, queue, random } = this.#around;
    if (!this.isAtHub) return;
    rules.lostHub(this.#around.nowMs());
    this.#session = undefined;
    if (!this.#isServed) {
      this.feed({ type: 'HubLost', error });
      return;
    }
    this.#isServed = false;
    queue.push(this.#around.nowMs() + random.between(1_000, 30_000), () => this.#restart());
  }

  /** Told to go: a direct method, a desired property, an operator. */
  reprovision(): void {
    const { rules } = this.#around;
    if (!this.#isRunning || this.#config.purpose !== 'keep') return;
    rules.commanded(this.#around.nowMs());
    this.feed({ type: 'ReprovisionRequested', by: 'operator' });
  }

  /** Told to end; the power goes some time after. */
  shutDown(): void {
    const { rules, queue, random } = this.#around;
    if (!this.#isRunning) return;
    rules.cancelled(this.#around.nowMs());
    this.feed({ type: 'CancelRequested', reason: 'shutdown' });
    queue.push(this.#around.nowMs() + random.between(1, 10_000), () => {
      rules.checkEnded(this.#around.nowMs());
      this.#powerOff();
    });
  }

  changeTwin(): void {
    const hub = this.#session;
    if (hub !== undefined) this.feed({ type: 'TwinChanged', twin: this.#around.cloud.twinOf(hub) });
  }

  /** One copy rots, or both: with one left the store would give an older record, here it gives none. */
  damageDisk(): void {
    const { random } = this.#around;
    if (this.#disk !== undefined) this.#disk = this.#disk.slice(0, random.below(this.#disk.length));
  }

  // ── process and power ─────────────────────────────────────────────────────────────────────────────────────────────

  #start(): void {
    this.#generation += 1;
    this.#isRunning = true;
    this.#isServed = false;
    this.#cutAfterEffects = -1;
    this.#journey = newJourney(this.#config);
    this.#around.rules.begin();
    this.feed({ type: 'Started' });
  }

  #restart(): void {
    if (this.#isRunning || this.#isServed || this.#bootAtMs < 0) return;
    this.#start();
  }

  #powerOff(): void {
    const { queue, random } = this.#around;
    if (this.#bootAtMs < 0) return;
    this.#end();
    this.#around.rules.powerLost();
    this.#around.rules.lostHub(this.#around.nowMs());
    this.#bootAtMs = -1;
    const forMs = random.chance(0.8) ? random.between(1_000, 60_000) : random.between(60_000, 7_200_000);
    this.#disturb(this.#around.nowMs() + forMs);
    queue.push(this.#around.nowMs() + forMs, () => this.boot());
  }

  /** The process is gone; what it was doing is done in part. */
  #end(): void {
    const { random } = this.#around;
    const doing = this.#doing;
    if (doing !== undefined) this.#abandon();
    if (doing === undefined || doing.effect.type !== 'SaveRecord') {
      const effect = doing?.effect;
      const during = { StageIdentity: 'stage', CommitIdentity: 'commit' } as const;
      const step =
        effect?.type === 'StageIdentity' || effect?.type === 'CommitIdentity' ? during[effect.type] : undefined;
      this.tpm.cut(random, step, effect?.type === 'StageIdentity' ? keyIn(effect.authenticationKey) : '');
    } else {
      this.tpm.cut(random, undefined, '');
    }
    this.#generation += 1;
    this.#isRunning = false;
    this.#isServed = false;
    this.#session = undefined;
  }

  #finish({ outcome }: Ordered<'FinishJourney'>): void {
    const { queue, random, rules } = this.#around;
    const hub = outcome.kind === 'provisioned' ? outcome.result.assignedHub : undefined;
    this.#end();
    if (hub === undefined) rules.lostHub(this.#around.nowMs());
    if (hub !== undefined) {
      this.#isServed = true;
      this.#session = hub;
      rules.arrived(hub, this.#around.nowMs());
      return;
    }
    const forMs = random.between(30_000, 300_000);
    if (outcome.kind === 'failed' && outcome.error.code === 'ERR_DPS_CANCELLED') return;
    queue.push(this.#around.nowMs() + forMs, () => this.#restart());
  }

  #disturb(untilMs: number = this.#around.nowMs()): void {
    this.#around.rules.disturbed(untilMs);
  }

  #monotonicMs(): number {
    return this.#around.nowMs() - this.#bootAtMs;
  }

  #now(): Now {
    // Some clocks tell fractions.
    const wallMs = BIRTH_WALL_MS + this.#around.nowMs() + this.wallErrorMs + 0.25;
    return { monotonicMs: this.#monotonicMs(), wallMs, random: this.#around.random.fraction() };
  }

  // ── orders ────────────────────────────────────────────────────────────────────────────────────────────────────────

  #perform(effect: JourneyEffect): void {
    switch (effect.type) {
      case 'LoadRecord':
        this.#local(effect, () => this.#load(effect));
        break;
      case 'SaveRecord':
        this.#local(effect, () => this.#save(effect));
        break;
      case 'PrepareCredential':
        this.#local(effect, () => this.#prepare(effect));
        break;
      case 'ActivateChallenge':
        this.#local(effect, () => this.#useTpm(effect, { type: 'ChallengeActivated', ticket: effect.ticket }));
        break;
      case 'StageIdentity':
        this.#local(effect, () => this.#useTpm(effect, { type: 'IdentityStaged', ticket: effect.ticket }));
        break;
      case 'CommitIdentity':
        this.#local(effect, () => this.#useTpm(effect, { type: 'IdentityCommitted', ticket: effect.ticket }));
        break;
      case 'DiscardIdentity':
        this.tpm.discard();
        break;
      case 'OpenConnection':
        this.#remote(effect, () => this.#connect(effect));
        break;
      case 'SendRequest':
        this.#send(effect);
        break;
      case 'OpenHub':
        this.#remote(effect, () => this.#openHub(effect));
        break;
      case 'HandOutSession':
        this.#session = effect.arrival.result.assignedHub;
        this.#around.rules.arrived(this.#session, this.#around.nowMs());
        break;
      case 'CloseConnection':
        this.#abandon();
        break;
      case 'CloseHub':
        this.#abandon();
        this.#session = undefined;
        break;
      case 'FinishJourney':
        this.#finish(effect);
        break;
      default:
        return;
    }
  }

  /** Something on the device itself: quick, and answered, unless it hangs. */
  #local(effect: JourneyEffect, work: () => JourneyInput): void {
    const { random, cloud, rules } = this.#around;
    const doing = this.#begin(effect);
    const isStore = effect.type === 'LoadRecord' || effect.type === 'SaveRecord';
    const isTroubled = cloud.has(isStore ? 'store' : 'hsm', this.#around.nowMs());
    if (isTroubled && this.#config.purpose === 'keep' && random.chance(0.1)) {
      if (!isStore) rules.failedItself();
      return;
    }
    this.#answer(doing, random.between(1, isTroubled ? 5_000 : 60), work);
  }

  #remote(effect: JourneyEffect, work: () => JourneyInput | undefined): void {
    const { random, cloud } = this.#around;
    const isSlow = cloud.has('slow', this.#around.nowMs());
    this.#answer(this.#begin(effect), isSlow ? random.between(1_000, 70_000) : random.between(20, 400), work);
  }

  /** A request is handled when it is sent; its answer has to find its way. */
  #send(effect: Ordered<'SendRequest'>): void {
    const { cloud } = this.#around;
    const nowMs = this.#around.nowMs();
    const asker = this.#asker;
    if (asker === undefined) throw new Error('a request without a credential');
    const reply = this.#isCutOff() ? undefined : cloud.answer(effect.request, asker, nowMs);
    this.#remote(effect, () => {
      const { ticket } = effect;
      if (reply === undefined || this.#isCutOff()) return this.#loss(ticket, 'dps');
      if (reply.kind === 'reply') this.#hear(effect, reply.status, reply.body);
      return { type: 'ReplyReceived', ticket, reply };
    });
  }

  #hear({ request }: Ordered<'SendRequest'>, status: number, body: Uint8Array): void {
    const { rules } = this.#around;
    const nowMs = this.#around.nowMs();
    const text = Buffer.from(body).toString();
    const hub = /"assignedHub":"([^"]+)"/.exec(text)?.[1];
    if (status === 200 && hub !== undefined) rules.told(hub, nowMs, request.kind === 'statusLookup');
    if (status === 200 && hub === undefined) rules.refusedByDps(nowMs);
    if (status === 401 && this.#slot === this.#config.slots - 1) rules.refusedByDps(nowMs);
  }

  #load({ ticket }: Ordered<'LoadRecord'>): JourneyInput {
    const decoded = this.#disk === undefined ? ({ kind: 'none' } as const) : decodeRecord(this.#disk);
    if (decoded.kind === 'newer') throw new Error('no such record was written');
    this.#around.rules.loaded(decoded);
    return { type: 'RecordLoaded', ticket, loaded: decoded };
  }

  #save({ ticket, record }: Ordered<'SaveRecord'>): JourneyInput {
    const { cloud } = this.#around;
    if (cloud.has('store', this.#around.nowMs())) return { type: 'OperationFailed', ticket, error: full() };
    this.#disk = encodeRecord(record);
    return { type: 'RecordSaved', ticket };
  }

  #prepare({ ticket, slot, token }: Ordered<'PrepareCredential'>): JourneyInput {
    const { attestation } = this.#config;
    const key = attestation === 'tpm' ? (this.tpm.signingKey ?? '') : this.#keyIn(slot);
    this.#slot = slot;
    this.#asker = {
      key,
      isUnproven: attestation === 'tpm' && token === undefined,
      expiresAtWallMs: token === undefined ? Number.POSITIVE_INFINITY : token.expirySeconds * 1_000,
    };
    return { type: 'CredentialReady', ticket };
  }

  #keyIn(slot: number): string {
    return this.#config.attestation === 'x509' ? `certificate-${this.certificate}#${slot}` : `key#${slot}`;
  }

  #useTpm(effect: Ordered<'ActivateChallenge' | 'StageIdentity' | 'CommitIdentity'>, done: JourneyInput): JourneyInput {
    const { cloud, random, rules } = this.#around;
    const { ticket } = effect;
    const isFailing = (cloud.failingTpmOrder ?? effect.type) === effect.type && random.chance(0.9);
    if (isFailing && cloud.has('hsm', this.#around.nowMs())) {
      rules.failedItself();
      return { type: 'OperationFailed', ticket, error: busy() };
    }
    if (effect.type === 'ActivateChallenge') this.tpm.activate();
    if (effect.type === 'StageIdentity') this.tpm.stage(keyIn(effect.authenticationKey));
    if (effect.type === 'CommitIdentity') {
      this.tpm.commit();
      rules.committed();
    }
    return done;
  }

  #connect({ ticket }: Ordered<'OpenConnection'>): JourneyInput | undefined {
    const { cloud, random, rules } = this.#around;
    const nowMs = this.#around.nowMs();
    if (this.#isCutOff()) return this.#loss(ticket, 'dps');
    if (cloud.has('dps', nowMs) && random.chance(0.5))
      return { type: 'OperationFailed', ticket, error: networkFailure(random, 'dps') };
    const asker = this.#asker;
    const isRefused = this.#config.transport === 'mqtt' && asker !== undefined && !cloud.accepts(asker, nowMs);
    if (!isRefused) return { type: 'ConnectionOpened', ticket };
    if (this.#slot === this.#config.slots - 1) rules.refusedByDps(nowMs);
    return { type: 'OperationFailed', ticket, error: refusal('dps') };
  }

  #openHub({ ticket, assignedHub, slot }: Ordered<'OpenHub'>): JourneyInput | undefined {
    const { cloud, rules, random } = this.#around;
    const nowMs = this.#around.nowMs();
    const fails = (error: DpsError): JourneyInput => ({ type: 'OperationFailed', ticket, error });
    const wallMs = BIRTH_WALL_MS + nowMs + this.wallErrorMs;
    const needsToken = this.#config.attestation !== 'x509';
    if (needsToken && !isPlausibleWallMs(wallMs)) return fails(clockFailure());
    const isTpm = this.#config.attestation === 'tpm';
    if (isTpm && cloud.has('hsm', nowMs) && random.chance(0.5)) return fails(busy());
    const key = isTpm ? this.tpm.signingKey : this.#keyIn(slot);
    if (key === undefined) return fails(noIdentity());
    if (this.#isCutOff()) return this.#loss(ticket, assignedHub);
    if (!cloud.hubs.has(assignedHub)) return fails(networkFailure(random, assignedHub, 'ERR_DPS_DNS'));
    if (cloud.has('hubUntrusted', nowMs)) return fails(untrusted(assignedHub));
    if (cloud.has('hub', nowMs)) return this.#loss(ticket, assignedHub);
    const isExpired = needsToken && wallMs + 3_600_000 < BIRTH_WALL_MS + nowMs;
    if (isExpired || !cloud.admits(assignedHub, key, nowMs)) return fails(refusal(assignedHub));
    if (cloud.has('hubThrottle', nowMs) && random.chance(0.8)) return fails(throttled(random));
    rules.accepted(assignedHub);
    return { type: 'HubReached', ticket, twin: cloud.twinOf(assignedHub) };
  }

  /** No way through the network, or a packet lost on it. */
  #isCutOff(): boolean {
    const { cloud, random } = this.#around;
    const nowMs = this.#around.nowMs();
    return cloud.has('network', nowMs) || (cloud.has('loss', nowMs) && random.chance(0.3));
  }

  /** Said at once, or only by silence. */
  #loss(ticket: number, peer: string): JourneyInput | undefined {
    const { random } = this.#around;
    return random.chance(0.4) ? undefined : { type: 'OperationFailed', ticket, error: networkFailure(random, peer) };
  }

  #begin(effect: JourneyEffect): Doing {
    this.#abandon();
    const doing: Doing = { effect, isAbandoned: false };
    this.#doing = doing;
    return doing;
  }

  #answer(doing: Doing, afterMs: number, work: () => JourneyInput | undefined): void {
    const { queue } = this.#around;
    queue.push(this.#around.nowMs() + afterMs, () => {
      if (doing.isAbandoned) return;
      this.#doing = undefined;
      const input = work();
      if (input !== undefined) this.feed(input);
    });
  }

  /** A save that is cut short is done or not, nothing between. */
  #abandon(): void {
    const doing = this.#doing;
    if (doing === undefined) return;
    doing.isAbandoned = true;
    this.#doing = undefined;
    const isWritten = doing.effect.type === 'SaveRecord' && this.#around.random.chance(0.5);
    if (isWritten && doing.effect.type === 'SaveRecord') this.#disk = encodeRecord(doing.effect.record);
  }

  #tell(input: JourneyInput, before: string, effects: readonly JourneyEffect[]): void {
    const { name } = this.#journey.state;
    this.#around.tell(() => {
      const why = input.type === 'OperationFailed' || input.type === 'HubLost' ? ` ${input.error.code}` : '';
      const what = effects.filter(({ type }) => type !== 'ReportProgress').map((effect) => wordFor(effect));
      return `${before}: ${input.type}${why} -> ${name} ${what.join(' ')}`;
    });
  }
}

function wordFor(effect: JourneyEffect): string {
  if (effect.type === 'OpenHub') return `OpenHub(${effect.assignedHub})`;
  if (effect.type === 'SendRequest') return `SendRequest(${effect.request.kind})`;
  return effect.type;
}

function keyIn(authenticationKey: string): string {
  return Buffer.from(authenticationKey, 'base64').toString();
}

function full(): StoreError {
  return new StoreError({ code: 'ERR_DPS_STORE_FULL', message: 'full', operation: 'write', path: 'disk' });
}

function busy(): HsmError {
  return new HsmError({ code: 'ERR_DPS_HSM_TPM_BUSY', message: 'busy', operation: 'sign', retryable: true });
}

function noIdentity(): HsmError {
  return new HsmError({ code: 'ERR_DPS_HSM_TPM_NO_IDENTITY', message: 'cleared', operation: 'sign' });
}
