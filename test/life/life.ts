import type { AttestationKind } from '../../src/core/attestation.js';
import type { JourneyConfig } from '../../src/core/journey.js';
import { FuzzRandom } from '../fuzz/fuzz-random.js';
import { Cloud } from './cloud.js';
import { EventQueue } from './event-queue.js';
import { KeyStoreModel } from './key-store-model.js';
import { LifeDevice } from './life-device.js';
import { LifeRules } from './life-rules.js';
import { makeWeather } from './weather.js';

export const LIFE_MS: number = 10 * 365.25 * 86_400_000;
/** No life needs as many: one that does is going round in circles. */
const MAX_EVENTS = 1_000_000;
const TOLD_LINES = 80;

/** What a life was like, for the report. */
export interface LifeSummary {
  readonly events: number;
  readonly steps: number;
  readonly boots: number;
  readonly arrivals: number;
  readonly registrations: number;
  readonly longestRecoveryMs: number;
  readonly mostRequestsPerDay: number;
}

/**
 * Ten years of one device in virtual time.
 *
 * @throws {Error} when something does not hold, with the number that shows it again:
 *
 *     DPS_LIFE_SEED=1234 npx vitest run test/life
 */
export function liveLife(seed: number): LifeSummary {
  return new Life(seed).run();
}

class Life {
  readonly #random: FuzzRandom;
  readonly #queue: EventQueue<() => void> = new EventQueue();
  readonly #rules: LifeRules;
  readonly #device: LifeDevice;
  readonly #cloud: Cloud;
  readonly #config: JourneyConfig;
  readonly #told: { readonly atMs: number; readonly line: string | (() => string) }[] = [];
  #nowMs = 0;
  #events = 0;
  #lines = 0;

  constructor(seed: number) {
    this.#random = new FuzzRandom(seed);
    this.#config = randomConfig(this.#random);
    this.#cloud = new Cloud(this.#random, this.#config.attestation);
    const hasKeyStore = this.#config.attestation !== 'tpm' && this.#random.chance(0.4);
    const keyStore = hasKeyStore ? new KeyStoreModel() : undefined;
    if (keyStore !== undefined) this.#cloud.enrolled.add(keyStore.current);
    this.#rules = new LifeRules(this.#config);
    const tell = (line: string | (() => string)): void => this.#tell(line);
    const around = { random: this.#random, cloud: this.#cloud, queue: this.#queue, rules: this.#rules };
    this.#device = new LifeDevice(this.#config, { ...around, tell, nowMs: () => this.#nowMs }, keyStore);
    makeWeather({ ...around, device: this.#device, tell, nowMs: () => this.#nowMs });
  }

  run(): LifeSummary {
    try {
      this.#queue.push(0, () => this.#device.boot());
      while (this.#next());
    } catch (error) {
      throw this.#failure(error);
    }
    const { longestRecoveryMs, mostRequestsPerDay, arrivals, registrations } = this.#rules;
    const { boots, steps } = this.#device;
    return { events: this.#events, steps, boots, arrivals, registrations, longestRecoveryMs, mostRequestsPerDay };
  }

  /** The next thing that happens, however long it takes until then; false when the ten years are over. */
  #next(): boolean {
    const wakeAtMs = this.#device.wakeAtMs;
    const atMs = Math.min(this.#queue.nextAtMs, wakeAtMs);
    if (atMs >= LIFE_MS) return false;
    this.#events += 1;
    if (this.#events > MAX_EVENTS) throw new Error(`more than ${MAX_EVENTS} events in a life`);
    this.#rules.checkRecovery(Math.max(this.#nowMs, atMs));
    this.#nowMs = Math.max(this.#nowMs, Math.ceil(atMs));
    if (wakeAtMs <= this.#queue.nextAtMs) this.#device.wake();
    else this.#queue.pop()?.();
    return true;
  }

  #tell(line: string | (() => string)): void {
    this.#told[this.#lines % TOLD_LINES] = { atMs: this.#nowMs, line };
    this.#lines += 1;
  }

  #lastLines(): string[] {
    const next = this.#lines % TOLD_LINES;
    const inOrder = [...this.#told.slice(next), ...this.#told.slice(0, next)];
    return inOrder.map(({ atMs, line }) => `  ${formatMs(atMs)} ${typeof line === 'string' ? line : line()}`);
  }

  #failure(cause: unknown): Error {
    const { seed } = this.#random;
    const { attestation, purpose, transport, slots, startSpreadMs } = this.#config;
    const why = cause instanceof Error ? cause.message : String(cause);
    const lines = [
      `seed ${seed}: ${why}`,
      `Replay: DPS_LIFE_SEED=${seed} npx vitest run test/life`,
      `${attestation}, ${transport}, ${purpose}, ${slots} slots, spread ${startSpreadMs} ms; the last of what happened:`,
      ...this.#lastLines(),
    ];
    return new Error(lines.join('\n'), { cause });
  }
}

function randomConfig(random: FuzzRandom): JourneyConfig {
  const attestation = random.pick<AttestationKind>(['symmetricKey', 'x509', 'tpm']);
  return {
    idScope: '0ne00111111',
    registrationId: 'dev-1',
    attestation,
    slots: attestation === 'tpm' ? 1 : random.pick([1, 2]),
    transport: attestation === 'tpm' ? 'https' : random.pick(['mqtt', 'https']),
    endpoint: 'dps.example',
    purpose: random.chance(0.8) ? 'keep' : 'once',
    hasStore: random.chance(0.9),
    startSpreadMs: random.pick([0, 0, 60_000, 900_000]),
    deadlineMs: random.pick([120_000, 300_000, 900_000]),
    connectTimeoutMs: 60_000,
    requestTimeoutMs: 30_000,
    hubTimeoutMs: 120_000,
    tokenLifeSeconds: 3_600,
    ...(attestation === 'tpm' ? { tpm: { endorsementKey: Uint8Array.of(1), storageRootKey: Uint8Array.of(2) } } : {}),
  };
}

function formatMs(ms: number): string {
  const day = Math.floor(ms / 86_400_000);
  return `day ${day} ${new Date(ms % 86_400_000).toISOString().slice(11, 23)}`;
}
