import type { CancelSignal } from '../core/cancel-signal.js';
import type { HubOpenParameters, HubSession, HubTransport, TelemetryMessage, Unsubscribe } from '../core/hub.js';
import { asError } from '../core/thrown-words.js';
import type { DesiredChange, JsonObject, Twin } from '../core/twin.js';
import {
  cloudToDeviceFilter,
  type HubDelivery,
  hubMqttConnect,
  METHOD_FILTER,
  methodResponseTopic,
  parseHubTopic,
  TWIN_DESIRED_FILTER,
  TWIN_RESPONSE_FILTER,
} from '../core/wire/hub-mqtt.js';
import { NEVER_CANCELLED } from '../net/abortable.js';
import type { MqttConnection, MqttDelivery, MqttSubscription } from '../net/mqtt-engine.js';
import { waitWithin } from './bounded-wait.js';
import { hubConnectionInfo } from './connection-info.js';
import { type HubCredential, makeHubCredential } from './credentials.js';
import { type HubConnectRequest, hubPeer, refusalDescriber, splitHubHost } from './hub-connection.js';
import { hubConnectionLost, requestTimedOut, sessionClosed } from './hub-errors.js';
import { HubLine } from './hub-line.js';
import { Lifeline } from './lifeline.js';
import { MessageInbox, type MessageListener } from './message-inbox.js';
import { type MethodHandler, MethodRouter } from './method-router.js';
import { type MqttHubOptions, type MqttHubSettings, settingsOf } from './mqtt-hub-options.js';
import { checkFunction, checkMethodName, checkPatch, checkSignal, checkTelemetry } from './session-arguments.js';
import { StrayErrors } from './stray-error.js';
import { telemetryPublish } from './telemetry.js';
import { TokenWatch } from './token-watch.js';
import { TwinClient } from './twin-client.js';

/**
 * Hubs over MQTT 3.1.1, on TLS or on a carrier of its own.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a keep-alive or token life out of range.
 */
export function mqttHubTransport(options: MqttHubOptions): HubTransport {
  const settings = settingsOf(options);
  return {
    name: settings.carrier.name,
    async open(parameters, signal) {
      checkSignal(signal, 'Opening a hub session');
      const session = new MqttHubSession(parameters, settings);
      await session.start(signal);
      return session;
    },
    connectionInfo: (parameters) => hubConnectionInfo(parameters, settings),
  };
}

/**
 * One device at its hub. Owns the connection and its replacement when the token runs out; what goes over it is the
 * business of the twin client, the method router and the message inbox.
 */
class MqttHubSession implements HubSession {
  readonly hostName: string;
  readonly deviceId: string;
  readonly closed: Promise<Error | undefined>;
  readonly #parameters: HubOpenParameters;
  readonly #settings: MqttHubSettings;
  readonly #address: { readonly host: string; readonly port: number };
  /** `host:port`, for errors. */
  readonly #peer: string;
  readonly #lifeline: Lifeline = new Lifeline();
  readonly #line: HubLine;
  readonly #twin: TwinClient;
  readonly #methods: MethodRouter;
  readonly #inbox: MessageInbox;
  /** Subscribed on every connection; grows with the first method handler and the first message listener. */
  readonly #wanted: Map<string, MqttSubscription> = new Map();
  #subscribed: Set<string> = new Set();
  #connection: MqttConnection | undefined;
  /** Counts connections, so that a late word of an earlier one is not taken for this one's. */
  #connectionNumber = 0;
  readonly #tokenWatch: TokenWatch;
  #ending: { readonly error: Error | undefined } | undefined;
  /** Connections that are being closed. */
  readonly #closings: Set<Promise<void>> = new Set();
  readonly #strays: StrayErrors;
  #resolveClosed: (error: Error | undefined) => void = () => {};

