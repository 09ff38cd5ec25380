import { createHash, type X509Certificate } from 'node:crypto';
import type { EntryLabel, HeldKey } from './entry.js';
import { commonNameOf, type KeyMaterial } from './key-material.js';

/** What may be told of a certificate. */
export interface CertificateSummary {
  readonly commonName: string | undefined;
  /** As OpenSSL writes names, one part a line. */
  readonly issuer: string;
  readonly notBefore: string;
  readonly notAfter: string;
  /** Upper-case hex without colons, as the service's thumbprints. */
  readonly sha256: string;
  readonly sha1: string;
  /** How many certificates there are, this one included. */
  readonly chainLength: number;
}

export interface KeySummary {
  readonly id: string;
  /** `HMAC-SHA256, 64 bytes`, `EC P-256`, `RSA 2048`. */
  readonly algorithm: string;
  /** Absent for a symmetric key, and while a certificate is awaited. */
  readonly certificate?: CertificateSummary;
}

/** What may be told of an entry: nothing in it is secret. */
export interface EntrySummary {
  readonly name: string;
  readonly kind: KeyMaterial['kind'];
  readonly registrationId: string | undefined;
  readonly current: KeySummary;
  readonly staged: KeySummary | undefined;
}

export function summarizeEntry({ name, kind, registrationId, current, staged }: EntryLabel): EntrySummary {
  return {
    name,
    kind,
    registrationId,
    current: summarizeKey(current),
    staged: staged === undefined ? undefined : summarizeKey(staged),
  };
}

function summarizeKey({ id, algorithm, certificates }: HeldKey): KeySummary {
  const [leaf] = certificates;
  if (leaf === undefined) return { id, algorithm };
  return { id, algorithm, certificate: summarizeCertificate(leaf, certificates.length) };
}

function summarizeCertificate(certificate: X509Certificate, chainLength: number): CertificateSummary {
  return {
    commonName: commonNameOf(certificate),
    issuer: certificate.issuer ?? '',
    notBefore: new Date(certificate.validFrom).toISOString(),
    notAfter: new Date(certificate.validTo).toISOString(),
    sha256: thumbprint('sha256', certificate),
    sha1: thumbprint('sha1', certificate),
    chainLength,
  };
}

function thumbprint(hash: 'sha1' | 'sha256', certificate: X509Certificate): string {
  return createHash(hash).update(certificate.raw).digest('hex').toUpperCase();
}
