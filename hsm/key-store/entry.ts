import { type KeyObject, randomBytes, type X509Certificate } from 'node:crypto';
import { concatBytes } from '../../src/core/bytes.js';
import { isJsonObject, memberOf, textMember } from '../../src/core/json-body.js';
import type { JsonObject, JsonValue } from '../../src/core/twin.js';
import { MAX_GENERATION } from '../../src/durable/slot.js';
import { newerFormatError } from '../../src/durable/store-failure.js';
import { readCertificates } from '../certificate-chain.js';
import { exportSecret, importSecret, type KeyMaterial } from './key-material.js';
import { INSTEAD_OF_NEWER, keyStoreError } from './key-store-error.js';
import { openBox, readBox, type SealedBox, sealBox } from './sealed-box.js';

/** One key of an entry. */
export interface HeldKey {
  /** Random; tells one key from the next. */
  readonly id: string;
  /** Leaf first; none for a symmetric key, and while a certificate is awaited. */
  readonly certificates: readonly X509Certificate[];
  /** `EC P-256` */
  readonly algorithm: string;
}

/** An entry as anybody may see it who may read the file. */
export interface EntryLabel {
  readonly name: string;
  readonly kind: KeyMaterial['kind'];
  readonly registrationId: string | undefined;
  /** Goes up with every change. */
  readonly generation: number;
  readonly current: HeldKey;
  readonly staged: HeldKey | undefined;
}

/** An entry that was opened. */
export interface Entry extends EntryLabel {
  readonly currentKey: KeyObject;
  readonly stagedKey: KeyObject | undefined;
}

/** Two chains of several certificates each; far below what hurts. */
export const MAX_ENTRY_BYTES: number = 131_072;

