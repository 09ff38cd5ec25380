import { createPrivateKey, X509Certificate } from 'node:crypto';
import { isIP } from 'node:net';
import { systemClock } from '../system-clock.js';
import type { ServerIdentity } from './listener.js';
import { type CertificateAuthority, issueCertificate, makeAuthority } from './pki.js';

/** A self-signed authority as it is configured or stored. */
export interface StoredAuthority {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

const DAY_MS = 24 * 3_600_000;
const AUTHORITY_LIFETIME_MS = 5 * 365 * DAY_MS;

/**
 * The given authority, or the one of an earlier run while it is good for another month, or a new one.
 * A stored one that is damaged fails. Certificates live by the machine's clock, since that is what TLS goes by, whatever clock the emulator was given.
 */
export async function obtainAuthority(
  configured: StoredAuthority | undefined,
  stored: StoredAuthority | undefined,
): Promise<CertificateAuthority> {
  const found = configured ?? (stored !== undefined && isGoodFor(stored, 30 * DAY_MS) ? stored : undefined);
  if (found !== undefined) return { ...found, chainPem: '', rootPem: found.certificatePem };
  return makeAuthority({
    commonName: 'dps-device emulator CA',
    notAfterMs: systemClock.wallMs() + AUTHORITY_LIFETIME_MS,
  });
}

/** A server certificate for the loopback names and addresses and these. */
export async function makeServerIdentity(
  authority: CertificateAuthority,
  names: readonly string[],
): Promise<ServerIdentity> {
  const all = [...new Set(['localhost', '127.0.0.1', '::1', ...names])];
  const issued = await issueCertificate(authority, {
    commonName: 'localhost',
    usage: 'server',
    dnsNames: all.filter((name) => isIP(name) === 0),
    ipAddresses: all.filter((name) => isIP(name) !== 0),
  });
  return { certificateChainPem: issued.chainPem, privateKeyPem: issued.privateKeyPem };
}

function isGoodFor(authority: StoredAuthority, timeMs: number): boolean {
  const certificate = new X509Certificate(authority.certificatePem);
  if (!certificate.ca || !certificate.checkPrivateKey(createPrivateKey(authority.privateKeyPem))) {
    throw new Error('The stored certificate authority does not fit its key.');
  }
  return Date.parse(certificate.validTo) > systemClock.wallMs() + timeMs;
}
