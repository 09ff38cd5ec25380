import type { Now } from '../../src/core/clock.js';
import {
  type Journey,
  type JourneyConfig,
  type JourneyEffect,
  type JourneyInput,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from '../../src/core/journey.js';
import type { DpsError } from '../../src/errors.js';
import { BIRTH_WALL_MS } from './cloud.js';
import type { Rot } from './disk-model.js';
import { lossFailure } from './failures.js';
import type { KeyStoreModel } from './key-store-model.js';
import { LifeOrders, type LifeSurroundings, type Ordered, type OrderHost } from './life-orders.js';
import { TpmModel } from './tpm-model.js';

/** The device: a process that runs the real machine, with clocks and a plug. */
export class LifeDevice implements OrderHost {
  /** Of this process: a key store is read when it begins. */
  config: JourneyConfig;
  readonly keyStore: KeyStoreModel | undefined;
  readonly #around: LifeSurroundings;
  readonly tpm: TpmModel = new TpmModel();
  readonly hasBattery: boolean;
  wallErrorMs = 0;
  /** X.509: which certificate it has. */
  certificate = 0;
  readonly #orders: LifeOrders;
  #journey: Journey;
  #isRunning = false;
  #bootAtMs = 0;
  #session: string | undefined;
  /** `once`: the journey has ended well, and the application is at the hub. */
  #isServed = false;
  #cutAfterEffects = -1;
  /** Of processes and sessions, so that what belongs to an earlier one is told apart. */
  #generation = 0;
  boots = 0;
  steps = 0;

  constructor(config: JourneyConfig, around: LifeSurroundings, keyStore: KeyStoreModel | undefined) {
    this.config = config;
    this.keyStore = keyStore;
    this.#around = around;
    this.hasBattery = around.random.chance(0.6);
    this.#journey = newJourney(config);
    this.#orders = new LifeOrders(around, { host: this, tpm: this.tpm, keyStore });
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
    const { state } = step.journey;
    rules.heard({ input, before, state, monotonicMs: this.#monotonicMs() }, step.effects);
    const generation = this.#generation;
    for (const effect of step.effects) {
      if (this.#cutAfterEffects === 0) {
        this.#powerOff();
        return;
      }
      if (effect.type !== 'ReportProgress') this.#cutAfterEffects -= 1;
      rules.see(effect, this.#around.nowMs(), this.#monotonicMs());
      this.#orders.perform(effect);
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
    if (!this.#isRunning || this.config.purpose !== 'keep') return;
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
    if (hub === undefined || !this.#isRunning) return;
    const twin = this.#around.cloud.twinOf(hub);
    this.#around.rules.twinChanged(twin, this.#around.nowMs());
    this.feed({ type: 'TwinChanged', twin });
  }

  damageDisk(what: Rot): void {
    this.#orders.damageDisk(what);
  }

  /** Keys were staged, enrolled or removed: does the process have one that is of use? */
  lookAtKeys(): void {
    const { rules, cloud } = this.#around;
    const { keyIds } = this.config;
    const isKeyless = keyIds !== undefined && !keyIds.some((key) => cloud.enrolled.has(key));
    rules.keyless(isKeyless, this.#around.nowMs());
  }

  handOut(hub: string): void {
    this.#session = hub;
    this.#around.rules.arrived(hub, this.#around.nowMs(), this.#monotonicMs());
  }

  closeHub(): void {
    this.#session = undefined;
    this.#around.rules.record.left();
  }

  finish({ outcome }: Ordered<'FinishJourney'>): void {
    const { queue, random, rules } = this.#around;
    const hub = outcome.kind === 'provisioned' ? outcome.result.assignedHub : undefined;
    this.#end();
    if (hub === undefined) rules.lostHub(this.#around.nowMs());
    if (hub !== undefined) {
      this.#isServed = true;
      this.#session = hub;
      rules.arrived(hub, this.#around.nowMs(), this.#monotonicMs());
      return;
    }
    const forMs = random.between(30_000, 300_000);
    if (outcome.kind === 'failed' && outcome.error.code === 'ERR_DPS_CANCELLED') return;
    queue.push(this.#around.nowMs() + forMs, () => this.#restart());
  }

  // ── process and power ─────────────────────────────────────────────────────────────────────────────────────────────

  #start(): void {
    this.#generation += 1;
    this.#isRunning = true;
    this.#isServed = false;
    this.#cutAfterEffects = -1;
    this.#readKeyStore();
    this.#journey = newJourney(this.config);
    this.#around.rules.begin(this.config, this.#monotonicMs());
    this.feed({ type: 'Started' });
  }

  #readKeyStore(): void {
    if (this.keyStore === undefined) return;
    const { keys, staged } = this.keyStore;
    const { stagedSlot: _, ...config } = this.config;
    const rolling = staged === undefined ? {} : { stagedSlot: 0 };
    this.config = { ...config, slots: keys.length, keyIds: keys, tellsAcceptance: true, ...rolling };
    this.lookAtKeys();
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

  #end(): void {
    this.#orders.cut();
    this.#generation += 1;
    this.#isRunning = false;
    this.#isServed = false;
    this.#session = undefined;
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
