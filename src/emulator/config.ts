/** The emulator's configuration: a JSON document, or the same as an object. */
import { createPrivateKey, type X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import { hostNameProblem, idScopeProblem, splitHostPort } from '../core/identifiers.js';
import { ConfigurationError } from '../errors.js';
import { describeJsonPlace } from '../json-place.js';
import {
  joinPath,
  openSection,
  optional,
  type Read,
  readChoice,
  readFlag,
  readInteger,
  readList,
  readText,
  required,
  type Section,
  wrongOption,
} from './config-reader.js';
import type { AllocationPolicy, EnrollmentGroup, IndividualEnrollment } from './enrollment.js';
import { readAllocationPolicy } from './enrollment-reader.js';
import type { Fault } from './fault.js';
import { readFault } from './fault-reader.js';
import { type PemSource, readCertificate, readPrivateKey } from './pem-source.js';
import { readRegularFile } from './regular-file.js';

/** One hub. */
export interface HubConfig {
  /** For this configuration and the API; letters, digits, `-`. */
  readonly name: string;
  /** What devices are told. Default: `localhost:{port}`; without a port devices use their own, 8883. */
  readonly hostName?: string;
  /** Where its MQTT listener listens. Default 0: a free port. */
  readonly port?: number;
  /** 1..1000, default 1. */
  readonly allocationWeight?: number;
  /** Whether it takes part where an enrollment names no hubs. Default true. */
  readonly applyAllocationPolicy?: boolean;
}

/** One provisioning service instance with its linked hubs and enrollments; nothing is shared between scopes. */
export interface ScopeConfig {
  /** Default `0ne00000000` for the first scope. */
  readonly idScope?: string;
  /** For enrollments that do not say. Default `hashed`. */
  readonly allocationPolicy?: AllocationPolicy;
  /** Default: one hub, `hub-1` (in further scopes `hub-2`, …). An empty list: none, and nobody can be assigned. */
  readonly hubs?: readonly HubConfig[];
  /** Verified CA certificates, for `caReferences`. */
  readonly certificates?: readonly { readonly name: string; readonly certificate: PemSource }[];
  readonly enrollments?: readonly IndividualEnrollment[];
  readonly enrollmentGroups?: readonly EnrollmentGroup[];
}

/** Everything has a default: one scope, one hub, no enrollments, free ports on the loopback addresses. */
export interface EmulatorConfig extends ScopeConfig {
  /** Several scopes; instead of the members above. */
  readonly scopes?: readonly ScopeConfig[];
  /** Address to listen on. Default: both loopback addresses and nothing else. */
  readonly host?: string;
  /** Host name in the addresses that are told, and in the server certificate. Default `localhost`. */
  readonly hostName?: string;
  /** Default 0: free ports. */
  readonly ports?: { readonly mqtt?: number; readonly amqp?: number; readonly https?: number };
  readonly tls?: {
    /** CA that signs the server certificate. Default: made at start, or kept in the state file. */
    readonly certificateAuthority?: { readonly certificate: PemSource; readonly privateKey: PemSource };
    /** Further DNS names and IP addresses for the server certificate. */
    readonly names?: readonly string[];
    /** Default `TLSv1.2`, as the services. */
    readonly maxVersion?: 'TLSv1.2' | 'TLSv1.3';
  };
  /** What is announced with every 202. Default 3, as the service. */
  readonly retryAfterSeconds?: number;
  /** A registration while another one of the device runs: let in (default), or refused with 409203. */
  readonly concurrentRegistrations?: 'accept' | 'refuse';
  /** A publish to a topic that does not exist. Default `close`. */
  readonly unknownTopic?: 'close' | 'ignore';
  /** Keeps records, hub identities, twins, added enrollments and the CA across restarts. Holds keys; mode 0600. */
  readonly stateFile?: string;
  /** Fault switches that are on from the start. */
  readonly faults?: readonly Fault[];
}

export interface ResolvedHub {
  readonly name: string;
  readonly hostName: string | undefined;
  readonly port: number;
  readonly portOption: string;
  readonly allocationWeight: number;
  readonly takesAllocations: boolean;
}

export interface ResolvedScope {
  readonly idScope: string;
  readonly allocationPolicy: AllocationPolicy;
  readonly hubs: readonly ResolvedHub[];
  readonly authorities: ReadonlyMap<string, X509Certificate>;
  /** Unread: reading them needs the hubs. With the path of each for messages. */
  readonly enrollments: readonly Unread[];
  readonly enrollmentGroups: readonly Unread[];
}

export interface Unread {
  readonly value: unknown;
  readonly path: string;
}

export interface ResolvedConfig {
  readonly scopes: readonly ResolvedScope[];
  readonly host: string | undefined;
  readonly hostName: string;
  readonly mqttPort: number;
  readonly amqpPort: number;
  readonly httpsPort: number;
  readonly authority: { readonly certificatePem: string; readonly privateKeyPem: string } | undefined;
  readonly serverNames: readonly string[];
  readonly maxVersion: 'TLSv1.2' | 'TLSv1.3';
  readonly retryAfterSeconds: number;
  readonly refuseConcurrent: boolean;
  readonly unknownTopic: 'close' | 'ignore';
  readonly stateFile: string | undefined;
  readonly faults: readonly Fault[];
}

/** Files that a configuration names are looked for beside it. */
export interface LoadedConfig {
  readonly config: EmulatorConfig;
  readonly baseDirectory: string;
}

const SCOPE_KEYS = ['idScope', 'allocationPolicy', 'hubs', 'certificates', 'enrollments', 'enrollmentGroups'];
const KEYS = [
  ...SCOPE_KEYS,
  'scopes',
  'host',
  'hostName',
  'ports',
  'tls',
  'retryAfterSeconds',
  'concurrentRegistrations',
  'unknownTopic',
  'stateFile',
  'faults',
];

/** Far above thousands of enrollments. */
const MAX_CONFIG_BYTES = 64 * 1_048_576;

/** Eleven characters, as the service makes them; this one it never made. */
const DEFAULT_ID_SCOPE = '0ne00000000';

const readPort: Read<number> = readInteger(0, 65535);

/**
 * Reads a configuration file.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when it cannot be read or is not JSON. What it says is checked by
 * `startEmulator`.
 */
export function loadEmulatorConfig(file: string): LoadedConfig {
  const text = readConfigText(file);
  try {
    return { config: JSON.parse(text) as EmulatorConfig, baseDirectory: dirname(resolve(file)) };
  } catch (error) {
    throw fileError(file, `is not JSON${describeJsonPlace(text, error)}.`);
  }
}

function readConfigText(file: string): string {
  const found = readRegularFile(file, MAX_CONFIG_BYTES);
  if ('text' in found) return found.text;
  throw fileError(file, found.problem, found.cause);
}

function fileError(file: string, problem: string, cause?: unknown): ConfigurationError {
  const message = `The emulator configuration ${file} ${problem}`;
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message, option: file, cause });
}

