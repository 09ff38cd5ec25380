import type { CancelSignal } from '../core/cancel-signal.js';
import type { HubSession, TelemetryMessage, Unsubscribe } from '../core/hub.js';
import { type DesiredChange, diffPatch, type JsonObject, type Twin } from '../core/twin.js';
import { CancelledError, isDpsError, type TransportError } from '../errors.js';
import { Backlog, type Waiter } from './backlog.js';
import { sessionClosed, sessionNotReached } from './hub-errors.js';
import type { MessageListener } from './message-inbox.js';
import { type MethodHandler, methodTaken, orderMethodTaken } from './method-router.js';
import { bytesOf, type EncodedMessage, encodeMessage, reportText } from './outgoing-bodies.js';
import { checkFunction, checkMethodName, checkPatch, checkSignal, checkTelemetry } from './session-arguments.js';
import { guard, type StrayErrorSink, StrayErrors } from './stray-error.js';

/** So many operations at most are begun and not finished; a device that is offline for days must not fill its memory. */
export const MAX_OPERATIONS = 1_000;
/** And so many bytes in them, bodies and the texts of properties: a thousand of the largest messages would be 250 MB. */
export const MAX_WAITING_BYTES: number = 8 * 1024 * 1024;
/** What is on its way is there several times over, as bytes, as packet and in the socket, but not for long. */
export const MAX_SENT_BYTES: number = 32 * 1024 * 1024;
/** A session that lives, and loses its connection under one operation so often, will not get it through. */
const MAX_LOSSES_IN_A_SESSION = 3;
/** Sends nothing: what is asked with it fails before that. */
const ABORTED: AbortSignal = AbortSignal.abort();

export interface LastingSessionOptions {
  /** Hears of every change of the twin. */
  readonly onTwin: (twin: Twin) => void;
  /** What `close()` does. */
  readonly onClose: () => Promise<void>;
  readonly onStrayError?: StrayErrorSink | undefined;
  /** The method of `reprovisionOn`, which the run handles itself. */
  readonly orderMethod?: string | undefined;
}

/** A listener or handler of the application's, and what takes it off the session of the moment. */
interface Registration {
  readonly attach: (session: HubSession) => Unsubscribe;
  detach: Unsubscribe | undefined;
}

/** Something that a session is to do, now or when there is one again. */
interface Operation<T> {
  /** For its caller's cancellation. */
  readonly doing: string;
  /** What it holds while it waits. */
  readonly bytes: number;
  readonly signal: CancelSignal | undefined;
  /** Called at once, if there is room: copies what the application may change, and gives what is to be done with it. */
  readonly take: () => (session: HubSession) => Promise<T>;
}

/**
 * One handle through all the sessions of a device's life: listeners and handlers stay, and what is sent while there is no
 * session waits for the next one. Telemetry whose fate a lost connection left open is sent again: at least once.
 */
