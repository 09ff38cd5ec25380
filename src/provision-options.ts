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
import type { ConfigurationError } from './errors.js';
import { knownNamesHint, shownName } from './nearest-name.js';
import {
  type Check,
  caProblem,
  functionProblem,
  hsmProblem,
  isObject,
  methods,
  plainHsm,
  plainPayload,
  plainTriggers,
  positive,
  problem,
  signalProblem,
  startSpreadProblem,
  stateProblem,
  text,
  tokenLifeProblem,
  transport,
  triggersProblem,
} from './option-checks.js';
import { plainList, readingOption } from './plain-options.js';
import type { ReprovisionTriggers } from './run.js';
import { DPS_TRANSPORTS, type DpsTransportName, HUB_TRANSPORTS, type HubTransportName } from './transport-names.js';
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
  // Looked at when it is read.
  payload: () => undefined,
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

/** What has members of its own. Anything else is a single value, or a part of the application's own, and is taken as it is. */
const COPIES: { readonly [Name in keyof RunOptions]?: (value: unknown) => unknown } = {
  hsm: plainHsm,
  transport: plainList,
  hubTransport: plainList,
  ca: plainList,
  payload: plainPayload,
  reprovisionOn: plainTriggers,
};

/**
 * Reads every option, once, and checks what was read, before the first packet. Never throws.
 *
 * @returns what is wrong: the option, what was expected and, for an unknown one, the nearest known; or the options as they
 *   were read, which is what counts from then on.
 */
export function readProvisionOptions(options: unknown): ProvisionOptions | ConfigurationError {
  return readOptions<ProvisionOptions>(options, PROVISION_CHECKS, 'provision()');
}

/** The same for `run()`. */
export function readRunOptions(options: unknown): RunOptions | ConfigurationError {
  return readOptions<RunOptions>(options, RUN_CHECKS, 'run()');
}

function readOptions<Options>(given: unknown, checks: Checks<Options>, call: string): Options | ConfigurationError {
  try {
    return readingOption('options', () => {
      const options = plainOptions(given, checks, call);
      checkOptions(options, checks);
      return options as Options;
    });
  } catch (error) {
    return error as ConfigurationError;
  }
}

function plainOptions(given: unknown, checks: Readonly<Record<string, Check>>, call: string): Record<string, unknown> {
  if (!isObject(given)) {
    throw problem(
      'ERR_DPS_CONFIG_OPTION',
      'options',
      `${call} takes one object, at least { idScope, hsm }, not ${kindOf(given)}.`,
    );
  }
  for (const name of Object.keys(given)) {
    if (!Object.hasOwn(checks, name)) throw unknownOption(name, checks);
  }
  const copies: Readonly<Record<string, (value: unknown) => unknown>> = COPIES;
  const read = (name: string): unknown => {
    const value = given[name];
    const copy = copies[name];
    return value === undefined || copy === undefined ? value : copy(value);
  };
  return Object.fromEntries(Object.keys(checks).map((name) => [name, readingOption(name, () => read(name))]));
}

function checkOptions(options: Readonly<Record<string, unknown>>, checks: Readonly<Record<string, Check>>): void {
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
    // Of a part of the application's own it is seen whether it has its methods.
    const wrong = value === undefined ? undefined : readingOption(name, () => check(value));
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

function missing(option: string, what: string): ConfigurationError {
  return problem('ERR_DPS_CONFIG_MISSING_OPTION', option, `Option ${option} is missing: give ${what}.`);
}

function unknownOption(name: string, checks: Readonly<Record<string, Check>>): ConfigurationError {
  // Time and chance may be left out, but are better not told to users who mistyped another.
  const known = Object.keys(checks).filter((each) => each !== 'clock' && each !== 'random');
  const shown = shownName(name);
  const message = `Option ${JSON.stringify(shown)} is unknown. ${knownNamesHint(name, known)}`;
  return problem('ERR_DPS_CONFIG_UNKNOWN_OPTION', shown, message);
}
