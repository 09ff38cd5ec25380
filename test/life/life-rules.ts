import type { Journey, JourneyConfig, JourneyEffect } from '../../src/core/journey.js';
import { DPS_INTERVAL_MS, DPS_REFUSAL_DELAY_MS, journeyWakeAtMs, LAST_SAVE_MS } from '../../src/core/journey.js';
import type { DeviceRecord } from '../../src/core/record.js';
import type { LoadedRecord } from '../../src/core/store.js';
import type { Twin } from '../../src/core/twin.js';
import { ensure } from '../fuzz/properties.js';
import { CauseRules } from './cause-rules.js';
import { type Heard, HubTrouble } from './hub-trouble.js';
import { type Acceptance, RecordRules } from './record-rules.js';
import { WaitRules } from './wait-rules.js';

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;
/**
 * Once the world is good, so long at most until the device is at its hub, beside the spread of its start: the longest pause
 * after DPS has refused, the longest deadline of a registration here, and the longest wait at a hub that has refused.
 */
export const RECOVERY_MS: number = (60 + 15 + 5) * MINUTE_MS;
/** So often at most DPS names a hub in an hour, to a device that nobody tells to ask: a TPM that fails is given a few tries. */
const ANSWERS_PER_HOUR = 8;
/** No day, however bad, has more requests to DPS: a retry each half minute, and polls. */
export const REQUESTS_PER_DAY = 6_000;

/** What must hold in a device's life, whatever happens to it. Told of everything; complains at once. */
export class LifeRules {
  readonly record: RecordRules;
  readonly #trouble: HubTrouble = new HubTrouble();
  readonly #causes: CauseRules;
  readonly #waits: WaitRules = new WaitRules(this.#trouble);
  #config: JourneyConfig;
  #requestTokens = 2;
  #requestAtMs = 0;
  #day = 0;
  #dayRequests = 0;
  #lastTicket = 0;
  #isOver = false;
  #cancelledAtMs: number | undefined;
  /** When DPS has named a hub, in this run. */
  #answersMs: number[] = [];
  /** In this run: what DPS has said last. */
  #toldHub: string | undefined;
  #toldAtMs: number | undefined;
  #isLookedUp = false;
  #refusedAtMs: number | undefined;
  /** Somebody wanted DPS to be asked, or the device itself has failed since DPS has spoken. */
  #isExcused = false;
  /** What the store gave at the beginning of this run. */
  #found: DeviceRecord | undefined;
  /** The hub that the device knows as its own, stored or accepted. */
  #knownHub: string | undefined;
  /** DPS has named another hub than the known one, and that has not been written down. */
  #isNoteOwed = false;
  #pendingKey: 'nonce' | 'staged' | undefined;
  /** Assignments that a hub has accepted, in all the life. */
  readonly #accepted: Set<string> = new Set();
  /** Since when everything has been good enough to get to the hub. */
  #goodSinceMs = 0;
  #isArrived = false;
  /** None of the keys that the process has is enrolled. */
  #isKeyless = false;
  /** What the hub has said last, with the slot of the credential. */
  #acceptance: (Acceptance & { readonly slot: number }) | undefined;
  longestRecoveryMs = 0;
  mostRequestsPerDay = 0;
  arrivals = 0;
  registrations = 0;

  constructor(config: JourneyConfig) {
    this.#config = config;
    this.record = new RecordRules(config);
    this.#causes = new CauseRules(config, this.#trouble);
  }

  /** A process begins. Its clock that never jumps back begins anew only with the device. */
  begin(config: JourneyConfig, monotonicMs: number): void {
    this.#config = config;
    this.record.begin(config);
    this.#trouble.clear();
    this.#causes.begin(config, monotonicMs);
    this.#waits.begin();
    this.#acceptance = undefined;
    this.#requestTokens = 2;
    this.#requestAtMs = Number.NEGATIVE_INFINITY;
    this.#lastTicket = 0;
    this.#isOver = false;
    this.#cancelledAtMs = undefined;
    this.#answersMs = [];
    this.#toldHub = undefined;
    this.#toldAtMs = undefined;
    this.#refusedAtMs = undefined;
    this.#isExcused = false;
    this.#found = undefined;
    this.#knownHub = undefined;
    this.#isNoteOwed = false;
    this.#pendingKey = undefined;
  }

