import type { KeyStoreHsmOptions } from '../hsm/key-store/key-store-options.js';
import type { SymmetricKeyHsmOptions } from '../hsm/symmetric-key.js';
import type { Tpm2HsmOptions } from '../hsm/tpm2.js';
import type { X509FileHsmOptions } from '../hsm/x509-file.js';
import type { Hsm } from './core/attestation.js';
import type { Clock, Random } from './core/clock.js';
import type { HubTransport } from './core/hub.js';
import { hostNameProblem, idScopeProblem, modelIdProblem, resolveDpsEndpoint } from './core/identifiers.js';
import type { RecordStore } from './core/store.js';
import type { DpsTransport } from './core/transport.js';
import type { JsonValue } from './core/twin.js';
import { ConfigurationError, type DpsErrorCode } from './errors.js';
import { nearestName } from './nearest-name.js';
import { folderProblem } from './path-like.js';
import type { ReprovisionTriggers } from './run.js';
import {
  DPS_TRANSPORTS,
  type DpsTransportName,
  HUB_TRANSPORTS,
  type HubTransportName,
  namesProblem,
} from './transport-names.js';
import { kindOf } from './value-kind.js';

/** An HSM by description; the code behind it is loaded when it is used. */
export type HsmDescription =
  | ({ readonly kind: 'symmetricKey' } & SymmetricKeyHsmOptions)
  | ({ readonly kind: 'x509' } & X509FileHsmOptions)
  | ({ readonly kind: 'keyStore' } & KeyStoreHsmOptions)
  | ({ readonly kind: 'tpm' } & Tpm2HsmOptions);

