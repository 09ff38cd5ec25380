import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { HubConnectRequest, OpenHubConnection } from '../../src/hub/hub-connection.js';
import type { MqttConnection, MqttPublish, MqttSubscription } from '../../src/net/mqtt-engine.js';

const text = (payload: Uint8Array): string => new TextDecoder().decode(payload);
const bytes = (payload: string): Uint8Array => new TextEncoder().encode(payload);

/** Lets every promise that can settle do so. */
export async function settle(): Promise<void> {
  await new Promise<void>((resolve) => {
    setImmediate(resolve);
  });
}

interface Pending {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

/** One accepted connection, as the session sees it; the test plays the hub. */
export class FakeHubConnection implements MqttConnection {
  readonly sessionPresent = false;
  readonly peer: string;
  readonly closed: Promise<Error | undefined>;
  readonly request: HubConnectRequest;
  readonly subscribed: string[] = [];
  /** Listeners on signals that were handed in. */
  listeners = 0;
  readonly #broker: FakeHubBroker;
  readonly #subacks: Pending[] = [];
  readonly #pubacks: Pending[] = [];
  #resolveClosed: (error: Error | undefined) => void = () => {};
  #isOver = false;
  #packetIds = 0;

  constructor(broker: FakeHubBroker, request: HubConnectRequest) {
    this.#broker = broker;
    this.request = request;
    this.peer = `${request.host}:${request.port}`;
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  subscribe(filters: readonly MqttSubscription[], signal: CancelSignal): Promise<void> {
    this.#broker.log.push(`SUBSCRIBE ${filters.map(({ topicFilter, qos }) => `${topicFilter} ${qos}`).join(', ')}`);
    this.subscribed.push(...filters.map(({ topicFilter }) => topicFilter));
    const done = this.#pend(this.#subacks, signal);
    if (this.#broker.isSubacking) this.suback();
    return done;
  }

  publish(message: MqttPublish, signal: CancelSignal): Promise<void> {
    const { topic, payload, qos } = message;
    this.#broker.log.push(`PUBLISH ${qos} ${topic} ${text(payload)}`.trimEnd());
    if (this.#isOver) return Promise.reject(new Error('the connection is over'));
    const [, requestId = ''] = /\$rid=(.*)$/.exec(topic) ?? [];
    if (topic.startsWith('$iothub/twin/GET/')) this.#broker.onGet(this, requestId);
    if (topic.startsWith('$iothub/twin/PATCH/')) this.#broker.onPatch(this, requestId, text(payload));
    if (qos === 0) return Promise.resolve();
    const done = this.#pend(this.#pubacks, signal);
    if (this.#broker.isPubacking) this.puback();
    return done;
  }

  async close(): Promise<void> {
    if (!this.#isOver) this.#broker.log.push('DISCONNECT');
    if (!this.#broker.isClosing) await this.#broker.untilClosing();
    this.#end(undefined, new Error('closed on this side'));
    await this.closed;
  }

  suback(): void {
    this.#subacks.shift()?.resolve();
  }

  refuseSubscription(error: Error): void {
    this.#subacks.shift()?.reject(error);
  }

  puback(): void {
    this.#pubacks.shift()?.resolve();
  }

  /** The connection breaks. */
  lose(error: Error): void {
    this.#end(error, error);
  }

  /** A message from the hub, QoS 0. */
  deliver(topic: string, payload = ''): void {
    this.request.onMessage({ topic, payload: bytes(payload) });
  }

  /** A message at QoS 1; its PUBACK goes to the log. */
  deliverAtLeastOnce(topic: string, payload = ''): void {
    this.#packetIds += 1;
    const id = this.#packetIds;
    const acknowledge = (): void => {
      if (!this.#isOver) this.#broker.log.push(`PUBACK ${id}`);
    };
    this.request.onMessage({ topic, payload: bytes(payload), acknowledge });
  }

  #pend(list: Pending[], signal: CancelSignal): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      if (this.#isOver) return reject(new Error('the connection is over'));
      const onAbort = (): void => leave(() => reject(signal.reason));
      let isSettled = false;
      const leave = (conclude: () => void): void => {
        if (isSettled) return;
        isSettled = true;
        signal.removeEventListener('abort', onAbort);
        this.listeners -= 1;
        conclude();
      };
      this.listeners += 1;
      signal.addEventListener('abort', onAbort, { once: true });
      list.push({ resolve: () => leave(resolve), reject: (error) => leave(() => reject(error)) });
    });
  }

  #end(error: Error | undefined, reason: Error): void {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const { reject } of [...this.#subacks.splice(0), ...this.#pubacks.splice(0)]) reject(reason);
    this.#resolveClosed(error);
  }
}

/** Stands where TLS and MQTT.js are: `open` is a session's `openConnection`. */
export class FakeHubBroker {
  /** Packets of the device, in order. */
  readonly log: string[] = [];
  readonly connections: FakeHubConnection[] = [];
  readonly requests: HubConnectRequest[] = [];
  isSubacking = true;
  isPubacking = true;
  isAccepting = true;
  isClosing = true;
  /** The next connects fail with these, in order. */
  readonly refusals: Error[] = [];
  desired = '{"$version":4}';
  desiredVersion = 4;
  reportedVersion = 9;
  /** GETs to leave unanswered, counted down. */
  lostGets = 0;
  lostPatches = 0;
  /** Answers to the next GETs or PATCHes instead of success: status and body. */
  readonly getErrors: [status: number, body: string][] = [];
  readonly patchErrors: [status: number, body: string][] = [];
  readonly #waiting: (() => void)[] = [];
  readonly #slowClosings: (() => void)[] = [];

  readonly open: OpenHubConnection = async (request, signal) => {
    this.requests.push(request);
    this.log.push(`CONNECT ${request.clientId}`);
    const refusal = this.refusals.shift();
    if (refusal !== undefined) throw refusal;
    if (!this.isAccepting) await this.#untilAccepted(signal);
    const connection = new FakeHubConnection(this, request);
    this.connections.push(connection);
    return connection;
  };

  /** What a `close()` waits for while `isClosing` is off: the socket takes its time. */
  untilClosing(): Promise<void> {
    return new Promise((resolve) => this.#slowClosings.push(resolve));
  }

  finishClosing(): void {
    this.isClosing = true;
    for (const resolve of this.#slowClosings.splice(0)) resolve();
  }

  accept(): void {
    this.isAccepting = true;
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  get connection(): FakeHubConnection {
    const last = this.connections.at(-1);
    if (last === undefined) throw new Error('nobody connected');
    return last;
  }

  setDesired(version: number, properties: Record<string, unknown>): void {
    this.desiredVersion = version;
    this.desired = JSON.stringify({ ...properties, $version: version });
  }

  /** Writes desired properties and pushes them. */
  push(version: number, patch: Record<string, unknown>): void {
    this.desiredVersion = version;
    this.connection.deliver(
      `$iothub/twin/PATCH/properties/desired/?$version=${version}`,
      JSON.stringify({ ...patch, $version: version }),
    );
  }

  answerGet(connection: FakeHubConnection, requestId: string): void {
    const body = `{"desired":${this.desired},"reported":{"$version":${this.reportedVersion}}}`;
    connection.deliver(`$iothub/twin/res/200/?$rid=${requestId}`, body);
  }

  onGet(connection: FakeHubConnection, requestId: string): void {
    if (this.lostGets > 0) {
      this.lostGets -= 1;
      return;
    }
    const error = this.getErrors.shift();
    queueMicrotask(() => {
      if (error === undefined) this.answerGet(connection, requestId);
      else connection.deliver(`$iothub/twin/res/${error[0]}/?$rid=${requestId}`, error[1]);
    });
  }

  onPatch(connection: FakeHubConnection, requestId: string, _patch: string): void {
    if (this.lostPatches > 0) {
      this.lostPatches -= 1;
      return;
    }
    const error = this.patchErrors.shift();
    queueMicrotask(() => {
      if (error !== undefined) {
        connection.deliver(`$iothub/twin/res/${error[0]}/?$rid=${requestId}`, error[1]);
        return;
      }
      this.reportedVersion += 1;
      connection.deliver(`$iothub/twin/res/204/?$rid=${requestId}&$version=${this.reportedVersion}`);
    });
  }

  #untilAccepted(signal: CancelSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.#waiting.push(resolve);
    });
  }
}
