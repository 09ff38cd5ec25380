/**
 * One IoT hub without any transport: its device registry, twins, queues and calls. Transports attach a link for each
 * connected device; time, chance and waiting are handed in.
 */
import { encodeUtf8 } from '../core/bytes.js';
import type { Clock } from '../core/clock.js';
import {
  CLOUD_TO_DEVICE_LIMITS,
  CloudToDeviceQueue,
  type CloudToDeviceRequest,
  type QueuedMessage,
} from './cloud-to-device.js';
import type {
  DeviceDescription,
  DeviceLink,
  HubControls,
  ReceivedTelemetry,
  RegisteredDevice,
  StoredDevice,
} from './hub-controls.js';
import { hubError } from './hub-error.js';
import type { JsonObject, JsonValue } from './json.js';
import type { HubIdentity, LinkedHub } from './linked-hub.js';
import { MethodCalls, type MethodResult } from './method-calls.js';
import {
  makeTwin,
  patchSection,
  replaceSection,
  type SectionWrite,
  type TwinContent,
  type TwinDocument,
} from './twin-document.js';
import type { HubAuthentication } from './verify.js';
import type { World } from './world.js';

export interface HubOptions {
  readonly name: string;
  /** Default: set by whoever listens. */
  readonly hostName: string | undefined;
  readonly allocationWeight: number;
  readonly takesAllocations: boolean;
  readonly world: World;
  readonly clock: Clock;
  onChange(): void;
}

const KEPT_TELEMETRY = 1000;
const KEPT_TELEMETRY_BYTES = 16 * 1024 * 1024;

interface Device {
  identity: HubIdentity;
  isEnabled: boolean;
  twin: TwinDocument;
  link: DeviceLink | undefined;
  /** Subscriptions that outlive the connection; `undefined` when the last session was a clean one. */
  session: ReadonlyMap<string, number> | undefined;
  readonly queue: CloudToDeviceQueue;
}

export class Hub implements HubControls, LinkedHub {
  readonly name: string;
  readonly allocationWeight: number;
  readonly takesAllocations: boolean;
  readonly #options: HubOptions;
  readonly #devices = new Map<string, Device>();
  readonly #methods: MethodCalls;
  #listeningNames: readonly string[] = [];
  readonly #telemetry: ReceivedTelemetry[] = [];
  #telemetryBytes = 0;

  constructor(options: HubOptions) {
    this.name = options.name;
    this.allocationWeight = options.allocationWeight;
    this.takesAllocations = options.takesAllocations;
    this.#options = options;
    this.#methods = new MethodCalls(options.clock, options.world);
  }

  get hostName(): string {
    return this.#options.hostName ?? this.#listeningNames[0] ?? this.name;
  }

  /** `host:port` names under which the hub can be reached, the preferred one first. */
  setListeningNames(names: readonly string[]): void {
    this.#listeningNames = names;
  }

