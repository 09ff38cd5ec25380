/**
 * The blob in which the service hands an HMAC key to one TPM and no other: TPM2_MakeCredential and TPM2_Duplicate in
 * software, with the six fields that the real service sends. The TPM opens it with ActivateCredential and Import.
 */
import { constants, createCipheriv, createHash, createHmac, generateKeyPairSync, publicEncrypt } from 'node:crypto';
import { concatBytes, encodeUtf8 } from '../core/bytes.js';
import { nameOf, parseStorageKey, type StorageKey } from './tpm-storage-key.js';

/** The keys that a TPM shows. */
export interface TpmKeys {
  readonly endorsementKey: StorageKey;
  readonly storageRootKey: StorageKey;
}

/** What can be wrong with a blob on purpose: made for another TPM, a bit changed in one field, an odd layout. */
export const TPM_BLOB_DAMAGES = [
  'otherEndorsementKey',
  'otherStorageRootKey',
  'field1',
  'field2',
  'field3',
  'field4',
  'field5',
  'field6',
  'noField6',
  'innerKey256',
  'truncated',
] as const;
export type TpmBlobDamage = (typeof TPM_BLOB_DAMAGES)[number];

export interface ActivationRequest extends TpmKeys {
  /** 1 to 64 bytes: more than a SHA-256 block no TPM takes. */
  readonly hmacKey: Uint8Array;
  /** Goes along encrypted; clients throw it away. */
  readonly uri: string;
  /** Asked for the inner key, the obfuscation value, the duplication seed and the credential seed, in this order. */
  randomBytes(size: number): Uint8Array;
  readonly damage?: TpmBlobDamage | undefined;
}

const SEED_BYTES = 32;

/** TPM2B_ID_OBJECT, its seed for the EK, TPM2B_PRIVATE, its seed for the SRK, TPM2B_PUBLIC, the encrypted URI. */
export function makeActivationBlob(request: ActivationRequest): Uint8Array {
  const { damage } = request;
  const fields = makeFields({
    ...request,
    ...(damage === 'otherEndorsementKey' && { endorsementKey: withOtherModulus(request.endorsementKey) }),
    ...(damage === 'otherStorageRootKey' && { storageRootKey: withOtherModulus(request.storageRootKey) }),
  });
  const changed = fields.map((field, index) => (damage === `field${index + 1}` ? flipLastBit(field) : field));
  const blob = concatBytes(...(damage === 'noField6' ? changed.slice(0, -1) : changed));
  return damage === 'truncated' ? blob.subarray(0, blob.length / 2) : blob;
}

/** KDFa of the TPM specification (SP 800-108, counter mode) with HMAC-SHA256. */
export function kdfa(key: Uint8Array, label: string, u: Uint8Array, v: Uint8Array, bits: number): Uint8Array {
  const context = concatBytes(encodeUtf8(`${label}\0`), u, v, encodeUint32(bits));
  const blocks = Array.from({ length: Math.ceil(bits / 256) }, (_, index) =>
    hmac(key, concatBytes(encodeUint32(index + 1), context)),
  );
  return concatBytes(...blocks).subarray(0, bits / 8);
}

function makeFields(request: ActivationRequest): readonly Uint8Array[] {
  const { endorsementKey, storageRootKey, hmacKey, uri, randomBytes } = request;
  const innerKey = randomBytes(request.damage === 'innerKey256' ? 32 : 16);
  const object = describeHmacKey(hmacKey, randomBytes(SEED_BYTES));
  const duplicationSeed = randomBytes(SEED_BYTES);
  const credentialSeed = randomBytes(SEED_BYTES);
  const integrity = sha256(concatBytes(object.sensitive, object.name));
  const wrapped = encryptCfb(innerKey, concatBytes(sized(integrity), object.sensitive));
  return [
    sized(protect(credentialSeed, sized(innerKey), storageRootKey.name)),
    sized(encryptSeed(endorsementKey, 'IDENTITY', credentialSeed)),
    sized(protect(duplicationSeed, wrapped, object.name)),
    sized(encryptSeed(storageRootKey, 'DUPLICATE', duplicationSeed)),
    sized(object.publicArea),
    sized(encryptCfb(innerKey, encodeUtf8(uri))),
  ];
}

/** The key as an object of a TPM: keyedHash, HMAC-SHA256, attributes sign, userWithAuth and noDA, no policy. */
function describeHmacKey(
  key: Uint8Array,
  obfuscation: Uint8Array,
): { readonly publicArea: Uint8Array; readonly name: Uint8Array; readonly sensitive: Uint8Array } {
  const unique = sha256(concatBytes(obfuscation, key));
  const publicArea = concatBytes(Buffer.from('0008000b0004044000000005000b', 'hex'), sized(unique));
  const noPassword = sized(new Uint8Array());
  const sensitive = sized(concatBytes(Buffer.from('0008', 'hex'), noPassword, sized(obfuscation), sized(key)));
  return { publicArea, name: nameOf(publicArea), sensitive };
}

/** The outer wrap: encrypted and authenticated under keys that are derived from the seed. */
function protect(seed: Uint8Array, content: Uint8Array, name: Uint8Array): Uint8Array {
  const nothing = new Uint8Array();
  const encrypted = encryptCfb(kdfa(seed, 'STORAGE', name, nothing, 128), content);
  const macKey = kdfa(seed, 'INTEGRITY', nothing, nothing, 256);
  return concatBytes(sized(hmac(macKey, concatBytes(encrypted, name))), encrypted);
}

/** RSA-OAEP with SHA-256; the label's terminating zero belongs to it. */
function encryptSeed({ publicKey }: StorageKey, label: string, seed: Uint8Array): Uint8Array {
  return publicEncrypt(
    {
      key: publicKey,
      padding: constants.RSA_PKCS1_OAEP_PADDING,
      oaepHash: 'sha256',
      oaepLabel: Buffer.from(`${label}\0`),
    },
    seed,
  );
}

function encryptCfb(key: Uint8Array, content: Uint8Array): Uint8Array {
  const cipher = createCipheriv(`aes-${key.length * 8}-cfb`, key, new Uint8Array(16));
  return concatBytes(cipher.update(content), cipher.final());
}

function hmac(key: Uint8Array, content: Uint8Array): Uint8Array {
  return createHmac('sha256', key).update(content).digest();
}

function sha256(content: Uint8Array): Uint8Array {
  return createHash('sha256').update(content).digest();
}

/** A TPM2B: the size in two bytes, then the content. */
function sized(content: Uint8Array): Uint8Array {
  return concatBytes(Uint8Array.of(content.length >>> 8, content.length & 0xff), content);
}

function encodeUint32(value: number): Uint8Array {
  return Uint8Array.of(value >>> 24, (value >>> 16) & 0xff, (value >>> 8) & 0xff, value & 0xff);
}

function flipLastBit(field: Uint8Array): Uint8Array {
  return Uint8Array.from(field, (byte, index) => (index === field.length - 1 ? byte ^ 1 : byte));
}

/** A key of the same kind that nobody has. */
function withOtherModulus(key: StorageKey): StorageKey {
  const { publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const modulus = Buffer.from(publicKey.export({ format: 'jwk' }).n ?? '', 'base64url');
  const other = parseStorageKey(concatBytes(key.bytes.subarray(0, -modulus.length), modulus));
  if ('problem' in other) throw new Error(`A key made for a fault switch is none: ${other.problem}`);
  return other;
}
