import { StoreError } from '../errors.js';
import type { AttestationKind } from './attestation.js';
import { encodeUtf8 } from './bytes.js';
import { isPlausibleWallMs } from './clock.js';
import { deviceIdProblem, hostNameProblem, idScopeProblem, registrationIdProblem } from './identifiers.js';
import {
  describeMember,
  isJsonObject,
  MAX_JSON_DEPTH,
  memberOf,
  objectMember,
  readJsonObject,
  textMember,
} from './json-body.js';
import { type RegistrationResult, registrationResultOf } from './registration-result.js';
import { wordsOf } from './thrown-words.js';
import type { JsonObject, JsonValue, Twin, TwinSection } from './twin.js';

/** What a record is good for. With any other configuration the hub in it is not this device's hub. */
export interface RecordBinding {
  readonly endpoint: string;
  readonly idScope: string;
  readonly registrationId: string;
  readonly attestation: AttestationKind;
}

/** What a device remembers from one start to the next. Holds no secret: no key, no token, no TPM blob. */
export interface DeviceRecord {
  readonly binding: RecordBinding;
  /** As DPS gave it, without key blobs; the payload of a custom allocation is kept as it came. */
  readonly assignment: RegistrationResult;
  /** The credential slot that DPS accepted. */
  readonly slot: number;
  /** What the HSM called the credentials in its slots then; left out where it has no names for them. */
  readonly keyIds?: readonly string[];
  /** Names of the transports that worked. */
  readonly dpsTransport: string;
  readonly hubTransport: string;
  /** As last known, with both versions. */
  readonly twin: Twin;
  /** Where DPS has sent the device since: the hub in `assignment` is not to be used any more. */
  readonly movedTo?: string;
  /** When the hub last accepted the device; left out where the clock could not be right. */
  readonly acceptedAtWallMs?: number;
}

export type DecodedRecord =
  | { readonly kind: 'record'; readonly record: DeviceRecord }
  /** `what` is a sentence. */
  | { readonly kind: 'damaged'; readonly what: string }
  /** A later release wrote it; it is not to be overwritten unasked. */
  | { readonly kind: 'newer'; readonly format: number };

/** Raised when a release that ignores a new member would do harm; what it only would not use needs no new format. */
export const RECORD_FORMAT: number = 1;

/** A twin has 64 KB of values at most, and a certificate chain a few; escapes in JSON take up to six bytes a character. */
export const MAX_RECORD_BYTES: number = 1_048_576;

/** More credentials than anybody tries in turn. */
const MAX_KEY_IDS = 64;
const VISIBLE = /^\P{C}{1,128}$/u;

/**
 * The record as UTF-8 JSON in one line. Equal records give equal bytes: members are in the order of their names.
 * Of the assignment only what is known to be harmless is written, so that no key can be among it.
 *
 * @throws {StoreError} `ERR_DPS_STORE_UNWRITABLE` when `decodeRecord` could not read it: too long, nested too deep, or
 *   with a member of another type.
 */
export function encodeRecord(record: DeviceRecord): Uint8Array {
  try {
    const bytes = writeRecord(record);
    // A record that is good must never be replaced by one that nobody can read.
    const reading = decodeRecord(bytes);
    if (reading.kind === 'damaged') throw new Damage(reading.what);
    return bytes;
  } catch (error) {
    throw error instanceof Damage ? unwritable(error.message) : error;
  }
}

function writeRecord(record: DeviceRecord): Uint8Array {
  const { binding, assignment, slot, keyIds, dpsTransport, hubTransport, twin, movedTo, acceptedAtWallMs } = record;
  const { endpoint, idScope, registrationId, attestation } = binding;
  const isDated = acceptedAtWallMs !== undefined && isPlausibleWallMs(acceptedAtWallMs);
  const text = writeJson({
    format: RECORD_FORMAT,
    binding: { endpoint, idScope, registrationId, attestation },
    assignment: harmlessMembers(assignment),
    slot,
    ...(keyIds === undefined ? {} : { keyIds }),
    dpsTransport,
    hubTransport,
    twin: { desired: sectionOf(twin.desired), reported: sectionOf(twin.reported) },
    ...(movedTo === undefined ? {} : { movedTo }),
    ...(isDated ? { acceptedAtWallMs } : {}),
  });
  return encodeUtf8(`${text}\n`);
}

/**
 * Reads what `encodeRecord` wrote, in this format or an earlier one. Every member is checked; members not known here are
 * passed over, and are gone after the next save. Never throws.
 */
