import { ConfigurationError, ProtocolError } from '../../errors.js';
import { decodePercent, encodeUriComponentStrict, encodeUtf8 } from '../bytes.js';
import { excerptOf } from '../json-body.js';

/**
 * Topics and CONNECT fields of an Azure IoT hub over MQTT 3.1.1: text in, text out.
 *
 * @see Azure IoT Hub, "Communicate with an IoT hub using the MQTT protocol"
 */

/** The newest version that is generally available; Plug and Play needs 2020-09-30 or later. */
export const HUB_API_VERSION = '2021-04-12';

export const TWIN_RESPONSE_FILTER = '$iothub/twin/res/#';
export const TWIN_DESIRED_FILTER = '$iothub/twin/PATCH/properties/desired/#';
export const METHOD_FILTER = '$iothub/methods/POST/#';

const TWIN_RESPONSE_PREFIX = '$iothub/twin/res/';
const TWIN_DESIRED_PREFIX = '$iothub/twin/PATCH/properties/desired/';
const METHOD_PREFIX = '$iothub/methods/POST/';

/** MQTT gives the length of a topic in two bytes. */
const MAX_TOPIC_BYTES = 0xffff;

/** What names a device towards its hub. */
export interface HubMqttIdentity {
  /** As assigned, opaque; a port stays where it is. */
  readonly hostName: string;
  readonly deviceId: string;
  /** Goes as `DeviceClientType`, for the operator's logs. */
  readonly userAgent?: string | undefined;
  /** Plug and Play model id, `dtmi:…`. */
  readonly modelId?: string | undefined;
}

/** CONNECT fields. Shape of the user name: `{hub}/{id}/?api-version=2021-04-12[&model-id=…][&DeviceClientType=…]`. */
export function hubMqttConnect({ hostName, deviceId, userAgent, modelId }: HubMqttIdentity): {
  readonly clientId: string;
  readonly username: string;
} {
  const query = [`api-version=${HUB_API_VERSION}`];
  if (modelId !== undefined) query.push(`model-id=${encodeUriComponentStrict(modelId)}`);
  if (userAgent !== undefined) query.push(`DeviceClientType=${encodeUriComponentStrict(userAgent)}`);
  return { clientId: deviceId, username: `${hostName}/${deviceId}/?${query.join('&')}` };
}

/** Asks for the twin. `requestId` is made of letters, digits and hyphens. */
export function twinGetTopic(requestId: string): string {
  return `$iothub/twin/GET/?$rid=${requestId}`;
}

/** Changes reported properties. */
export function twinReportedTopic(requestId: string): string {
  return `$iothub/twin/PATCH/properties/reported/?$rid=${requestId}`;
}

/** Answers a direct method. `requestId` goes back byte for byte. */
export function methodResponseTopic(status: number, requestId: string): string {
  return `$iothub/methods/res/${status}/?$rid=${requestId}`;
}

/**
 * Everything sent to this device.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` for a device id that no MQTT topic can hold.
 */
export function cloudToDeviceFilter(deviceId: string): string {
  return `${deviceTopic(deviceId)}/messages/devicebound/#`;
}

/** Properties of a telemetry message that the hub itself knows. */
export interface TelemetryProperties {
  readonly messageId?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
  readonly creationTimeUtc?: string | undefined;
  readonly component?: string | undefined;
  readonly properties?: Readonly<Record<string, string>> | undefined;
}

/**
 * Where telemetry goes, its properties being part of the topic:
 * `devices/{id}/messages/events/%24.mid=m%2F1&%24.ct=application%2Fjson&p%20a=v%26%3D`.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` for a device id that no MQTT topic can hold;
 * `ERR_DPS_CONFIG_OPTION` for a property in the hub's own `$.` name space, or too much text.
 */
export function telemetryTopic(deviceId: string, message: TelemetryProperties = {}): string {
  const topic = `${deviceTopic(deviceId)}/messages/events/${propertyBag(message)}`;
  const bytes = encodeUtf8(topic).length;
  if (bytes <= MAX_TOPIC_BYTES) return topic;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `The properties of the telemetry message need ${bytes} bytes when encoded; ${MAX_TOPIC_BYTES} is the most. Move data into the body.`,
    option: 'properties',
  });
}

/** A message of the hub, by its topic. */
export type HubDelivery =
  | {
      readonly kind: 'twinResponse';
      readonly status: number;
      readonly requestId: string;
      /** New version of the reported properties, when a patch was answered. */
      readonly version: number | undefined;
    }
  | { readonly kind: 'desired'; readonly version: number | undefined }
  | { readonly kind: 'method'; readonly name: string; readonly requestId: string }
  | { readonly kind: 'cloudToDevice'; readonly bag: CloudToDeviceProperties }
  | { readonly kind: 'unknown' };

/** What came with a cloud-to-device message. */
export interface CloudToDeviceProperties {
  readonly messageId: string | undefined;
  readonly correlationId: string | undefined;
  readonly contentType: string | undefined;
  readonly contentEncoding: string | undefined;
  /** Application properties, `iothub-ack` among them. A bare key is `null`, an empty value is `''`. */
  readonly properties: Readonly<Record<string, string | null>>;
}

/**
 * Reads the topic of a message from the hub. Parameters may come in any order, with or without a slash before them.
 *
 * ```
 * $iothub/twin/res/204/?$rid=a2&$version=10
 * $iothub/twin/PATCH/properties/desired/?$version=5
 * $iothub/methods/POST/reboot/?$rid=1
 * devices/dev-1/messages/devicebound/%24.to=%2Fdevices%2Fdev-1%2Fmessages%2Fdevicebound&%24.mid=m1&color=red
 * ```
 *
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_TOPIC` when a known kind of topic is malformed; other kinds are `unknown`.
 */
