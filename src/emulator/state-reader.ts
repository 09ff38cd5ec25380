/** The content of a state file, member by member: what is not as it was written is told by its path. */
import { decodeBase64 } from '../core/bytes.js';
import type { QueuedMessage } from './cloud-to-device.js';
import {
  openSection,
  optional,
  type Read,
  readChoice,
  readFlag,
  readInteger,
  readJsonObject,
  readList,
  readText,
  required,
  type Section,
  wrongOption,
} from './config-reader.js';
import type { EnrollmentGroup, IndividualEnrollment } from './enrollment.js';
import type { StoredDevice } from './hub-controls.js';
import type { HubIdentity } from './linked-hub.js';
import type { RegistrationRecord } from './registration-record.js';
import type { StoredScope } from './scope.js';
import type { StoredAuthority } from './server-identity.js';
import type { TwinDocument, VersionedSection } from './twin-document.js';
import type { HubAuthentication } from './verify.js';

export interface StoredState {
  readonly version: 1;
  readonly authority: StoredAuthority;
  readonly scopes: readonly StoredScope[];
}

/** @throws {ConfigurationError} naming the path of what is wrong. Enrollments and the authority are judged by who uses them. */
export function readStoredState(value: unknown): StoredState {
  const section = openSection(value, '', ['version', 'authority', 'scopes'], 'the state');
  required(section, 'version', readInteger(1, 1));
  return {
    version: 1,
    authority: required(section, 'authority', readAuthority),
    scopes: required(section, 'scopes', readList(readScope)),
  };
}

const readAuthority: Read<StoredAuthority> = (value, path) => {
  const section = openSection(value, path, ['certificatePem', 'privateKeyPem']);
  return {
    certificatePem: required(section, 'certificatePem', readText),
    privateKeyPem: required(section, 'privateKeyPem', readText),
  };
};

const readScope: Read<StoredScope> = (value, path) => {
  const section = openSection(value, path, ['idScope', 'enrollments', 'enrollmentGroups', 'registrations', 'hubs']);
  return {
    idScope: required(section, 'idScope', readText),
    enrollments: required(section, 'enrollments', readList(readEnrollment<IndividualEnrollment>('registrationId'))),
    enrollmentGroups: required(
      section,
      'enrollmentGroups',
      readList(readEnrollment<EnrollmentGroup>('enrollmentGroupId')),
    ),
    registrations: required(section, 'registrations', readList(readRecord)),
    hubs: required(section, 'hubs', readList(readHub)),
  };
};

function readEnrollment<T>(idKey: string): Read<{ readonly isConfigured: boolean; readonly enrollment: T }> {
  return (value, path) => {
    const section = openSection(value, path, ['isConfigured', 'enrollment']);
    const enrollment = required(section, 'enrollment', readJsonObject);
    readText(enrollment[idKey], `${path}.enrollment.${idKey}`);
    return { isConfigured: required(section, 'isConfigured', readFlag), enrollment: enrollment as T };
  };
}

/** Milliseconds that a date can have. */
const readTime: Read<number> = readInteger(0, 8.64e15);
const readCount: Read<number> = readInteger(0, Number.MAX_SAFE_INTEGER);

const RECORD_KEYS = [
  'registrationId',
  'createdMs',
  'lastUpdatedMs',
  'etag',
  'status',
  'assignment',
  'error',
  'payload',
  'attestation',
  'enrollmentGroupId',
  'entryKey',
];

const readRecord: Read<RegistrationRecord> = (value, path) => {
  const section = openSection(value, path, RECORD_KEYS);
  return {
    registrationId: required(section, 'registrationId', readText),
    createdMs: required(section, 'createdMs', readTime),
    lastUpdatedMs: required(section, 'lastUpdatedMs', readTime),
    etag: required(section, 'etag', readText),
    status: required(section, 'status', readChoice(['unassigned', 'assigning', 'assigned', 'failed', 'disabled'])),
    attestation: required(section, 'attestation', readChoice(['symmetricKey', 'x509', 'tpm'])),
    entryKey: required(section, 'entryKey', readText),
    ...present(section, 'assignment', readAssignment),
    ...present(section, 'error', readError),
    ...present(section, 'payload', readJsonObject),
    ...present(section, 'enrollmentGroupId', readText),
  };
};

const readAssignment: Read<NonNullable<RegistrationRecord['assignment']>> = (value, path) => {
  const section = openSection(value, path, ['hubName', 'deviceId', 'substatus']);
  return {
    hubName: required(section, 'hubName', readText),
    deviceId: required(section, 'deviceId', readText),
    substatus: required(
      section,
      'substatus',
      readChoice(['initialAssignment', 'deviceDataMigrated', 'deviceDataReset', 'reprovisionedToInitialAssignment']),
    ),
  };
};

