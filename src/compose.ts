import { randomUUID } from 'node:crypto';
import type { SymmetricKeyHsmOptions } from '../hsm/symmetric-key.js';
import type { X509FileHsmOptions } from '../hsm/x509-file.js';
import type { Hsm } from './core/attestation.js';
import type { Clock, Random } from './core/clock.js';
import type { HubTransport } from './core/hub.js';
import { hostNameProblem, idScopeProblem, resolveDpsEndpoint } from './core/identifiers.js';
import type { ProgressEvent } from './core/progress.js';
import type { ProvisionedDevice } from './core/provisioned-device.js';
import type { DpsTransport } from './core/transport.js';
import type { JsonValue } from './core/twin.js';
import { ConfigurationError } from './errors.js';
import { nearestName } from './nearest-name.js';
import { ProgressLog } from './progress-log.js';
import { type ProvisioningParts, provisionWith } from './provision.js';
import { systemClock } from './system-clock.js';
import { PACKAGE_VERSION } from './version.js';

/** An HSM by description; the code behind it is loaded when it is used. */
export type HsmDescription =
  | ({ readonly kind: 'symmetricKey' } & SymmetricKeyHsmOptions)
  | ({ readonly kind: 'x509' } & X509FileHsmOptions);

export type DpsTransportName = 'mqtt' | 'https';
export type HubTransportName = 'mqtt';

export interface ProvisionOptions {
  /** The DPS instance's ID scope, e.g. `0ne00111111`. */
  readonly idScope: string;
  /** What proves the device's identity: a description, or an object of your own that fulfils the `Hsm` contract. */
  readonly hsm: Hsm | HsmDescription;
  /** `public` (default), `china`, `usGovernment`, or a host name, optionally with `:port`. */
  readonly endpoint?: string;
  /** How to talk to DPS. Default `mqtt`. */
  readonly transport?: DpsTransportName | DpsTransport;
  /** How to talk to the hub. Default `mqtt`. */
  readonly hubTransport?: HubTransportName | HubTransport;
  /** PEM text of the certificate authorities to trust INSTEAD of those built into Node. */
  readonly ca?: string | readonly string[];
  /** Sent to a custom allocation webhook. */
  readonly payload?: JsonValue;
  /** Plug and Play model id, e.g. `dtmi:com:example:Thermostat;1`, announced to the hub. */
  readonly modelId?: string;
  /** Bound on the whole of it. Default 300,000 ms. */
  readonly deadlineMs?: number;
  /** Bound on one connection attempt. Default 60,000 ms: a throttled service answers late rather than never. */
  readonly connectTimeoutMs?: number;
  /** Bound on one request. Default 30,000 ms. */
  readonly requestTimeoutMs?: number;
  /** Life of the SAS tokens. Default 3,600 s. */
  readonly tokenLifeSeconds?: number;
  /** Ends the work at any point with a CancelledError. */
  readonly signal?: AbortSignal;
  /** Time and chance, for tests. */
  readonly clock?: Clock;
  readonly random?: Random;
}

/** A journey under way: a promise of the device, and every step as an event. */
export interface Provisioning extends Promise<ProvisionedDevice> {
  /** All events from the first on, for any number of readers; ends when the journey ends, however it ends. */
  readonly events: AsyncIterable<ProgressEvent>;
}

const OPTION_NAMES = [
  'idScope',
  'hsm',
  'endpoint',
  'transport',
  'hubTransport',
  'ca',
  'payload',
  'modelId',
  'deadlineMs',
  'connectTimeoutMs',
  'requestTimeoutMs',
  'tokenLifeSeconds',
  'signal',
  'clock',
  'random',
] as const satisfies readonly (keyof ProvisionOptions)[];

const DEFAULT_DEADLINE_MS = 300_000;
const DEFAULT_CONNECT_TIMEOUT_MS = 60_000;
const DEFAULT_REQUEST_TIMEOUT_MS = 30_000;
const DEFAULT_TOKEN_LIFE_SECONDS = 3_600;
/** The service's tokens live at most a year or so in practice; more is a slip of units. */
const MAX_TOKEN_LIFE_SECONDS = 366 * 24 * 3_600;

/**
 * Takes a device from its ID scope and identity to its hub and initial twin. The hub connection used to read the twin
 * is closed before the promise settles.
 *
 * @throws ConfigurationError, HsmError, ClockError, TransportError, ProtocolError, ServiceError,
 *   RegistrationRejectedError, CancelledError, DeadlineError – through the promise, never synchronously.
 */
export function provision(options: ProvisionOptions): Provisioning {
  const log = new ProgressLog();
  const device = composeParts(options).then(
    (parts) => provisionWith(parts, log),
    (error: unknown) => {
      log.end();
      throw error;
    },
  );
  return Object.assign(device, { events: log });
}

async function composeParts(options: ProvisionOptions): Promise<ProvisioningParts> {
  checkOptions(options);
  const clock = options.clock ?? systemClock;
  const random = options.random ?? Math.random;
  const connectTimeoutMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
  const requestTimeoutMs = options.requestTimeoutMs ?? DEFAULT_REQUEST_TIMEOUT_MS;
  const tokenLifeSeconds = options.tokenLifeSeconds ?? DEFAULT_TOKEN_LIFE_SECONDS;
  const shared: TransportSettings = {
    clock,
    random,
    connectTimeoutMs,
    requestTimeoutMs,
    tokenLifeSeconds,
    userAgent: `dps-device/${PACKAGE_VERSION}`,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ...(options.modelId === undefined ? {} : { modelId: options.modelId }),
  };
  const [hsm, dps, hub] = await Promise.all([
    resolveHsm(options.hsm, clock, options.signal),
    resolveDpsTransport(options.transport ?? 'mqtt', shared),
    resolveHubTransport(options.hubTransport ?? 'mqtt', shared),
  ]);
  return {
    idScope: options.idScope,
    endpoint: resolveDpsEndpoint(options.endpoint ?? 'public'),
    hsm,
    dps,
    hub,
    clock,
    random,
    ...(options.payload === undefined ? {} : { payload: options.payload }),
    deadlineMs: options.deadlineMs ?? DEFAULT_DEADLINE_MS,
    connectTimeoutMs,
    requestTimeoutMs,
    // The session bounds its own connect and its two tries at the twin; this is the belt over those braces.
    hubTimeoutMs: connectTimeoutMs + 3 * requestTimeoutMs,
    tokenLifeSeconds,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  };
}