const TYPE = 'dps-device key store entry';
const FORMAT = 1;
const NAME = /^[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?$/;

/** What is wrong with the name of an entry, if anything is. Names become names of files, on file systems that ignore case, too. */
export function entryNameProblem(name: string): string | undefined {
  if (NAME.test(name)) return undefined;
  return 'it must have 1 to 64 lower-case letters, digits and . _ - and begin and end with a letter or digit.';
}

/** Of the A/B file. */
export function entryFileName(name: string): string {
  return `entry-${name}`;
}

/** The name of the entry that a file of the folder belongs to, `undefined` for any other file. */
export function entryOfFile(fileName: string): string | undefined {
  const [, name] = /^entry-(.+)\.[ab]$/.exec(fileName) ?? [];
  return name !== undefined && NAME.test(name) ? name : undefined;
}

export function makeKeyId(): string {
  return randomBytes(8).toString('hex');
}

/**
 * The bytes of the entry's file.
 *
 * @throws {HsmError} `ERR_DPS_HSM_OPERATION` for a generation that could not be read back.
 */
export function sealEntry(storeId: string, dataKey: KeyObject, entry: Entry): Uint8Array {
  if (!isGeneration(entry.generation)) {
    const message = `The entry ${entry.name} has generation ${MAX_GENERATION}, the last there can be, and cannot be changed any more. Remove it and give it its key again: dps-device keys remove --key-name ${entry.name}`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
  }
  const label: JsonObject = {
    format: FORMAT,
    type: TYPE,
    store: storeId,
    name: entry.name,
    kind: entry.kind,
    generation: entry.generation,
    ...(entry.registrationId === undefined ? {} : { registrationId: entry.registrationId }),
    current: labelKey(entry.current),
    ...(entry.staged === undefined ? {} : { staged: labelKey(entry.staged) }),
  };
  const secrets = [entry.currentKey, ...(entry.stagedKey === undefined ? [] : [entry.stagedKey])].map(exportSecret);
  const payload = concatBytes(...secrets.flatMap((secret) => [lengthOf(secret), secret]));
  const file = sealBox(dataKey, label, payload);
  for (const bytes of [...secrets, payload]) bytes.fill(0);
  return file;
}

/** Where a file was found, and how it is to be understood. */
export interface EntryPlace {
  readonly path: string;
  readonly storeId: string | undefined;
  readonly name: string;
}

/**
 * Reads the label, and checks that it is that of the entry and store which the file is taken for. Whether the
 * label is genuine shows only when the entry is opened.
 *
 * @throws {HsmError} `ERR_DPS_HSM_STORE_DAMAGED`.
 * @throws {StoreError} `ERR_DPS_STORE_NEWER_FORMAT`.
 */
export function readEntryLabel(
  file: Uint8Array,
  place: EntryPlace,
): { readonly label: EntryLabel; readonly box: SealedBox } {
  const box = readBox(file);
  if (box === undefined || textMember(box.label, 'type') !== TYPE) throw damaged(place, 'it is not that of an entry');
  const format = memberOf(box.label, 'format');
  if (typeof format === 'number' && format > FORMAT)
    throw newerFormatError({ operation: 'read', path: place.path }, format, INSTEAD_OF_NEWER);
  const name = textMember(box.label, 'name');
  if (name !== place.name) throw damaged(place, `it was made for the entry ${JSON.stringify(name ?? 'none')}`);
  if (place.storeId !== undefined && textMember(box.label, 'store') !== place.storeId) {
    throw damaged(place, 'it belongs to another key store');
  }
  const label = readLabel(box.label, place);
  if (format !== FORMAT || label === undefined) throw damaged(place, 'its label makes no sense');
  return { label, box };
}

/** @throws {HsmError} as `readEntryLabel` does, and when what is sealed was not sealed with this key and label. */
export function openEntry(dataKey: KeyObject, file: Uint8Array, place: EntryPlace): Entry {
  const { label, box } = readEntryLabel(file, place);
  const payload = openBox(dataKey, box);
  if (payload === undefined) throw damaged(place, 'label or content were changed after it was sealed');
  try {
    const [first, second, ...more] = splitSecrets(payload) ?? [];
    const isAsLabelled = first !== undefined && (second !== undefined) === (label.staged !== undefined);
    if (!isAsLabelled || more.length > 0) throw damaged(place, 'it holds other keys than its label says');
    return {
      ...label,
      currentKey: importSecret(label.kind, first),
      stagedKey: second === undefined ? undefined : importSecret(label.kind, second),
    };
  } finally {
    payload.fill(0);
  }
}

function labelKey({ id, certificates, algorithm }: HeldKey): JsonObject {
  const chain = certificates.map((certificate) => certificate.toString()).join('');
  return { id, algorithm, ...(chain === '' ? {} : { chain }) };
}

function readLabel(label: JsonObject, { name, path }: EntryPlace): EntryLabel | undefined {
  const kind = textMember(label, 'kind');
  const generation = memberOf(label, 'generation');
  const current = readKey(memberOf(label, 'current'), path);
  const stagedValue = memberOf(label, 'staged');
  const staged = readKey(stagedValue, path);
  if ((kind !== 'symmetricKey' && kind !== 'x509') || current === undefined) return undefined;
  if (stagedValue !== undefined && staged === undefined) return undefined;
  if (!isGeneration(generation)) return undefined;
  return { name, kind, registrationId: textMember(label, 'registrationId'), generation, current, staged };
}

function isGeneration(value: JsonValue | undefined): value is number {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= MAX_GENERATION;
}

function readKey(value: JsonValue | undefined, path: string): HeldKey | undefined {
  if (!isJsonObject(value)) return undefined;
  const id = textMember(value, 'id');
  const algorithm = textMember(value, 'algorithm');
  const chain = textMember(value, 'chain');
  if (id === undefined || !/^[0-9a-f]{16}$/.test(id) || algorithm === undefined) return undefined;
  return { id, algorithm, certificates: chain === undefined ? [] : readCertificates({ text: chain, place: path }) };
}

function lengthOf(bytes: Uint8Array): Uint8Array {
  const length = new Uint8Array(4);
  new DataView(length.buffer).setUint32(0, bytes.length);
  return length;
}

function splitSecrets(payload: Uint8Array): Uint8Array[] | undefined {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const secrets: Uint8Array[] = [];
  for (let start = 0; start < payload.length; ) {
    if (start + 4 > payload.length) return undefined;
    const end = start + 4 + view.getUint32(start);
    if (end > payload.length) return undefined;
    secrets.push(payload.subarray(start + 4, end));
    start = end;
  }
  return secrets;
}

function damaged({ path, name }: EntryPlace, what: string): Error {
  const message = `The file ${path} cannot be used: ${what}. Files of a key store may be neither swapped, renamed nor edited; put the folder back from a backup, or remove the entry and give it its key again: dps-device keys remove --key-name ${name}`;
  return keyStoreError('ERR_DPS_HSM_STORE_DAMAGED', 'read entry', message);
}
