/** The provisioning service over MQTT: topics to requests, replies to topics. */
import type { IConnectPacket, IPublishPacket, ISubscribePacket, Packet } from 'mqtt-packet';
import { encodeUtf8 } from '../core/bytes.js';
import type { EmulatorContext } from './context.js';
import { faultReply, readScript } from './dps-faults.js';
import type { TakenFault } from './faults.js';
import type { MqttConnection, MqttSession } from './mqtt-connection.js';
import { findRequestId, parseQuery, type UserName } from './mqtt-names.js';
import type { Caller, ProvisioningScope } from './service.js';
import type { ServiceReply } from './service-reply.js';
import type { PresentedCredential } from './verify.js';

const RESPONSE_FILTER = '$dps/registrations/res/#';
const REGISTER_TOPIC = /^\$dps\/registrations\/PUT\/iotdps-register\/\?(.*)$/s;
const STATUS_TOPIC = /^\$dps\/registrations\/GET\/iotdps-get-operationstatus\/\?(.*)$/s;
const REFUSED_SUBSCRIPTION = 0x80;

/** Connections by scope and registration id: of two with the same, the newer wins (not known of the real service). */
export type DpsConnections = Map<string, MqttConnection>;

/**
 * Answers a CONNECT with a DPS user name. Only the scope and the form are judged here: a wrong key or certificate is
 * let in and gets its 401 with the first request, as from the real service.
 */
export function openDpsSession(
  connection: MqttConnection,
  context: EmulatorContext,
  packet: IConnectPacket,
  name: Extract<UserName, { kind: 'dps' }>,
  connections: DpsConnections,
): void {
  const { idScope, registrationId } = name;
  connection.identify({ service: 'dps', idScope, device: registrationId });
  connection.note({ event: 'connect', detail: `api-version ${name.apiVersion} ${name.userAgent ?? ''}`.trimEnd() });
  connection.step('connack', (fault) => {
    const forced = fault?.find('connack');
    const scope = context.scopes.get(idScope);
    if (forced !== undefined && forced.code !== 0) connection.refuse(forced.code, 'fault: connack');
    else if (scope === undefined) connection.refuse(3, `there is no ID scope "${idScope}" here`);
    else if (packet.clientId !== registrationId) connection.refuse(2, 'the client id is not the registration id');
    else new DpsMqttSession(connection, context, packet, name, scope).start(connections);
  });
}

class DpsMqttSession implements MqttSession {
  readonly #connection: MqttConnection;
  readonly #context: EmulatorContext;
  readonly #scope: ProvisioningScope;
  readonly #caller: Caller;
  readonly #keepAliveSeconds: number;
  readonly #key: string;
  #connections: DpsConnections = new Map();
  /** Granted QoS, or `undefined` while not subscribed. */
  #granted: 0 | 1 | undefined;

  constructor(
    connection: MqttConnection,
    context: EmulatorContext,
    packet: IConnectPacket,
    name: Extract<UserName, { kind: 'dps' }>,
    scope: ProvisioningScope,
  ) {
    const { registrationId, apiVersion } = name;
    this.#connection = connection;
    this.#context = context;
    this.#scope = scope;
    this.#keepAliveSeconds = packet.keepalive ?? 0;
    this.#key = `${name.idScope}/${registrationId.toLowerCase()}`;
    this.#caller = { registrationId, apiVersion, credential: credentialOf(connection, context, packet) };
  }

