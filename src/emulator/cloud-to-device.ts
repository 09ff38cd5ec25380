import { encodeBase64, encodeUtf8 } from '../core/bytes.js';
import { makeGuid, type World } from './world.js';

/** A message for a device, as the service side sends it. */
export interface CloudToDeviceRequest {
  /** Text goes as UTF-8. */
  readonly body: Uint8Array | string;
  /** Default: a GUID. */
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly userId?: string;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly ack?: 'none' | 'positive' | 'negative' | 'full';
  /** Default one hour. */
  readonly timeToLiveMs?: number;
  /** Null goes out as a bare key. */
  readonly properties?: Readonly<Record<string, string | null>>;
}

/** A message in a device's queue; plain data, so that it can be stored. */
export interface QueuedMessage {
  readonly sequence: number;
  readonly messageId: string;
  readonly bodyBase64: string;
  /** System and application properties in the order of the topic's property bag. */
  readonly properties: readonly (readonly [string, string | null])[];
  readonly expiresAtMs: number;
  readonly deliveryCount: number;
  /** The MQTT packet id of an earlier delivery within the same session. */
  readonly packetId?: number;
}

/** Documented limits of a device's queue. */
export const CLOUD_TO_DEVICE_LIMITS: {
  readonly messages: number;
  readonly messageBytes: number;
  readonly defaultTimeToLiveMs: number;
  readonly deliveries: number;
} = { messages: 50, messageBytes: 64 * 1024, defaultTimeToLiveMs: 3_600_000, deliveries: 10 };

/** One device's queue: first in, first out, until acknowledged, expired or delivered ten times in vain. */
export class CloudToDeviceQueue {
  #messages: readonly QueuedMessage[];
  readonly #inFlight = new Set<number>();
  #lastSequence: number;

  constructor(messages: readonly QueuedMessage[] = []) {
    this.#messages = messages;
    this.#lastSequence = messages.at(-1)?.sequence ?? 0;
  }

  /** The queued message, or `undefined` when the queue is full. */
  add(deviceId: string, request: CloudToDeviceRequest, world: World): QueuedMessage | undefined {
    this.#expire(world.wallMs());
    if (this.#messages.length >= CLOUD_TO_DEVICE_LIMITS.messages) return undefined;
    const messageId = request.messageId ?? makeGuid(world);
    const body = typeof request.body === 'string' ? encodeUtf8(request.body) : request.body;
    this.#lastSequence += 1;
    const message: QueuedMessage = {
      sequence: this.#lastSequence,
      messageId,
      bodyBase64: encodeBase64(body),
      properties: bagOf(deviceId, messageId, request),
      expiresAtMs: world.wallMs() + (request.timeToLiveMs ?? CLOUD_TO_DEVICE_LIMITS.defaultTimeToLiveMs),
      deliveryCount: 0,
    };
    this.#messages = [...this.#messages, message];
    return message;
  }

  /** The next message that is not on its way already; it counts as on its way from now on. */
  take(atMs: number): QueuedMessage | undefined {
    this.#expire(atMs);
    const next = this.#messages.find((message) => !this.#inFlight.has(message.sequence));
    if (next === undefined) return undefined;
    this.#inFlight.add(next.sequence);
    return this.#replace({ ...next, deliveryCount: next.deliveryCount + 1 });
  }

  /** Remembers under which packet id a message went out. */
  setPacketId(sequence: number, packetId: number): void {
    const message = this.#messages.find((candidate) => candidate.sequence === sequence);
    if (message !== undefined) this.#replace({ ...message, packetId });
  }

  complete(sequence: number): void {
    this.#inFlight.delete(sequence);
    this.#messages = this.#messages.filter((message) => message.sequence !== sequence);
  }

  /** Given back by the device: it will be delivered again, unless that was the last time. */
  abandon(sequence: number): void {
    this.#inFlight.delete(sequence);
    this.#messages = this.#messages.filter(
      (message) => message.sequence !== sequence || message.deliveryCount < CLOUD_TO_DEVICE_LIMITS.deliveries,
    );
  }

  /** The connection is gone: what was on its way will be delivered again; without a session under new packet ids. */
  release(how: { readonly keepPacketIds: boolean }): void {
    this.#inFlight.clear();
    this.#messages = this.#messages.filter((message) => message.deliveryCount < CLOUD_TO_DEVICE_LIMITS.deliveries);
    if (how.keepPacketIds) return;
    this.#messages = this.#messages.map(({ packetId: _, ...message }) => message);
  }

  messages(): readonly QueuedMessage[] {
    return this.#messages;
  }

  #expire(atMs: number): void {
    this.#messages = this.#messages.filter(
      (message) => message.expiresAtMs > atMs || this.#inFlight.has(message.sequence),
    );
  }

  #replace(message: QueuedMessage): QueuedMessage {
    this.#messages = this.#messages.map((other) => (other.sequence === message.sequence ? message : other));
    return message;
  }
}

function bagOf(
  deviceId: string,
  messageId: string,
  request: CloudToDeviceRequest,
): readonly (readonly [string, string | null])[] {
  const system: readonly (readonly [string, string | undefined])[] = [
    ['$.mid', messageId],
    ['$.cid', request.correlationId],
    ['$.uid', request.userId],
    ['$.to', `/devices/${deviceId}/messages/devicebound`],
    ['$.ct', request.contentType],
    ['$.ce', request.contentEncoding],
    ['iothub-ack', request.ack],
  ];
  const present = system.flatMap(([key, value]) => (value === undefined ? [] : [[key, value] as const]));
  return [...present, ...Object.entries(request.properties ?? {})];
}