  /** Whether a user name with this host means this hub. */
  answersTo(host: string): boolean {
    const wanted = host.toLowerCase();
    return [this.hostName, this.name, ...this.#listeningNames].some((name) => name.toLowerCase() === wanted);
  }

  /** The same where it listens itself: a client that knows port 443 only leaves every port out. */
  answersWithoutPort(host: string): boolean {
    const wanted = host.toLowerCase();
    return this.#listeningNames.some((name) => name.replace(/:\d+$/, '').toLowerCase() === wanted);
  }

  // --- the provisioning service's side

  putDevice(identity: HubIdentity, content: TwinContent, how: { readonly overwrite: boolean }): void {
    const device = this.#devices.get(identity.deviceId);
    if (device === undefined) {
      this.#create(identity, content);
    } else {
      device.identity = identity;
      if (how.overwrite) this.#mergeContent(device, content);
    }
    this.#options.onChange();
  }

  authenticationOf(deviceId: string): HubAuthentication | undefined {
    return this.#devices.get(deviceId)?.identity.authentication;
  }

  contentOf(deviceId: string): TwinContent | undefined {
    const twin = this.twin(deviceId);
    return twin && { tags: twin.tags, desired: twin.desired.properties, reported: twin.reported.properties };
  }

  removeDevice(deviceId: string): boolean {
    const device = this.#devices.get(deviceId);
    if (device === undefined) return false;
    this.#devices.delete(deviceId);
    device.link?.drop('the device was removed from the hub');
    this.#options.onChange();
    return true;
  }

  // --- the devices' side

  registered(deviceId: string): RegisteredDevice | undefined {
    const device = this.#devices.get(deviceId);
    return device && { ...device.identity, isEnabled: device.isEnabled };
  }

  /** Makes this the device's connection; an older one is dropped. */
  attach(deviceId: string, link: DeviceLink): void {
    const device = this.#demand(deviceId);
    const older = device.link;
    if (older !== undefined) device.queue.release({ keepPacketIds: true });
    device.link = link;
    older?.drop('a newer connection of the same device took over (409002)');
  }

  detach(deviceId: string, link: DeviceLink, how: { readonly keepSession: boolean }): void {
    const device = this.#devices.get(deviceId);
    if (device === undefined || device.link !== link) return;
    device.link = undefined;
    device.queue.release({ keepPacketIds: how.keepSession });
  }

  /** Subscriptions that the last session left behind. */
  session(deviceId: string): ReadonlyMap<string, number> | undefined {
    return this.#devices.get(deviceId)?.session;
  }

  setSession(deviceId: string, session: ReadonlyMap<string, number> | undefined): void {
    const device = this.#devices.get(deviceId);
    if (device === undefined) return;
    device.session = session;
    if (session === undefined) device.queue.release({ keepPacketIds: false });
    this.#options.onChange();
  }

  /** `undefined` for a device that was removed meanwhile. */
  queueOf(deviceId: string): CloudToDeviceQueue | undefined {
    return this.#devices.get(deviceId)?.queue;
  }

  patchReported(deviceId: string, patch: JsonValue | undefined): SectionWrite {
    const device = this.#demand(deviceId);
    const write = patchSection(device.twin.reported, patch);
    if ('section' in write) device.twin = { ...device.twin, reported: write.section };
    this.#options.onChange();
    return write;
  }

  /** Whether somebody waited for it. */
  answerMethod(deviceId: string, requestId: string, status: number, payload: JsonValue | undefined): boolean {
    return this.#methods.answer(deviceId, requestId, status, payload);
  }

  receive(deviceId: string, body: Uint8Array, properties: Readonly<Record<string, string>>): void {
    // A copy: what came is a piece of a larger buffer.
    const message = { deviceId, body: new Uint8Array(body), properties, enqueuedMs: this.#options.world.wallMs() };
    this.#telemetry.push(message);
    this.#telemetryBytes += body.length;
    while (this.#telemetry.length > KEPT_TELEMETRY || this.#telemetryBytes > KEPT_TELEMETRY_BYTES) {
      this.#telemetryBytes -= this.#telemetry.shift()?.body.length ?? 0;
    }
  }

  // --- the service side

  devices(): readonly DeviceDescription[] {
    return [...this.#devices.values()].map((device) => ({
      ...device.identity,
      isEnabled: device.isEnabled,
      isConnected: device.link !== undefined,
    }));
  }

  addDevice(
    identity: { readonly deviceId: string; readonly authentication: HubAuthentication },
    content: Partial<TwinContent> = {},
  ): void {
    const whole = { tags: {}, desired: {}, reported: {}, ...content };
    this.putDevice({ ...identity, isEdge: false }, whole, { overwrite: true });
  }

  twin(deviceId: string): TwinDocument | undefined {
    return this.#devices.get(deviceId)?.twin;
  }

  patchDesired(deviceId: string, patch: JsonObject): number {
    const device = this.#demand(deviceId);
    return this.#writeDesired(device, patchSection(device.twin.desired, patch));
  }

  replaceDesired(deviceId: string, properties: JsonObject): number {
    const device = this.#demand(deviceId);
    return this.#writeDesired(device, replaceSection(device.twin.desired, properties));
  }

