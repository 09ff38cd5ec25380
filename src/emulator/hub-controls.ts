import type { CloudToDeviceRequest, QueuedMessage } from './cloud-to-device.js';
import type { JsonObject, JsonValue } from './json.js';
import type { HubIdentity } from './linked-hub.js';
import type { MethodResult } from './method-calls.js';
import type { TwinContent, TwinDocument } from './twin-document.js';

/** A connected device, whatever it is connected by. */
export interface DeviceLink {
  pushDesired(patch: JsonObject, version: number): void;
  /** There may be something new in the queue. */
  deliverQueued(): void;
  /** Whether the device takes methods. */
  callMethod(requestId: string, name: string, payload: JsonValue): boolean;
  /** Ends the connection without a packet. */
  drop(reason: string): void;
}

/** What a transport needs to know to let a device in. */
export interface RegisteredDevice extends HubIdentity {
  readonly isEnabled: boolean;
}

export interface DeviceDescription extends RegisteredDevice {
  readonly isConnected: boolean;
}

/** A device-to-cloud message as it arrived. */
export interface ReceivedTelemetry {
  readonly deviceId: string;
  readonly body: Uint8Array;
  /** The decoded property bag, system properties (`$.ct`, …) included. */
  readonly properties: Readonly<Record<string, string>>;
  readonly enqueuedMs: number;
}

/** What a service would do with a hub. */
export interface HubControls {
  readonly name: string;
  /** What devices are told to connect to. */
  readonly hostName: string;
  devices(): readonly DeviceDescription[];
  /** Registers a device by hand, without DPS. */
  addDevice(identity: Omit<HubIdentity, 'isEdge'>, content?: Partial<TwinContent>): void;
  /** The whole twin with tags, or `undefined` for an unknown device. */
  twin(deviceId: string): TwinDocument | undefined;
  /** Merge patch, pushed to the device if it listens. @returns the new version. @throws {ServiceError} 400, 404 */
  patchDesired(deviceId: string, patch: JsonObject): number;
  /** The whole section. @returns the new version. @throws {ServiceError} 400, 404 */
  replaceDesired(deviceId: string, properties: JsonObject): number;
  /** Queues a message. @returns its message id. @throws {ServiceError} 403004 when 50 wait already, 404 */
  sendC2D(deviceId: string, message: CloudToDeviceRequest): string;
  /** Messages that were not acknowledged yet. */
  queuedC2D(deviceId: string): readonly QueuedMessage[];
  /** @throws {ServiceError} 404103 at once when the device is not there, 504101 after `timeoutMs` (default 30 s). */
  invokeMethod(
    deviceId: string,
    name: string,
    payload?: JsonValue,
    options?: { readonly timeoutMs?: number },
  ): Promise<MethodResult>;
  /** A disabled device is thrown out and not let in again. @throws {ServiceError} 404 */
  setDeviceEnabled(deviceId: string, isEnabled: boolean): void;
  /** Deletes the identity; a connected device is thrown out. Whether there was one. */
  removeDevice(deviceId: string): boolean;
  /** Ends the device's connection; it may come back. Whether it was connected. */
  disconnectDevice(deviceId: string): boolean;
  /** The latest telemetry, oldest first. */
  telemetry(deviceId?: string): readonly ReceivedTelemetry[];
}

/** A device as it is stored. */
export interface StoredDevice {
  readonly identity: HubIdentity;
  readonly isEnabled: boolean;
  readonly twin: TwinDocument;
  readonly queue: readonly QueuedMessage[];
  /** Filters and QoS of a persisted MQTT session. */
  readonly session?: readonly (readonly [string, number])[];
}
