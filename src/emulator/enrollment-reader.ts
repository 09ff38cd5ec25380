import type { X509Certificate } from 'node:crypto';
import { decodeBase64 } from '../core/bytes.js';
import { deviceIdProblem, registrationIdProblem } from '../core/identifiers.js';
import {
  joinPath,
  openSection,
  optional,
  type Read,
  readChoice,
  readFlag,
  readJsonObject,
  readList,
  readText,
  required,
  type Section,
  unsupportedOption,
  wrongOption,
} from './config-reader.js';
import type { AllocationPolicy, EnrollmentEntry, EntryAttestation } from './enrollment.js';
import type { JsonObject } from './json.js';
import { readCertificate } from './pem-source.js';
import { parseStorageKey, type StorageKey } from './tpm-storage-key.js';
import { propertiesProblem, TWIN_LIMITS } from './twin-document.js';
import { makeEtag, makeSymmetricKey, type World } from './world.js';

/** What reading an enrollment needs to know of its surroundings. */
export interface EnrollmentSurroundings {
  readonly world: World;
  readonly baseDirectory: string;
  readonly defaultPolicy: AllocationPolicy;
  /** The hub name for a name or host name, if the scope has it. */
  resolveHub(nameOrHost: string): string | undefined;
  readonly hubNames: readonly string[];
  /** Verified CA certificates by name. */
  readonly authorities: ReadonlyMap<string, X509Certificate>;
  /** The entry being replaced, whose generated keys stay when none are given. */
  readonly previous?: EnrollmentEntry | undefined;
}

const COMMON_KEYS = [
  'attestation',
  'capabilities',
  'initialTwin',
  'provisioningStatus',
  'reprovisionPolicy',
  'allocationPolicy',
  'iotHubs',
  'iotHubHostName',
  // Read-only in the service's answers; ignored, so that an export can be pasted.
  'etag',
  'createdDateTimeUtc',
  'lastUpdatedDateTimeUtc',
  // Known, but refused by name below.
  'customAllocationDefinition',
  'credentialPolicyName',
];
const INDIVIDUAL_KEYS = [
  'registrationId',
  'deviceId',
  'optionalDeviceInformation',
  'registrationState',
  ...COMMON_KEYS,
];
const GROUP_KEYS = ['enrollmentGroupId', ...COMMON_KEYS];

/** @throws {ConfigurationError} naming the path of what is wrong. */
export function readIndividualEnrollment(
  value: unknown,
  path: string,
  around: EnrollmentSurroundings,
): EnrollmentEntry {
  const section = openSection(value, path, INDIVIDUAL_KEYS, 'enrollment');
  return {
    ...readCommon(section, 'individual', around),
    kind: 'individual',
    id: required(section, 'registrationId', checkedText(registrationIdProblem)),
    deviceId: optional(section, 'deviceId', checkedText(deviceIdProblem)),
    optionalDeviceInformation: optional(section, 'optionalDeviceInformation', readJsonObject),
  };
}

/** @throws {ConfigurationError} naming the path of what is wrong. */
export function readEnrollmentGroup(value: unknown, path: string, around: EnrollmentSurroundings): EnrollmentEntry {
  const section = openSection(value, path, GROUP_KEYS, 'enrollment group');
  return {
    ...readCommon(section, 'group', around),
    kind: 'group',
    id: required(section, 'enrollmentGroupId', checkedText(registrationIdProblem)),
    deviceId: undefined,
    optionalDeviceInformation: undefined,
  };
}

type CommonEntry = Omit<EnrollmentEntry, 'kind' | 'id' | 'deviceId' | 'optionalDeviceInformation'>;

function readCommon(section: Section, kind: EnrollmentEntry['kind'], around: EnrollmentSurroundings): CommonEntry {
  refuseUnsupported(section);
  const allocationPolicy = optional(section, 'allocationPolicy', readAllocationPolicy);
  const hubs = readHubs(section, around);
  if ((allocationPolicy ?? around.defaultPolicy) === 'static' && hubs.length !== 1) {
    throw wrongOption(
      joinPath(section.path, 'iotHubs'),
      'must name exactly one hub for the allocation policy "static"',
    );
  }
  const capabilities = optional(section, 'capabilities', (value, path) => openSection(value, path, ['iotEdge']));
  const nowMs = around.world.wallMs();
  return {
    attestation: required(section, 'attestation', (value, path) => readAttestation(value, path, kind, around)),
    isEnabled: optional(section, 'provisioningStatus', readChoice(['enabled', 'disabled'])) !== 'disabled',
    isEdge: (capabilities && optional(capabilities, 'iotEdge', readFlag)) ?? false,
    initialTwin: optional(section, 'initialTwin', readInitialTwin) ?? { tags: {}, desired: {} },
    reprovision: optional(section, 'reprovisionPolicy', readReprovisionPolicy),
    allocationPolicy,
    hubs,
    createdMs: around.previous?.createdMs ?? nowMs,
    updatedMs: nowMs,
    etag: makeEtag(around.world),
  };
}