const readError: Read<NonNullable<RegistrationRecord['error']>> = (value, path) => {
  const section = openSection(value, path, ['code', 'message']);
  return { message: required(section, 'message', readAnyText), ...present(section, 'code', readCount) };
};

const readHub: Read<StoredScope['hubs'][number]> = (value, path) => {
  const section = openSection(value, path, ['name', 'devices']);
  return { name: required(section, 'name', readText), devices: required(section, 'devices', readList(readDevice)) };
};

const readDevice: Read<StoredDevice> = (value, path) => {
  const section = openSection(value, path, ['identity', 'isEnabled', 'twin', 'queue', 'session']);
  return {
    identity: required(section, 'identity', readIdentity),
    isEnabled: required(section, 'isEnabled', readFlag),
    twin: required(section, 'twin', readTwin),
    queue: required(section, 'queue', readList(readMessage)),
    ...present(section, 'session', readList(readPair(readCount))),
  };
};

const readIdentity: Read<HubIdentity> = (value, path) => {
  const section = openSection(value, path, ['deviceId', 'authentication', 'isEdge']);
  return {
    deviceId: required(section, 'deviceId', readText),
    authentication: required(section, 'authentication', readAuthentication),
    isEdge: required(section, 'isEdge', readFlag),
  };
};

/** Also of a device that a program adds. */
export const readAuthentication: Read<HubAuthentication> = (value, path) => {
  const section = openSection(value, path, [
    'type',
    'primaryKey',
    'secondaryKey',
    'primaryThumbprint',
    'secondaryThumbprint',
  ]);
  const type = required(section, 'type', readChoice(['sas', 'selfSigned']));
  if (type === 'selfSigned') {
    const primaryThumbprint = required(section, 'primaryThumbprint', readText);
    return { type, primaryThumbprint, ...present(section, 'secondaryThumbprint', readText) };
  }
  const primaryKey = required(section, 'primaryKey', readBase64);
  return { type, primaryKey, secondaryKey: required(section, 'secondaryKey', readBase64) };
};

const readTwin: Read<TwinDocument> = (value, path) => {
  const section = openSection(value, path, ['tags', 'desired', 'reported']);
  return {
    tags: required(section, 'tags', readJsonObject),
    desired: required(section, 'desired', readVersioned),
    reported: required(section, 'reported', readVersioned),
  };
};

const readVersioned: Read<VersionedSection> = (value, path) => {
  const section = openSection(value, path, ['version', 'properties']);
  return {
    version: required(section, 'version', readCount),
    properties: required(section, 'properties', readJsonObject),
  };
};

const readMessage: Read<QueuedMessage> = (value, path) => {
  const section = openSection(value, path, [
    'sequence',
    'messageId',
    'bodyBase64',
    'properties',
    'expiresAtMs',
    'deliveryCount',
    'packetId',
  ]);
  const properties = required(section, 'properties', readList(readPair(readTextOrNull)));
  return {
    sequence: required(section, 'sequence', readCount),
    messageId: required(section, 'messageId', readAnyText),
    bodyBase64: required(section, 'bodyBase64', readBase64),
    properties,
    expiresAtMs: required(section, 'expiresAtMs', readFiniteNumber),
    deliveryCount: required(section, 'deliveryCount', readCount),
    ...present(section, 'packetId', readInteger(1, 65535)),
  };
};

const readAnyText: Read<string> = (value, path) => (value === '' ? '' : readText(value, path));

const readTextOrNull: Read<string | null> = (value, path) => (value === null ? null : readAnyText(value, path));

const readFiniteNumber: Read<number> = (value, path) => {
  if (typeof value === 'number') return value;
  throw wrongOption(path, 'must be a number');
};

const readBase64: Read<string> = (value, path) => {
  const text = readAnyText(value, path);
  if (decodeBase64(text) !== undefined) return text;
  throw wrongOption(path, 'must be Base64');
};

function readPair<T>(read: Read<T>): Read<readonly [string, T]> {
  return (value, path) => {
    if (!Array.isArray(value) || value.length !== 2) throw wrongOption(path, 'must be a pair');
    return [readAnyText(value[0], `${path}[0]`), read(value[1], `${path}[1]`)];
  };
}

/** The member as one of an object, or none: exact optional properties know no undefined. */
function present<K extends string, T>(section: Section, key: K, read: Read<T>): { readonly [P in K]?: T } {
  const value = optional(section, key, read);
  return (value === undefined ? {} : { [key]: value }) as { readonly [P in K]?: T };
}
