/** The SASL layer on the server's side: PLAIN, the provisioning service's own mechanism TPM, and the hubs' MSSBCBS. */
import { concatBytes, decodeUtf8 } from '../core/bytes.js';
import type { SaslFrame } from './amqp-frames.js';

/** What the SASL layer found out about the client. */
export type SaslIdentity =
  | { readonly kind: 'plain'; readonly user: string; readonly password: string }
  | { readonly kind: 'tpm'; readonly idScope: string; readonly registrationId: string; readonly token: string }
  /** The client proves itself later, with a token to `$cbs`. */
  | { readonly kind: 'anonymous' };

/** A TPM asks for a key to sign a token with. */
export interface TpmOpening {
  readonly idScope: string;
  readonly registrationId: string;
  readonly endorsementKey: Uint8Array;
}

export const SASL_MECHANISMS: readonly string[] = ['PLAIN', 'TPM', 'MSSBCBS'];

/** What the server does next. */
export type SaslMove =
  | { readonly kind: 'challenge'; readonly bytes: Uint8Array }
  /** The key blob is wanted; `sendKey` continues. */
  | { readonly kind: 'wrapKey'; readonly opening: TpmOpening; readonly storageRootKey: Uint8Array }
  | { readonly kind: 'verify'; readonly identity: SaslIdentity }
  | { readonly kind: 'refuse'; readonly reason: string };

/** A segment that more segments follow, and the second one, the last. The C# client verifies the sequence in the low bits. */
const FIRST_SEGMENT = 0x80;
const LAST_SEGMENT = 0xc1;

/**
 * One client's way through the SASL layer.
 *
 * TPM, each step a frame:
 * ```
 * C init       00 {scope} 00 {registration id} 00 {EK}
 * S challenge  00
 * C response   00 {SRK}
 * S challenge  80 {first half of the key blob}
 * C response   00
 * S challenge  C1 {second half}
 * C response   00 {SAS token}
 * ```
 * Always two segments, because Microsoft's Java client takes nothing else; and because no SASL frame may have more than
 * 512 bytes.
 */
export class SaslDialogue {
  #onResponse: ((response: Uint8Array) => SaslMove) | undefined;
  #opening: TpmOpening | undefined;

  next(frame: SaslFrame): SaslMove {
    if (frame.kind === 'init' && this.#opening === undefined && this.#onResponse === undefined)
      return this.#begin(frame);
    const onResponse = this.#onResponse;
    this.#onResponse = undefined;
    if (frame.kind === 'init' || onResponse === undefined) return refuse('a SASL frame is out of place');
    return onResponse(frame.response);
  }

  /** Continues after `wrapKey`. */
  sendKey(blob: Uint8Array): SaslMove {
    const half = Math.ceil(blob.length / 2);
    this.#onResponse = () => {
      this.#onResponse = (response) => this.#takeToken(response);
      return { kind: 'challenge', bytes: concatBytes(Uint8Array.of(LAST_SEGMENT), blob.subarray(half)) };
    };
    return { kind: 'challenge', bytes: concatBytes(Uint8Array.of(FIRST_SEGMENT), blob.subarray(0, half)) };
  }

  #begin({ mechanism, response }: Extract<SaslFrame, { kind: 'init' }>): SaslMove {
    switch (mechanism) {
      case 'PLAIN':
        return readPlain(response);
      case 'TPM':
        return this.#beginTpm(response);
      case 'MSSBCBS':
        return { kind: 'verify', identity: { kind: 'anonymous' } };
      default:
        return refuse('a SASL mechanism that was not offered');
    }
  }

  #beginTpm(response: Uint8Array): SaslMove {
    const opening = readOpening(response);
    if (opening === undefined) return refuse('the opening of SASL TPM is malformed');
    this.#opening = opening;
    this.#onResponse = (storageRootKey) => ({
      kind: 'wrapKey',
      opening,
      storageRootKey: storageRootKey.subarray(1),
    });
    return { kind: 'challenge', bytes: Uint8Array.of(0) };
  }

  #takeToken(response: Uint8Array): SaslMove {
    const { idScope, registrationId } = this.#opening ?? { idScope: '', registrationId: '' };
    const token = decodeUtf8(response.subarray(1)) ?? '';
    return { kind: 'verify', identity: { kind: 'tpm', idScope, registrationId, token } };
  }
}

/** RFC 4616: `{authorization id} 00 {authentication id} 00 {password}`. */
function readPlain(response: Uint8Array): SaslMove {
  const [authorizationId, user, password, ...more] = (decodeUtf8(response) ?? '').split('\0');
  if (authorizationId !== '' || user === undefined || password === undefined || more.length > 0) {
    return refuse('the SASL PLAIN response is malformed');
  }
  return { kind: 'verify', identity: { kind: 'plain', user, password } };
}

/** The first byte is a control byte, of which the clients' bits differ. */
function readOpening(response: Uint8Array): TpmOpening | undefined {
  const scopeEnd = response.indexOf(0, 1);
  const idEnd = response.indexOf(0, scopeEnd + 1);
  if (scopeEnd < 0 || idEnd < 0) return undefined;
  const idScope = decodeUtf8(response.subarray(1, scopeEnd));
  const registrationId = decodeUtf8(response.subarray(scopeEnd + 1, idEnd));
  if (!idScope || !registrationId) return undefined;
  return { idScope, registrationId, endorsementKey: response.subarray(idEnd + 1) };
}

function refuse(reason: string): SaslMove {
  return { kind: 'refuse', reason };
}