/** @throws {ConfigurationError} naming the path of what is wrong. */
export function resolveConfig(config: unknown, baseDirectory: string): ResolvedConfig {
  const section = openSection(config, '', KEYS, "the emulator's configuration");
  const ports = optional(section, 'ports', (value, path) => openSection(value, path, ['mqtt', 'amqp', 'https']));
  const tls = optional(section, 'tls', (value, path) =>
    openSection(value, path, ['certificateAuthority', 'names', 'maxVersion']),
  );
  const stateFile = optional(section, 'stateFile', readText);
  return {
    scopes: readScopes(section, baseDirectory),
    host: optional(section, 'host', readAddress),
    hostName: optional(section, 'hostName', readHostWithoutPort) ?? 'localhost',
    mqttPort: (ports && optional(ports, 'mqtt', readPort)) ?? 0,
    amqpPort: (ports && optional(ports, 'amqp', readPort)) ?? 0,
    httpsPort: (ports && optional(ports, 'https', readPort)) ?? 0,
    authority: tls && optional(tls, 'certificateAuthority', readAuthority(baseDirectory)),
    serverNames: (tls && optional(tls, 'names', readList(readAddress))) ?? [],
    maxVersion: (tls && optional(tls, 'maxVersion', readChoice(['TLSv1.2', 'TLSv1.3']))) ?? 'TLSv1.2',
    retryAfterSeconds: optional(section, 'retryAfterSeconds', readInteger(0, 86_400)) ?? 3,
    refuseConcurrent: optional(section, 'concurrentRegistrations', readChoice(['accept', 'refuse'])) === 'refuse',
    unknownTopic: optional(section, 'unknownTopic', readChoice(['close', 'ignore'])) ?? 'close',
    stateFile: stateFile && resolve(baseDirectory, stateFile),
    faults: optional(section, 'faults', readList(readFault)) ?? [],
  };
}