export function decodeRecord(bytes: Uint8Array): DecodedRecord {
  if (bytes.length > MAX_RECORD_BYTES) {
    return damaged(`The record has ${bytes.length} bytes, and ${MAX_RECORD_BYTES} are the most.`);
  }
  const body = readJsonObject(bytes);
  if (body.kind !== 'object') {
    return damaged(
      `The record is not a JSON object; instead there is ${body.kind === 'empty' ? 'nothing' : body.got}.`,
    );
  }
  const format = memberOf(body.value, 'format');
  if (!isCount(format) || format === 0) return damaged(`The record has no format number.`);
  if (format > RECORD_FORMAT) return { kind: 'newer', format };
  try {
    return { kind: 'record', record: readFormat1(body.value) };
  } catch (error) {
    if (error instanceof Damage) return damaged(error.message);
    throw error;
  }
}

/**
 * A record that was kept as the object it is, checked as `decodeRecord` checks bytes; what it gives is a copy, as if it had
 * been written and read. Never throws.
 */
export function checkRecord(record: object): DecodedRecord {
  try {
    return decodeRecord(writeRecord(readFormat1(record as JsonObject)));
  } catch (error) {
    if (error instanceof Damage) return damaged(error.message);
    return damaged(`The record is no plain data: ${wordsOf(error)}`);
  }
}

/**
 * In which member the configuration differs from the one that the record was written for, in words; `undefined` when it
 * does not. Letter case of host names and registration ids means nothing to the service.
 */
export function bindingDifference(record: DeviceRecord, binding: RecordBinding): string | undefined {
  const known = record.binding;
  const differs = (member: (of: RecordBinding) => string, name: string): string | undefined =>
    member(known) === member(binding)
      ? undefined
      : `The record was written for the ${name} ${member(known)}, and now it is ${member(binding)}.`;
  return (
    differs(({ endpoint }) => endpoint.toLowerCase(), 'endpoint') ??
    differs(({ idScope }) => idScope, 'ID scope') ??
    differs((of) => of.registrationId.toLowerCase(), 'registration id') ??
    differs(({ attestation }) => attestation, 'attestation')
  );
}

/** What is wrong with the names that an HSM has for its credentials; a sentence. */
export function keyIdsProblem(value: unknown): string | undefined {
  const isList = Array.isArray(value) && value.length > 0 && value.length <= MAX_KEY_IDS;
  // Not `every`, which passes over holes.
  const isNamed = isList && Array.from<unknown>(value).every((id) => typeof id === 'string' && VISIBLE.test(id));
  return isNamed ? undefined : `It is a list of 1 to ${MAX_KEY_IDS} texts of 1 to 128 visible characters.`;
}

/** Why a record cannot be used; never leaves this file. */
class Damage extends Error {}

function damaged(what: string): DecodedRecord {
  return { kind: 'damaged', what };
}

function unwritable(problem: string): StoreError {
  return new StoreError({
    code: 'ERR_DPS_STORE_UNWRITABLE',
    message: `The record cannot be stored. ${problem} What was stored before is still there.`,
    operation: 'write',
    path: 'record',
  });
}

const NESTS_TOO_DEEP = `Twin or payload nests more than ${MAX_JSON_DEPTH} levels deep.`;

/** By name, what `registrationResultOf` reads back; `tpm` and members not known here are not among them. */
function harmlessMembers(assignment: RegistrationResult): JsonObject {
  const { registrationId, assignedHub, deviceId, status, substatus, createdDateTimeUtc, lastUpdatedDateTimeUtc } =
    assignment;
  const { etag, payload, x509, symmetricKey, issuedCertificateChain, connectionProfile } = assignment;
  return withoutAbsent({
    registrationId,
    assignedHub,
    deviceId,
    status,
    substatus,
    createdDateTimeUtc,
    lastUpdatedDateTimeUtc,
    etag,
    payload,
    x509: x509 === undefined ? undefined : withoutKeys(x509),
    symmetricKey: symmetricKey === undefined ? undefined : withoutKeys(symmetricKey),
    issuedCertificateChain,
    connectionProfile,
  });
}

function withoutAbsent(members: Readonly<Record<string, JsonValue | undefined>>): JsonObject {
  const there = Object.entries(members).filter((member): member is [string, JsonValue] => member[1] !== undefined);
  return Object.fromEntries(there);
}

/** The service documents group names and certificate details here; should it ever send a key, it stays out. */
function withoutKeys(value: JsonValue): JsonValue {
  if (Array.isArray(value)) return value.map(withoutKeys);
  if (!isJsonObject(value)) return value;
  const kept = Object.entries(value).filter(([name]) => !/key$|password|passphrase|secret|token/i.test(name));
  return Object.fromEntries(kept.map(([name, member]) => [name, withoutKeys(member)]));
}

