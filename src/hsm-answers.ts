import type { TlsClientCredential } from './core/attestation.js';
import { wordsOf } from './core/thrown-words.js';
import { HsmError, isDpsError } from './errors.js';
import { kindOf } from './value-kind.js';

/** An HSM of the application's own may throw anything, and what it hands out is looked at before it is used. */

const HMAC_SHA256_BYTES = 32;

/**
 * A token with anything else in it comes back from the service as "wrong key", which nobody would look for here.
 *
 * @throws {HsmError} `ERR_DPS_HSM_OPERATION` for what is not the 32 bytes of an HMAC-SHA256.
 */
export function checkedSignature(signature: unknown): Uint8Array {
  if (signature instanceof Uint8Array && signature.length === HMAC_SHA256_BYTES) return signature;
  const got = signature instanceof Uint8Array ? `${signature.length} bytes` : kindOf(signature);
  throw wrongAnswer(
    'sign',
    `sign() of the HSM must give the ${HMAC_SHA256_BYTES} bytes of an HMAC-SHA256 as a Uint8Array, not ${got}.`,
  );
}

/** @throws {HsmError} `ERR_DPS_HSM_OPERATION` for what is not certificate chain and key as texts. */
export function checkedTlsCredential(credential: unknown): TlsClientCredential {
  const operation = 'load the certificate';
  if (typeof credential !== 'object' || credential === null || Array.isArray(credential)) {
    const message = `tlsCredential() of the HSM must give { certificateChainPem, privateKeyPem }, not ${kindOf(credential)}.`;
    throw wrongAnswer(operation, message);
  }
  const { certificateChainPem, privateKeyPem, passphrase } = credential as Readonly<Record<string, unknown>>;
  const members = Object.entries({ certificateChainPem, privateKeyPem, passphrase: passphrase ?? '' });
  const [wrong] = members.filter(([, value]) => typeof value !== 'string');
  if (wrong === undefined) return credential as TlsClientCredential;
  const [name, value] = wrong;
  const message = `${name} of what tlsCredential() of the HSM gives must be a text, not ${kindOf(value)}.`;
  throw wrongAnswer(operation, message);
}

/** @throws {HsmError} `ERR_DPS_HSM_OPERATION` for what is not text. */
export function checkedExportedKey(key: unknown): string {
  if (typeof key === 'string' && key !== '') return key;
  const got = key === '' ? 'an empty text' : kindOf(key);
  throw wrongAnswer('export the key', `exportKey() of the HSM must give the device key as Base64 text, not ${got}.`);
}

/**
 * Asks an HSM for something that it may fail to do.
 *
 * @throws {HsmError} `ERR_DPS_HSM_OPERATION` for whatever it throws that is no error of this package.
 */
export async function askHsm<T>(operation: string, ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    throw hsmFailure(error, operation);
  }
}

/** What an HSM threw, as the error that leaves this package; the original is its cause. */
export function hsmFailure(error: unknown, operation: string): Error {
  if (isDpsError(error)) return error;
  return new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    message: `The HSM failed to ${operation}: ${wordsOf(error)}`,
    operation,
    cause: error,
  });
}

function wrongAnswer(operation: string, message: string): HsmError {
  return new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message, operation });
}