function readScopes(section: Section, baseDirectory: string): readonly ResolvedScope[] {
  const sections = optional(
    section,
    'scopes',
    readList((value, path) => openSection(value, path, SCOPE_KEYS)),
  );
  const mixed = SCOPE_KEYS.find((key) => section.values[key] !== undefined);
  if (sections !== undefined && mixed !== undefined) {
    throw wrongOption(mixed, 'belongs into one of the scopes, as there are scopes');
  }
  if (sections?.length === 0) throw wrongOption('scopes', 'must have at least one scope');
  const scopes = (sections ?? [section]).map((scope, index) => readScope(scope, index, baseDirectory));
  refuseDuplicates(
    'scopes',
    'idScope',
    scopes.map((scope) => scope.idScope),
  );
  refuseDuplicates(
    'hubs',
    'hostName',
    scopes.flatMap((scope) => scope.hubs.flatMap((hub) => hub.hostName?.toLowerCase() ?? [])),
  );
  refuseDuplicates(
    'hubs',
    'name',
    scopes.flatMap((scope) => scope.hubs.map((hub) => hub.name)),
  );
  return scopes;
}

function readScope(section: Section, index: number, baseDirectory: string): ResolvedScope {
  const readScopeName: Read<string> = (value, path) => checked(readText(value, path), path, idScopeProblem);
  const isFirst = index === 0;
  const certificates = optional(section, 'certificates', readList(readNamedCertificate(baseDirectory))) ?? [];
  refuseDuplicates(
    joinPath(section.path, 'certificates'),
    'name',
    certificates.map(([name]) => name),
  );
  return {
    idScope: isFirst
      ? (optional(section, 'idScope', readScopeName) ?? DEFAULT_ID_SCOPE)
      : required(section, 'idScope', readScopeName),
    allocationPolicy: optional(section, 'allocationPolicy', readAllocationPolicy) ?? 'hashed',
    hubs: optional(section, 'hubs', readList(readHub)) ?? [readHub({ name: `hub-${index + 1}` }, 'hubs[0]')],
    authorities: new Map(certificates),
    enrollments: optional(section, 'enrollments', readEntries('registrationId')) ?? [],
    enrollmentGroups: optional(section, 'enrollmentGroups', readEntries('enrollmentGroupId')) ?? [],
  };
}

/** Entries as they are, each with its place; the second of two with one id is refused. Ids ignore case. */
function readEntries(idKey: string): Read<readonly Unread[]> {
  return (value, path) => {
    const places = new Map<string, string>();
    const entries = readList<Unread>((entry, at) => ({ value: entry, path: at }))(value, path);
    for (const entry of entries) {
      const id = (entry.value as Readonly<Record<string, unknown>> | null)?.[idKey];
      if (typeof id !== 'string') continue;
      const first = places.get(id.toLowerCase());
      if (first !== undefined) throw sameId(`${entry.path}.${idKey}`, id, `${first}.${idKey}`);
      places.set(id.toLowerCase(), entry.path);
    }
    return entries;
  };
}