function refuseUnsupported(section: Section): void {
  for (const key of ['customAllocationDefinition', 'credentialPolicyName']) {
    if (section.values[key] === undefined || section.values[key] === null) continue;
    throw unsupportedOption(joinPath(section.path, key), 'the emulator does not offer this yet; leave it out.');
  }
}

export const readAllocationPolicy: Read<AllocationPolicy> = (value, path) => {
  if (value === 'custom') {
    throw unsupportedOption(path, 'custom allocation is not offered yet; use "hashed", "geoLatency" or "static".');
  }
  return readChoice(['hashed', 'geoLatency', 'static'])(value, path);
};

function readHubs(section: Section, around: EnrollmentSurroundings): readonly string[] {
  const readHub: Read<string> = (value, path) => {
    const name = around.resolveHub(readText(value, path));
    if (name !== undefined) return name;
    throw wrongOption(path, `names no hub of this scope; its hubs are ${around.hubNames.join(', ') || '(none)'}`);
  };
  const list = optional(section, 'iotHubs', readList(readHub));
  if (list !== undefined) return list;
  const legacy = optional(section, 'iotHubHostName', readHub);
  return legacy === undefined ? [] : [legacy];
}

const readInitialTwin: Read<EnrollmentEntry['initialTwin']> = (value, path) => {
  const section = openSection(value, path, ['tags', 'properties']);
  const properties = optional(section, 'properties', (inner, at) => openSection(inner, at, ['desired']));
  const tags = optional(section, 'tags', checkedProperties(TWIN_LIMITS.tagsBytes)) ?? {};
  const desired = (properties && optional(properties, 'desired', checkedProperties(TWIN_LIMITS.sectionBytes))) ?? {};
  return { tags, desired };
};

function checkedProperties(maxBytes: number): Read<JsonObject> {
  return (value, path) => {
    // The service's exports carry these counters; a twin does not take them back.
    const { $version: _version, $metadata: _metadata, ...properties } = readJsonObject(value, path);
    const problem = propertiesProblem(properties, maxBytes);
    if (problem !== undefined) throw wrongOption(path, `is no twin content: ${problem.replace(/\.$/, '')}`);
    return properties;
  };
}

const readReprovisionPolicy: Read<NonNullable<EnrollmentEntry['reprovision']>> = (value, path) => {
  const section = openSection(value, path, ['updateHubAssignment', 'migrateDeviceData']);
  return {
    updateHubAssignment: optional(section, 'updateHubAssignment', readFlag) ?? true,
    migrateDeviceData: optional(section, 'migrateDeviceData', readFlag) ?? true,
  };
};

function readAttestation(
  value: unknown,
  path: string,
  kind: EnrollmentEntry['kind'],
  around: EnrollmentSurroundings,
): EntryAttestation {
  const section = openSection(value, path, ['type', 'symmetricKey', 'x509', 'tpm']);
  const type = optional(section, 'type', readChoice(['symmetricKey', 'x509', 'tpm', 'none']));
  if (type === 'none') {
    throw unsupportedOption(path, 'none attestation is not offered; use symmetricKey, x509 or tpm.');
  }
  const symmetricKey = optional(section, 'symmetricKey', (inner, at) => readSymmetricKey(inner, at, around));
  const x509 = optional(section, 'x509', (inner, at) => readX509(inner, at, kind, around));
  const tpm = optional(section, 'tpm', (inner, at) => readTpm(inner, at, kind));
  const given = [symmetricKey, x509, tpm].filter((attestation) => attestation !== undefined);
  if (given.length > 1) throw wrongOption(path, `must have one attestation, not ${given.length}`);
  const found = given[0] ?? (type === 'symmetricKey' ? readSymmetricKey({}, path, around) : undefined);
  if (found === undefined) throw wrongOption(path, 'must have symmetricKey, x509 or tpm');
  if (type !== undefined && type !== found.type) {
    throw wrongOption(joinPath(path, 'type'), `says "${type}", but the attestation beside it is "${found.type}"`);
  }
  return found;
}