export interface ProvisionOptions {
  /** The DPS instance's ID scope, e.g. `0ne00111111`. */
  readonly idScope: string;
  /** What proves the device's identity: a description, or an object of your own that fulfils the `Hsm` contract. */
  readonly hsm: Hsm | HsmDescription;
  /** `public` (default), `china`, `usGovernment`, or a host name, optionally with `:port`. */
  readonly endpoint?: string;
  /**
   * How to talk to DPS. Default `mqtt`, for a TPM `https`. `mqtt-ws` and `amqp-ws` go over WebSocket on port 443. A TPM is
   * taken over `https`, `amqp` and `amqp-ws`.
   *
   * A list is tried in its order, `auto` is `['mqtt', 'mqtt-ws', 'https']`, for a TPM `['https', 'amqp-ws']`. The next one has
   * its turn only when the network does not let one through: not when anybody refuses the device, and not when a server is
   * not trusted. What worked comes first from then on, with `state` also at the next start.
   */
  readonly transport?: DpsTransportName | 'auto' | readonly DpsTransportName[] | DpsTransport;
  /** How to talk to the hub, in the same way. Default `mqtt`; `auto` is `['mqtt', 'mqtt-ws']`. */
  readonly hubTransport?: HubTransportName | 'auto' | readonly HubTransportName[] | HubTransport;
  /**
   * URL of the proxy for every connection, `http://user:password@host:port` (CONNECT) or `socks5://…`, or `none`. Default: what
   * `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` in the environment say.
   */
  readonly proxy?: string;
  /**
   * Where the assignment is remembered: a folder of the device's own, or a store of your own. With it, the next start
   * goes straight to the hub, and back to DPS only when the hub does not want the device any more.
   */
  readonly state?: string | RecordStore;
  /** Asks DPS first, whatever is remembered. Default false. */
  readonly reprovision?: boolean;
  /** The first packet leaves after a random part of this, so that a fleet that gets power at once does not ask at once. Default 0. */
  readonly startSpreadMs?: number;
  /** PEM text (not a path) of the certificate authorities to trust INSTEAD of those built into Node. */
  readonly ca?: string | readonly string[];
  /** Sent to a custom allocation webhook. */
  readonly payload?: JsonValue;
  /** Plug and Play model id, e.g. `dtmi:com:example:Thermostat;1`, announced to the hub. */
  readonly modelId?: string;
  /** Bound on the whole of it. Default 300,000 ms. */
  readonly deadlineMs?: number;
  /**
   * Bound on one connection attempt. Default 60,000 ms: a throttled service answers late rather than never. Of several
   * transports each has an equal share of it for the way to the service, 20,000 ms of three, so that a firewall that
   * swallows the first leaves time for the others; one that got there waits for the service's welcome as long as ever.
   */
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

export interface RunOptions extends ProvisionOptions {
  /** What, beside `reprovision()`, sends the device to DPS: a direct method, a new value of a desired property. Default nothing. */
  readonly reprovisionOn?: ReprovisionTriggers;
  /** Takes errors that no call waits for, such as those of listeners. Default: warnings of the process, ten a session. */
  readonly onStrayError?: (error: unknown, origin: string) => void;
}

/** A token must outlive a slow connection attempt, or no request would ever be sent with it. */
const MIN_TOKEN_LIFE_SECONDS = 60;
/** More is a slip of units. */
const MAX_TOKEN_LIFE_SECONDS = 366 * 24 * 3_600;
/** DPS takes messages of up to 96 KB (documented limit). */
const MAX_PAYLOAD_BYTES = 96 * 1024;

/** A day: more is a slip of units. */
const MAX_START_SPREAD_MS = 24 * 3_600_000;

/** One check an option: what is wrong with a value that was given, if anything. */
type Check = (value: unknown) => string | undefined;
type Checks<Options> = { readonly [Name in keyof Required<Options>]: Check };

const PROVISION_CHECKS: Checks<ProvisionOptions> = {
  idScope: text(idScopeProblem),
  hsm: hsmProblem,
  endpoint: text((endpoint) => hostNameProblem(resolveDpsEndpoint(endpoint))),
  transport: transport(DPS_TRANSPORTS, ['open']),
  hubTransport: transport(HUB_TRANSPORTS, ['open', 'connectionInfo']),
  // Read where it is used, by `proxyRule`.
  proxy: text(() => undefined),
  state: stateProblem,
  reprovision: (value) => (typeof value === 'boolean' ? undefined : `it must be true or false, not ${kindOf(value)}.`),
  startSpreadMs: startSpreadProblem,
  ca: caProblem,
  payload: payloadProblem,
  modelId: text(modelIdProblem),
  deadlineMs: positive(),
  connectTimeoutMs: positive(),
  requestTimeoutMs: positive(),
  tokenLifeSeconds: tokenLifeProblem,
  signal: signalProblem,
  clock: methods(['monotonicMs', 'wallMs', 'after']),
  random: functionProblem,
};

const RUN_CHECKS: Checks<RunOptions> = {
  ...PROVISION_CHECKS,
  reprovisionOn: triggersProblem,
  onStrayError: functionProblem,
};

/**
 * Checks every option before the first packet.
 *
 * @throws {ConfigurationError} that names the option, what was expected and, for an unknown one, the nearest known.
 */
export function checkProvisionOptions(options: unknown): asserts options is ProvisionOptions {
  checkOptions(options, PROVISION_CHECKS, 'provision()');
}

/** The same for `run()`. */
export function checkRunOptions(options: unknown): asserts options is RunOptions {
  checkOptions(options, RUN_CHECKS, 'run()');
}

function checkOptions(options: unknown, checks: Readonly<Record<string, Check>>, call: string): void {
  if (!isObject(options)) {
    throw problem(
      'ERR_DPS_CONFIG_OPTION',
      'options',
      `${call} takes one object, at least { idScope, hsm }, not ${kindOf(options)}.`,
    );
  }
  for (const name of Object.keys(options)) {
    if (!Object.hasOwn(checks, name)) throw unknownOption(name, checks);
  }
  if (options.idScope === undefined)
    throw missing('idScope', 'the ID scope from the overview page of the DPS instance');
  if (options.hsm === undefined) {
    throw missing(
      'hsm',
      "what proves the device's identity, e.g. { kind: 'x509', certificate: 'device.pem', key: 'device.key' }",
    );
  }
  for (const [name, check] of Object.entries(checks)) {
    const value = options[name];
    const wrong = value === undefined ? undefined : check(value);
    if (wrong !== undefined) throw problem('ERR_DPS_CONFIG_OPTION', name, `Option ${name}: ${wrong}`);
  }
  if (isObject(options.hsm) && options.hsm.kind === 'tpm') checkTpmTransport(options.transport);
}

function checkTpmTransport(transport: unknown): void {
  const names = Array.isArray(transport) ? transport : [transport];
  if (!names.includes('mqtt') && !names.includes('mqtt-ws')) return;
  const advice = 'leave it out for https, or give auto, amqp or amqp-ws.';
  throw problem('ERR_DPS_CONFIG_UNSUPPORTED', 'transport', `Option transport: DPS takes no TPM over MQTT; ${advice}`);
}

/** True for an object of the application's own, false for a description. */
export function isHsmObject(hsm: Hsm | HsmDescription): hsm is Hsm {
  return 'registrationId' in hsm && typeof hsm.registrationId === 'function';
}

function hsmProblem(value: unknown): string | undefined {
  if (!isObject(value)) return `it must be an object, not ${kindOf(value)}.`;
  const kinds: Readonly<Record<string, readonly string[]>> = {
    symmetricKey: ['sign'],
    x509: ['tlsCredential'],
    tpm: ['endorsement', 'activate', 'sign', 'stage', 'commit', 'discard'],
  };
  const { kind, registrationId } = value;
  // What an entry of a key store is, the store says.
  if (kind === 'keyStore') return undefined;
  const needed = typeof kind === 'string' && Object.hasOwn(kinds, kind) ? kinds[kind] : undefined;
  if (needed === undefined) return `kind must be one of ${[...Object.keys(kinds), 'keyStore'].join(', ')}.`;
  const isOwn = needed.some((name) => typeof value[name] === 'function');
  if (!isOwn && typeof registrationId !== 'function') return undefined;
  const absent = ['registrationId', ...needed].find((name) => typeof value[name] !== 'function');
  return absent === undefined
    ? undefined
    : `${absent} is missing: an object of your own of kind ${kind} needs the method ${absent}().`;
}

function stateProblem(value: unknown): string | undefined {
  if (typeof value === 'string') return folderProblem(value);
  return isObject(value)
    ? methods(['load', 'save', 'forget'])(value)
    : `it must be the path of a folder, or a store of your own: an object, not ${kindOf(value)}.`;
}

function startSpreadProblem(value: unknown): string | undefined {
  if (typeof value === 'number' && value >= 0 && value <= MAX_START_SPREAD_MS) return undefined;
  return `it must be a number from 0 to ${MAX_START_SPREAD_MS} (a day in ms), not ${typeof value === 'number' ? String(value) : kindOf(value)}.`;
}

function triggersProblem(value: unknown): string | undefined {
  if (!isObject(value)) return `it must be an object such as { method: 'reprovision' }, not ${kindOf(value)}.`;
  const other = Object.keys(value).find((name) => name !== 'method' && name !== 'desiredProperty');
  if (other !== undefined) return `it knows method and desiredProperty, not ${JSON.stringify(other.slice(0, 60))}.`;
  const wrong = Object.entries(value).find(
    ([, each]) => each !== undefined && (typeof each !== 'string' || each === ''),
  );
  if (wrong !== undefined) return `${wrong[0]} must be a name, not ${kindOf(wrong[1])}.`;
  return typeof value.desiredProperty === 'string' ? desiredPropertyProblem(value.desiredProperty) : undefined;
}

/** No twin has such a property, so that it would never be heard of again. */
function desiredPropertyProblem(name: string): string | undefined {
  if (name.startsWith('$')) {
    return 'desiredProperty must name a property of your own: those that begin with $ belong to the hub, and never order anything.';
  }
  return /[.$ \p{Cc}]/u.test(name)
    ? 'desiredProperty must be the name of one property, the outermost where they nest: such names have no dot, $, space or control character.'
    : undefined;
}

function functionProblem(value: unknown): string | undefined {
  return typeof value === 'function' ? undefined : `it must be a function, not ${kindOf(value)}.`;
}

function caProblem(value: unknown): string | undefined {
  const texts = Array.isArray(value) ? value : [value];
  if (texts.length === 0)
    return 'it is empty: give the PEM text of at least one certificate authority, or leave it out.';
  const other = texts.find((each) => typeof each !== 'string');
  if (other !== undefined)
    return `it must be PEM text, not ${kindOf(other)}${other instanceof Uint8Array ? ": read the file with 'utf8'" : ''}.`;
  return texts.every((each) => each.includes('-----BEGIN '))
    ? undefined
    : "it must be PEM text, not a path: readFileSync('ca.pem', 'utf8').";
}

function payloadProblem(value: unknown): string | undefined {
  let json: string | undefined;
  try {
    json = JSON.stringify(value);
  } catch (error) {
    return `it cannot be written as JSON: ${error instanceof Error ? error.message.split('\n')[0] : 'unknown reason'}.`;
  }
  if (json === undefined) return `it cannot be written as JSON: it is ${kindOf(value)}.`;
  return Buffer.byteLength(json) <= MAX_PAYLOAD_BYTES
    ? undefined
    : `it has ${Buffer.byteLength(json)} bytes as JSON; DPS takes ${MAX_PAYLOAD_BYTES} at most.`;
}

/** Whether it can cancel. */
export function isSignal(value: unknown): value is AbortSignal {
  return isObject(value) && typeof value.aborted === 'boolean' && typeof value.addEventListener === 'function';
}

function signalProblem(value: unknown): string | undefined {
  if (isSignal(value)) return undefined;
  return isObject(value) && 'signal' in value
    ? 'it must be an AbortSignal; of an AbortController pass controller.signal.'
    : `it must be an AbortSignal, not ${kindOf(value)}.`;
}

function text(check: (text: string) => string | undefined): Check {
  return (value) => (typeof value === 'string' ? check(value) : `it must be a text, not ${kindOf(value)}.`);
}

function tokenLifeProblem(value: unknown): string | undefined {
  if (typeof value === 'number' && value >= MIN_TOKEN_LIFE_SECONDS && value <= MAX_TOKEN_LIFE_SECONDS) return undefined;
  return `it must be a number from ${MIN_TOKEN_LIFE_SECONDS} to ${MAX_TOKEN_LIFE_SECONDS}, not ${typeof value === 'number' ? String(value) : kindOf(value)}.`;
}

function positive(): Check {
  return (value) => {
    if (typeof value === 'number' && value > 0) return undefined;
    return `it must be a number above 0, not ${typeof value === 'number' ? String(value) : kindOf(value)}.`;
  };
}

/** One that is named, several, or an object of the application's own. */
function transport(names: readonly string[], needed: readonly string[]): Check {
  const isOwn = methods(needed);
  return (value) => (typeof value === 'string' || Array.isArray(value) ? namesProblem(value, names) : isOwn(value));
}

function methods(names: readonly string[]): Check {
  return (value) => {
    if (!isObject(value)) return `it must be an object, not ${kindOf(value)}.`;
    const absent = names.find((name) => typeof value[name] !== 'function');
    return absent === undefined ? undefined : `an object of your own needs the method ${absent}().`;
  };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function missing(option: string, what: string): ConfigurationError {
  return problem('ERR_DPS_CONFIG_MISSING_OPTION', option, `Option ${option} is missing: give ${what}.`);
}

function unknownOption(name: string, checks: Readonly<Record<string, Check>>): ConfigurationError {
  // Time and chance may be left out, but are better not told to users who mistyped another.
  const known = Object.keys(checks).filter((each) => each !== 'clock' && each !== 'random');
  const nearest = nearestName(name, known);
  const hint = nearest === undefined ? `Known are ${known.join(', ')}.` : `Did you mean ${nearest}?`;
  return problem('ERR_DPS_CONFIG_UNKNOWN_OPTION', name, `Option ${JSON.stringify(name)} is unknown. ${hint}`);
}

function problem(code: DpsErrorCode, option: string, message: string): ConfigurationError {
  return new ConfigurationError({ code, message, option });
}
