import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type {
  CloudToDeviceMessage,
  HubSession,
  MethodResponse,
  TelemetryMessage,
  Unsubscribe,
} from '../../src/core/hub.js';
import { onCancel } from '../../src/core/on-cancel.js';
import { type DesiredChange, type JsonObject, type JsonValue, mergePatch, type Twin } from '../../src/core/twin.js';
import { CancelledError } from '../../src/errors.js';
import { sessionClosed } from '../../src/hub/hub-errors.js';

type Handler = (payload: JsonValue) => MethodResponse | Promise<MethodResponse>;

/** A twin with these desired properties. */
export function twinOf(version: number, desired: JsonObject, reportedVersion = 1): Twin {
  return { desired: { version, properties: desired }, reported: { version: reportedVersion, properties: {} } };
}

/** A session without a hub: the test is the hub. Behaves as the one over MQTT does, also when it is over. */
export class FakeHubSession implements HubSession {
  readonly hostName: string;
  readonly deviceId = 'dev-1';
  readonly closed: Promise<Error | undefined>;
  twin: Twin;
  /** What the hub has got, in order. */
  readonly taken: string[] = [];
  /** `false`: what is sent stays under way. */
  isAnswering = true;
  /** What the next operation fails with. */
  readonly failures: unknown[] = [];
  readonly changeListeners: Set<(change: DesiredChange) => void> = new Set();
  readonly messageListeners: Set<(message: CloudToDeviceMessage) => void | Promise<void>> = new Set();
  readonly handlers: Map<string, Handler> = new Map();
  isOver = false;
  /** What is under way fails only after the end was told. */
  failsLate = false;
  closeCalls = 0;
  readonly #pending: Set<{ readonly settle: () => void; readonly fail: (error: unknown) => void }> = new Set();
  #ending: Error | undefined;
  #resolveClosed: (error: Error | undefined) => void = () => {};

  constructor(twin: Twin = twinOf(1, {}), hostName = 'hub.example') {
    this.twin = twin;
    this.hostName = hostName;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get underWay(): number {
    return this.#pending.size;
  }

  onDesiredChange(listener: (change: DesiredChange) => void): Unsubscribe {
    this.changeListeners.add(listener);
    return () => this.changeListeners.delete(listener);
  }

  async report(patch: JsonObject, signal?: CancelSignal): Promise<number> {
    await this.#operate(`report ${JSON.stringify(patch)}`, signal);
    const { version } = this.twin.reported;
    return version;
  }

  async sendTelemetry({ body, ...rest }: TelemetryMessage, signal?: CancelSignal): Promise<void> {
    const text = body instanceof Uint8Array ? new TextDecoder().decode(body) : JSON.stringify(body);
    await this.#operate(`telemetry ${text}${Object.keys(rest).length > 0 ? ` ${JSON.stringify(rest)}` : ''}`, signal);
  }

  onMessage(listener: (message: CloudToDeviceMessage) => void | Promise<void>): Unsubscribe {
    this.messageListeners.add(listener);
    return () => this.messageListeners.delete(listener);
  }

  onMethod(name: string, handler: Handler): Unsubscribe {
    if (this.handlers.has(name)) throw new Error(`${name} is taken`);
    this.handlers.set(name, handler);
    return () => this.handlers.delete(name);
  }

  async close(): Promise<void> {
    this.closeCalls += 1;
    this.#end(undefined);
  }

  /** The hub takes what is under way. */
  answer(): void {
    for (const { settle } of [...this.#pending]) settle();
  }

  /** The connection breaks, and the session with it. */
  lose(error: Error): void {
    this.#end(error);
  }

  /** What is under way loses its connection; the session gets another. */
  renew(error: Error): void {
    for (const { fail } of [...this.#pending]) fail(error);
  }

  /** Somebody changes desired properties. */
  change(patch: JsonObject): void {
    const { version, properties } = this.twin.desired;
    const desired = { version: version + 1, properties: mergePatch(properties, patch) };
    this.twin = { ...this.twin, desired };
    for (const listener of [...this.changeListeners]) listener({ version: desired.version, patch, desired });
  }

  async call(name: string, payload: JsonValue = null): Promise<MethodResponse | undefined> {
    return this.handlers.get(name)?.(payload);
  }

  async #operate(what: string, signal: CancelSignal | undefined): Promise<void> {
    if (this.isOver) throw sessionClosed(this.hostName, this.deviceId, this.#ending);
    if (signal?.aborted) throw new CancelledError({ state: 'operating', cause: signal.reason });
    if (this.failures.length > 0) throw this.failures.shift();
    if (!this.isAnswering) await this.#pend(signal);
    this.taken.push(what);
  }

  #pend(signal: CancelSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (conclude: () => void): void => {
        this.#pending.delete(pending);
        stopListening();
        conclude();
      };
      const pending = { settle: () => leave(resolve), fail: (error: unknown) => leave(() => reject(error)) };
      this.#pending.add(pending);
      const stopListening =
        signal === undefined
          ? (): void => {}
          : onCancel(signal, () => pending.fail(new CancelledError({ state: 'operating', cause: signal.reason })));
    });
  }

  #end(error: Error | undefined): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#ending = error;
    this.changeListeners.clear();
    this.handlers.clear();
    this.messageListeners.clear();
    const reason = error ?? sessionClosed(this.hostName, this.deviceId, undefined);
    const failAll = (): void => {
      for (const { fail } of [...this.#pending]) fail(reason);
    };
    if (this.failsLate) setImmediate(failAll);
    else failAll();
    this.#resolveClosed(error);
  }
}
