import type { Hsm } from './attestation.js';
import type { CancelSignal } from './cancel-signal.js';
import type { DesiredChange, JsonObject, JsonValue, Twin } from './twin.js';

/** Where DPS sent the device, and what it needs to be let in there. */
export interface HubOpenParameters {
  /** The assigned hub as the service spelled it: opaque, apart from an optional `:port` at the end. */
  readonly hostName: string;
  readonly deviceId: string;
  readonly hsm: Hsm;
  /** The credential slot that DPS accepted. */
  readonly slot: number;
}

/** A device-to-cloud message. */
export interface TelemetryMessage {
  /** Bytes go as they are; anything else goes as UTF-8 JSON with content type and encoding set for body routing. */
  readonly body: Uint8Array | JsonValue;
  readonly messageId?: string;
  readonly correlationId?: string;
  readonly contentType?: string;
  readonly contentEncoding?: string;
  readonly creationTimeUtc?: string;
  /** Plug and Play component name (`$.sub`). */
  readonly component?: string;
  readonly properties?: Readonly<Record<string, string>>;
}

/** A cloud-to-device message. */
export interface CloudToDeviceMessage {
  readonly body: Uint8Array;
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  /** Application properties; a property sent without a value is `null`. */
  readonly properties: Readonly<Record<string, string | null>>;
}

/** Answer to a direct method. */
export interface MethodResponse {
  /** Any integer; by custom HTTP-like. */
  readonly status: number;
  readonly payload?: JsonValue;
}

/** Takes a listener away again. */
export type Unsubscribe = () => void;

/** One device's session at its hub. The handle stays the same through token renewal. */
export interface HubSession {
  readonly hostName: string;
  readonly deviceId: string;
  /** The twin as last reconciled, with both `$version`s. */
  readonly twin: Twin;
  /** Settles once, when the session is over for good: `undefined` after `close()`, else what ended it. */
  readonly closed: Promise<Error | undefined>;
  /** Desired properties that changed after the initial twin, in `$version` order, none twice. */
  onDesiredChange(listener: (change: DesiredChange) => void): Unsubscribe;
  /** Merges `patch` into the reported properties; null deletes. Returns the new reported `$version`. */
  report(patch: JsonObject, signal?: CancelSignal): Promise<number>;
  /** Settles when the hub has taken the message (QoS 1). */
  sendTelemetry(message: TelemetryMessage, signal?: CancelSignal): Promise<void>;
  /** A message is completed at the hub when the listener settles; it is redelivered later when the listener fails. */
  onMessage(listener: (message: CloudToDeviceMessage) => void | Promise<void>): Unsubscribe;
  /** One handler per method name; methods without a handler are answered with 501. */
  onMethod(name: string, handler: (payload: JsonValue) => MethodResponse | Promise<MethodResponse>): Unsubscribe;
  /** Says goodbye (DISCONNECT) and frees everything. Never fails; safe to call twice. */
  close(): Promise<void>;
}

/** A way to a hub. `open` settles when the hub accepted the device and the initial twin is there. */
export interface HubTransport {
  readonly name: string;
  open(parameters: HubOpenParameters, signal: CancelSignal): Promise<HubSession>;
  /** The three forms of connection info of the result, without opening anything. */
  connectionInfo(parameters: HubOpenParameters): HubConnectionInfo;
}

/** Connection info for applications that bring their own client. */
export interface HubConnectionInfo {
  /** MQTT.js options; credentials are made on call and expire, so call again before each connect. */
  mqttOptions(signal?: CancelSignal): Promise<MqttClientOptions>;
  /**
   * `HostName=…;DeviceId=…;SharedAccessKey=…`, or `;x509=true` for certificates.
   * @throws HsmError `ERR_DPS_HSM_NOT_EXPORTABLE` where the key cannot leave its store.
   */
  connectionString(signal?: CancelSignal): Promise<string>;
}

/** Options as MQTT.js `connect()` and Microsoft-compatible clients take them. */
export interface MqttClientOptions {
  /** `wss` where the hub was reached by way of WebSocket. */
  readonly protocol: 'mqtts' | 'wss';
  /** Of the WebSocket's URL. */
  readonly path?: string;
  readonly host: string;
  readonly port: number;
  readonly servername: string;
  readonly protocolVersion: 4;
  readonly clean: false;
  readonly keepalive: number;
  readonly clientId: string;
  readonly username: string;
  /** SAS token; absent for X.509. */
  readonly password?: string;
  /** Unix seconds after which the hub refuses `password`; absent for X.509. */
  readonly passwordExpiresAtSeconds?: number;
  readonly cert?: string;
  readonly key?: string;
  readonly passphrase?: string;
  readonly ca?: string | readonly string[];
  readonly minVersion: 'TLSv1.2';
}
