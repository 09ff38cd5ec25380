import {
  type KeyedHashPublic,
  nameOf,
  OBJECT_ATTRIBUTE,
  readTpmtPublic,
  TPM_ALG,
  TpmFormatError,
  TpmReader,
} from './structures.js';

/**
 * `authenticationKey` of the service, for the nonce as for the hub key: an HMAC key that only the TPM with both EK and
 * SRK can take in. Each part is the inside of its `TPM2B`.
 *
 * ```
 * 1 TPM2B_ID_OBJECT          54   inner key, sealed to (EK, name of the SRK)
 * 2 TPM2B_ENCRYPTED_SECRET  258   its seed, encrypted to the EK
 * 3 TPM2B_PRIVATE           144   the key, wrapped twice
 * 4 TPM2B_ENCRYPTED_SECRET  258   the seed of the outer wrap, encrypted to the SRK
 * 5 TPM2B_PUBLIC             50   the key's public area
 * 6 TPM2B_DATA            2 + n   a text for the device, encrypted; nothing here asks for it
 * ```
 */
export interface ActivationBlob {
  readonly credential: Uint8Array;
  readonly credentialSecret: Uint8Array;
  readonly duplicate: Uint8Array;
  readonly duplicateSeed: Uint8Array;
  readonly publicArea: Uint8Array;
  /** Of the key inside. */
  readonly name: Uint8Array;
}

/** @throws {TpmFormatError} when a field is missing, cut short or followed by others, or the key is no HMAC-SHA256 key. */
export function readActivationBlob(bytes: Uint8Array): ActivationBlob {
  const reader = new TpmReader(bytes, 'the key from the service');
  const credential = reader.tpm2b('field 1 (credential)');
  const credentialSecret = reader.tpm2b('field 2 (credential secret)');
  const duplicate = reader.tpm2b('field 3 (duplicated key)');
  const duplicateSeed = reader.tpm2b('field 4 (seed)');
  const publicArea = reader.tpm2b('field 5 (public area)');
  reader.tpm2b('field 6 (device data)');
  reader.end();
  if (!isHmacKey(publicArea)) throw new TpmFormatError('field 5 of the key from the service is no HMAC-SHA256 key');
  return { credential, credentialSecret, duplicate, duplicateSeed, publicArea, name: nameOf(publicArea) };
}

/** Whether a key with this `TPMT_PUBLIC` can be a device's identity. */
export function isHmacKey(publicArea: Uint8Array): boolean {
  const key = readTpmtPublic(publicArea, 'a public area');
  return key.type === 'keyedHash' && key.nameAlg === TPM_ALG.SHA256 && signsHmacSha256(key);
}

function signsHmacSha256({ scheme, hash, attributes }: KeyedHashPublic): boolean {
  return scheme === TPM_ALG.HMAC && hash === TPM_ALG.SHA256 && (attributes & OBJECT_ATTRIBUTE.sign) !== 0;
}