  loaded(loaded: LoadedRecord): void {
    this.#found = loaded.kind === 'record' ? loaded.record : undefined;
    this.#knownHub = this.#found?.assignment.assignedHub;
    this.record.loaded(loaded);
    this.#causes.loaded(loaded);
  }

  /** What the machine made of an input, before its orders are performed. */
  heard(heard: Heard, effects: readonly JourneyEffect[]): void {
    const { input, before, state } = heard;
    const isUncommitted = before === 'AwaitingCommit' && input.type === 'OperationFailed';
    const isLeft = isUncommitted && this.#config.attestation !== 'tpm' && state.name === 'AwaitingReturn';
    ensure(!isLeft, 'a hub that has accepted the device is left because its key could not be committed');
    const hubFailure = this.#trouble.hear(heard);
    const { hasPlace } = this.#causes;
    this.#waits.stepped(heard, hubFailure, { effects, hasPlace, spreadMs: this.#config.startSpreadMs ?? 0 });
  }

  /** Whether a key that the process has is enrolled: if none is, nothing leads to the hub but a person. */
  keyless(isKeyless: boolean, nowMs: number): void {
    if (this.#isKeyless || isKeyless) this.disturbed(nowMs);
    this.#isKeyless = isKeyless;
  }

  twinChanged(twin: Twin, nowMs: number): void {
    this.record.twinChanged(twin, nowMs);
  }

  /** Something has gone wrong in the world and lasts until then. */
  disturbed(untilMs: number): void {
    this.#goodSinceMs = Math.max(this.#goodSinceMs, untilMs);
  }

  lostHub(nowMs: number): void {
    if (this.#isArrived) this.disturbed(nowMs);
    this.#isArrived = false;
    this.record.left();
  }

  commanded(nowMs: number): void {
    // Asking takes it away from its hub, with an enrollment or a DPS in whatever state.
    this.disturbed(nowMs);
    this.#isArrived = false;
    this.#isExcused = true;
    this.#answersMs = [];
    this.#causes.commanded();
  }

  cancelled(nowMs: number): void {
    this.#cancelledAtMs = nowMs;
    this.record.cancelled();
  }

  /** Whatever it was doing, it does not any more. */
  powerLost(): void {
    this.#cancelledAtMs = undefined;
  }

  /** The power is about to go, some time after the device was told to end. */
  checkEnded(nowMs: number): void {
    if (this.#isOver || this.#cancelledAtMs === undefined) return;
    const forMs = nowMs - this.#cancelledAtMs;
    ensure(forMs <= LAST_SAVE_MS, `it was told to end ${forMs} ms ago, and has not`);
  }

  /** DPS's word has reached the device. */
  told(hub: string, nowMs: number, isLookedUp: boolean): void {
    this.record.told(hub);
    this.#causes.told(hub);
    this.#trouble.clear();
    this.#toldHub = hub;
    this.#toldAtMs = nowMs;
    this.#isLookedUp = isLookedUp;
    this.#answersMs = [...this.#answersMs.filter((atMs) => nowMs - atMs < HOUR_MS), nowMs];
    ensure(
      this.#answersMs.length <= ANSWERS_PER_HOUR,
      `DPS has named a hub ${this.#answersMs.length} times in an hour`,
    );
    const isNoted = this.#found?.movedTo === hub && this.#found.assignment.assignedHub === this.#knownHub;
    const isElsewhere = this.#knownHub !== undefined && this.#knownHub !== hub;
    this.#isNoteOwed = this.#config.hasStore === true && isElsewhere && !isNoted;
    this.#refusedAtMs = undefined;
    this.#isExcused = false;
  }

  /** DPS has said no to the last credential that there is, or to the enrollment. */
  refusedByDps(nowMs: number): void {
    this.#refusedAtMs = nowMs;
    this.#isExcused = false;
  }

  /** The TPM has failed: DPS's word came to nothing. */
  failedItself(): void {
    this.#isExcused = true;
  }

  see(effect: JourneyEffect, nowMs: number, monotonicMs: number): void {
    ensure(!this.#isOver, `nothing comes after the end, but ${effect.type} did`);
    if ('ticket' in effect) {
      ensure(effect.ticket > this.#lastTicket, `ticket ${effect.ticket} comes after ${this.#lastTicket}`);
      this.#lastTicket = effect.ticket;
    }
    switch (effect.type) {
      case 'PrepareCredential':
        this.#seeCredential(effect, nowMs);
        break;
      case 'SendRequest':
        if (effect.request.kind === 'register') this.registrations += 1;
        this.#seeRequest(nowMs, monotonicMs);
        break;
      case 'ActivateChallenge':
        this.#pendingKey = 'nonce';
        break;
      case 'StageIdentity':
        ensure(this.#pendingKey !== 'staged', 'a staged identity is committed or discarded before the next is staged');
        this.#pendingKey = 'staged';
        break;
      case 'CommitIdentity':
        this.#seeCommit(effect.slot);
        break;
      case 'DiscardIdentity':
        this.#pendingKey = undefined;
        break;
      case 'OpenHub':
        this.#seeHub(effect.assignedHub, effect.slot);
        break;
      case 'HandOutSession':
        ensure(this.#pendingKey === undefined, 'no session is handed out before its identity is committed');
        break;
      case 'SaveRecord':
        this.#seeJourneySave(effect.record, nowMs);
        this.record.seeSave(effect.record);
        this.#seeSave(effect.record);
        break;
      case 'ReportProgress':
        if (effect.event.type === 'started') this.#causes.started(monotonicMs);
        if (effect.event.type === 'waiting' && effect.event.reason === 'spread')
          this.#causes.spread(effect.event.forMs);
        break;
      case 'FinishJourney':
        ensure(this.#pendingKey === undefined, 'a staged identity is committed or discarded before the end');
        this.#isOver = true;
        this.#seeEnd(effect.outcome.kind === 'provisioned', nowMs);
        break;
      default:
        return;
    }
  }

  committed(): void {
    this.#pendingKey = undefined;
  }

  /** The hub has taken the device; the machine is about to hear of it. */
  accepted(acceptance: Acceptance, slot: number): void {
    this.#acceptance = { ...acceptance, slot };
    this.#accepted.add(acceptance.hub);
  }

  arrived(hub: string, nowMs: number, monotonicMs: number): void {
    this.#causes.arrived(hub);
    this.#trouble.arrived(monotonicMs);
    ensure(this.#acceptance?.hub === hub, `a session with ${hub} is handed out, which has not accepted the device`);
    this.record.arrived(this.#acceptance, nowMs);
    this.arrivals += 1;
    this.#isArrived = true;
    this.#refusedAtMs = undefined;
    this.#knownHub = hub;
    this.#accepted.add(hub);
    this.longestRecoveryMs = Math.max(this.longestRecoveryMs, nowMs - this.#goodSinceMs);
  }

  /** After every step: there is a way on, and it is not too long. */
  stepped(journey: Journey, nowMs: number, monotonicMs: number): void {
    const { name } = journey.state;
    const wakeAtMs = journeyWakeAtMs(journey);
    const isWaiting = wakeAtMs !== undefined && wakeAtMs < Number.POSITIVE_INFINITY;
    ensure(isWaiting || name === 'Online' || name === 'Done', `in state ${name} nothing will ever happen`);
    ensure(wakeAtMs === undefined || wakeAtMs <= monotonicMs + DAY_MS, `in state ${name} it sleeps for a day`);
    this.checkRecovery(nowMs);
  }

  /** Woken when it wanted, the machine has to move on. */
  woken(journey: Journey, monotonicMs: number): void {
    const wakeAtMs = journeyWakeAtMs(journey);
    ensure(
      wakeAtMs === undefined || wakeAtMs > monotonicMs,
      `being woken in time does not move on in ${journey.state.name}`,
    );
  }

  checkRecovery(nowMs: number): void {
    this.record.check(nowMs);
    if (this.#isArrived || this.#isKeyless) return;
    const offlineMs = nowMs - this.#goodSinceMs;
    const allowedMs = RECOVERY_MS + (this.#config.startSpreadMs ?? 0);
    ensure(
      offlineMs <= allowedMs,
      `the world has been good for ${Math.round(offlineMs / 60_000)} min, the device is not at its hub`,
    );
  }

  #seeCredential(effect: Extract<JourneyEffect, { type: 'PrepareCredential' }>, nowMs: number): void {
    const isStart = effect.slot === 0 && (this.#config.attestation !== 'tpm' || effect.token === undefined);
    if (isStart) ensure(this.#pendingKey !== 'staged', 'DPS is asked with no identity staged');
    if (!isStart || this.#isExcused || this.#config.purpose !== 'keep') return;
    const sinceMs =
      this.#toldAtMs === undefined || this.#isLookedUp ? Number.POSITIVE_INFINITY : nowMs - this.#toldAtMs;
    ensure(sinceMs >= DPS_INTERVAL_MS - 1, `DPS is asked ${Math.round(sinceMs / 1000)} s after it has named a hub`);
    const refusedMs = this.#refusedAtMs === undefined ? Number.POSITIVE_INFINITY : nowMs - this.#refusedAtMs;
    ensure(
      refusedMs >= DPS_REFUSAL_DELAY_MS[0] - 1,
      `DPS is asked ${Math.round(refusedMs / 1000)} s after it has refused`,
    );
  }

  /** Two at once, then one a second; and no day with more than a bad one needs. */
  #seeRequest(nowMs: number, monotonicMs: number): void {
    const refill = Math.max(0, monotonicMs - this.#requestAtMs) / 1_000;
    this.#requestTokens = Math.min(2, this.#requestTokens + refill) - 1;
    this.#requestAtMs = monotonicMs;
    ensure(this.#requestTokens >= -1e-6, 'at most two requests and one a second go to DPS');
    const day = Math.floor(nowMs / DAY_MS);
    this.#dayRequests = day === this.#day ? this.#dayRequests + 1 : 1;
    this.#day = day;
    this.mostRequestsPerDay = Math.max(this.mostRequestsPerDay, this.#dayRequests);
    ensure(this.#dayRequests <= REQUESTS_PER_DAY, `${this.#dayRequests} requests to DPS in a day`);
  }

  /** What DPS has said last counts; before it has spoken, what is stored, unless it was marked. */
  #seeHub(hub: string, slot: number): void {
    ensure(this.#pendingKey !== 'nonce', "the hub is not opened with the nonce's key");
    ensure(!this.#isNoteOwed, `${hub} is opened, and that the device was moved there has not been written down`);
    if (this.#toldHub !== undefined) {
      ensure(hub === this.#toldHub, `${hub} is opened after DPS has named ${this.#toldHub}`);
      return;
    }
    this.record.seeHubByRecord(hub);
    const found = this.#found;
    ensure(found !== undefined, `${hub} is opened, and nobody has named it`);
    ensure(found.movedTo === undefined, `${hub} is opened, and the record says that it was moved to ${found.movedTo}`);
    ensure(
      found.assignment.assignedHub === hub,
      `${hub} is opened, and the record names ${found.assignment.assignedHub}`,
    );
    const acceptedSlot = this.#config.keyIds?.indexOf(found.keyIds?.[found.slot] ?? '') ?? -1;
    const isOther = acceptedSlot >= 0 && slot !== acceptedSlot && this.#acceptance === undefined;
    ensure(!isOther, `${hub} is opened with slot ${slot}, and has accepted the key that is in slot ${acceptedSlot}`);
  }

  #seeSave(record: DeviceRecord): void {
    const { assignedHub } = record.assignment;
    if (record.movedTo !== undefined) {
      this.#found = record;
      this.#isNoteOwed = false;
    }
    ensure(this.#accepted.has(assignedHub), `${assignedHub} goes into the record, and has never accepted the device`);
    if (this.#toldHub === undefined || this.#toldHub === assignedHub) return;
    ensure(
      record.movedTo === this.#toldHub,
      `the record of ${assignedHub} does not say that DPS has named ${this.#toldHub}`,
    );
  }

  /** A journey saves before it says that it has arrived. */
  #seeJourneySave({ movedTo }: DeviceRecord, nowMs: number): void {
    const isJourney = this.#config.purpose !== 'keep' && movedTo === undefined;
    if (isJourney && this.#acceptance !== undefined) this.record.arrived(this.#acceptance, nowMs);
  }

  /** Only what the hub has just accepted is committed. */
  #seeCommit(slot: number): void {
    if (this.#config.attestation === 'tpm')
      ensure(this.#pendingKey === 'staged', 'only a staged identity is committed');
    ensure(this.#acceptance?.slot === slot, `slot ${slot} is committed, which the hub has not accepted`);
  }

  #seeEnd(isProvisioned: boolean, nowMs: number): void {
    if (isProvisioned && this.#acceptance !== undefined) this.record.arrived(this.#acceptance, nowMs);
    this.record.ended(isProvisioned);
    if (this.#cancelledAtMs === undefined) return;
    ensure(
      nowMs - this.#cancelledAtMs <= LAST_SAVE_MS,
      `it ends ${nowMs - this.#cancelledAtMs} ms after it was told to`,
    );
  }
}
