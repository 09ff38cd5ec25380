import type { Trouble } from './cloud.js';
import type { LifeDevice } from './life-device.js';
import type { LifeSurroundings } from './life-orders.js';

export interface WeatherSurroundings extends LifeSurroundings {
  readonly device: LifeDevice;
}

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
const YEARS = 10;

/** Kinds of trouble: how often a year, and how short and long. */
const SPELLS: readonly (readonly [trouble: Trouble, perYear: number, shortMs: number, longMs: number])[] = [
  ['network', 1, SECOND_MS, HOUR_MS],
  ['dps', 0.5, 10 * SECOND_MS, 2 * HOUR_MS],
  ['hub', 0.5, 10 * SECOND_MS, HOUR_MS],
  ['loss', 0.5, 10 * SECOND_MS, 30 * MINUTE_MS],
  ['slow', 0.4, 10 * SECOND_MS, 30 * MINUTE_MS],
  ['dpsThrottle', 0.3, MINUTE_MS, HOUR_MS],
  ['hubThrottle', 0.3, MINUTE_MS, HOUR_MS],
  ['hubUntrusted', 0.15, MINUTE_MS, 6 * HOUR_MS],
  ['enrollmentDisabled', 0.3, MINUTE_MS, 8 * HOUR_MS],
  ['enrollmentGone', 0.2, MINUTE_MS, 4 * HOUR_MS],
  ['allocationFails', 0.2, MINUTE_MS, 4 * HOUR_MS],
  ['keyRolled', 0.3, MINUTE_MS, 8 * HOUR_MS],
  ['identityDisabled', 0.3, MINUTE_MS, 6 * HOUR_MS],
  ['clock', 0.2, MINUTE_MS, 2 * HOUR_MS],
  ['store', 0.3, MINUTE_MS, DAY_MS],
  ['hsm', 0.3, SECOND_MS, 30 * MINUTE_MS],
];

/** What happens at a moment: how often a year. */
const STROKES: readonly (readonly [stroke: (weather: Weather) => void, perYear: number])[] = [
  [(weather) => weather.cutPower(), 1.5],
  [(weather) => weather.stormOfCuts(), 0.1],
  [(weather) => weather.shutDown(), 0.5],
  [(weather) => weather.move(false), 0.6],
  [(weather) => weather.move(true), 0.5],
  [(weather) => weather.moveInTrouble(), 0.3],
  [(weather) => weather.deleteHub(), 0.2],
  [(weather) => weather.deleteIdentity(), 0.3],
  [(weather) => weather.rollHubKey(), 0.3],
  [(weather) => weather.renewCertificate(), 0.4],
  [(weather) => weather.rollOwnKey(), 1],
  [(weather) => weather.restartDps(), 0.5],
  [(weather) => weather.damageDisk(), 0.3],
  [(weather) => weather.clearTpm(), 0.1],
  [(weather) => weather.command(), 0.5],
  [(weather) => weather.commandInHaste(), 0.1],
  [(weather) => weather.changeTwin(), 2],
  [(weather) => weather.changeTwinAtTheEnd(), 0.5],
];

/** Puts ten years of trouble into the queue; some lives have much of one kind and none of another. */
export function makeWeather(around: WeatherSurroundings): void {
  const weather = new Weather(around);
  for (const [trouble, perYear, shortMs, longMs] of SPELLS) {
    weather.strew(perYear, () => weather.spell(trouble, shortMs, longMs));
  }
  for (const [stroke, perYear] of STROKES) weather.strew(perYear, () => stroke(weather));
}

class Weather {
  readonly #around: WeatherSurroundings;

  constructor(around: WeatherSurroundings) {
    this.#around = around;
  }

  strew(perYear: number, happen: () => void): void {
    const { random, queue } = this.#around;
    const count = Math.round(perYear * YEARS * random.pick([0, 0.3, 1, 1, 3]) * (0.5 + random.fraction()));
    for (let index = 0; index < count; index += 1) queue.push(random.fraction() * YEARS * 365.25 * DAY_MS, happen);
  }

