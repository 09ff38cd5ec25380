import { encodeBase64, encodeUriComponentStrict, encodeUtf8 } from './bytes.js';

/**
 * Shared access signatures, all but the HMAC itself: the key stays with whoever holds it.
 *
 * ```
 * sr  = 0ne00111111%2Fregistrations%2Fdev-1
 * sig = Base64(HMAC-SHA256(device key, "0ne00111111%2Fregistrations%2Fdev-1\n1663952627"))
 * SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fdev-1&sig=8VPp…hbuU%3D&se=1663952627&skn=registration
 * ```
 */

/** Key name (`skn`) in the tokens that DPS gets; hub tokens made with a device key carry none. */
export const DPS_KEY_NAME: string = 'registration';

/** What a DPS token is good for, percent-encoded as it is signed and sent. */
export function dpsResource(idScope: string, registrationId: string): string {
  return encodeUriComponentStrict(`${idScope}/registrations/${registrationId}`);
}

/** What a hub token is good for, percent-encoded. `hostName` as the service spelled it, with its port if it has one. */
export function hubResource(hostName: string, deviceId: string): string {
  return encodeUriComponentStrict(`${hostName}/devices/${deviceId}`);
}

/** The bytes to run HMAC-SHA256 over. `encodedResource` is what `dpsResource` or `hubResource` gave. */
export function textToSign(encodedResource: string, expirySeconds: number): Uint8Array {
  return encodeUtf8(`${encodedResource}\n${decimalSeconds(expirySeconds)}`);
}

export interface SasTokenParts {
  /** Percent-encoded, exactly as it was signed. */
  readonly resource: string;
  readonly signature: Uint8Array;
  /** Unix seconds after which the token is refused; the same number that was signed. */
  readonly expirySeconds: number;
  readonly keyName?: string;
}

/** The token as it goes into the MQTT password or the `Authorization` header. A secret until it expires. */
export function formatSasToken(parts: SasTokenParts): string {
  const signature = encodeUriComponentStrict(encodeBase64(parts.signature));
  const keyName = parts.keyName === undefined ? '' : `&skn=${encodeUriComponentStrict(parts.keyName)}`;
  return `SharedAccessSignature sr=${parts.resource}&sig=${signature}&se=${decimalSeconds(parts.expirySeconds)}${keyName}`;
}

/**
 * What is run through HMAC-SHA256 under an enrollment group's key to get one device's key. Registration ids are
 * case-insensitive but this is not, and which case the service uses is not documented: the text is taken as it is,
 * and lower case is what all of Microsoft's samples use.
 */
export function deviceKeyMessage(registrationId: string): Uint8Array {
  return encodeUtf8(registrationId);
}

/** A fraction would be signed and sent, and refused. */
function decimalSeconds(seconds: number): string {
  return Math.floor(seconds).toFixed(0);
}