  start(connections: DpsConnections): void {
    this.#connections = connections;
    connections.get(this.#key)?.drop('a newer connection with the same registration id took over');
    connections.set(this.#key, this.#connection);
    const idleLimitMs = this.#keepAliveSeconds === 0 ? undefined : this.#keepAliveSeconds * 1500;
    // Sessions here never persist, whatever the clean session flag says.
    this.#connection.accept(this, { isSessionPresent: false, idleLimitMs });
  }

  receive(packet: Packet): void {
    switch (packet.cmd) {
      case 'subscribe':
        this.#subscribe(packet);
        break;
      case 'unsubscribe':
        if (packet.unsubscriptions.includes(RESPONSE_FILTER)) this.#granted = undefined;
        this.#connection.note({ event: 'unsubscribe' });
        this.#connection.send({ cmd: 'unsuback', messageId: packet.messageId ?? 0, granted: [] });
        break;
      case 'publish':
        this.#publish(packet);
        break;
      default:
        // PUBACKs of replies: nothing is kept for a second delivery.
        break;
    }
  }

  closed(): void {
    if (this.#connections.get(this.#key) === this.#connection) this.#connections.delete(this.#key);
  }

  #subscribe(packet: ISubscribePacket): void {
    this.#connection.note({ event: 'subscribe', topic: packet.subscriptions.map(({ topic }) => topic).join(' ') });
    this.#connection.step('suback', (fault) => {
      const forced = fault?.find('suback')?.code;
      const granted = packet.subscriptions.map(({ topic, qos }) => {
        if (topic !== RESPONSE_FILTER) return REFUSED_SUBSCRIPTION;
        return forced ?? Math.min(qos, 1);
      });
      const code = granted[packet.subscriptions.findIndex(({ topic }) => topic === RESPONSE_FILTER)];
      if (code === 0 || code === 1) this.#granted = code;
      this.#connection.send({ cmd: 'suback', messageId: packet.messageId ?? 0, granted });
    });
  }

  #publish(packet: IPublishPacket): void {
    if (packet.qos === 2) {
      this.#connection.violate('QoS 2 is not spoken here');
      return;
    }
    const registerQuery = REGISTER_TOPIC.exec(packet.topic)?.[1];
    const statusQuery = STATUS_TOPIC.exec(packet.topic)?.[1];
    const requestId = findRequestId(registerQuery ?? statusQuery ?? '');
    if (requestId === undefined) this.#publishNowhere(packet);
    else if (registerQuery !== undefined) this.#register(packet, requestId);
    else this.#askStatus(packet, requestId, parseQuery(statusQuery ?? '').get('operationId') ?? '');
  }

  #publishNowhere(packet: IPublishPacket): void {
    if (this.#context.unknownTopic === 'close') {
      this.#connection.violate(`nothing is published at ${packet.topic}`);
    } else {
      this.#connection.acknowledge(packet);
    }
  }

  #register(packet: IPublishPacket, requestId: string): void {
    this.#connection.note({ event: 'register', topic: packet.topic });
    // The PUBACK goes first: one of Microsoft's clients takes nothing else between its request and the reply.
    this.#connection.acknowledge(packet);
    this.#connection.step('register', (fault) => {
      const ask = (): ServiceReply => this.#scope.register(this.#caller, payloadOf(packet), readScript(fault));
      this.#reply(requestId, fault, ask);
    });
  }

  #askStatus(packet: IPublishPacket, requestId: string, operationId: string): void {
    this.#connection.note({ event: 'status', topic: packet.topic });
    this.#connection.acknowledge(packet);
    this.#connection.step('status', (fault) => {
      this.#reply(requestId, fault, () => this.#scope.operationStatus(this.#caller, operationId));
    });
  }

  #reply(requestId: string, fault: TakenFault | undefined, ask: () => ServiceReply): void {
    const { status, body, retryAfter, topic, reason } = faultReply(this.#context.world, fault, ask);
    if (reason !== undefined) this.#connection.note({ event: 'refused', status, detail: reason });
    const isHeard = this.#granted !== undefined;
    this.#connection.note({ event: 'reply', status, ...(!isHeard && { detail: 'nobody subscribed to it' }) });
    if (this.#granted === undefined) return;
    const after = retryAfter === undefined ? '' : `&retry-after=${retryAfter}`;
    const usual = `$dps/registrations/res/${status}/?$rid=${requestId}${after}`;
    this.#connection.publish(topic ?? usual, body, { qos: this.#granted });
  }
}

function credentialOf(
  connection: MqttConnection,
  context: EmulatorContext,
  packet: IConnectPacket,
): PresentedCredential {
  if (packet.password !== undefined && packet.password.length > 0) {
    return { kind: 'sas', token: packet.password.toString('utf8'), presentedAtMs: context.world.wallMs() };
  }
  const chain = connection.certificateChain();
  return chain.length === 0 ? { kind: 'none' } : { kind: 'x509', chain };
}

function payloadOf(packet: IPublishPacket): Uint8Array {
  return typeof packet.payload === 'string' ? encodeUtf8(packet.payload) : packet.payload;
}