  sendC2D(deviceId: string, message: CloudToDeviceRequest): string {
    const device = this.#demand(deviceId);
    const bytes = typeof message.body === 'string' ? encodeUtf8(message.body) : message.body;
    if (bytes.length > CLOUD_TO_DEVICE_LIMITS.messageBytes) {
      throw this.#error(
        413001,
        `The message has ${bytes.length} bytes; ${CLOUD_TO_DEVICE_LIMITS.messageBytes} is the most.`,
      );
    }
    const queued = device.queue.add(deviceId, message, this.#options.world);
    if (queued === undefined) throw this.#error(403004, `The queue of device "${deviceId}" is full.`);
    this.#options.onChange();
    device.link?.deliverQueued();
    return queued.messageId;
  }

  queuedC2D(deviceId: string): readonly QueuedMessage[] {
    return this.#demand(deviceId).queue.messages();
  }

  async invokeMethod(
    deviceId: string,
    name: string,
    payload: JsonValue = null,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<MethodResult> {
    const device = this.#demand(deviceId);
    if (!/^[^/#+?\p{Cc}]{1,128}$/u.test(name)) throw this.#error(400004, `"${name}" is not the name of a method.`);
    return this.#methods.call(
      deviceId,
      options.timeoutMs ?? 30_000,
      (requestId) => device.link?.callMethod(requestId, name, payload) ?? false,
    );
  }

  setDeviceEnabled(deviceId: string, isEnabled: boolean): void {
    const device = this.#demand(deviceId);
    device.isEnabled = isEnabled;
    if (!isEnabled) device.link?.drop('the device was disabled');
    this.#options.onChange();
  }

  disconnectDevice(deviceId: string): boolean {
    const link = this.#devices.get(deviceId)?.link;
    link?.drop('the service side ended the connection');
    return link !== undefined;
  }

  telemetry(deviceId?: string): readonly ReceivedTelemetry[] {
    return this.#telemetry.filter((message) => deviceId === undefined || message.deviceId === deviceId);
  }

  /** Rejects the calls that still wait. */
  close(): void {
    this.#methods.close();
  }

  snapshot(): readonly StoredDevice[] {
    return [...this.#devices.values()].map((device) => ({
      identity: device.identity,
      isEnabled: device.isEnabled,
      twin: device.twin,
      queue: device.queue.messages(),
      ...(device.session && { session: [...device.session] }),
    }));
  }

  restore(devices: readonly StoredDevice[]): void {
    for (const { identity, isEnabled, twin, queue, session } of devices) {
      this.#devices.set(identity.deviceId, {
        identity,
        isEnabled,
        twin,
        link: undefined,
        session: session && new Map(session),
        queue: new CloudToDeviceQueue(queue),
      });
    }
  }

  #create(identity: HubIdentity, content: TwinContent): void {
    this.#devices.set(identity.deviceId, {
      identity,
      isEnabled: true,
      twin: makeTwin(content),
      link: undefined,
      session: undefined,
      queue: new CloudToDeviceQueue(),
    });
  }

  #mergeContent(device: Device, content: TwinContent): void {
    if (Object.keys(content.tags).length > 0) device.twin = { ...device.twin, tags: content.tags };
    if (Object.keys(content.desired).length > 0)
      this.#writeDesired(device, patchSection(device.twin.desired, content.desired));
  }

  #writeDesired(device: Device, write: SectionWrite): number {
    if ('problem' in write) throw this.#error(400004, write.problem);
    device.twin = { ...device.twin, desired: write.section };
    this.#options.onChange();
    device.link?.pushDesired(write.pushed, write.section.version);
    return write.section.version;
  }

  #demand(deviceId: string): Device {
    const device = this.#devices.get(deviceId);
    if (device === undefined) throw this.#error(404001, `Hub "${this.name}" knows no device "${deviceId}".`);
    return device;
  }

  #error(errorCode: number, message: string): Error {
    return hubError(this.#options.world, errorCode, message);
  }
}
