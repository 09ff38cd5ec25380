import { type DpsErrorCode, HsmError } from '../../../src/errors.js';
import { hex, TpmReader } from '../structures.js';

/** The one response size that can be known from its head: ten bytes to the largest that any TPM sends. */
const HEAD_BYTES = 10;
const MAX_RESPONSE_BYTES = 4096;

const OPERATION = 'talk to the TPM';

interface Details {
  readonly retryable?: boolean;
  readonly cause?: unknown;
}

export function linkError(code: DpsErrorCode, message: string, details: Details = {}): HsmError {
  return new HsmError({ code, message, operation: OPERATION, ...details });
}

export function timedOut(place: string, timeoutMs: number): HsmError {
  return linkError(
    'ERR_DPS_HSM_TPM_TIMEOUT',
    `The TPM at ${place} did not answer a command within ${timeoutMs} ms. Look for another program that holds it (a simulator serves one at a time and leaves others waiting), for what the kernel log says of it, or allow more time with option hsm.commandTimeoutMs.`,
    { retryable: true },
  );
}

export function linkClosed(place: string): HsmError {
  return linkError('ERR_DPS_HSM_TPM_CONNECTION_LOST', `The HSM was closed while the TPM at ${place} was at work.`);
}

export function truncated(place: string, got: number, expected: number): HsmError {
  return linkError(
    'ERR_DPS_HSM_TPM_RESPONSE',
    `The TPM at ${place} gave ${got} of ${expected} bytes of a response and no more. Try again; if it stays so, restart the TPM or what serves it.`,
    { retryable: true },
  );
}

export function garbage(place: string, what: string): HsmError {
  return linkError(
    'ERR_DPS_HSM_TPM_RESPONSE',
    `What came from ${place} is no response of a TPM 2.0: ${what}. Check that this is the right kind of link to the right port or device.`,
  );
}

/**
 * How long the response that begins with `head` is.
 *
 * @throws {HsmError} `ERR_DPS_HSM_TPM_RESPONSE` for a size that no response has.
 */
export function responseSize(head: Uint8Array, place: string): number {
  if (head.length < HEAD_BYTES)
    throw garbage(place, `it has ${head.length} bytes, and no response less than ${HEAD_BYTES}`);
  const reader = new TpmReader(head, 'the head');
  const tag = reader.u16('tag');
  const size = reader.u32('size');
  if (size >= HEAD_BYTES && size <= MAX_RESPONSE_BYTES) return size;
  throw garbage(place, `it begins with ${hex(tag, 4)} and the size ${size}`);
}

/** `errno` in letters, of an error of the system. */
export function systemCode(error: unknown): string {
  const code = (error as { readonly code?: unknown } | null)?.code;
  return typeof code === 'string' ? code : 'unknown reason';
}
