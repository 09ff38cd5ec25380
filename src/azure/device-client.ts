import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock, Random } from '../core/clock.js';
import type { MqttClientOptions } from '../core/hub.js';
import type { ProvisionedDevice } from '../core/provisioned-device.js';
import { systemClock } from '../system-clock.js';
import { boundedCall, DEFAULT_CALL_TIMEOUT_MS } from './bounded-call.js';
import { HubCertificateProvider, type HubCredentialsSource, HubTokenProvider } from './hub-credentials.js';
import { checkOptionNames, checkPositive, optionError } from './option-bag.js';
import { loadFromPackage } from './optional-package.js';

/** What of azure-iot-device's `Client` is used here; cast it, or give `client`, to get the whole type. */
export interface AzureDeviceClient {
  open(): Promise<unknown>;
  close(): Promise<unknown>;
  setOptions(options: object): Promise<unknown>;
}

/** The `Client` class of azure-iot-device, as far as it is needed. */
export interface AzureDeviceClientClass<TClient> {
  fromAuthenticationProvider(provider: object, transport: unknown): TClient;
}

/** A transport class of azure-iot-device-mqtt. */
export type AzureDeviceTransportClass = new (...parameters: never[]) => object;

export interface AzureDeviceClientOptions {
  /** The `Client` class. Default: that of the installed azure-iot-device. Give it in a bundle, and for its type. */
  readonly client?: AzureDeviceClientClass<AzureDeviceClient>;
  /** The transport class. Default: `Mqtt` of the installed azure-iot-device-mqtt. */
  readonly transport?: AzureDeviceTransportClass;
  /** PEM of the authorities to trust instead of Node's. Default: what `provision()` was given. */
  readonly ca?: string | readonly string[];
  /** Plug and Play model id. Default: what `provision()` was given. */
  readonly modelId?: string;
  /** Added to the user agent string. */
  readonly productInfo?: string;
  /** Default: Microsoft's, 180. */
  readonly keepaliveSeconds?: number;
  /** Further members for `client.setOptions()`, which is called once: a second call would drop what the first one set. */
  readonly clientOptions?: Readonly<Record<string, unknown>>;
  /** Bounds the making of one token or certificate by the HSM. Default 30,000. */
  readonly timeoutMs?: number;
  /** Time and chance, for tests. */
  readonly clock?: Clock;
  readonly random?: Random;
}

const OPTION_NAMES = [
  'client',
  'transport',
  'ca',
  'modelId',
  'productInfo',
  'keepaliveSeconds',
  'clientOptions',
  'timeoutMs',
  'clock',
  'random',
];

/**
 * Makes a `Client` of azure-iot-device for a provisioned device, ready for `open()`.
 *
 * Tokens and certificates come from the device's HSM whenever the client connects, and tokens are renewed before they
 * expire: keys that cannot leave their store will do. Nothing is opened here.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` where a package of Microsoft's is missing, with the command
 *   that installs it; `ERR_DPS_CONFIG_OPTION` and `ERR_DPS_CONFIG_UNKNOWN_OPTION` for what was given wrong.
 * @throws {HsmError | ClockError} when no credential can be made.
 * @throws {CancelledError} when the signal aborts.
 */
export function azureDeviceClient<TClient extends AzureDeviceClient>(
  device: ProvisionedDevice,
  options: AzureDeviceClientOptions & { readonly client: AzureDeviceClientClass<TClient> },
  signal?: CancelSignal,
): Promise<TClient>;
export function azureDeviceClient(
  device: ProvisionedDevice,
  options?: AzureDeviceClientOptions,
  signal?: CancelSignal,
): Promise<AzureDeviceClient>;
export async function azureDeviceClient(
  device: ProvisionedDevice,
  options: AzureDeviceClientOptions = {},
  signal?: CancelSignal,
): Promise<AzureDeviceClient> {
  checkOptions(device, options);
  const source = credentialsSource(device, options);
  const bounds = { who: 'the HSM', operation: 'make hub credentials', ...source, signal };
  const first = await boundedCall(bounds, (within) => device.mqttOptions(within));
  const [clientClass, transportClass] = await Promise.all([
    options.client ?? loadFromPackage('azure-iot-device', 'Client'),
    options.transport ?? loadFromPackage('azure-iot-device-mqtt', 'Mqtt'),
  ]);
  const isToken = first.password !== undefined;
  const provider = isToken ? new HubTokenProvider(source, first) : new HubCertificateProvider(source);
  const client = newClient(clientClass, provider, stoppingOnClose(transportClass, provider));
  const set = clientOptionsOf(options, first);
  if (Object.keys(set).length > 0) await client.setOptions(set);
  return client;
}

