/** A hub over MQTT: topics to twin reads and writes, telemetry, methods and messages. */
import type { IConnectPacket, IPublishPacket, ISubscribePacket, IUnsubscribePacket, Packet } from 'mqtt-packet';
import { decodeBase64, encodeUriComponentStrict, encodeUtf8 } from '../core/bytes.js';
import type { QueuedMessage } from './cloud-to-device.js';
import type { EmulatorContext } from './context.js';
import type { TakenFault } from './faults.js';
import type { Hub } from './hub.js';
import { LIVE_TOKEN_GRACE_MS } from './hub-auth.js';
import type { DeviceLink } from './hub-controls.js';
import { hubErrorBody } from './hub-error.js';
import { type JsonObject, type JsonValue, parseJson } from './json.js';
import type { MqttConnection, MqttSession } from './mqtt-connection.js';
import { findRequestId, parseQuery, type UserName } from './mqtt-names.js';
import { forcedTwinAnswer, twinText } from './twin-answer.js';

const TWIN_ANSWERS = '$iothub/twin/res/#';
const DESIRED_PUSHES = '$iothub/twin/PATCH/properties/desired/#';
const METHOD_CALLS = '$iothub/methods/POST/#';
const TWIN_GET = /^\$iothub\/twin\/GET\/\?(.*)$/s;
const TWIN_PATCH = /^\$iothub\/twin\/PATCH\/properties\/reported\/\?(.*)$/s;
/** Any integer is a status. */
const METHOD_ANSWER = /^\$iothub\/methods\/res\/(-?\d{1,16})\/\?(.*)$/s;
const REFUSED_SUBSCRIPTION = 0x80;

/** Larger messages end the connection. */
const MAX_MESSAGE_BYTES = 256 * 1024;

/** The service's idle limit: 1.5 keep-alives, but never more than this. */
const LONGEST_IDLE_MS = 1767 * 1000;

/** A token may outlive any timer; its end is looked at again at least this often. */
const EXPIRY_CHECK_MS = 3_600_000;

/** One connected device: its subscriptions, and what its topics mean. */
export class HubMqttSession implements MqttSession, DeviceLink {
  readonly #connection: MqttConnection;
  readonly #context: EmulatorContext;
  readonly #packet: IConnectPacket;
  readonly #hub: Hub;
  readonly #deviceId: string;
  readonly #hasApiVersion: boolean;
  readonly #eventsTopic: RegExp;
  #subscriptions = new Map<string, number>();
  /** Sequence numbers of messages that wait for their PUBACK. */
  readonly #unacknowledged = new Map<number, number>();

  constructor(
    connection: MqttConnection,
    context: EmulatorContext,
    packet: IConnectPacket,
    name: Extract<UserName, { kind: 'hub' }>,
    hub: Hub,
  ) {
    this.#connection = connection;
    this.#context = context;
    this.#packet = packet;
    this.#hub = hub;
    this.#deviceId = name.deviceId;
    this.#hasApiVersion = name.apiVersion !== undefined;
    this.#eventsTopic = new RegExp(`^devices/${escapeForRegExp(name.deviceId)}/messages/events(?:/(.*))?$`, 's');
  }

  start(): void {
    const stored = this.#packet.clean ? undefined : this.#hub.session(this.#deviceId);
    this.#hub.attach(this.#deviceId, this);
    this.#subscriptions = new Map(stored);
    this.#storeSession();
    const keepAliveMs = (this.#packet.keepalive ?? 0) * 1500;
    const idleLimitMs = keepAliveMs === 0 ? LONGEST_IDLE_MS : Math.min(keepAliveMs, LONGEST_IDLE_MS);
    this.#connection.accept(this, { isSessionPresent: stored !== undefined, idleLimitMs });
    this.deliverQueued();
  }

  /** Ends the connection some time after its token has expired: MQTT cannot renew one in place. */
  watchExpiry(expiresAtMs: number): void {
    const leftMs = expiresAtMs + LIVE_TOKEN_GRACE_MS - this.#context.world.wallMs();
    if (leftMs <= 0) this.drop('the SAS token has expired');
    else this.#connection.after(Math.min(leftMs, EXPIRY_CHECK_MS), () => this.watchExpiry(expiresAtMs));
  }

  receive(packet: Packet): void {
    switch (packet.cmd) {
      case 'subscribe':
        this.#subscribe(packet);
        break;
      case 'unsubscribe':
        this.#unsubscribe(packet);
        break;
      case 'publish':
        this.#publish(packet);
        break;
      case 'puback':
        this.#completeMessage(packet.messageId ?? 0);
        break;
      default:
        break;
    }
  }

  closed(isGraceful: boolean): void {
    const { will } = this.#packet;
    const bag = will === undefined ? undefined : this.#eventsTopic.exec(will.topic)?.[1];
    if (!isGraceful && will !== undefined && bag !== undefined) {
      this.#receiveTelemetry(will.payload, bag, { 'iothub-MessageType': 'Will' });
    }
    this.#hub.detach(this.#deviceId, this, { keepSession: !this.#packet.clean });
  }

  // --- what the hub tells the device

  pushDesired(patch: JsonObject, version: number): void {
    if (!this.#subscriptions.has(DESIRED_PUSHES)) return;
    this.#connection.step('desiredPush', () => {
      const body = JSON.stringify({ ...patch, $version: version });
      this.#connection.note({ event: 'desiredPush', detail: `$version ${version}` });
      // Whether the real hub would use QoS 1 for a QoS 1 subscriber is not known.
      this.#connection.publish(`$iothub/twin/PATCH/properties/desired/?$version=${version}`, body, { qos: 0 });
    });
  }