interface TransportSettings {
  readonly clock: Clock;
  readonly random: Random;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly tokenLifeSeconds: number;
  readonly userAgent: string;
  readonly ca?: string | readonly string[];
  readonly modelId?: string;
}

async function resolveHsm(hsm: Hsm | HsmDescription, clock: Clock, signal: AbortSignal | undefined): Promise<Hsm> {
  if ('registrationId' in hsm && typeof hsm.registrationId === 'function') return hsm as Hsm;
  const description = hsm as HsmDescription;
  switch (description.kind) {
    case 'symmetricKey': {
      const { kind: _, ...options } = description;
      return (await import('../hsm/symmetric-key.js')).symmetricKeyHsm(options as SymmetricKeyHsmOptions, signal);
    }
    case 'x509': {
      const { kind: _, ...options } = description;
      return (await import('../hsm/x509-file.js')).x509FileHsm({ clock, ...options } as X509FileHsmOptions, signal);
    }
    default:
      throw unknownName('hsm.kind', (description as { kind: unknown }).kind, ['symmetricKey', 'x509']);
  }
}

async function resolveDpsTransport(
  transport: DpsTransportName | DpsTransport,
  settings: TransportSettings,
): Promise<DpsTransport> {
  if (typeof transport === 'object') return transport;
  const { clock, connectTimeoutMs, userAgent, ca } = settings;
  const options = { clock, connectTimeoutMs, userAgent, randomUuid: randomUUID, ...(ca === undefined ? {} : { ca }) };
  switch (transport) {
    case 'mqtt':
      return (await import('./transports/mqtt.js')).mqttDpsTransport(options);
    case 'https':
      return (await import('./transports/https.js')).httpsDpsTransport(options);
    default:
      throw unknownName('transport', transport, ['mqtt', 'https']);
  }
}

async function resolveHubTransport(
  transport: HubTransportName | HubTransport,
  settings: TransportSettings,
): Promise<HubTransport> {
  if (typeof transport === 'object') return transport;
  switch (transport) {
    case 'mqtt':
      return (await import('./hub/session.js')).mqttHubTransport({ ...settings, newRequestId: randomUUID });
    default:
      throw unknownName('hubTransport', transport, ['mqtt']);
  }
}

function checkOptions(options: ProvisionOptions): void {
  if (typeof options !== 'object' || options === null) {
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_OPTION',
      message: 'provision() takes one object of options, at least { idScope, hsm }.',
      option: 'options',
    });
  }
  for (const name of Object.keys(options)) {
    if (!(OPTION_NAMES as readonly string[]).includes(name)) throw unknownOption(name);
  }
  checkText('idScope', options.idScope, idScopeProblem);
  if (typeof options.hsm !== 'object' || options.hsm === null) {
    throw missing(
      'hsm',
      "what proves the device's identity, e.g. { kind: 'x509', certificate: 'device.pem', key: 'device.key' }",
    );
  }
  if (options.endpoint !== undefined) checkText('endpoint', resolveDpsEndpoint(options.endpoint), hostNameProblem);
  checkNumber('deadlineMs', options.deadlineMs, Number.POSITIVE_INFINITY);
  checkNumber('connectTimeoutMs', options.connectTimeoutMs, Number.POSITIVE_INFINITY);
  checkNumber('requestTimeoutMs', options.requestTimeoutMs, Number.POSITIVE_INFINITY);
  checkNumber('tokenLifeSeconds', options.tokenLifeSeconds, MAX_TOKEN_LIFE_SECONDS);
}

function checkText(option: string, value: unknown, problem: (text: string) => string | undefined): void {
  if (value === undefined)
    throw missing(option, option === 'idScope' ? 'the ID scope from the overview page of the DPS instance' : 'a text');
  const wrong =
    typeof value === 'string' ? problem(value) : `it must be a text, not ${value === null ? 'null' : typeof value}`;
  if (wrong === undefined) return;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `Option ${option}: ${wrong}`,
    option,
  });
}

function checkNumber(option: string, value: unknown, max: number): void {
  if (value === undefined) return;
  if (typeof value === 'number' && value > 0 && value <= max) return;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `Option ${option}: it must be a number above 0${max === Number.POSITIVE_INFINITY ? '' : ` and at most ${max}`}, not ${String(value)}.`,
    option,
  });
}

function missing(option: string, what: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_MISSING_OPTION',
    message: `Option ${option} is missing: give ${what}.`,
    option,
  });
}

function unknownOption(name: string): ConfigurationError {
  const nearest = nearestName(name, OPTION_NAMES);
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    message: `Option ${JSON.stringify(name)} is unknown.${nearest === undefined ? ` Known are ${OPTION_NAMES.join(', ')}.` : ` Did you mean ${nearest}?`}`,
    option: name,
  });
}

function unknownName(option: string, given: unknown, known: readonly string[]): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `Option ${option}: ${JSON.stringify(given)} is not one of ${known.join(', ')}.`,
    option,
  });
}