function credentialsSource(device: ProvisionedDevice, options: AzureDeviceClientOptions): HubCredentialsSource {
  return {
    mqttOptions: (signal) => device.mqttOptions(signal),
    host: device.assignedHub,
    deviceId: device.deviceId,
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
    timeoutMs: options.timeoutMs ?? DEFAULT_CALL_TIMEOUT_MS,
  };
}

interface Transport {
  disconnect(done: (error?: Error) => void): void;
}

/**
 * The transport class, whose `disconnect()` first ends the wait for credentials. By itself it would forget whoever
 * waits in `open()`, and take a credential that comes after `close()` for a reason to connect.
 */
function stoppingOnClose(transportClass: unknown, provider: { stop(): void }): object {
  if (!isTransportClass(transportClass)) {
    throw optionError(
      'transport',
      'Option transport must be a transport class, not an instance: const { Mqtt } = require("azure-iot-device-mqtt").',
    );
  }
  return class extends transportClass {
    override disconnect(done: (error?: Error) => void): void {
      provider.stop();
      super.disconnect(done);
    }
  };
}

function isTransportClass(value: unknown): value is new (...parameters: readonly unknown[]) => Transport {
  return typeof value === 'function' && typeof (value.prototype as Partial<Transport>)?.disconnect === 'function';
}

function newClient(clientClass: unknown, provider: object, transportClass: object): AzureDeviceClient {
  const { fromAuthenticationProvider } = clientClass as Readonly<Record<string, unknown>>;
  if (typeof fromAuthenticationProvider !== 'function') {
    throw optionError(
      'client',
      'Option client must be the Client class of azure-iot-device: const { Client } = require("azure-iot-device").',
    );
  }
  return fromAuthenticationProvider.call(clientClass, provider, transportClass) as AzureDeviceClient;
}

/** All in one set: `setOptions` forgets what an earlier call had set. */
function clientOptionsOf(options: AzureDeviceClientOptions, first: MqttClientOptions): Record<string, unknown> {
  const { ca = first.ca, modelId = modelIdOf(first.username), productInfo, keepaliveSeconds } = options;
  return {
    ...options.clientOptions,
    // Microsoft's client reads `ca` as one text, or the name of a file.
    ...(ca === undefined ? {} : { ca: typeof ca === 'string' ? ca : ca.join('\n') }),
    ...(modelId === undefined ? {} : { modelId }),
    ...(productInfo === undefined ? {} : { productInfo }),
    ...(keepaliveSeconds === undefined ? {} : { keepalive: keepaliveSeconds }),
  };
}

/** `{hub}/{id}/?api-version=…&model-id=dtmi%3Acom%3A…` */
function modelIdOf(username: string): string | undefined {
  return new URLSearchParams(username.slice(username.indexOf('?'))).get('model-id') ?? undefined;
}

const INSTEAD: Readonly<Record<string, string>> = {
  ca: 'Give it as ca of azureDeviceClient() itself.',
  modelId: 'Give it as modelId of azureDeviceClient() itself.',
  productInfo: 'Give it as productInfo of azureDeviceClient() itself.',
  keepalive: 'Give it as keepaliveSeconds of azureDeviceClient() itself.',
  cert: 'The certificate comes from the HSM that the device was provisioned with.',
  key: 'The key comes from the HSM that the device was provisioned with.',
  passphrase: 'The key comes from the HSM that the device was provisioned with.',
  tokenRenewal: 'Give provision() the life of the tokens as tokenLifeSeconds; they are renewed at 80 percent of it.',
};

/** Microsoft's client throws for some of these where nobody can catch it, which would end the process. */
function checkClientOptions(clientOptions: unknown): void {
  if (clientOptions === undefined) return;
  if (typeof clientOptions !== 'object' || clientOptions === null) {
    throw optionError('clientOptions', 'Option clientOptions must be an object, as client.setOptions() takes it.');
  }
  const name = Object.keys(clientOptions).find((member) => member in INSTEAD);
  if (name === undefined) return;
  throw optionError('clientOptions', `Option clientOptions cannot have ${name}. ${INSTEAD[name]}`);
}

function checkOptions(device: unknown, options: AzureDeviceClientOptions): void {
  checkOptionNames(options, OPTION_NAMES, 'azureDeviceClient()');
  checkPositive('timeoutMs', options.timeoutMs);
  checkPositive('keepaliveSeconds', options.keepaliveSeconds);
  checkClientOptions(options.clientOptions);
  const { mqttOptions, assignedHub, deviceId } = (
    typeof device === 'object' && device !== null ? device : {}
  ) as Readonly<Record<string, unknown>>;
  if (typeof mqttOptions === 'function' && typeof assignedHub === 'string' && typeof deviceId === 'string') return;
  throw optionError(
    'device',
    'The first argument must be what provision() resolved to: azureDeviceClient(await provision({ … })).',
  );
}