export class LastingSession implements HubSession {
  readonly closed: Promise<Error | undefined>;
  readonly #strays: StrayErrors;
  readonly #onTwin: (twin: Twin) => void;
  readonly #onClose: () => Promise<void>;
  readonly #orderMethod: string | undefined;
  readonly #registrations: Set<Registration> = new Set();
  readonly #desiredListeners: Set<(change: DesiredChange) => void> = new Set();
  readonly #methodNames: Set<string> = new Set();
  #session: HubSession | undefined;
  #last: { readonly hostName: string; readonly deviceId: string; readonly twin: Twin } | undefined;
  #ending: { readonly error: Error | undefined } | undefined;
  readonly #backlog: Backlog = new Backlog({
    operations: MAX_OPERATIONS,
    waitingBytes: MAX_WAITING_BYTES,
    sentBytes: MAX_SENT_BYTES,
  });
  /** Counts operations: what was begun first is sent first, also again. */
  #turns = 0;
  #resolveClosed: (error: Error | undefined) => void = () => {};

  constructor(options: LastingSessionOptions) {
    this.#onTwin = options.onTwin;
    this.#onClose = options.onClose;
    this.#orderMethod = options.orderMethod;
    this.#strays = new StrayErrors(options.onStrayError);
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get hostName(): string {
    return this.#known().hostName;
  }

  get deviceId(): string {
    return this.#known().deviceId;
  }

  /** As last known, also while there is no connection. */
  get twin(): Twin {
    return this.#known().twin;
  }

  /** Whether there is a session at the moment. */
  get isOnline(): boolean {
    return this.#session !== undefined;
  }

  /** Takes over a session that has just been accepted. What changed in the twin meanwhile is delivered as one change. */
  attach(session: HubSession): void {
    this.detach();
    if (this.#ending !== undefined) return;
    const before = this.#last?.twin;
    this.#session = session;
    this.#remember(session);
    session.onDesiredChange((change) => {
      if (this.#session !== session) return;
      this.#remember(session);
      this.#tell(change);
    });
    for (const registration of this.#registrations) registration.detach = registration.attach(session);
    const leave = (): void => this.#leave(session);
    session.closed.then(leave, leave);
    if (before !== undefined) this.#tellDifference(before, session.twin);
    this.#backlog.wakeAll();
  }

  /** The session is over, or about to be; the next will come. */
  detach(): void {
    if (this.#session !== undefined) this.#remember(this.#session);
    this.#session = undefined;
    for (const registration of this.#registrations) {
      registration.detach?.();
      registration.detach = undefined;
    }
  }

  /** There will be no further session: everything that waits fails. */
  end(error: Error | undefined): void {
    if (this.#ending !== undefined) return;
    this.detach();
    this.#ending = { error };
    this.#registrations.clear();
    this.#desiredListeners.clear();
    this.#strays.end();
    this.#backlog.wakeAll();
    this.#resolveClosed(error);
  }

  onDesiredChange(listener: (change: DesiredChange) => void): Unsubscribe {
    checkFunction(listener, 'listener', 'onDesiredChange()');
    const own = (change: DesiredChange): void => listener(change);
    this.#desiredListeners.add(own);
    return () => this.#desiredListeners.delete(own);
  }

  async report(patch: JsonObject, signal?: CancelSignal): Promise<number> {
    checkPatch(patch);
    checkSignal(signal, 'report()');
    // It may wait for days: it is judged now, and what the application changes in it later is another patch.
    const text = reportText(patch);
    const version = await this.#perform({
      doing: 'reporting properties',
      bytes: text.length,
      signal,
      take: () => {
        const taken = JSON.parse(text) as JsonObject;
        return (session) => session.report(taken, signal);
      },
    });
    if (this.#session !== undefined) this.#remember(this.#session);
    return version;
  }

  async sendTelemetry(message: TelemetryMessage, signal?: CancelSignal): Promise<void> {
    checkTelemetry(message);
    checkSignal(signal, 'sendTelemetry()');
    const encoded = encodeMessage(message);
    await this.#perform({
      doing: 'sending telemetry',
      bytes: sizeOf(encoded),
      signal,
      take: () => {
        const taken = takeNow(message, encoded);
        return (session) => session.sendTelemetry(taken, signal);
      },
    });
  }

  onMessage(listener: MessageListener): Unsubscribe {
    checkFunction(listener, 'listener', 'onMessage()');
    return this.#register((session) => session.onMessage(listener));
  }

  onMethod(name: string, handler: MethodHandler): Unsubscribe {
    checkMethodName(name);
    checkFunction(handler, 'handler', 'onMethod()');
    if (this.#methodNames.has(name)) {
      // The router of a session would say so, too, but only once there is one.
      throw name === this.#orderMethod ? orderMethodTaken(name) : methodTaken(name);
    }
    const unsubscribe = this.#register((session) => session.onMethod(name, handler));
    this.#methodNames.add(name);
    let isMine = true;
    return () => {
      if (isMine) this.#methodNames.delete(name);
      isMine = false;
      unsubscribe();
    };
  }

  /** Ends the run that the handle belongs to. */
  close(): Promise<void> {
    return this.#onClose();
  }

  #known(): { readonly hostName: string; readonly deviceId: string; readonly twin: Twin } {
    if (this.#session !== undefined) this.#remember(this.#session);
    if (this.#last === undefined) {
      throw this.#ending === undefined ? sessionNotReached() : this.#closedError();
    }
    return this.#last;
  }

  #remember({ hostName, deviceId, twin }: HubSession): void {
    const isNew = this.#last?.twin !== twin;
    this.#last = { hostName, deviceId, twin };
    if (isNew) this.#onTwin(twin);
  }

  #tellDifference(before: Twin, now: Twin): void {
    const patch = diffPatch(before.desired.properties, now.desired.properties);
    this.#tell({ version: now.desired.version, patch, desired: now.desired });
  }

  /** A version with no change in it, as after a move, is nothing to act upon; `twin` has it all the same. */
  #tell(change: DesiredChange): void {
    if (Object.keys(change.patch).length === 0) return;
    for (const listener of [...this.#desiredListeners]) {
      // One that an earlier one took away is not called any more.
      if (!this.#desiredListeners.has(listener)) continue;
      guard(() => listener(change), this.#strays.take, 'desired listener');
    }
  }

  #register(attach: (session: HubSession) => Unsubscribe): Unsubscribe {
    const registration: Registration = { attach, detach: this.#session && attach(this.#session) };
    if (this.#ending === undefined) this.#registrations.add(registration);
    return () => {
      this.#registrations.delete(registration);
      registration.detach?.();
      registration.detach = undefined;
    };
  }

  #perform<T>(operation: Operation<T>): Promise<T> {
    this.#turns += 1;
    const waiter: Waiter = { turn: this.#turns, bytes: operation.bytes };
    const hub = { isOnline: this.isOnline, peer: this.#last?.hostName ?? 'the hub' };
    return this.#backlog.hold(waiter, hub, () => this.#insist(operation, waiter));
  }

  /** In this session or a later one. */
  async #insist<T>({ doing, signal, take }: Operation<T>, waiter: Waiter): Promise<T> {
    const work = take();
    let losses = 0;
    for (;;) {
      const session = await this.#nextSession(doing, waiter, signal);
      try {
        return await work(session);
      } catch (error) {
        if (isLoss(error) ? await endsSoon(session) : await isOver(session)) {
          this.#leave(session);
          losses = 0;
          continue;
        }
        losses += 1;
        if (!isLoss(error) || losses >= MAX_LOSSES_IN_A_SESSION) throw error;
      }
    }
  }

  async #nextSession(doing: string, waiter: Waiter, signal: CancelSignal | undefined): Promise<HubSession> {
    for (;;) {
      if (signal?.aborted) throw new CancelledError({ state: doing, cause: signal.reason });
      if (this.#ending !== undefined) throw this.#closedError();
      if (this.#session !== undefined) return this.#session;
      await this.#backlog.wait(waiter, signal);
    }
  }

  /** A session that is over, if it is still the one. */
  #leave(session: HubSession): void {
    if (this.#session === session) this.detach();
  }

  #closedError(): TransportError {
    const { hostName = 'its hub', deviceId = 'the device' } = this.#last ?? {};
    return sessionClosed(hostName, deviceId, this.#ending?.error);
  }
}

/** What a message takes up, near enough: a text counts by its length. */
function sizeOf({ body, properties = {}, ...texts }: EncodedMessage): number {
  const parts = [...Object.entries(properties).flat(), ...Object.values(texts)];
  return parts.reduce((sum, text) => sum + (text?.length ?? 0), body.length);
}

/** As it is now: a message may wait for days, and be sent more than once. */
function takeNow(message: TelemetryMessage, { properties, ...rest }: EncodedMessage): EncodedMessage {
  const isGiven = bytesOf(message.body) !== undefined;
  return {
    ...rest,
    ...(properties === undefined ? {} : { properties: { ...properties } }),
    // `slice()` of a Buffer would not copy.
    body: isGiven ? new Uint8Array(rest.body) : rest.body,
  };
}

/** So many turns of the event loop at most lie between the failure of what was under way and the end of its session. */
const TURNS_TO_THE_END = 5;

/** A connection that is gone fails what was under way on it first, and ends its session a little later. */
async function endsSoon(session: HubSession): Promise<boolean> {
  for (let turn = 0; turn < TURNS_TO_THE_END; turn += 1) {
    if (await isOver(session)) return true;
    await new Promise((resolve) => setImmediate(resolve));
  }
  return isOver(session);
}

/** Whatever an operation failed with: if its session is over, the next one is to be tried. */
async function isOver(session: HubSession): Promise<boolean> {
  try {
    await session.report({}, ABORTED);
    return false;
  } catch (error) {
    return isDpsError(error) && error.code === 'ERR_DPS_SESSION_CLOSED';
  }
}

/** The connection went away under the operation, and the session may get another. */
function isLoss(error: unknown): boolean {
  return isDpsError(error) && error.code === 'ERR_DPS_CONNECTION_LOST';
}
