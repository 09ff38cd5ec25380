import { ProtocolError } from '../../errors.js';
import { concatBytes, encodeUtf8, toHex } from '../bytes.js';

/**
 * SASL mechanism `TPM` of DPS. Each step is a frame; every field begins with a control byte.
 *
 * ```
 * C: init       00 {scope} 00 {registration id} 00 {endorsement key}
 * S: challenge  00
 * C: response   00 {storage root key}
 * S: challenge  80 {first part of the key blob}
 * C: response   00
 * S: challenge  C1 {rest of the key blob}
 * C: response   00 {SAS token}
 * S: outcome
 * ```
 *
 * Bit 7 of the server's control byte says that data follows, bit 6 that it is the last segment; bits 1 and 0 count from 0.
 */

/** The service's parts of its blobs have under 512 bytes; the blob has some 920. */
const MAX_BLOB_BYTES = 16 * 1024;

const HAS_DATA = 0x80;
const IS_LAST = 0x40;
const SEQUENCE = 0x03;

/** What the client presents itself with. */
export function saslTpmInit(idScope: string, registrationId: string, endorsementKey: Uint8Array): Uint8Array {
  const nul = Uint8Array.of(0);
  return concatBytes(nul, encodeUtf8(idScope), nul, encodeUtf8(registrationId), nul, endorsementKey);
}

/** The answer to the challenge: a token that is signed with the key in it. */
export function saslTpmToken(token: string): Uint8Array {
  return concatBytes(Uint8Array.of(0), encodeUtf8(token));
}

/** A key blob on its way, from `SASL_TPM_START` on. */
export interface SaslTpmProgress {
  /** Whether the storage root key has been sent. */
  readonly isPresented: boolean;
  readonly parts: readonly Uint8Array[];
  readonly byteCount: number;
}

export const SASL_TPM_START: SaslTpmProgress = { isPresented: false, parts: [], byteCount: 0 };

/** After the whole blob: any further challenge is one too many. */
export const SASL_TPM_END: SaslTpmProgress = { isPresented: true, parts: [], byteCount: MAX_BLOB_BYTES };

/** What follows from a challenge: an answer to give at once, or the whole key blob, whose answer is a token. */
export type SaslTpmStep =
  | { readonly kind: 'respond'; readonly response: Uint8Array; readonly progress: SaslTpmProgress }
  | { readonly kind: 'blob'; readonly blob: Uint8Array };

/**
 * Takes the next challenge of the server.
 *
 * @throws ProtocolError `ERR_DPS_PROTOCOL_AMQP` when it is none of this mechanism, or out of sequence.
 */
export function stepSaslTpm(progress: SaslTpmProgress, challenge: Uint8Array, storageRootKey: Uint8Array): SaslTpmStep {
  const [control = 0] = challenge;
  const nul = Uint8Array.of(0);
  if (challenge.length === 1 && (control & HAS_DATA) === 0 && !progress.isPresented) {
    const response = concatBytes(nul, storageRootKey);
    return { kind: 'respond', response, progress: { ...progress, isPresented: true } };
  }
  const part = challenge.subarray(1);
  const byteCount = progress.byteCount + part.length;
  const isInSequence = (control & SEQUENCE) === (progress.parts.length & SEQUENCE);
  if ((control & HAS_DATA) === 0 || part.length === 0 || !isInSequence || byteCount > MAX_BLOB_BYTES) {
    throw malformed(progress, challenge);
  }
  const parts = [...progress.parts, part];
  return (control & IS_LAST) === 0
    ? { kind: 'respond', response: nul, progress: { isPresented: true, parts, byteCount } }
    : { kind: 'blob', blob: concatBytes(...parts) };
}

function malformed({ parts }: SaslTpmProgress, challenge: Uint8Array): ProtocolError {
  const expected = `segment ${parts.length} of the key blob, of at most ${MAX_BLOB_BYTES} bytes in all`;
  const got = `${challenge.length} bytes with control byte ${toHex(challenge.subarray(0, 1)) || 'missing'}`;
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_AMQP',
    message: `DPS sent a SASL TPM challenge that is not as it should be. Expected ${expected}; got ${got}. Check that the endpoint is a DPS.`,
    expected,
    got,
  });
}