  callMethod(requestId: string, name: string, payload: JsonValue): boolean {
    if (!this.#subscriptions.has(METHOD_CALLS)) return false;
    this.#connection.step('method', () => {
      this.#connection.note({ event: 'method', detail: name });
      this.#connection.publish(`$iothub/methods/POST/${name}/?$rid=${requestId}`, JSON.stringify(payload), { qos: 0 });
    });
    return true;
  }

  deliverQueued(): void {
    const qos = this.#cloudToDeviceQos();
    const queue = this.#hub.queueOf(this.#deviceId);
    if (qos === undefined || queue === undefined) return;
    for (;;) {
      const message = queue.take(this.#context.world.wallMs());
      if (message === undefined) return;
      this.#connection.step('cloudToDevice', () => this.#deliver(message, qos));
    }
  }

  drop(reason: string): void {
    this.#connection.drop(reason);
  }

  // --- what the device does

  #subscribe(packet: ISubscribePacket): void {
    this.#connection.note({ event: 'subscribe', topic: packet.subscriptions.map(({ topic }) => topic).join(' ') });
    this.#connection.step('suback', (fault) => {
      const forced = fault?.find('suback')?.code;
      const granted = packet.subscriptions.map(({ topic, qos }) => {
        if (!this.#isKnownFilter(topic)) return REFUSED_SUBSCRIPTION;
        const code = forced ?? Math.min(qos, 1);
        if (code <= 1) this.#subscriptions.set(topic, code);
        return code;
      });
      this.#storeSession();
      this.#connection.send({ cmd: 'suback', messageId: packet.messageId ?? 0, granted });
      const push = fault?.find('pushDesired');
      if (push !== undefined) this.#hub.patchDesired(this.#deviceId, push.patch);
      this.deliverQueued();
    });
  }

  #unsubscribe(packet: IUnsubscribePacket): void {
    this.#connection.note({ event: 'unsubscribe', topic: packet.unsubscriptions.join(' ') });
    for (const filter of packet.unsubscriptions) this.#subscriptions.delete(filter);
    this.#storeSession();
    this.#connection.send({ cmd: 'unsuback', messageId: packet.messageId ?? 0, granted: [] });
  }

  #publish(packet: IPublishPacket): void {
    const { topic } = packet;
    if (packet.qos === 2 || packet.payload.length > MAX_MESSAGE_BYTES) {
      this.#connection.violate(packet.qos === 2 ? 'QoS 2 is not spoken here' : 'the message has more than 256 KB');
      return;
    }
    const bag = this.#eventsTopic.exec(topic);
    const getId = findRequestId(TWIN_GET.exec(topic)?.[1] ?? '');
    const patchId = findRequestId(TWIN_PATCH.exec(topic)?.[1] ?? '');
    const [, methodStatus, methodQuery] = METHOD_ANSWER.exec(topic) ?? [];
    if (bag !== null) this.#receiveEvent(packet, bag[1] ?? '');
    else if (getId !== undefined) this.#readTwin(packet, getId);
    else if (patchId !== undefined) this.#writeTwin(packet, patchId);
    else if (Number.isSafeInteger(Number(methodStatus))) {
      this.#answerMethod(packet, Number(methodStatus), methodQuery ?? '');
    } else if (this.#context.unknownTopic === 'ignore') this.#connection.acknowledge(packet);
    else this.#connection.violate(`nothing is published at ${topic}`);
  }

  #receiveEvent(packet: IPublishPacket, bag: string): void {
    // The hub keeps no retained messages; it marks them.
    this.#receiveTelemetry(packet.payload, bag, packet.retain ? { 'mqtt-retain': 'true' } : {});
    this.#connection.acknowledge(packet);
  }

  #receiveTelemetry(payload: string | Uint8Array, bag: string, marks: Readonly<Record<string, string>>): void {
    const body = toBytes(payload);
    this.#connection.note({ event: 'telemetry', detail: `${body.length} bytes` });
    this.#hub.receive(this.#deviceId, body, { ...Object.fromEntries(parseQuery(bag)), ...marks });
  }

  #readTwin(packet: IPublishPacket, requestId: string): void {
    this.#connection.note({ event: 'twinGet' });
    this.#connection.acknowledge(packet);
    this.#connection.step('twinGet', (fault) => {
      if (this.#answerByFault(requestId, fault)) return;
      const twin = twinText(this.#hub, this.#deviceId, fault);
      if (twin !== undefined) this.#answerTwin(200, `?$rid=${requestId}`, twin);
    });
  }

  #writeTwin(packet: IPublishPacket, requestId: string): void {
    this.#connection.note({ event: 'twinPatch' });
    this.#connection.acknowledge(packet);
    this.#connection.step('twinPatch', (fault) => {
      if (this.#answerByFault(requestId, fault)) return;
      const write = this.#hasApiVersion
        ? this.#hub.patchReported(this.#deviceId, parseJson(toBytes(packet.payload)))
        : { problem: 'The user name of this connection has no api-version.' };
      if ('section' in write) {
        this.#answerTwin(204, `?$rid=${requestId}&$version=${write.section.version}`, '');
        return;
      }
      this.#connection.note({ event: 'refused', status: 400, detail: write.problem });
      const body = hubErrorBody(this.#context.world, 400004, write.problem);
      this.#answerTwin(400, `?$rid=${requestId}`, JSON.stringify(body));
    });
  }

  #answerByFault(requestId: string, fault: TakenFault | undefined): boolean {
    const forced = forcedTwinAnswer(this.#context.world, fault);
    if (forced === undefined) return false;
    this.#answerTwin(forced.status, `?$rid=${requestId}`, forced.body, forced.topic);
    return true;
  }

  #answerTwin(status: number, query: string, body: string | Uint8Array, topic?: string): void {
    const isHeard = this.#subscriptions.has(TWIN_ANSWERS);
    this.#connection.note({ event: 'twinAnswer', status, ...(!isHeard && { detail: 'nobody subscribed to it' }) });
    if (isHeard) this.#connection.publish(topic ?? `$iothub/twin/res/${status}/${query}`, body, { qos: 0 });
  }

  #answerMethod(packet: IPublishPacket, status: number, query: string): void {
    this.#connection.acknowledge(packet);
    const bytes = toBytes(packet.payload);
    const payload = bytes.length === 0 ? null : parseJson(bytes);
    const isAwaited = this.#hub.answerMethod(this.#deviceId, findRequestId(query) ?? '', status, payload);
    this.#connection.note({ event: 'methodAnswer', status, ...(!isAwaited && { detail: 'nobody waits for it' }) });
  }

  #deliver(message: QueuedMessage, qos: 0 | 1): void {
    const queue = this.#hub.queueOf(this.#deviceId);
    if (queue === undefined) return;
    const topic = `devices/${this.#deviceId}/messages/devicebound/${encodeBag(message.properties)}`;
    const body = decodeBase64(message.bodyBase64) ?? new Uint8Array();
    this.#connection.note({ event: 'cloudToDevice', detail: `delivery ${message.deliveryCount}` });
    if (qos === 0) {
      queue.complete(message.sequence);
      this.#connection.publish(topic, body, { qos });
      return;
    }
    // [MQTT-4.4.0-1] a second delivery within one session has the packet id of the first.
    const isTaken = (packetId: number): boolean =>
      this.#unacknowledged.has(packetId) || queue.messages().some((other) => other.packetId === packetId);
    const packetId = message.packetId ?? this.#connection.nextPacketId(isTaken);
    this.#unacknowledged.set(packetId, message.sequence);
    queue.setPacketId(message.sequence, packetId);
    this.#connection.publish(topic, body, { qos, packetId, isDuplicate: message.packetId !== undefined });
  }

  #completeMessage(packetId: number): void {
    const sequence = this.#unacknowledged.get(packetId);
    if (sequence === undefined) return;
    this.#unacknowledged.delete(packetId);
    this.#hub.queueOf(this.#deviceId)?.complete(sequence);
    this.#connection.note({ event: 'cloudToDeviceDone' });
  }

  #cloudToDeviceQos(): 0 | 1 | undefined {
    const granted = this.#messageFilters().map((filter) => this.#subscriptions.get(filter));
    if (granted.includes(1)) return 1;
    return granted.includes(0) ? 0 : undefined;
  }

  #isKnownFilter(filter: string): boolean {
    return [TWIN_ANSWERS, DESIRED_PUSHES, METHOD_CALLS, ...this.#messageFilters()].includes(filter);
  }

  /** The second is the constant of Microsoft's embedded C client; it means this device only. */
  #messageFilters(): readonly string[] {
    return [`devices/${this.#deviceId}/messages/devicebound/#`, 'devices/+/messages/devicebound/#'];
  }

  #storeSession(): void {
    this.#hub.setSession(this.#deviceId, this.#packet.clean ? undefined : new Map(this.#subscriptions));
  }
}

function encodeBag(properties: QueuedMessage['properties']): string {
  return properties
    .map(([key, value]) => {
      const name = encodeUriComponentStrict(key);
      return value === null ? name : `${name}=${encodeUriComponentStrict(value)}`;
    })
    .join('&');
}

function toBytes(payload: string | Uint8Array): Uint8Array {
  return typeof payload === 'string' ? encodeUtf8(payload) : payload;
}

function escapeForRegExp(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}