export function parseHubTopic(topic: string, deviceId: string): HubDelivery {
  if (topic.startsWith(TWIN_RESPONSE_PREFIX)) return parseTwinResponse(topic);
  if (topic.startsWith(TWIN_DESIRED_PREFIX)) {
    return { kind: 'desired', version: versionOf(topic, TWIN_DESIRED_PREFIX) };
  }
  if (topic.startsWith(METHOD_PREFIX)) return parseMethod(topic);
  const devicebound = `devices/${deviceId}/messages/devicebound/`;
  if (topic.startsWith(devicebound)) {
    return { kind: 'cloudToDevice', bag: parseCloudToDeviceBag(topic.slice(devicebound.length)) };
  }
  return { kind: 'unknown' };
}

function parseTwinResponse(topic: string): HubDelivery {
  const { path, parameters } = splitTopic(topic, TWIN_RESPONSE_PREFIX);
  const requestId = parameters.get('$rid');
  if (!/^\d{3}$/.test(path)) throw malformed(topic, `${TWIN_RESPONSE_PREFIX}{status}/?$rid={rid}`);
  if (requestId === undefined || requestId === '') throw malformed(topic, 'a $rid');
  return { kind: 'twinResponse', status: Number(path), requestId, version: versionOf(topic, TWIN_RESPONSE_PREFIX) };
}

function parseMethod(topic: string): HubDelivery {
  const { path, parameters } = splitTopic(topic, METHOD_PREFIX);
  const requestId = parameters.get('$rid');
  if (path === '') throw malformed(topic, `${METHOD_PREFIX}{name}/?$rid={rid}`);
  if (requestId === undefined || requestId === '') throw malformed(topic, 'a $rid');
  return { kind: 'method', name: decodePercent(path) ?? path, requestId };
}

function versionOf(topic: string, prefix: string): number | undefined {
  const text = splitTopic(topic, prefix).parameters.get('$version');
  if (text === undefined) return undefined;
  const version = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(version)) throw malformed(topic, 'a decimal $version');
  return version;
}

/** Values are kept as they came: a request id is echoed byte for byte. */
function splitTopic(
  topic: string,
  prefix: string,
): { readonly path: string; readonly parameters: ReadonlyMap<string, string> } {
  const tail = topic.slice(prefix.length);
  const mark = tail.indexOf('?');
  if (mark < 0) return { path: tail, parameters: new Map() };
  const pairs = tail
    .slice(mark + 1)
    .split('&')
    .map(splitPair);
  return {
    path: tail.slice(0, mark).replace(/\/$/, ''),
    parameters: new Map(pairs.map(([key, value]) => [key, value ?? ''])),
  };
}

function parseCloudToDeviceBag(bag: string): CloudToDeviceProperties {
  const all = new Map<string, string | null>();
  for (const pair of bag.split('&')) {
    if (pair === '') continue;
    const [key, value] = splitPair(pair);
    all.set(decodeText(key), value === undefined ? null : decodeText(value));
  }
  const application = [...all].filter(([key]) => !key.startsWith('$.'));
  return {
    messageId: all.get('$.mid') ?? undefined,
    correlationId: all.get('$.cid') ?? undefined,
    contentType: all.get('$.ct') ?? undefined,
    contentEncoding: all.get('$.ce') ?? undefined,
    properties: Object.fromEntries(application),
  };
}

function splitPair(pair: string): readonly [key: string, value: string | undefined] {
  const equals = pair.indexOf('=');
  return equals < 0 ? [pair, undefined] : [pair.slice(0, equals), pair.slice(equals + 1)];
}

function decodeText(encoded: string): string {
  const text = decodePercent(encoded);
  if (text === undefined) throw malformed(encoded, 'percent-encoded UTF-8 in the properties');
  return text;
}

function propertyBag(message: TelemetryProperties): string {
  const application = Object.entries(message.properties ?? {});
  const reserved = application.find(([key]) => key.startsWith('$.'));
  if (reserved !== undefined) {
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_OPTION',
      message: `The telemetry property ${JSON.stringify(shorten(reserved[0]))} starts with "$.", which belongs to the hub. Use the message's own fields (messageId, contentType, …) or another name.`,
      option: 'properties',
    });
  }
  const system: readonly (readonly [string, string | undefined])[] = [
    ['$.mid', message.messageId],
    ['$.cid', message.correlationId],
    ['$.ct', message.contentType],
    ['$.ce', message.contentEncoding],
    ['$.ctime', message.creationTimeUtc],
    ['$.sub', message.component],
  ];
  return [...system, ...application]
    .flatMap(([key, value]) =>
      value === undefined ? [] : [`${encodeUriComponentStrict(key)}=${encodeUriComponentStrict(value)}`],
    )
    .join('&');
}

/** The id stands in topics as it is, and there `+` and `#` are wildcards, which no encoding can take back. */
function deviceTopic(deviceId: string): string {
  if (!/[+#]/.test(deviceId)) return `devices/${deviceId}`;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNSUPPORTED',
    message: `The device id ${JSON.stringify(deviceId)} contains + or #, which MQTT reserves: telemetry and cloud-to-device messages need an id without them. Have the enrollment assign another device id.`,
  });
}

function malformed(topic: string, expected: string): ProtocolError {
  const got = `"${excerptOf(topic)}"`;
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_TOPIC',
    message: `The hub used a malformed topic: expected ${expected}, got ${got}. Check that the assigned host is an Azure IoT hub.`,
    expected,
    got,
  });
}

function shorten(text: string): string {
  return text.length <= 120 ? text : `${text.slice(0, 120)}…`;
}
