import { X509Certificate } from 'node:crypto';

/** Where a walk up a presented chain ended. */
export type ChainVerdict<T> =
  | { readonly match: T }
  /** `reason` says for the log what is wrong; the service's message for it is `message`. */
  | { readonly message: 'Invalid certificate.' | 'CA certificate not found'; readonly reason: string };

/** Longest chain that is looked at. */
const MAX_CHAIN_LENGTH = 10;

/** Reads DER certificates as they came out of the handshake; one that cannot be read ends the chain. */
export function readChain(chain: readonly Uint8Array[]): readonly X509Certificate[] {
  const certificates: X509Certificate[] = [];
  for (const der of chain.slice(0, MAX_CHAIN_LENGTH)) {
    try {
      certificates.push(new X509Certificate(der));
    } catch {
      break;
    }
  }
  return certificates;
}

/** The subject's common name, if it has exactly one. */
export function commonNameOf(certificate: X509Certificate): string | undefined {
  const name: unknown = certificate.toLegacyObject().subject?.CN;
  return typeof name === 'string' && name !== '' ? name : undefined;
}

/** Lower-case hex of the SHA-256 over the DER. */
export function thumbprintOf(certificate: X509Certificate): string {
  return certificate.fingerprint256.replaceAll(':', '').toLowerCase();
}

/** Why the certificate is not in force at this time, or `undefined`. */
export function datesProblem(certificate: X509Certificate, atMs: number): string | undefined {
  const subject = describe(certificate);
  if (atMs < Date.parse(certificate.validFrom)) return `${subject} is not valid before ${certificate.validFrom}`;
  if (atMs > Date.parse(certificate.validTo)) return `${subject} expired ${certificate.validTo}`;
  return undefined;
}

/**
 * Walks from the leaf towards the root: first every candidate that may have issued the certificate in hand, then the
 * next presented certificate that did. The first candidate met wins, enabled or not.
 */
export function findIssuer<T>(
  chain: readonly X509Certificate[],
  candidates: readonly { readonly authority: X509Certificate; readonly value: T }[],
  atMs: number,
): ChainVerdict<T> {
  let current = chain[0];
  if (current === undefined) return { message: 'Invalid certificate.', reason: 'no certificate was presented' };
  const rest = new Set(chain.slice(1));
  for (let depth = 0; depth < MAX_CHAIN_LENGTH; depth += 1) {
    const problem = datesProblem(current, atMs);
    if (problem !== undefined) return { message: 'Invalid certificate.', reason: problem };
    const subject: X509Certificate = current;
    const found = candidates.find((candidate) => hasIssued(candidate.authority, subject));
    if (found !== undefined) return accept(found.authority, found.value, atMs);
    const next = [...rest].find((candidate) => hasIssued(candidate, subject));
    if (next === undefined) break;
    rest.delete(next);
    current = next;
  }
  return {
    message: 'CA certificate not found',
    reason: `no enrolled CA issued ${describe(current)}; is an intermediate missing from the presented chain?`,
  };
}

function accept<T>(authority: X509Certificate, value: T, atMs: number): ChainVerdict<T> {
  const problem = datesProblem(authority, atMs);
  return problem === undefined ? { match: value } : { message: 'Invalid certificate.', reason: problem };
}

/** A CA by its own basic constraints, named as issuer, whose key verifies the signature. */
function hasIssued(authority: X509Certificate, subject: X509Certificate): boolean {
  if (!authority.ca || authority.raw.equals(subject.raw)) return false;
  try {
    return subject.checkIssued(authority) && subject.verify(authority.publicKey);
  } catch {
    return false;
  }
}

function describe(certificate: X509Certificate): string {
  return `the certificate of ${JSON.stringify(certificate.subject)}`;
}