  /** Trouble rarely comes alone. */
  spell(trouble: Trouble, shortMs: number, longMs: number): void {
    const { random, cloud, queue } = this.#around;
    const nowMs = this.#around.nowMs();
    const forMs = shortMs * (longMs / shortMs) ** random.fraction();
    const untilMs = Math.max(nowMs + forMs, cloud.untilMs.get(trouble) ?? 0);
    this.#prepare(trouble);
    cloud.untilMs.set(trouble, untilMs);
    if (this.#isBearable(trouble)) this.#around.rules.record.storeTroubled(untilMs);
    else this.#disturb(untilMs);
    this.#around.tell(`weather: ${trouble} for ${Math.round(forMs / 1000)} s`);
    this.#strike(trouble);
    if (trouble === 'clock') queue.push(untilMs, () => this.#setClock(untilMs));
    // A TPM is needed when the device moves.
    if (trouble === 'hsm' && random.chance(0.5)) queue.push(nowMs + random.below(MINUTE_MS), () => this.move(false));
    if (random.chance(0.4)) {
      const [companion] = random.pick(STROKES);
      queue.push(nowMs + random.fraction() * forMs, () => companion(this));
    }
    if (random.chance(0.2)) {
      const [other, , otherShortMs, otherLongMs] = random.pick(SPELLS);
      queue.push(nowMs + random.fraction() * forMs, () => this.spell(other, otherShortMs, otherLongMs));
    }
  }

  cutPower(): void {
    this.#around.tell('weather: the power fails');
    this.#around.device.cut();
  }

  stormOfCuts(): void {
    const { random, queue } = this.#around;
    const nowMs = this.#around.nowMs();
    for (let index = random.between(3, 15); index > 0; index -= 1) {
      queue.push(nowMs + random.fraction() * 10 * MINUTE_MS, () => this.cutPower());
    }
  }

  shutDown(): void {
    this.#around.tell('weather: the device is shut down');
    this.#around.device.shutDown();
  }

  /** The operator allocates another hub, and takes the device from its own, or tells it to ask. */
  move(isForced: boolean): void {
    const { cloud, device } = this.#around;
    const former = cloud.targetHub;
    cloud.targetHub = cloud.otherHub();
    this.#around.tell(`weather: moved from ${former} to ${cloud.targetHub}${isForced ? ', by force' : ''}`);
    if (isForced) this.#expel(former);
    else device.reprovision();
  }

  /** No hub can be reached: it is long between the word of DPS and the arrival, and much may happen in that time. */
  moveInTrouble(): void {
    const { cloud, device, queue, random } = this.#around;
    const forMs = random.between(5 * MINUTE_MS, HOUR_MS);
    const former = cloud.targetHub;
    this.spell('hub', forMs, forMs);
    this.move(false);
    const goesBack = random.chance(0.5);
    queue.push(this.#around.nowMs() + random.below(forMs), () => {
      if (goesBack && cloud.hubs.has(former)) {
        cloud.targetHub = former;
        this.#around.tell(`weather: moved back to ${former}`);
        device.reprovision();
        return;
      }
      this.damageDisk();
      this.cutPower();
    });
  }

  deleteHub(): void {
    const { cloud } = this.#around;
    const gone = cloud.targetHub;
    cloud.targetHub = cloud.addHub();
    cloud.hubs.delete(gone);
    this.#around.tell(`weather: ${gone} is deleted; ${cloud.targetHub} is new`);
    if (cloud.assignedHub === gone || this.#around.device.hub === gone) this.#drop(gone);
  }

  deleteIdentity(): void {
    this.#around.tell('weather: the identity is deleted');
    this.#expel(this.#around.cloud.targetHub);
  }

  rollHubKey(): void {
    const { cloud } = this.#around;
    const identity = cloud.hubs.get(cloud.targetHub);
    if (identity === undefined) return;
    identity.keys = ['another'];
    this.#around.tell('weather: the key at the hub is another');
    this.#drop(cloud.targetHub);
  }

  renewCertificate(): void {
    const { device } = this.#around;
    if (device.keyStore !== undefined) return;
    device.certificate += 1;
    this.#around.tell('weather: the device has another certificate');
    // The session lives on with the old one until something ends it.
    if (!device.isAtHub) this.#disturb();
  }

  /** The device makes a key; the operator enrolls it in time, late or never, and takes the old one out some time after. */
  rollOwnKey(): void {
    const { device, random, queue, cloud } = this.#around;
    const { keyStore } = device;
    if (keyStore === undefined || keyStore.staged !== undefined || cloud.enrolled.size > 1) return;
    const nowMs = this.#around.nowMs();
    const old = keyStore.current;
    const next = keyStore.stage();
    this.#around.tell(`weather: ${next} is staged beside ${old}`);
    if (random.chance(0.7)) queue.push(nowMs + random.below(DAY_MS), () => this.shutDown());
    const soonMs = random.pick([0, MINUTE_MS, HOUR_MS, DAY_MS, 10 * DAY_MS]) * random.fraction();
    if (random.chance(0.2)) {
      queue.push(nowMs + soonMs, () => keyStore.discard(next));
      return;
    }
    queue.push(nowMs + soonMs, () => this.#enroll(next));
    const laterMs = random.pick([MINUTE_MS, DAY_MS, 30 * DAY_MS]) * random.fraction();
    queue.push(nowMs + soonMs + laterMs, () => this.#unenroll(old));
  }

  restartDps(): void {
    this.#around.cloud.forgetOperations();
  }

  damageDisk(): void {
    const what = this.#around.random.pick(['both', 'newest', 'newest', 'spare'] as const);
    this.#around.tell(`weather: of the record's copies rot: ${what}`);
    this.#around.device.damageDisk(what);
  }

  clearTpm(): void {
    this.#around.tell('weather: the TPM is cleared');
    this.#around.device.tpm.clear();
    if (!this.#around.device.isAtHub) this.#disturb();
  }

  command(): void {
    this.#around.tell('weather: told to ask DPS');
    this.#around.device.reprovision();
  }

  commandInHaste(): void {
    const { queue, random } = this.#around;
    const nowMs = this.#around.nowMs();
    for (let index = 0; index < 20; index += 1) queue.push(nowMs + random.below(10 * SECOND_MS), () => this.command());
  }

  changeTwin(): void {
    const { cloud, device, random } = this.#around;
    const identity = device.hub === undefined ? undefined : cloud.hubs.get(device.hub);
    if (identity === undefined) return;
    if (random.chance(0.5)) identity.desiredVersion += 1;
    else identity.reportedVersion += 1;
    device.changeTwin();
  }

  /** The last it hears before it is told to end, or the power fails. */
  changeTwinAtTheEnd(): void {
    const { queue, random } = this.#around;
    this.changeTwin();
    const end = random.chance(0.7) ? (): void => this.shutDown() : (): void => this.cutPower();
    queue.push(this.#around.nowMs() + random.below(MINUTE_MS), end);
  }

  #prepare(trouble: Trouble): void {
    const { cloud, random, device } = this.#around;
    const nowMs = this.#around.nowMs();
    if (trouble === 'dpsThrottle') cloud.throttleRetryAfter = random.pick([undefined, '0', '1', '30', '120', '600']);
    if (trouble === 'keyRolled' && !cloud.has('keyRolled', nowMs)) cloud.rolledSlot = random.below(2);
    if (trouble === 'hsm') cloud.failingTpmOrder = random.pick([undefined, 'StageIdentity', 'CommitIdentity']);
    if (trouble !== 'clock') return;
    const trueWallMs = Date.UTC(2026, 5, 1) + nowMs;
    device.wallErrorMs = random.pick([-trueWallMs, -2 * HOUR_MS, -400 * DAY_MS, 3 * HOUR_MS, 400 * DAY_MS, 1e13]);
  }

  /** Whether a device gets to its hub all the same. */
  #isBearable(trouble: Trouble): boolean {
    return trouble === 'store';
  }

  #strike(trouble: Trouble): void {
    const { random, queue, device } = this.#around;
    const ends = trouble === 'network' || trouble === 'hub' || trouble === 'identityDisabled';
    const hub = device.hub;
    if (hub === undefined || !(ends || (trouble === 'loss' && random.chance(0.3)))) return;
    queue.push(this.#around.nowMs() + random.below(4 * MINUTE_MS), () => {
      if (device.hub === hub && random.chance(0.9)) device.loseHub();
    });
  }

  #enroll(key: string): void {
    this.#around.tell(`weather: ${key} is enrolled`);
    this.#around.cloud.enrolled.add(key);
    this.#around.device.lookAtKeys();
  }

  /** A process that does not know the new key yet has to begin anew; somebody sees to that. */
  #unenroll(key: string): void {
    const { cloud, device, queue, random } = this.#around;
    this.#around.tell(`weather: ${key} is enrolled no more`);
    cloud.enrolled.delete(key);
    device.lookAtKeys();
    queue.push(this.#around.nowMs() + random.below(DAY_MS), () => this.shutDown());
  }

  #setClock(untilMs: number): void {
    const { cloud, device } = this.#around;
    if (cloud.untilMs.get('clock') === untilMs) device.wallErrorMs = 0;
  }

  #expel(hub: string): void {
    const { cloud } = this.#around;
    if (cloud.hubs.get(hub) === undefined) return;
    cloud.hubs.set(hub, undefined);
    this.#drop(hub);
  }

  /** The hub closes the connection of a device that it does not want any more. */
  #drop(hub: string): void {
    const { device, queue, random } = this.#around;
    this.#disturb();
    if (device.hub !== hub) return;
    queue.push(this.#around.nowMs() + random.between(10, 60_000), () => {
      if (device.hub !== hub) return;
      this.#disturb();
      device.loseHub();
    });
  }

  #disturb(untilMs: number = this.#around.nowMs()): void {
    this.#around.rules.disturbed(untilMs);
  }
}
