import type { TlsClientCredential } from '../core/attestation.js';
import type { Clock } from '../core/clock.js';
import { resolveDpsEndpoint, splitHostPort } from '../core/identifiers.js';
import { AUTO_TPM_TRANSPORTS, AUTO_TRANSPORTS } from '../core/transport-order.js';
import { checkAuthorities, checkCertificate } from '../doctor/certificate-check.js';
import { attempt, type Finding, failed, ok } from '../doctor/finding.js';
import { checkSymmetricKey } from '../doctor/key-check.js';
import type { NetworkCheck, Service } from '../doctor/network-check.js';
import { checkTpm, checkTpmPasswords } from '../doctor/tpm-check.js';
import { ConfigurationError, isDpsError } from '../errors.js';
import { readProvisionOptions } from '../provision-options.js';
import { readStoredRecord } from '../state/file-store.js';
import type { DpsTransportName } from '../transport-names.js';
import { UsageError } from './cli-errors.js';
import { chooseIdentity, type Identity, type IdentitySources } from './identity.js';
import type { CliIo } from './io.js';
import { plainOptions } from './journey-settings.js';
import type { Options } from './options.js';
import { checkTarget } from './output-file.js';
import type { GivenSecrets } from './secrets.js';
import { readJsonInput, readTextInput } from './text-file.js';

/** Missing options and inputs that cannot be read: each is a finding here, where `provision` stops at the first. */
export async function checkConfiguration(options: Options, io: CliIo, signal: AbortSignal): Promise<Finding[]> {
  const findings: Finding[] = [];
  if (options.text('id-scope') === undefined) {
    const message = '--id-scope is missing: give the ID scope from the overview page of the DPS instance.';
    findings.push(failed('configuration', options.missing('id-scope', message)));
  }
  const payload = options.input('payload-file');
  const target = options.input('write-connection');
  const directory = options.text('state');
  const tries = [
    payload === undefined ? undefined : await attempt(() => readJsonInput(payload, io, signal)),
    target === undefined ? undefined : await attempt(() => checkTarget(target)),
    directory === undefined ? undefined : await attempt(() => readStoredRecord({ directory }, signal)),
  ];
  for (const outcome of tries) if (outcome?.error !== undefined) findings.push(failed('configuration', outcome.error));
  return findings.length === 0 ? [ok('configuration', 'The options can be read, and none is missing.')] : findings;
}

/** Who the device is, as far as that is known. */
export interface ExaminedIdentity {
  readonly findings: readonly Finding[];
  readonly client: TlsClientCredential | undefined;
}

/** By which clock to wait for others, and how long. */
export interface Timing {
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
}

/** The identity as `provision` would choose it, and all that its files may be at fault with. */
export async function examineIdentity(
  options: Options,
  secrets: Tried<GivenSecrets>,
  timing: Timing,
  { env, signal }: IdentitySources,
): Promise<ExaminedIdentity> {
  const { value } = secrets;
  const chosen: Tried<Identity> =
    value === undefined ? { error: secrets.error } : await tried(() => chooseIdentity(options, value, { env, signal }));
  if (chosen.value === undefined) {
    const { error } = chosen;
    return { findings: error === undefined ? [] : [failed('identity', error)], client: undefined };
  }
  const { hsm, origin } = chosen.value;
  const found = ok('identity', `The device has ${/^[aeiou]/.test(origin) ? 'an' : 'a'} ${origin}.`);
  const fits = readProvisionOptions({ idScope: ANY_SCOPE, hsm, ...plainOptions(options) });
  const first = isDpsError(fits) ? [found, failed('configuration', fits)] : [found];
  const { findings, client } = await examineHsm(hsm, timing, signal);
  return { findings: [...first, ...findings], client };
}

/** Whether there is one is looked at elsewhere. */
const ANY_SCOPE = '0ne';

async function examineHsm(
  hsm: Identity['hsm'],
  { clock, connectTimeoutMs }: Timing,
  signal: AbortSignal,
): Promise<ExaminedIdentity> {
  switch (hsm.kind) {
    case 'symmetricKey':
      return { findings: await checkSymmetricKey(hsm, signal), client: undefined };
    case 'x509':
      return checkCertificate(hsm, clock, signal);
    case 'tpm': {
      const { kind: _, ...options } = hsm;
      const passwords = await checkTpmPasswords(hsm, signal);
      const seen = await checkTpm({ ...options, clock, commandTimeoutMs: connectTimeoutMs }, signal);
      return { findings: [...passwords, ...seen], client: undefined };
    }
    default: {
      const { kind: _, ...options } = hsm;
      return (await import('../doctor/key-store-check.js')).checkKeyStore(options, clock, signal);
    }
  }
}

