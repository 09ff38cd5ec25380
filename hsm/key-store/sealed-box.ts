import { createCipheriv, createDecipheriv, type KeyObject, randomBytes } from 'node:crypto';
import { concatBytes, decodeBase64, decodeUtf8, encodeBase64, encodeUtf8 } from '../../src/core/bytes.js';
import { readJsonObject } from '../../src/core/json-body.js';
import type { JsonObject } from '../../src/core/twin.js';

/**
 * The content of every file of a key store: a label that anybody may read, and what is sealed under it.
 *
 * ```
 * {"format":1,"type":"dps-device key store entry","name":"sensor-17",…}\n      label: public, but not to be changed
 * Base64 of nonce (12) | AES-256-GCM ciphertext | tag (16)\n                   the label, byte for byte, is its additional data
 * further lines, which neither protects
 * ```
 *
 * A box opens only under the very label it was sealed with: not under another name, kind or generation.
 */
export interface SealedBox {
  readonly label: JsonObject;
  /** The label as it stands in the file. */
  readonly labelBytes: Uint8Array;
  readonly sealed: Uint8Array;
  /** The lines after these two. */
  readonly remarks: readonly string[];
}

export const SEALING_KEY_BYTES: number = 32;

const CIPHER = 'aes-256-gcm';
/** 96 random bits: a data key would have to seal billions of times before one is likely to come twice. */
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** The bytes of a file. `secret` is left as it is, for the caller to wipe. */
export function sealBox(key: KeyObject, label: JsonObject, secret: Uint8Array): Uint8Array {
  const labelBytes = encodeUtf8(JSON.stringify(label));
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES }).setAAD(labelBytes);
  const sealed = concatBytes(nonce, cipher.update(secret), cipher.final(), cipher.getAuthTag());
  return concatBytes(labelBytes, encodeUtf8(`\n${encodeBase64(sealed)}\n`));
}

/** Takes a file apart without opening it; `undefined` when it is no sealed box. Never throws. */
export function readBox(file: Uint8Array): SealedBox | undefined {
  const end = file.indexOf(LINE_FEED);
  if (end < 0) return undefined;
  const labelBytes = file.subarray(0, end);
  const label = readJsonObject(labelBytes);
  const [base64 = '', ...remarks] = decodeUtf8(file.subarray(end + 1))?.split('\n') ?? [];
  const sealed = decodeBase64(base64);
  if (label.kind !== 'object' || sealed === undefined || sealed.length < NONCE_BYTES + TAG_BYTES) return undefined;
  return { label: label.value, labelBytes, sealed, remarks: remarks.filter((line) => line !== '') };
}

/** What is sealed, for the caller to wipe; `undefined` when the key is another, or anything was changed. */
export function openBox(key: KeyObject, { labelBytes, sealed }: SealedBox): Uint8Array | undefined {
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const tag = sealed.subarray(sealed.length - TAG_BYTES);
  const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
    .setAAD(labelBytes)
    .setAuthTag(tag);
  const opened = decipher.update(sealed.subarray(NONCE_BYTES, sealed.length - TAG_BYTES));
  try {
    // In GCM everything has come out by now; this only judges it.
    decipher.final();
    return opened;
  } catch {
    opened.fill(0);
    return undefined;
  }
}

const LINE_FEED = 0x0a;
