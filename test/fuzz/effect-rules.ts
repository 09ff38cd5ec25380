import type { JourneyEffect, JourneyOutcome } from '../../src/core/journey.js';
import type { RegistrationEffect, RegistrationOutcome } from '../../src/core/registration.js';
import { codeOf, ensure } from './properties.js';

export type AnyEffect = RegistrationEffect | JourneyEffect;

/** What a host relies on, whatever the service does. Told of every effect at its time; complains at once. */
export class EffectRules {
  readonly #pace: PaceRule = new PaceRule('requests to DPS');
  /** A refused credential slot is followed by the next at once, and a TPM's challenge by a token. */
  readonly #openPace: PaceRule = new PaceRule('connections to DPS', 6);
  readonly #hubPace: PaceRule = new PaceRule('connections to the hub');
  #lastTicket = 0;
  #hasCredential = false;
  #isConnected = false;
  /** The connection gave a challenge; the next `open` may go on with it. */
  #isChallenged = false;
  #isOpenAsked = false;
  #isHubAsked = false;
  #isStaging = false;
  #outcome: RegistrationOutcome | JourneyOutcome | undefined;
  readonly #slots: number;

  constructor(slots: number) {
    this.#slots = slots;
  }

  get outcome(): RegistrationOutcome | JourneyOutcome | undefined {
    return this.#outcome;
  }

  /** The host has told the machine that the credential is there. */
  prepared(ticket: number): void {
    if (ticket === this.#lastTicket) this.#hasCredential = true;
  }

  /** The host has told the machine that the connection is there. */
  connected(ticket: number): void {
    if (ticket === this.#lastTicket && this.#isOpenAsked) this.#isConnected = true;
  }

  committed(ticket: number): void {
    if (ticket === this.#lastTicket) this.#isStaging = false;
  }

  see(effect: AnyEffect, atMs: number): void {
    ensure(this.#outcome === undefined, `nothing comes after the end, but ${effect.type} did`);
    if ('ticket' in effect) {
      ensure(effect.ticket > this.#lastTicket, `tickets count up: ${effect.ticket} came after ${this.#lastTicket}`);
      this.#lastTicket = effect.ticket;
    }
    switch (effect.type) {
      case 'PrepareCredential':
        ensure(effect.slot < this.#slots, `there are ${this.#slots} credentials, but slot ${effect.slot} is asked for`);
        this.#hasCredential = false;
        break;
      case 'OpenConnection':
        ensure(this.#hasCredential, 'a connection is opened with a credential');
        ensure(
          !this.#isConnected || this.#isChallenged,
          'a connection is closed before the next is opened, unless it was challenged',
        );
        this.#isChallenged = false;
        this.#isConnected = false;
        this.#isOpenAsked = true;
        this.#openPace.take(atMs);
        break;
      case 'SendRequest':
        ensure(this.#isConnected, 'a request has a connection to go on');
        this.#pace.take(atMs);
        break;
      case 'ActivateChallenge':
        this.#isChallenged = true;
        break;
      case 'CloseConnection':
        this.#isChallenged = false;
        this.#isConnected = false;
        this.#isOpenAsked = false;
        break;
      case 'OpenHub':
        ensure(!this.#isOpenAsked, 'DPS is left before the hub is opened');
        ensure(!this.#isHubAsked, 'the hub is closed before it is opened again');
        this.#isHubAsked = true;
        this.#hubPace.take(atMs);
        break;
      case 'CloseHub':
        this.#isHubAsked = false;
        break;
      case 'StageIdentity':
        this.#isStaging = true;
        break;
      case 'DiscardIdentity':
        this.#isStaging = false;
        break;
      case 'Finish':
      case 'FinishJourney':
        this.#finish(effect.outcome);
        break;
      default:
        break;
    }
  }

  #finish(outcome: RegistrationOutcome | JourneyOutcome): void {
    ensure(!this.#isOpenAsked && !this.#isConnected, 'no connection to DPS outlives the end');
    ensure(!this.#isHubAsked, 'no connection to the hub outlives the end');
    ensure(!this.#isStaging, 'a staged identity is committed or discarded');
    if (outcome.kind === 'failed') codeOf(outcome.error);
    this.#outcome = outcome;
  }
}

/** At most `burst`, and one for each second, in any stretch of time: with a burst of two ten in eight seconds. */
export class PaceRule {
  readonly #what: string;
  readonly #burst: number;
  readonly #timesMs: number[] = [];

  constructor(what: string, burst = 2) {
    this.#what = what;
    this.#burst = burst;
  }

  get count(): number {
    return this.#timesMs.length;
  }

  take(atMs: number): void {
    this.#timesMs.push(atMs);
    const last = this.#timesMs.length - 1;
    for (let first = last; first >= 0; first -= 1) {
      const seconds = (atMs - (this.#timesMs[first] ?? 0)) / 1_000;
      const count = last - first + 1;
      ensure(count <= this.#burst + seconds + ROUNDING, `${count} ${this.#what} in ${seconds} s`);
    }
  }
}

const ROUNDING = 1e-6;
