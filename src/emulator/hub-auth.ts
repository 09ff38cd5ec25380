import { createHash } from 'node:crypto';
import { toHex } from '../core/bytes.js';
import { isExpired, isSignedBy, namesResource, parseSasToken } from './sas-token.js';
import type { HubAuthentication } from './verify.js';

/** A live connection is dropped this long after its token expired. */
export const LIVE_TOKEN_GRACE_MS: number = 10 * 60 * 1000;

/** What a device shows its hub. */
export interface HubCredential {
  readonly token: string | undefined;
  /** DER of the TLS client certificate. */
  readonly certificate: Uint8Array | undefined;
}

export type HubVerdict =
  /** `tokenExpiresAtMs` is `undefined` for certificates. */
  | { readonly isAdmitted: true; readonly tokenExpiresAtMs: number | undefined }
  /** `reason` is for the log: every refusal looks alike on the wire. */
  | { readonly isAdmitted: false; readonly reason: string };

/** Whether the credential proves the device. `host` is the hub's name as the device spelled it in its user name. */
export function verifyHubCredential(
  authentication: HubAuthentication,
  credential: HubCredential,
  resource: { readonly host: string; readonly deviceId: string },
  atMs: number,
): HubVerdict {
  return authentication.type === 'sas'
    ? verifyToken(authentication, credential, resource, atMs)
    : verifyThumbprint(authentication, credential);
}

function verifyToken(
  keys: Extract<HubAuthentication, { type: 'sas' }>,
  credential: HubCredential,
  resource: { readonly host: string; readonly deviceId: string },
  atMs: number,
): HubVerdict {
  if (credential.token === undefined) return refused('the device is registered with keys, no SAS token was presented');
  const token = parseSasToken(credential.token);
  if (token === undefined) return refused('the SAS token is malformed');
  if (!isSignedBy(token, keys.primaryKey) && !isSignedBy(token, keys.secondaryKey)) {
    return refused('the SAS token is signed with another key');
  }
  const { host, deviceId } = resource;
  // Host names ignore case, device ids do not.
  const spellings = [host, host.toLowerCase()].map((name) => `${name}/devices/${deviceId}`);
  if (!spellings.some((spelling) => namesResource(token, spelling, false))) {
    return refused('the SAS token is for another resource');
  }
  if (isExpired(token, atMs)) return refused(`the SAS token expired at ${new Date(token.expiresAtMs).toISOString()}`);
  return { isAdmitted: true, tokenExpiresAtMs: token.expiresAtMs };
}

function verifyThumbprint(
  thumbprints: Extract<HubAuthentication, { type: 'selfSigned' }>,
  credential: HubCredential,
): HubVerdict {
  if (credential.token !== undefined) return refused('the device is registered with a certificate, not with keys');
  const { certificate } = credential;
  if (certificate === undefined) return refused('no client certificate was presented');
  const known = [thumbprints.primaryThumbprint, thumbprints.secondaryThumbprint].map((text) => text?.toLowerCase());
  const presented = ['sha256', 'sha1'].map((hash) => toHex(createHash(hash).update(certificate).digest()));
  return presented.some((thumbprint) => known.includes(thumbprint))
    ? { isAdmitted: true, tokenExpiresAtMs: undefined }
    : refused('the client certificate has another thumbprint than the registered one');
}

function refused(reason: string): HubVerdict {
  return { isAdmitted: false, reason };
}
