/** One device at a hub over AMQP: its links, and what messages on them mean. */
import type { Delivery, Message, Receiver, Sender } from 'rhea';
import { decodeBase64, encodeUtf8 } from '../core/bytes.js';
import type { AmqpConnection } from './amqp-connection.js';
import { bodyOf, dataSection, intOf, propertyOf, textOf, uuidOf, uuidText } from './amqp-rhea.js';
import type { QueuedMessage } from './cloud-to-device.js';
import type { EmulatorContext } from './context.js';
import type { TakenFault } from './faults.js';
import type { Hub } from './hub.js';
import type { DeviceLink } from './hub-controls.js';
import { hubErrorBody } from './hub-error.js';
import { type JsonObject, type JsonValue, parseJson } from './json.js';
import { forcedTwinAnswer, twinText } from './twin-answer.js';
import { makeGuid } from './world.js';

/** What follows the device in the address of a link. */
export type DeviceNode = 'messages/events' | 'messages/devicebound' | 'methods/devicebound' | 'twin';

const DESIRED_NOTIFICATIONS = '/notifications/twin/properties/desired';

type Outcome = 'accepted' | 'released' | 'rejected' | 'modified';

export class HubAmqpSession implements DeviceLink {
  readonly #connection: AmqpConnection;
  readonly #context: EmulatorContext;
  readonly #hub: Hub;
  readonly #deviceId: string;
  readonly #senders = new Map<DeviceNode, Sender>();
  /** Sequence numbers of messages that wait for the device's verdict. */
  readonly #unsettled = new Map<Delivery, number>();
  /** Request ids of methods, by the correlation ids that they went out with. */
  readonly #calls = new Map<string, string>();
  #isWatchingDesired = false;

  constructor(connection: AmqpConnection, context: EmulatorContext, hub: Hub, deviceId: string) {
    this.#connection = connection;
    this.#context = context;
    this.#hub = hub;
    this.#deviceId = deviceId;
    hub.attach(deviceId, this);
  }

  closed(): void {
    // What an MQTT session of the same device has under way is none of this connection's business.
    this.#hub.detach(this.#deviceId, this, { keepSession: true });
  }

  attached(link: Receiver | Sender, node: DeviceNode): void {
    if (!link.is_sender()) return;
    this.#connection.note({ event: 'subscribe', topic: node });
    this.#senders.set(node, link as Sender);
    this.deliverQueued();
  }

  detached(link: Receiver | Sender, node: DeviceNode): void {
    if (this.#senders.get(node) !== link) return;
    this.#connection.note({ event: 'unsubscribe', topic: node });
    this.#senders.delete(node);
    if (node === 'twin') this.#isWatchingDesired = false;
  }

  // --- what the hub tells the device

  pushDesired(patch: JsonObject, version: number): void {
    if (!this.#isWatchingDesired) return;
    this.#connection.step('desiredPush', () => {
      this.#connection.note({ event: 'desiredPush', detail: `$version ${version}` });
      this.#send('twin', {}, JSON.stringify({ ...patch, $version: version }));
    });
  }

  callMethod(requestId: string, name: string, payload: JsonValue): boolean {
    if (!this.#senders.has('methods/devicebound')) return false;
    this.#connection.step('method', () => {
      this.#connection.note({ event: 'method', detail: name });
      const correlationId = makeGuid(this.#context.world);
      this.#calls.set(correlationId, requestId);
      const properties = {
        correlation_id: uuidOf(correlationId),
        application_properties: { 'IoThub-methodname': name },
      };
      this.#send('methods/devicebound', properties, JSON.stringify(payload));
    });
    return true;
  }

  deliverQueued(): void {
    const queue = this.#hub.queueOf(this.#deviceId);
    const sender = this.#senders.get('messages/devicebound');
    while (sender?.sendable() && queue !== undefined) {
      const message = queue.take(this.#context.world.wallMs());
      if (message === undefined) return;
      this.#connection.step('cloudToDevice', () => this.#deliver(message, sender));
    }
  }

  drop(reason: string): void {
    this.#connection.drop(reason);
  }

  // --- what the device does

  message(node: DeviceNode, message: Message, delivery: Delivery): void {
    switch (node) {
      case 'messages/events':
        this.#connection.note({ event: 'telemetry', detail: `${bodyOf(message).length} bytes` });
        this.#hub.receive(this.#deviceId, bodyOf(message), telemetryProperties(message));
        this.#connection.step('puback', () => delivery.accept());
        break;
      case 'twin':
        delivery.accept();
        this.#askTwin(message);
        break;
      case 'methods/devicebound':
        delivery.accept();
        this.#answerMethod(message);
        break;
      case 'messages/devicebound':
        delivery.reject({ condition: 'amqp:not-allowed', description: 'Nothing is sent to this address.' });
        break;
    }
  }

  settled(delivery: Delivery, outcome: Outcome): void {
    const sequence = this.#unsettled.get(delivery);
    const queue = this.#hub.queueOf(this.#deviceId);
    if (sequence === undefined || queue === undefined) return;
    this.#unsettled.delete(delivery);
    this.#connection.note({ event: 'cloudToDeviceDone', detail: outcome });
    if (outcome === 'accepted' || outcome === 'rejected') queue.complete(sequence);
    else queue.abandon(sequence);
    this.deliverQueued();
  }

  #deliver(message: QueuedMessage, sender: Sender): void {
    this.#connection.note({ event: 'cloudToDevice', detail: `delivery ${message.deliveryCount}` });
    const body = decodeBase64(message.bodyBase64) ?? new Uint8Array();
    const delivery = sender.send({ ...messageProperties(message), body: dataSection(body) } as unknown as Message);
    this.#unsettled.set(delivery, message.sequence);
  }

