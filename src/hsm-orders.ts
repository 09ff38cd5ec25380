import type { Hsm } from './core/attestation.js';
import { decodeBase64 } from './core/bytes.js';
import type { TokenOrder } from './core/registration.js';
import { formatSasToken, textToSign } from './core/sas.js';
import type { DpsCredential } from './core/transport.js';
import { ProtocolError } from './errors.js';
import { askHsm, checkedSignature, checkedTlsCredential } from './hsm-answers.js';

/** What the machine orders from an HSM. Whatever goes wrong in it is an `HsmError`. */

/** The credential for DPS: a certificate; a token where one is ordered; or a TPM's public keys. */
export function makeCredential(
  hsm: Hsm,
  slot: number,
  token: TokenOrder | undefined,
  signal: AbortSignal,
): Promise<DpsCredential> {
  return askHsm('sign', () => credentialOf(hsm, slot, token, signal));
}

export function activateChallenge(hsm: Hsm, authenticationKey: Uint8Array, signal: AbortSignal): Promise<void> {
  return askHsm('activate challenge', () => asTpm(hsm).activate(authenticationKey, signal));
}

/**
 * @param authenticationKey Base64, as the service sent it.
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_BODY` when it is not Base64.
 */
export async function stageIdentity(hsm: Hsm, authenticationKey: string, signal: AbortSignal): Promise<void> {
  const blob = decodeBase64(authenticationKey);
  if (blob === undefined) {
    throw new ProtocolError({
      code: 'ERR_DPS_PROTOCOL_BODY',
      message: 'The service assigned the device, but registrationState.tpm.authenticationKey is not Base64.',
      expected: 'Base64',
      got: `${authenticationKey.length} other characters`,
    });
  }
  await askHsm('stage hub identity', () => asTpm(hsm).stage(blob, signal));
}

/** Tells the HSM that the hub has taken the device. */
export function commitIdentity(hsm: Hsm, slot: number, signal: AbortSignal): Promise<void> {
  return askHsm('commit identity', async () => {
    if (hsm.kind === 'tpm') await hsm.commit(signal);
    else await hsm.accepted?.(slot, signal);
  });
}

async function credentialOf(
  hsm: Hsm,
  slot: number,
  token: TokenOrder | undefined,
  signal: AbortSignal,
): Promise<DpsCredential> {
  if (hsm.kind === 'x509') return { kind: 'x509', tls: checkedTlsCredential(await hsm.tlsCredential(slot, signal)) };
  const sas =
    token === undefined
      ? undefined
      : formatSasToken({
          resource: token.resource,
          signature: checkedSignature(await hsm.sign(textToSign(token.resource, token.expirySeconds), slot, signal)),
          expirySeconds: token.expirySeconds,
          keyName: 'registration',
        });
  if (hsm.kind === 'tpm')
    return { kind: 'tpm', ...(await hsm.endorsement(signal)), ...(sas === undefined ? {} : { token: sas }) };
  if (sas === undefined) throw new TypeError('A symmetric key needs a token order');
  return { kind: 'sas', token: sas };
}

function asTpm(hsm: Hsm): Extract<Hsm, { kind: 'tpm' }> {
  if (hsm.kind !== 'tpm') throw new TypeError(`A TPM order for an HSM of kind ${hsm.kind}`);
  return hsm;
}
