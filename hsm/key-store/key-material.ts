import { createPrivateKey, createSecretKey, KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { registrationIdProblem } from '../../src/core/identifiers.js';
import { ConfigurationError, HsmError } from '../../src/errors.js';
import { kindOf } from '../../src/value-kind.js';
import { checkChainOrder, checkKeyMatches, dropRepeated, readCertificates } from '../certificate-chain.js';
import { readCommonNames } from '../certificate-subject.js';
import type { NamedText } from '../private-key.js';

/** A symmetric key of a device, or a private key with its certificates: the leaf first; none while they are awaited. */
export type KeyMaterial =
  | { readonly kind: 'symmetricKey'; readonly registrationId: string; readonly key: KeyObject }
  | {
      readonly kind: 'x509';
      readonly key: KeyObject;
      readonly certificates: readonly X509Certificate[];
      /** Default: the common name of the first certificate. */
      readonly registrationId?: string;
    };

/**
 * Whether what a program gave is what its type says.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION`. Nothing of the material is repeated.
 */
export function checkMaterial(material: unknown): asserts material is KeyMaterial {
  const problem = materialProblem(material);
  if (problem === undefined) return;
  const message = `The key to store must be { kind: 'symmetricKey', registrationId, key } or { kind: 'x509', key, certificates }: ${problem}.`;
  throw new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', option: 'material', message });
}

function materialProblem(material: unknown): string | undefined {
  if (typeof material !== 'object' || material === null) return `it is ${kindOf(material)}`;
  const { kind, key, certificates, registrationId } = material as Readonly<Record<string, unknown>>;
  if (kind !== 'symmetricKey' && kind !== 'x509') return 'its kind is neither';
  const needed = kind === 'x509' ? 'private' : 'secret';
  if (!(key instanceof KeyObject) || key.type !== needed) {
    const found = key instanceof KeyObject ? `a ${key.type} key` : kindOf(key);
    return `its key must be a KeyObject of node:crypto with a ${needed} key, not ${found}`;
  }
  if (kind === 'symmetricKey' || registrationId !== undefined) {
    const problem = typeof registrationId === 'string' ? registrationIdProblem(registrationId) : kindOf(registrationId);
    if (problem !== undefined) return `its registrationId cannot be used (${problem.replace(/\.$/, '')})`;
  }
  if (kind === 'symmetricKey') return undefined;
  const isList = Array.isArray(certificates) && certificates.every((each) => each instanceof X509Certificate);
  return isList ? undefined : 'its certificates must be a list of X509Certificate of node:crypto, the leaf first';
}

/** As long as those that the service makes. */
const SYMMETRIC_KEY_BYTES = 64;

/** A new symmetric key of random bytes. */
export function makeSymmetricKey(): KeyObject {
  const bytes = randomBytes(SYMMETRIC_KEY_BYTES);
  const key = createSecretKey(bytes);
  bytes.fill(0);
  return key;
}

/**
 * Puts a private key and its certificates together.
 *
 * @throws {HsmError} when the certificates are damaged, not in order, or not those of the key.
 */
export function certificatesFor(key: KeyObject, keyPlace: string, sources: readonly NamedText[]): X509Certificate[] {
  const place = sources.map((source) => source.place).join(' and ');
  const chain = dropRepeated(sources.flatMap((source) => readCertificates(source)));
  checkKeyMatches(chain, key, place, keyPlace);
  checkChainOrder(chain, place);
  return chain;
}

/** The only common name of a certificate, `undefined` when it has none, or several. */
export function commonNameOf(certificate: X509Certificate): string | undefined {
  const names = readCommonNames(certificate.raw) ?? [];
  return names.length === 1 ? names[0] : undefined;
}

/** The bytes to seal, for the caller to wipe. */
export function exportSecret(key: KeyObject): Uint8Array {
  return key.type === 'secret' ? key.export() : key.export({ type: 'pkcs8', format: 'der' });
}

/** What `exportSecret` gave, as a key again. Wipes the bytes. */
export function importSecret(kind: KeyMaterial['kind'], bytes: Uint8Array): KeyObject {
  try {
    return kind === 'symmetricKey'
      ? createSecretKey(bytes)
      : createPrivateKey({
          key: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length),
          format: 'der',
          type: 'pkcs8',
        });
  } finally {
    bytes.fill(0);
  }
}

/** In words: `HMAC-SHA256, 64 bytes`, `EC P-256`, `RSA 2048`. */
export function describeKey(key: KeyObject): string {
  const { namedCurve, modulusLength } = key.asymmetricKeyDetails ?? {};
  if (key.type === 'secret') return `HMAC-SHA256, ${key.symmetricKeySize} bytes`;
  if (modulusLength !== undefined) return `RSA ${modulusLength}`;
  return `EC ${CURVE_NAMES[namedCurve ?? ''] ?? namedCurve ?? ''}`.trim();
}

const CURVE_NAMES: Readonly<Record<string, string>> = {
  prime256v1: 'P-256',
  secp384r1: 'P-384',
  secp521r1: 'P-521',
};

/** @throws {HsmError} `ERR_DPS_HSM_REGISTRATION_ID` when a staged key is for another device than the key in use. */
export function checkSameDevice(name: string, inUse: string | undefined, staged: string | undefined): void {
  if (inUse === staged) return;
  throw new HsmError({
    code: 'ERR_DPS_HSM_REGISTRATION_ID',
    operation: 'change entry',
    message: `The entry ${name} is for the registration id ${JSON.stringify(inUse ?? 'none')}, but the key or certificate given is for ${JSON.stringify(staged ?? 'none')}. A key is rolled for the same device; add another device as an entry of its own.`,
  });
}
