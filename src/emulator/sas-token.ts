import { createHmac, timingSafeEqual } from 'node:crypto';
import { decodeBase64, decodePercent } from '../core/bytes.js';

/** Clients' clocks may be this far off before their tokens count as expired. */
export const SAS_SKEW_MS: number = 5 * 60 * 1000;

/** A shared access signature as it was received. */
export interface SasToken {
  /** The `sr` value literally as received: encoded, half encoded or raw. The signature covers this text. */
  readonly resource: string;
  readonly signature: Uint8Array;
  /** The `se` value literally as received. */
  readonly expiry: string;
  readonly expiresAtMs: number;
}

/**
 * Reads `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`, parameters in any order; `skn` means nothing to a device token.
 *
 * @returns `undefined` when a part is missing, given twice or malformed.
 */
export function parseSasToken(text: string): SasToken | undefined {
  const match = /^SharedAccessSignature +(\S+)$/i.exec(text);
  const fields = readFields(match?.[1] ?? '');
  const resource = fields?.get('sr');
  const signatureText = fields?.get('sig');
  const expiry = fields?.get('se');
  if (resource === undefined || signatureText === undefined || expiry === undefined) return undefined;
  if (!/^\d{1,12}$/.test(expiry)) return undefined;
  const signature = decodeBase64(decodePercent(signatureText) ?? '');
  if (signature === undefined || signature.length === 0) return undefined;
  return { resource, signature, expiry, expiresAtMs: Number(expiry) * 1000 };
}

/** Whether `sr` names this resource, compared decoded; `ignoreCase` because some clients lower-case all of it. */
export function namesResource(token: SasToken, resource: string, ignoreCase: boolean): boolean {
  const decoded = decodePercent(token.resource);
  if (decoded === undefined) return false;
  return ignoreCase ? decoded.toLowerCase() === resource.toLowerCase() : decoded === resource;
}

/** HMAC-SHA256 over `{sr}\n{se}`, both exactly as received, under a Base64 key. */
export function isSignedBy(token: SasToken, keyBase64: string): boolean {
  const expected = hmac(keyBase64, `${token.resource}\n${token.expiry}`);
  return (
    expected !== undefined && expected.length === token.signature.length && timingSafeEqual(expected, token.signature)
  );
}

export function isExpired(token: SasToken, atMs: number): boolean {
  return token.expiresAtMs + SAS_SKEW_MS < atMs;
}

/** The key of one device of a symmetric-key group: HMAC-SHA256 of the registration id under the group key, Base64. */
export function deriveDeviceKey(groupKeyBase64: string, registrationId: string): string {
  const key = hmac(groupKeyBase64, registrationId);
  return key === undefined ? '' : key.toString('base64');
}

function hmac(keyBase64: string, text: string): Buffer | undefined {
  const key = decodeBase64(keyBase64);
  return key === undefined || key.length === 0 ? undefined : createHmac('sha256', key).update(text, 'utf8').digest();
}

function readFields(text: string): Map<string, string> | undefined {
  const fields = new Map<string, string>();
  for (const part of text.split('&')) {
    const equals = part.indexOf('=');
    if (equals < 1) return undefined;
    const key = part.slice(0, equals);
    if (fields.has(key)) return undefined;
    fields.set(key, part.slice(equals + 1));
  }
  return fields;
}
