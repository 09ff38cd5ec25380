import { withinGrace } from './close-grace.js';
import type { Now } from './core/clock.js';
import type { HubOpenParameters, HubSession } from './core/hub.js';
import {
  type Arrival,
  type Journey,
  type JourneyConfig,
  type JourneyEffect,
  type JourneyInput,
  type JourneyOutcome,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from './core/journey.js';
import { onCancel } from './core/on-cancel.js';
import type { ProgressEvent } from './core/progress.js';
import type { RecordStore } from './core/store.js';
import { asError } from './core/thrown-words.js';
import type { DpsConnection, DpsCredential } from './core/transport.js';
import type { Twin } from './core/twin.js';
import { unreachable } from './core/unreachable.js';
import type { DpsError } from './errors.js';
import { isDpsError, TransportError } from './errors.js';
import { activateChallenge, commitIdentity, makeCredential, stageIdentity } from './hsm-orders.js';
import { askStore, checkedConnection, checkedLoad, checkedReply, checkedSession } from './part-answers.js';
import { dpsTransportOf, hubTransportOf, type ProvisioningParts } from './provisioning-parts.js';

/** What becomes of what the machine orders, apart from the work itself. */
export interface Audience {
  report(event: ProgressEvent): void;
  /** A session that is the application's from now on, and over when `closed` settles. */
  handOut?(session: HubSession, arrival: Arrival, before: Twin | undefined): void;
}

/** The one loop that performs what the core orders. It decides nothing: it does, waits, and tells the machine what happened. */
export class Performer {
  readonly #parts: ProvisioningParts;
  readonly #audience: Audience;
  #journey: Journey;
  #credential: DpsCredential | undefined;
  #connection: DpsConnection | undefined;
  #session: HubSession | undefined;
  #operation: AbortController | undefined;
  #stopTimer: (() => void) | undefined;
  readonly #closings: Set<Promise<void>> = new Set();
  /** Ends when clearing up has taken too long. */
  readonly #patience: AbortController = new AbortController();
  /** The one being performed, and those that wait for it. */
  readonly #inputs: JourneyInput[] = [];
  #settle: ((outcome: JourneyOutcome) => void) | undefined;
  #crash: ((error: unknown) => void) | undefined;
  /** Also after a crash, of which the machine knows nothing. */
  #isOver = false;

  constructor(parts: ProvisioningParts, config: JourneyConfig, audience: Audience) {
    this.#parts = parts;
    this.#audience = audience;
    this.#journey = newJourney(config);
  }

  async run(): Promise<JourneyOutcome> {
    const { signal } = this.#parts;
    let stopListening = (): void => {};
    try {
      return await new Promise<JourneyOutcome>((resolve, reject) => {
        this.#settle = resolve;
        this.#crash = reject;
        if (signal?.aborted) {
          this.feed({ type: 'CancelRequested', reason: signal.reason });
          return;
        }
        if (signal !== undefined) {
          stopListening = onCancel(signal, () => this.feed({ type: 'CancelRequested', reason: signal.reason }));
        }
        this.feed({ type: 'Started' });
      });
    } finally {
      this.#isOver = true;
      stopListening();
      this.#stopTimer?.();
      this.#abandon();
      this.#closeConnection();
      this.#closeHub();
      await this.#closed();
    }
  }

  /** An input that comes while effects are performed (a listener or an HSM that cancels) waits until they are. */
  feed(input: JourneyInput): void {
    if (this.#isOver) return;
    this.#inputs.push(input);
    if (this.#inputs.length > 1) return;
    try {
      for (let next: JourneyInput | undefined = input; next !== undefined; next = this.#inputs[0]) {
        const step = stepJourney(this.#journey, next, this.#now());
        this.#journey = step.journey;
        for (const effect of step.effects) this.#perform(effect);
        this.#inputs.shift();
      }
      this.#arm();
    } catch (error) {
      this.#inputs.length = 0;
      this.#crash?.(error);
    }
  }

  /** A part of the application's own may never finish closing: the journey ends all the same. */
  #closed(): Promise<void> {
    const tooLong = (): void => this.#patience.abort(new Error('took too long to close'));
    return withinGrace(this.#parts.clock, Promise.allSettled(this.#closings), tooLong);
  }

  #now(): Now {
    const { clock, random } = this.#parts;
    return { monotonicMs: clock.monotonicMs(), wallMs: clock.wallMs(), random: random() };
  }

  #arm(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    const wakeAtMs = journeyWakeAtMs(this.#journey);
    if (wakeAtMs === undefined || wakeAtMs === Number.POSITIVE_INFINITY) return;
    const { clock } = this.#parts;
    this.#stopTimer = clock.after(wakeAtMs - clock.monotonicMs(), () => this.feed({ type: 'Woke' }));
  }

  #perform(effect: JourneyEffect): void {
    switch (effect.type) {
      case 'LoadRecord':
        this.#begin(effect.ticket, (signal) => this.#loadRecord(effect.ticket, signal));
        break;
      case 'SaveRecord':
        this.#begin(effect.ticket, (signal) => this.#saveRecord(effect, signal));
        break;
      case 'PrepareCredential':
        this.#begin(effect.ticket, (signal) => this.#prepareCredential(effect, signal));
        break;
      case 'OpenConnection':
        this.#begin(effect.ticket, (signal) => this.#openConnection(effect, signal));
        break;
      case 'SendRequest':
        this.#begin(effect.ticket, (signal) => this.#sendRequest(effect, signal));
        break;
      case 'ActivateChallenge':
        this.#begin(effect.ticket, (signal) => this.#activate(effect, signal));
        break;
      case 'StageIdentity':
        this.#begin(effect.ticket, (signal) => this.#stage(effect, signal));
        break;
      case 'CommitIdentity':
        this.#begin(effect.ticket, (signal) => this.#commit(effect, signal));
        break;
      case 'DiscardIdentity':
        this.#discard();
        break;
      case 'OpenHub':
        this.#begin(effect.ticket, (signal) => this.#openHub(effect, signal));
        break;
      case 'HandOutSession':
        this.#handOut(effect);
        break;
      case 'CloseConnection':
        this.#abandon();
        this.#closeConnection();
        break;
      case 'CloseHub':
        this.#abandon();
        this.#closeHub();
        break;
      case 'ReportProgress':
        this.#audience.report(effect.event);
        break;
      case 'FinishJourney':
        this.#settle?.(effect.outcome);
        break;
      default:
        unreachable(effect);
    }
  }

  /** Starts the ticketed work; whatever was under way before is abandoned. */
  #begin(ticket: number, work: (signal: AbortSignal) => Promise<JourneyInput>): void {
    this.#abandon();
    const operation = new AbortController();
    this.#operation = operation;
    work(operation.signal).then(
      (input) => {
        if (!operation.signal.aborted) this.feed(input);
      },
      (error: unknown) => {
        if (operation.signal.aborted) return;
        // A foreign error is a bug, here or in an injected part: it must surface as it is, not as a network problem.
        if (isDpsError(error)) this.feed({ type: 'OperationFailed', ticket, error });
        else this.#crash?.(error);
      },
    );
  }

  #abandon(): void {
    this.#operation?.abort(new Error('abandoned'));
    this.#operation = undefined;
  }

  async #loadRecord(ticket: number, signal: AbortSignal): Promise<JourneyInput> {
    const store = this.#store();
    const loaded = checkedLoad(await askStore('read', () => store.load(signal)));
    return { type: 'RecordLoaded', ticket, loaded };
  }

  async #saveRecord(
    { ticket, record }: Extract<JourneyEffect, { type: 'SaveRecord' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    const store = this.#store();
    await askStore('write', () => store.save(record, signal));
    return { type: 'RecordSaved', ticket };
  }

  #store(): RecordStore {
    const { store } = this.#parts;
    if (store === undefined) throw new TypeError('A record was ordered where there is no store');
    return store;
  }

  async #prepareCredential(
    { ticket, slot, token }: Extract<JourneyEffect, { type: 'PrepareCredential' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    this.#credential = await makeCredential(this.#parts.hsm, slot, token, signal);
    return { type: 'CredentialReady', ticket };
  }

  async #openConnection(
    { ticket, transport }: Extract<JourneyEffect, { type: 'OpenConnection' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    const { endpoint, idScope } = this.#parts;
    const dps = dpsTransportOf(this.#parts, transport);
    if (this.#credential === undefined) throw new TypeError('OpenConnection before PrepareCredential');
    const { registrationId } = this.#journey.config;
    // Still there after a challenge only.
    const challenged = this.#connection;
    try {
      const parameters = { endpoint, idScope, registrationId, credential: this.#credential };
      const connection = checkedConnection(
        await dps.open({ ...parameters, ...(challenged === undefined ? {} : { challenged }) }, signal),
      );
      if (signal.aborted) this.#close(connection);
      else this.#connection = connection;
    } finally {
      if (challenged !== undefined) this.#close(challenged);
    }
    return { type: 'ConnectionOpened', ticket };
  }

  async #sendRequest(
    { ticket, request }: Extract<JourneyEffect, { type: 'SendRequest' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    if (this.#connection === undefined) throw new TypeError('SendRequest without a connection');
    return {
      type: 'ReplyReceived',
      ticket,
      reply: checkedReply(await this.#connection.exchange(request, signal)),
    };
  }

  async #activate(
    { ticket, authenticationKey }: Extract<JourneyEffect, { type: 'ActivateChallenge' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    await activateChallenge(this.#parts.hsm, authenticationKey, signal);
    return { type: 'ChallengeActivated', ticket };
  }

  async #stage(
    { ticket, authenticationKey }: Extract<JourneyEffect, { type: 'StageIdentity' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    await stageIdentity(this.#parts.hsm, authenticationKey, signal);
    return { type: 'IdentityStaged', ticket };
  }

  async #commit(
    { ticket, slot }: Extract<JourneyEffect, { type: 'CommitIdentity' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    await commitIdentity(this.#parts.hsm, slot, signal);
    return { type: 'IdentityCommitted', ticket };
  }

  #discard(): void {
    const { hsm } = this.#parts;
    if (hsm.kind === 'tpm') this.#inBackground(() => hsm.discard(this.#patience.signal));
  }

  async #openHub(effect: Extract<JourneyEffect, { type: 'OpenHub' }>, signal: AbortSignal): Promise<JourneyInput> {
    const { hsm } = this.#parts;
    const hub = hubTransportOf(this.#parts, effect.transport);
    const parameters: HubOpenParameters = {
      hostName: effect.assignedHub,
      deviceId: effect.deviceId,
      hsm,
      slot: effect.slot,
    };
    const session = checkedSession(await hub.open(parameters, signal));
    if (signal.aborted) this.#close(session);
    else this.#session = session;
    return { type: 'HubReached', ticket: effect.ticket, twin: session.twin };
  }

  #handOut({ arrival, before }: Extract<JourneyEffect, { type: 'HandOutSession' }>): void {
    const session = this.#session;
    if (session === undefined) throw new TypeError('HandOutSession without a session');
    this.#audience.handOut?.(session, arrival, before);
    const lost = (error: unknown): void => {
      if (this.#session === session) this.feed({ type: 'HubLost', error: lossOf(session, error) });
    };
    session.closed.then(lost, lost);
  }

  #closeConnection(): void {
    if (this.#connection !== undefined) this.#close(this.#connection);
    this.#connection = undefined;
  }

  #closeHub(): void {
    if (this.#session !== undefined) this.#close(this.#session);
    this.#session = undefined;
  }

  #close(part: { close(): Promise<void> }): void {
    this.#inBackground(() => part.close());
  }

  /** Nothing that goes wrong in clearing up is worth more than what comes next; a part of the application's own may throw. */
  #inBackground(work: () => Promise<void>): void {
    const closing = (async () => work())().catch(() => {});
    this.#closings.add(closing);
    void closing.then(() => this.#closings.delete(closing));
  }
}

/** Why a session is over, as an error that the machine can judge. */
function lossOf(session: HubSession, thrown: unknown): DpsError {
  if (isDpsError(thrown)) return thrown;
  return new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message:
      thrown === undefined
        ? `The session at ${session.hostName} was closed.`
        : `The session at ${session.hostName} ended: ${asError(thrown).message}`,
    phase: 'established',
    peer: session.hostName,
    retryable: true,
    cause: thrown,
  });
}
