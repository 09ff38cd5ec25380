import { createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';
import { concatBytes, encodeUtf8 } from '../../src/core/bytes.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { unlessCancelled } from '../../src/core/cancellation.js';
import { DER_CONTEXT_0, DER_OBJECT_IDENTIFIER, DER_SEQUENCE, DER_SET, DER_UTF8_STRING } from '../der.js';
import { formatPem } from '../pem.js';

/** The kinds of private keys made here. RSA takes a second on a small machine; EC does not. */
export type PrivateKeyAlgorithm = 'ec-p256' | 'ec-p384' | 'rsa-2048';

const makeKeyPair = promisify(generateKeyPair);

export function makePrivateKey(algorithm: PrivateKeyAlgorithm, signal?: CancelSignal): Promise<KeyObject> {
  return unlessCancelled(signal, 'making a private key', async () => {
    switch (algorithm) {
      case 'ec-p256':
        return (await makeKeyPair('ec', { namedCurve: 'P-256' })).privateKey;
      case 'ec-p384':
        return (await makeKeyPair('ec', { namedCurve: 'P-384' })).privateKey;
      case 'rsa-2048':
        return (await makeKeyPair('rsa', { modulusLength: 2048 })).privateKey;
    }
  });
}

/**
 * A request for a certificate with one common name, as PEM: what leaves the device instead of its private key.
 *
 * @see RFC 2986 (PKCS#10), RFC 5758 (ECDSA), RFC 4055 (RSA)
 */
export function makeSigningRequest(key: KeyObject, commonName: string): string {
  const name = der(
    DER_SEQUENCE,
    der(DER_SET, der(DER_SEQUENCE, COMMON_NAME, der(DER_UTF8_STRING, encodeUtf8(commonName)))),
  );
  const publicKey = createPublicKey(key).export({ type: 'spki', format: 'der' });
  const information = der(DER_SEQUENCE, VERSION_1, name, publicKey, der(DER_CONTEXT_0));
  const { hash, algorithm } = signatureOf(key);
  // A bit string begins with how many bits of its last byte do not count.
  const signature = der(DER_BIT_STRING, Uint8Array.of(0), sign(hash, information, key));
  return formatPem('CERTIFICATE REQUEST', der(DER_SEQUENCE, information, algorithm, signature));
}

const DER_INTEGER = 0x02;
const DER_BIT_STRING = 0x03;
const DER_NULL = 0x05;

const VERSION_1 = der(DER_INTEGER, Uint8Array.of(0));
/** 2.5.4.3, id-at-commonName. */
const COMMON_NAME = objectIdentifier(0x55, 0x04, 0x03);
/** 1.2.840.10045.4.3.2 */
const ECDSA_WITH_SHA256 = der(DER_SEQUENCE, objectIdentifier(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02));
/** 1.2.840.10045.4.3.3 */
const ECDSA_WITH_SHA384 = der(DER_SEQUENCE, objectIdentifier(0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03));
/** 1.2.840.113549.1.1.11, with the NULL that RFC 4055 asks for. */
const RSA_WITH_SHA256 = der(
  DER_SEQUENCE,
  objectIdentifier(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b),
  der(DER_NULL),
);

/** SHA-384 for the larger curves, else SHA-256. */
function signatureOf(key: KeyObject): { readonly hash: string; readonly algorithm: Uint8Array } {
  if (key.asymmetricKeyType === 'rsa') return { hash: 'sha256', algorithm: RSA_WITH_SHA256 };
  return key.asymmetricKeyDetails?.namedCurve === 'prime256v1'
    ? { hash: 'sha256', algorithm: ECDSA_WITH_SHA256 }
    : { hash: 'sha384', algorithm: ECDSA_WITH_SHA384 };
}

function objectIdentifier(...content: readonly number[]): Uint8Array {
  return der(DER_OBJECT_IDENTIFIER, Uint8Array.from(content));
}

function der(tag: number, ...contents: readonly Uint8Array[]): Uint8Array {
  const content = concatBytes(...contents);
  return concatBytes(Uint8Array.of(tag, ...derLength(content.length)), content);
}

function derLength(length: number): number[] {
  if (length < 0x80) return [length];
  const bytes: number[] = [];
  for (let rest = length; rest > 0; rest >>= 8) bytes.unshift(rest & 0xff);
  return [0x80 | bytes.length, ...bytes];
}