function sameId(path: string, id: string, firstPath: string): ConfigurationError {
  return wrongOption(
    path,
    `is ${JSON.stringify(id)}, which ${firstPath} is already (case does not count): remove one of them`,
  );
}

const readHub: Read<ResolvedHub> = (value, path) => {
  const section = openSection(value, path, ['name', 'hostName', 'port', 'allocationWeight', 'applyAllocationPolicy']);
  return {
    name: required(section, 'name', readHubName),
    hostName: optional(section, 'hostName', readHostName),
    port: optional(section, 'port', readPort) ?? 0,
    portOption: `${path}.port`,
    allocationWeight: optional(section, 'allocationWeight', readInteger(1, 1000)) ?? 1,
    takesAllocations: optional(section, 'applyAllocationPolicy', readFlag) ?? true,
  };
};

const readHubName: Read<string> = (value, path) => {
  const name = readText(value, path);
  if (/^[A-Za-z0-9-]{1,63}$/.test(name)) return name;
  throw wrongOption(path, 'must be 1 to 63 letters, digits and -');
};

const readHostName: Read<string> = (value, path) => checked(readText(value, path), path, hostNameProblem);

const readHostWithoutPort: Read<string> = (value, path) => {
  const host = readHostName(value, path);
  if (splitHostPort(host, 0)?.port === 0) return host;
  throw wrongOption(
    path,
    'must be a host without a port; ports are given as ports.mqtt, ports.amqp, ports.https and hubs[].port',
  );
};

/** An address goes without the brackets that set it apart from a port, which many write all the same. */
const readAddress: Read<string> = (value, path) => {
  const text = readText(value, path);
  const address = /^\[(.*)\]$/s.exec(text)?.[1] ?? text;
  if (address === text ? !/[\s/[\]]/.test(text) : isIP(address) === 6) return address;
  throw wrongOption(path, 'must be an address or a host name, such as 127.0.0.1, ::1 or [::1]');
};

function readNamedCertificate(baseDirectory: string): Read<readonly [string, X509Certificate]> {
  return (value, path) => {
    const section = openSection(value, path, ['name', 'certificate']);
    const certificate = required(section, 'certificate', readCertificate(baseDirectory));
    if (!certificate.ca) throw wrongOption(`${path}.certificate`, 'is not a CA certificate');
    return [required(section, 'name', readText), certificate];
  };
}

function readAuthority(baseDirectory: string): Read<NonNullable<ResolvedConfig['authority']>> {
  return (value, path) => {
    const section = openSection(value, path, ['certificate', 'privateKey']);
    const certificate = required(section, 'certificate', readCertificate(baseDirectory));
    if (!certificate.ca || !certificate.checkIssued(certificate)) {
      throw wrongOption(`${path}.certificate`, 'is not a self-signed CA certificate');
    }
    const privateKeyPem = required(section, 'privateKey', readPrivateKey(baseDirectory));
    if (!certificate.checkPrivateKey(createPrivateKey(privateKeyPem))) {
      throw wrongOption(`${path}.privateKey`, 'does not belong to the certificate beside it');
    }
    return { certificatePem: certificate.toString(), privateKeyPem };
  };
}

function refuseDuplicates(path: string, key: string, names: readonly string[]): void {
  const duplicate = names.find((name, index) => names.indexOf(name) !== index);
  if (duplicate !== undefined) throw wrongOption(path, `has the ${key} "${duplicate}" twice`);
}

function checked(text: string, path: string, problemOf: (text: string) => string | undefined): string {
  const problem = problemOf(text);
  if (problem === undefined) return text;
  throw wrongOption(path, `is not valid: ${problem.replace(/\.$/, '')}`);
}