  #askTwin(message: Message): void {
    const { correlation_id: correlationId, message_annotations: annotations } = message;
    const operation = textOf(annotations, 'operation');
    const resource = textOf(annotations, 'resource');
    const answer = (status: number, body: string | Uint8Array, version?: number): void =>
      this.#answerTwin(correlationId, status, body, version);
    if (operation === 'GET') this.#readTwin(answer);
    else if (operation === 'PATCH' && resource === '/properties/reported') this.#writeTwin(bodyOf(message), answer);
    else if ((operation === 'PUT' || operation === 'DELETE') && resource === DESIRED_NOTIFICATIONS) {
      this.#isWatchingDesired = operation === 'PUT';
      this.#connection.note({ event: operation === 'PUT' ? 'subscribe' : 'unsubscribe', topic: resource });
      answer(200, '');
    } else answer(400, this.#errorText(400004, `There is no ${operation} of "${resource}".`));
  }

  #readTwin(answer: (status: number, body: string | Uint8Array) => void): void {
    this.#connection.note({ event: 'twinGet' });
    this.#connection.step('twinGet', (fault) => {
      if (this.#answerByFault(fault, answer)) return;
      const twin = twinText(this.#hub, this.#deviceId, fault);
      if (twin !== undefined) answer(200, twin);
    });
  }

  #writeTwin(body: Uint8Array, answer: (status: number, body: string | Uint8Array, version?: number) => void): void {
    this.#connection.note({ event: 'twinPatch' });
    this.#connection.step('twinPatch', (fault) => {
      if (this.#answerByFault(fault, answer)) return;
      const write = this.#hub.patchReported(this.#deviceId, parseJson(body));
      if ('section' in write) {
        answer(200, '', write.section.version);
        return;
      }
      this.#connection.note({ event: 'refused', status: 400, detail: write.problem });
      answer(400, this.#errorText(400004, write.problem));
    });
  }

  #answerByFault(fault: TakenFault | undefined, answer: (status: number, body: Uint8Array) => void): boolean {
    const forced = forcedTwinAnswer(this.#context.world, fault);
    if (forced === undefined) return false;
    answer(forced.status, forced.body);
    return true;
  }

  #answerTwin(correlationId: unknown, status: number, body: string | Uint8Array, version?: number): void {
    const isHeard = this.#senders.has('twin');
    this.#connection.note({ event: 'twinAnswer', status, ...(!isHeard && { detail: 'no link to send it on' }) });
    const annotations = { status: intOf(status), ...(version !== undefined && { version: intOf(version) }) };
    this.#send('twin', { correlation_id: correlationId, message_annotations: annotations }, body);
  }

  #answerMethod(message: Message): void {
    const correlationId = uuidText(message.correlation_id) ?? '';
    const status = Number(propertyOf(message.application_properties, 'IoThub-status'));
    const bytes = bodyOf(message);
    const payload = bytes.length === 0 ? null : parseJson(bytes);
    const requestId = this.#calls.get(correlationId) ?? '';
    this.#calls.delete(correlationId);
    const isAwaited = this.#hub.answerMethod(this.#deviceId, requestId, status, payload);
    this.#connection.note({ event: 'methodAnswer', status, ...(!isAwaited && { detail: 'nobody waits for it' }) });
  }

  #send(node: DeviceNode, properties: object, body: string | Uint8Array): void {
    const bytes = typeof body === 'string' ? encodeUtf8(body) : body;
    this.#senders.get(node)?.send({ ...properties, body: dataSection(bytes) } as unknown as Message);
  }

  #errorText(errorCode: number, message: string): string {
    return JSON.stringify(hubErrorBody(this.#context.world, errorCode, message));
  }
}

/** System properties by the names that MQTT gives them, so that a test finds the same whatever a device speaks. */
function telemetryProperties(message: Message): Readonly<Record<string, string>> {
  const system: Readonly<Record<string, unknown>> = {
    '$.mid': uuidText(message.message_id) ?? message.message_id,
    '$.cid': uuidText(message.correlation_id) ?? message.correlation_id,
    '$.uid': userIdOf(message.user_id),
    '$.ct': message.content_type,
    '$.ce': message.content_encoding,
  };
  const own = Object.entries(Object(message.application_properties) as Record<string, unknown>);
  const present = [...Object.entries(system), ...own].filter(([, value]) => value !== undefined && value !== null);
  return Object.fromEntries(present.map(([name, value]) => [name, String(value)]));
}

/** AMQP has it as bytes. */
function userIdOf(userId: unknown): unknown {
  return userId instanceof Uint8Array ? Buffer.from(userId).toString('utf8') : userId;
}

/** Where the system properties of a queued message go in an AMQP message. */
const SYSTEM_FIELDS: ReadonlyMap<string, string> = new Map([
  ['$.mid', 'message_id'],
  ['$.cid', 'correlation_id'],
  ['$.to', 'to'],
  ['$.ct', 'content_type'],
  ['$.ce', 'content_encoding'],
]);

function messageProperties({ properties, deliveryCount }: QueuedMessage): object {
  const fields: Record<string, unknown> = { delivery_count: deliveryCount - 1 };
  const own: Record<string, string> = Object.create(null);
  for (const [name, value] of properties) {
    const field = SYSTEM_FIELDS.get(name);
    if (field !== undefined) fields[field] = value;
    else if (name === '$.uid') fields.user_id = Buffer.from(value ?? '');
    else own[name] = value ?? '';
  }
  return { ...fields, application_properties: own };
}
