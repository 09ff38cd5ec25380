import { decodeBase64 } from './bytes.js';
import { readJsonObject, textMember } from './json-body.js';

/**
 * Recognises the challenge that DPS gives a TPM device over HTTPS in answer to a register request without a token, and
 * returns the key blob in it for the TPM to take in; `undefined` for any other reply.
 *
 * ```
 * 401  {"message":"Authorization required, resend request using supplied key","authenticationKey":"ADQAII6SXBhC…",
 *       "unencryptedAuthenticationKey":null,"keyName":"registration"}
 * ```
 *
 * Nothing but the key is asked for: Microsoft's clients differ in which of the other members they demand.
 */
export function readTpmChallenge(reply: {
  readonly status: number;
  readonly body: Uint8Array;
}): Uint8Array | undefined {
  if (reply.status !== 401) return undefined;
  const body = readJsonObject(reply.body);
  const blob = body.kind === 'object' ? decodeBase64(textMember(body.value, 'authenticationKey') ?? '') : undefined;
  return blob === undefined || blob.length === 0 ? undefined : blob;
}