  constructor(parameters: HubOpenParameters, settings: MqttHubSettings) {
    const { hostName, deviceId } = parameters;
    this.hostName = hostName;
    this.deviceId = deviceId;
    this.#parameters = parameters;
    this.#settings = settings;
    this.#address = splitHubHost(hostName, settings.carrier.defaultPort);
    this.closed = new Promise((resolve) => {
      this.#resolveClosed = resolve;
    });
    const { clock, requestTimeoutMs: timeoutMs } = settings;
    this.#strays = new StrayErrors(settings.onStrayError);
    const onStrayError = this.#strays.take;
    const peer = hubPeer(this.#address.host, this.#address.port);
    this.#peer = peer;
    this.#line = new HubLine({ clock, timeoutMs, peer, lifeline: this.#lifeline });
    this.#twin = new TwinClient({
      ...settings,
      timeoutMs,
      peer,
      onStrayError,
      onGiveUp: (error) => this.#end(error),
    });
    this.#methods = new MethodRouter({ onStrayError, respond: (...response) => this.#respond(...response) });
    this.#inbox = new MessageInbox(onStrayError);
    this.#tokenWatch = new TokenWatch({
      clock,
      renew: () => this.#renewToken(),
      isOpen: () => this.#line.isOpen,
      onGiveUp: (error) => this.#end(error),
      onStrayError,
    });
    this.#want(TWIN_RESPONSE_FILTER, 0);
    this.#want(TWIN_DESIRED_FILTER, 0);
  }

  get twin(): Twin {
    const { twin } = this.#twin;
    if (twin === undefined) throw new TypeError('A session is handed out only after its first twin.');
    return twin;
  }

  /** Settles when the hub accepted the device and the twin is there. Leaves nothing behind when it fails. */
  async start(signal: CancelSignal): Promise<void> {
    try {
      await waitWithin({ doing: 'opening the hub session', signal, lifeline: this.#lifeline }, async (within) => {
        const credential = await makeHubCredential(this.#parameters, this.#settings, within);
        within.throwIfAborted();
        await this.#connect(credential);
        await this.#twin.ready;
        this.#watchToken(credential);
      });
    } catch (error) {
      this.#end(asError(error));
      await this.closed;
      throw error;
    }
  }

  onDesiredChange(listener: (change: DesiredChange) => void): Unsubscribe {
    checkFunction(listener, 'listener', 'onDesiredChange()');
    return this.#twin.onChange(listener);
  }

  async report(patch: JsonObject, signal?: CancelSignal): Promise<number> {
    checkPatch(patch);
    checkSignal(signal, 'report()');
    this.#requireOpen();
    return this.#twin.report(patch, signal);
  }

  async sendTelemetry(message: TelemetryMessage, signal?: CancelSignal): Promise<void> {
    checkTelemetry(message);
    checkSignal(signal, 'sendTelemetry()');
    this.#requireOpen();
    const publish = telemetryPublish(this.deviceId, message);
    await this.#line.run('sending telemetry', signal, (connection, within) => connection.publish(publish, within));
  }

  onMessage(listener: MessageListener): Unsubscribe {
    checkFunction(listener, 'listener', 'onMessage()');
    this.#want(cloudToDeviceFilter(this.deviceId), 1);
    return this.#inbox.add(listener);
  }

  onMethod(name: string, handler: MethodHandler): Unsubscribe {
    checkMethodName(name);
    checkFunction(handler, 'handler', 'onMethod()');
    const unsubscribe = this.#methods.handle(name, handler);
    this.#want(METHOD_FILTER, 0);
    return unsubscribe;
  }

  async close(): Promise<void> {
    this.#end(undefined);
    await this.closed;
  }

  /** Opens a connection, subscribes everything wanted, and reads the twin right behind that. */
  async #connect(credential: HubCredential): Promise<void> {
    const connection = await this.#dial(credential);
    if (this.#ending !== undefined) {
      this.#release(connection);
      throw this.#closedError();
    }
    this.#connection = connection;
    this.#subscribed = new Set();
    const number = this.#connectionNumber;
    void connection.closed.then((error) => {
      if (number === this.#connectionNumber) this.#end(error ?? hubConnectionLost(this.#peer, 'was closed'));
    });
    // SUBSCRIBE, then GET, both on their way before the first is answered: a round trip less, and nothing is missed.
    const subscribing = this.#subscribeMissing(connection);
    this.#twin.connected((message) => connection.publish(message, NEVER_CANCELLED));
    await subscribing;
    // Listeners may have come while that was on its way.
    while (this.#missing().length > 0) await this.#subscribeMissing(connection);
    this.#line.attach(connection);
  }

  #dial(credential: HubCredential): Promise<MqttConnection> {
    this.#connectionNumber += 1;
    const request = this.#connectRequest(credential, this.#connectionNumber);
    const bounds = {
      doing: 'connecting to the hub',
      lifeline: this.#lifeline,
      discard: (late: MqttConnection) => this.#release(late),
    };
    return waitWithin(bounds, (signal) => {
      const opening = this.#settings.openConnection(request, signal);
      this.#awaitBeforeClosed(opening);
      return opening;
    });
  }

  #connectRequest(credential: HubCredential, number: number): HubConnectRequest {
    const { keepaliveSeconds, userAgent, modelId, clock } = this.#settings;
    const { hostName, deviceId } = this;
    return {
      ...this.#address,
      ...hubMqttConnect({ hostName, deviceId, userAgent, modelId }),
      ...(credential.kind === 'sas' ? { password: credential.token } : { client: credential.tls }),
      keepaliveSeconds,
      onMessage: (delivery) => {
        if (number === this.#connectionNumber && this.#ending === undefined) this.#deliver(delivery);
      },
      describeRefusal: refusalDescriber(deviceId, credential.kind, clock),
    };
  }

  #want(topicFilter: string, qos: 0 | 1): void {
    if (this.#wanted.has(topicFilter)) return;
    this.#wanted.set(topicFilter, { topicFilter, qos });
    const connection = this.#connection;
    if (connection === undefined || !this.#line.isOpen) return;
    const number = this.#connectionNumber;
    this.#subscribeMissing(connection).catch((error: Error) => {
      // A listener that would never be called is worse than the end of the session.
      if (number === this.#connectionNumber) this.#end(error);
    });
  }

  #missing(): MqttSubscription[] {
    return [...this.#wanted.values()].filter(({ topicFilter }) => !this.#subscribed.has(topicFilter));
  }

  #subscribeMissing(connection: MqttConnection): Promise<void> {
    const { clock, requestTimeoutMs: afterMs } = this.#settings;
    const missing = this.#missing();
    for (const { topicFilter } of missing) this.#subscribed.add(topicFilter);
    const hint = 'Check the network, and that the host is an Azure IoT hub.';
    const timeout = { clock, afterMs, error: () => requestTimedOut(this.#peer, 'SUBSCRIBE', afterMs, hint) };
    return waitWithin({ doing: 'subscribing', lifeline: this.#lifeline, timeout }, (signal) =>
      connection.subscribe(missing, signal),
    );
  }

  #deliver({ topic, payload, acknowledge = () => {} }: MqttDelivery): void {
    let delivery: HubDelivery;
    try {
      delivery = parseHubTopic(topic, this.deviceId);
    } catch (error) {
      this.#deliverUnreadable(topic, error, acknowledge);
      return;
    }
    // The inbox acknowledges when the application has the message; everything else has no second delivery.
    if (delivery.kind === 'cloudToDevice') this.#inbox.receive({ body: payload, ...delivery.bag }, acknowledge);
    else acknowledge();
    if (delivery.kind === 'twinResponse') {
      const { requestId, status, version } = delivery;
      this.#twin.receiveAnswer(requestId, { status, version, body: payload });
    } else if (delivery.kind === 'desired') {
      this.#twin.receivePush(delivery.version, payload);
    } else if (delivery.kind === 'method') {
      this.#methods.receive(delivery.name, delivery.requestId, payload);
    }
  }

  /** A cloud-to-device message that cannot be read is left to the hub, which gives up on it after ten deliveries. */
  #deliverUnreadable(topic: string, error: unknown, acknowledge: () => void): void {
    if (topic.startsWith('$')) acknowledge();
    if (isUnder(TWIN_DESIRED_FILTER, topic)) this.#twin.receiveUnreadablePush(error);
    else if (isUnder(TWIN_RESPONSE_FILTER, topic)) this.#twin.receiveUnreadableAnswer(asError(error));
    else this.#strays.take(error, 'delivery');
  }

  /** A response that cannot be sent any more is its caller's time-out. */
  async #respond(status: number, requestId: string, payload: Uint8Array): Promise<void> {
    if (this.#ending !== undefined) return;
    const topic = methodResponseTopic(status, requestId);
    await this.#line.run('answering a method', undefined, (connection, within) =>
      connection.publish({ topic, payload, qos: 0 }, within),
    );
  }

  #watchToken(credential: HubCredential): void {
    if (credential.kind === 'sas') this.#tokenWatch.start(credential.life);
  }

  /** MQTT knows no other way to renew a token than a new connection. The old one stays until the new token is there. */
  async #renewToken(): Promise<void> {
    const bounds = { doing: 'renewing the hub token', lifeline: this.#lifeline };
    const credential = await waitWithin(bounds, (signal) =>
      makeHubCredential(this.#parameters, this.#settings, signal),
    );
    await this.#reconnect(credential);
  }

  /** Replaces the connection; the session and its handle stay. What is under way is given time to finish first. */
  async #reconnect(credential: HubCredential): Promise<void> {
    // Handlers first, while their own calls still pass; then those calls.
    await this.#allow(Promise.all([this.#methods.idle(), this.#inbox.idle()]));
    await this.#allow(Promise.all([this.#line.hold(), this.#twin.hold()]));
    this.#leaveConnection(hubConnectionLost(this.#peer, 'was replaced to renew the token'));
    await this.#settleClosings();
    await this.#connect(credential);
    this.#watchToken(credential);
  }

  /** Waits for `work`, but no longer than one request may take. */
  async #allow(work: Promise<unknown>): Promise<void> {
    const { clock, requestTimeoutMs: afterMs } = this.#settings;
    const enough = new Error('enough');
    const timeout = { clock, afterMs, error: () => enough };
    try {
      await waitWithin({ doing: 'renewing the hub token', lifeline: this.#lifeline, timeout }, () => work);
    } catch (error) {
      if (error !== enough) throw error;
    }
  }

  #leaveConnection(error: Error): void {
    this.#connectionNumber += 1;
    this.#twin.disconnected(error);
    this.#line.detach(error);
    this.#inbox.clear();
    if (this.#connection !== undefined) this.#release(this.#connection);
    this.#connection = undefined;
  }

  #release(connection: MqttConnection): void {
    this.#awaitBeforeClosed(connection.close());
  }

  #awaitBeforeClosed(work: Promise<unknown>): void {
    const done = (): void => {
      this.#closings.delete(settled);
    };
    const settled: Promise<void> = work.then(done, done);
    this.#closings.add(settled);
  }

  async #settleClosings(): Promise<void> {
    while (this.#closings.size > 0) await Promise.all(this.#closings);
  }

  /** Once, for good. `undefined`: the application said so. */
  #end(error: Error | undefined): void {
    if (this.#ending !== undefined) return;
    this.#ending = { error };
    const reason = error ?? this.#closedError();
    this.#tokenWatch.end();
    this.#twin.end(reason);
    this.#methods.end();
    this.#inbox.end();
    this.#lifeline.end(reason);
    this.#leaveConnection(reason);
    this.#strays.end();
    void this.#settleClosings().then(() => this.#resolveClosed(error));
  }

  #requireOpen(): void {
    if (this.#ending !== undefined) throw this.#closedError();
  }

  #closedError(): Error {
    return sessionClosed(this.#peer, this.deviceId, this.#ending?.error);
  }
}

function isUnder(filter: string, topic: string): boolean {
  return topic.startsWith(filter.slice(0, -1));
}