function sectionOf({ version, properties }: TwinSection): JsonObject {
  return { version, properties };
}

function writeJson(value: JsonValue, depth: number = 0): string {
  if (typeof value === 'number') return writeNumber(value);
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  if (depth >= MAX_JSON_DEPTH) throw new Damage(NESTS_TOO_DEEP);
  if (Array.isArray(value)) return `[${value.map((item: JsonValue) => writeJson(item, depth + 1)).join(',')}]`;
  const members = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${writeJson(member, depth + 1)}`).join(',')}}`;
}

/** What JSON.parse makes of 1e999 and -0, JSON.stringify would lose. */
function writeNumber(value: number): string {
  if (Object.is(value, -0)) return '-0';
  if (value === Number.POSITIVE_INFINITY) return '1e999';
  return value === Number.NEGATIVE_INFINITY ? '-1e999' : JSON.stringify(value);
}

function readFormat1(body: JsonObject): DeviceRecord {
  const binding = readObject(body, 'binding');
  const twin = readObject(body, 'twin');
  const assignment = readAssignment(readObject(body, 'assignment'));
  const keyIds = memberOf(body, 'keyIds');
  const movedTo = memberOf(body, 'movedTo');
  const acceptedAtWallMs = memberOf(body, 'acceptedAtWallMs');
  return {
    binding: {
      endpoint: readText(binding, 'endpoint', hostNameProblem),
      idScope: readText(binding, 'idScope', idScopeProblem),
      registrationId: readText(binding, 'registrationId', registrationIdProblem),
      attestation: readAttestation(binding),
    },
    assignment,
    slot: readCount(body, 'slot'),
    ...(keyIds === undefined ? {} : { keyIds: readKeyIds(keyIds) }),
    dpsTransport: readText(body, 'dpsTransport', transportProblem),
    hubTransport: readText(body, 'hubTransport', transportProblem),
    twin: { desired: readSection(twin, 'desired'), reported: readSection(twin, 'reported') },
    ...(movedTo === undefined ? {} : { movedTo: readText(body, 'movedTo', hostNameProblem) }),
    ...(acceptedAtWallMs === undefined ? {} : { acceptedAtWallMs: readCount(body, 'acceptedAtWallMs') }),
  };
}

function readAssignment(state: JsonObject): RegistrationResult {
  readText(state, 'assignedHub', hostNameProblem);
  readText(state, 'deviceId', deviceIdProblem);
  return registrationResultOf(state);
}

function readAttestation(binding: JsonObject): AttestationKind {
  const kind = textMember(binding, 'attestation');
  if (kind === 'symmetricKey' || kind === 'x509' || kind === 'tpm') return kind;
  throw new Damage("The record's member attestation is not symmetricKey, x509 or tpm.");
}

function readKeyIds(value: JsonValue): readonly string[] {
  const problem = keyIdsProblem(value);
  if (problem !== undefined) throw new Damage(`The record's member keyIds cannot be used. ${problem}`);
  return value as readonly string[];
}

function readSection(twin: JsonObject, name: 'desired' | 'reported'): TwinSection {
  const section = readObject(twin, name);
  return { version: readCount(section, 'version'), properties: readObject(section, 'properties') };
}

function readObject(object: JsonObject, name: string): JsonObject {
  const value = objectMember(object, name);
  if (value === undefined) throw unexpected(object, name, 'an object');
  return value;
}

/** A safe integer from 0. */
function readCount(object: JsonObject, name: string): number {
  const value = memberOf(object, name);
  if (!isCount(value)) throw unexpected(object, name, 'a whole number from 0');
  return value;
}

function readText(object: JsonObject, name: string, problemWith: (text: string) => string | undefined): string {
  const text = textMember(object, name);
  if (text === undefined) throw unexpected(object, name, 'text');
  const problem = problemWith(text);
  if (problem !== undefined) throw new Damage(`The record's member ${name} cannot be used. ${problem}`);
  return text;
}

function isCount(value: JsonValue | undefined): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function transportProblem(text: string): string | undefined {
  return VISIBLE.test(text) ? undefined : 'The name of a transport has 1 to 128 visible characters.';
}

function unexpected(object: JsonObject, name: string, expected: string): Damage {
  return new Damage(`The record's member ${name} should be ${expected}, and there is ${describeMember(object, name)}.`);
}