function readSymmetricKey(value: unknown, path: string, around: EnrollmentSurroundings): EntryAttestation {
  const section = openSection(value, path, ['primaryKey', 'secondaryKey']);
  const previous = around.previous?.attestation;
  const kept = previous?.type === 'symmetricKey' ? previous : undefined;
  const readSlot = (slot: 'primaryKey' | 'secondaryKey'): string =>
    optional(section, slot, readKey) ?? kept?.[slot] ?? makeSymmetricKey(around.world);
  return { type: 'symmetricKey', primaryKey: readSlot('primaryKey'), secondaryKey: readSlot('secondaryKey') };
}

const readKey: Read<string> = (value, path) => {
  const bytes = typeof value === 'string' ? decodeBase64(value) : undefined;
  if (typeof value === 'string' && bytes !== undefined && bytes.length >= 16 && bytes.length <= 64) return value;
  throw wrongOption(path, 'must be Base64 of 16 to 64 bytes');
};

function readTpm(value: unknown, path: string, kind: EnrollmentEntry['kind']): EntryAttestation {
  const section = openSection(value, path, ['endorsementKey', 'storageRootKey']);
  if (kind === 'group') throw unsupportedOption(path, 'a TPM can only be enrolled alone; use enrollments, not groups.');
  return {
    type: 'tpm',
    endorsementKey: required(section, 'endorsementKey', readStorageKey),
    storageRootKey: optional(section, 'storageRootKey', readStorageKey),
  };
}

const readStorageKey: Read<StorageKey> = (value, path) => {
  const bytes = decodeBase64(readText(value, path));
  const key = bytes === undefined ? { problem: 'it is no Base64' } : parseStorageKey(bytes);
  if (!('problem' in key)) return key;
  throw wrongOption(
    path,
    `must be the Base64 of TPM2B_PUBLIC of an RSA 2048 key, as tpm2_readpublic -f tss writes it: ${key.problem}`,
  );
};

function readX509(
  value: unknown,
  path: string,
  kind: EnrollmentEntry['kind'],
  around: EnrollmentSurroundings,
): EntryAttestation {
  const own = kind === 'individual' ? 'clientCertificates' : 'signingCertificates';
  const section = openSection(value, path, [own, 'caReferences']);
  const certificates = optional(section, own, readSlots(readSlot(around.baseDirectory)));
  const references = optional(section, 'caReferences', readSlots(readText));
  if ((certificates === undefined) === (references === undefined)) {
    throw wrongOption(path, `must have either ${own} or caReferences`);
  }
  if (certificates !== undefined) {
    return { type: 'x509', role: kind === 'individual' ? 'client' : 'signing', certificates };
  }
  return {
    type: 'x509',
    role: 'signing',
    certificates: (references ?? []).map((name) => authorityNamed(name, path, around)),
    references: references ?? [],
  };
}

function authorityNamed(name: string, path: string, around: EnrollmentSurroundings): X509Certificate {
  const authority = around.authorities.get(name);
  if (authority !== undefined) return authority;
  const known = [...around.authorities.keys()].join(', ') || '(none)';
  throw wrongOption(
    joinPath(path, 'caReferences'),
    `names no verified CA of this scope: "${name}"; there are ${known}`,
  );
}

function readSlots<T>(read: Read<T>): Read<readonly T[]> {
  return (value, path) => {
    const section = openSection(value, path, ['primary', 'secondary']);
    const found = [optional(section, 'primary', read), optional(section, 'secondary', read)];
    const present = found.filter((item) => item !== undefined);
    if (present.length === 0) throw wrongOption(path, 'must have a primary or a secondary');
    return present;
  };
}

function readSlot(baseDirectory: string): Read<X509Certificate> {
  return (value, path) => {
    const section = openSection(value, path, ['certificate', 'info']);
    return required(section, 'certificate', readCertificate(baseDirectory));
  };
}

function checkedText(problemOf: (text: string) => string | undefined): Read<string> {
  return (value, path) => {
    const text = readText(value, path);
    const problem = problemOf(text);
    if (problem !== undefined) throw wrongOption(path, `is not valid: ${problem.replace(/\.$/, '')}`);
    return text;
  };
}