/** Whom the device trusts. */
export interface ExaminedAuthorities {
  readonly findings: readonly Finding[];
  readonly pem: string | undefined;
  /** Whether it is known whom to trust. */
  readonly isKnown: boolean;
}

export async function examineAuthorities(
  options: Options,
  io: CliIo,
  clock: Clock,
  signal: AbortSignal,
): Promise<ExaminedAuthorities> {
  const source = options.input('ca-file');
  if (source === undefined) {
    return { findings: [ok('authorities', "Node's own authorities are trusted.")], pem: undefined, isKnown: true };
  }
  const read = await attempt(() => readTextInput(source, io, signal));
  if (read.error !== undefined) {
    return { findings: [failed('authorities', read.error)], pem: undefined, isKnown: false };
  }
  const findings = (await checkAuthorities(read.value, options.place('ca-file'), clock)).map((finding) =>
    finding.error === undefined ? finding : asConfiguration(finding, finding.error),
  );
  return { findings, pem: read.value, isKnown: findings.every(({ verdict }) => verdict !== 'failed') };
}

/** A file of certificates that is not the device's is a matter of configuration. */
function asConfiguration(finding: Finding, error: Error): Finding {
  const { message } = error;
  return { ...finding, error: new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message, option: '--ca-file' }) };
}

const PORTS = { mqtt: 8883, amqp: 5671, https: 443 } as const;

/** What the socket is opened for: WebSocket begins as a request over HTTPS. */
const OPENINGS = { mqtt: 'mqtt', 'mqtt-ws': 'https', amqp: 'amqp', 'amqp-ws': 'https', https: 'https' } as const;

/** Where the endpoint has a port of its own, nothing is known of the other transports. */
export function servicesOf(options: Options): Pick<NetworkCheck, 'chosen' | 'others' | 'areOthersTried'> {
  const [transport = 'mqtt', ...further] = new Set(transportsOf(options).map((name) => OPENINGS[name]));
  const endpoint = endpointOf(options);
  // DPS takes no TPM over MQTT.
  const advisable = transport !== 'https' ? 'https' : isTpm(options) ? 'amqp' : 'mqtt';
  const others: readonly Service['transport'][] = further.length > 0 ? further : [advisable];
  // 0 is no port that an endpoint could have of its own.
  const { host, port } = splitHostPort(endpoint, 0) ?? { host: endpoint, port: 0 };
  return {
    chosen: { transport, host, port: port === 0 ? PORTS[transport] : port },
    others: port === 0 ? others.map((name) => ({ transport: name, host, port: PORTS[name] })) : [],
    areOthersTried: further.length > 0,
  };
}

export function endpointOf(options: Options): string {
  return resolveDpsEndpoint(options.text('endpoint') ?? 'public');
}

/** As it was given, or as `provision` chooses it. */
export function transportOf(options: Options): string {
  return options.text('transport') ?? automaticTransports(options)[0];
}

function transportsOf(options: Options): readonly DpsTransportName[] {
  const text = transportOf(options);
  // The command line lets no other words pass.
  return text === 'auto' ? automaticTransports(options) : (text.split(',') as DpsTransportName[]);
}

function automaticTransports(options: Options): typeof AUTO_TRANSPORTS | typeof AUTO_TPM_TRANSPORTS {
  return isTpm(options) ? AUTO_TPM_TRANSPORTS : AUTO_TRANSPORTS;
}

function isTpm(options: Options): boolean {
  return options.text('tpm') !== undefined || options.text('attestation') === 'tpm';
}

/** What was tried, where the command line may be at fault, too. */
export interface Tried<T> {
  readonly value?: T | undefined;
  readonly error?: Error | undefined;
}

/** As `attempt`, with errors in the use of the command line. */
export async function tried<T>(work: () => Promise<T>): Promise<Tried<T>> {
  return attempt(work).catch((error: unknown) => {
    if (error instanceof UsageError) return { error };
    throw error;
  });
}
