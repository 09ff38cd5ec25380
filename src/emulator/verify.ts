/** Decides, as the provisioning service does, which enrollment a device's credential belongs to. Time is an input. */
import type { X509Certificate } from 'node:crypto';
import { equalBytes } from '../core/bytes.js';
import {
  type ChainVerdict,
  commonNameOf,
  datesProblem,
  findIssuer,
  readChain,
  thumbprintOf,
} from './certificate-chain.js';
import type { EnrollmentEntry } from './enrollment.js';
import { deriveDeviceKey, isExpired, isSignedBy, namesResource, parseSasToken, type SasToken } from './sas-token.js';
import type { TpmKeys } from './tpm-activation.js';
import type { IssuedChallenge } from './tpm-challenges.js';
import type { StorageKey } from './tpm-storage-key.js';

/** What a device showed. */
export type PresentedCredential =
  /** `presentedAtMs`: when expiry is judged. MQTT proves identity once per connection, HTTPS with every request. */
  | { readonly kind: 'sas'; readonly token: string; readonly presentedAtMs: number }
  /** DER from the TLS handshake, leaf first. The handshake has proved possession of the leaf's key, nothing else. */
  | { readonly kind: 'x509'; readonly chain: readonly Uint8Array[] }
  | { readonly kind: 'none' };

/** How the device will prove itself to its hub: with the same secret it used here. */
export type HubAuthentication =
  | { readonly type: 'sas'; readonly primaryKey: string; readonly secondaryKey: string }
  /** SHA-256 thumbprints in lower-case hex; the hub takes SHA-1 ones too. */
  | { readonly type: 'selfSigned'; readonly primaryThumbprint: string; readonly secondaryThumbprint?: string };

/** How an admitted device will prove itself to its hub. A TPM gets a key of its own, wrapped for it. */
export type AdmittedAuthentication = HubAuthentication | { readonly type: 'tpm'; readonly keys: TpmKeys };

export type Verdict =
  /** A TPM that nobody has enrolled is told so by the end of its operation only: it has no entry. */
  | { readonly entry: EnrollmentEntry | undefined; readonly authentication: AdmittedAuthentication }
  /** `message` goes to the device; `reason` to the log only. */
  | { readonly message: string; readonly reason: string };

/** Who is asking, and the enrollments of the scope that was asked. */
export interface Question {
  readonly idScope: string;
  readonly registrationId: string;
  readonly credential: PresentedCredential;
  readonly atMs: number;
  /** The individual enrollment of this registration id, if there is one. It wins over every group, also disabled. */
  readonly individual: EnrollmentEntry | undefined;
  /** The key that was handed out for this registration id, for a TPM to sign with. */
  readonly challenge: IssuedChallenge | undefined;
  /** In order of creation. */
  readonly groups: readonly EnrollmentEntry[];
}

export function verifyCredential(question: Question): Verdict {
  switch (question.credential.kind) {
    case 'sas':
      return verifySas(question, question.credential);
    case 'x509':
      return verifyCertificate(question, question.credential.chain);
    case 'none':
      return { message: 'Unauthorized', reason: 'neither a SAS token nor a client certificate was presented' };
  }
}

function verifySas(question: Question, credential: { token: string; presentedAtMs: number }): Verdict {
  const refuse = (reason: string): Verdict => ({ message: 'Unauthorized', reason });
  const token = parseSasToken(credential.token);
  if (token === undefined) return refuse('the SAS token is malformed');
  // Some clients lower-case the whole audience, scope included.
  if (!namesResource(token, `${question.idScope}/registrations/${question.registrationId}`, true)) {
    return refuse('the SAS token is for another resource');
  }
  if (isExpired(token, credential.presentedAtMs)) {
    return refuse(`the SAS token expired at ${new Date(token.expiresAtMs).toISOString()}`);
  }
  const { challenge } = question;
  if (challenge !== undefined && isSignedBy(token, challenge.keyBase64))
    return admitTpm(question.individual, challenge);
  const candidates = question.individual === undefined ? question.groups : [question.individual];
  for (const entry of candidates) {
    const keys = keysFor(entry, question.registrationId).find((pair) => signs(pair, token));
    if (keys !== undefined) return { entry, authentication: { type: 'sas', ...keys } };
  }
  if (question.individual === undefined) return refuse('no individual enrollment, and no group key verifies the token');
  return refuse(explainWrongToken(question.individual, challenge));
}

function explainWrongToken({ attestation }: EnrollmentEntry, challenge: IssuedChallenge | undefined): string {
  switch (attestation.type) {
    case 'symmetricKey':
      return 'the SAS token is signed with another key';
    case 'tpm':
      return challenge === undefined
        ? 'the device has no challenge, or let it expire: a TPM asks for one first'
        : 'the SAS token is not signed with the key of the latest challenge: it was not activated, or is an older one';
    case 'x509':
      return 'the enrollment wants x509, the device presented a SAS token';
  }
}

function admitTpm(entry: EnrollmentEntry | undefined, { keys }: IssuedChallenge): Verdict {
  const reason = entry && tpmProblem(entry, keys.endorsementKey);
  if (reason !== undefined) return { message: 'Unauthorized', reason };
  return { entry, authentication: { type: 'tpm', keys } };
}

/** Why the entry is not that of a TPM with this endorsement key, or `undefined`. */
export function tpmProblem({ attestation }: EnrollmentEntry, endorsementKey: StorageKey): string | undefined {
  if (attestation.type !== 'tpm') return `the enrollment wants ${attestation.type}, the device presented a TPM`;
  return equalBytes(attestation.endorsementKey.bytes, endorsementKey.bytes)
    ? undefined
    : 'the endorsement key is not the one enrolled';
}

interface KeyPair {
  readonly primaryKey: string;
  readonly secondaryKey: string;
}

function keysFor(entry: EnrollmentEntry, registrationId: string): readonly KeyPair[] {
  const attestation = entry.attestation;
  if (attestation.type !== 'symmetricKey') return [];
  const { primaryKey, secondaryKey } = attestation;
  if (entry.kind === 'individual') return [{ primaryKey, secondaryKey }];
  // Ids ignore case, the HMAC does not, and which spelling the service takes is not known: as received, then lower case.
  return [...new Set([registrationId, registrationId.toLowerCase()])].map((id) => ({
    primaryKey: deriveDeviceKey(primaryKey, id),
    secondaryKey: deriveDeviceKey(secondaryKey, id),
  }));
}

function signs(keys: KeyPair, token: SasToken): boolean {
  return isSignedBy(token, keys.primaryKey) || isSignedBy(token, keys.secondaryKey);
}

function verifyCertificate(question: Question, presented: readonly Uint8Array[]): Verdict {
  const chain = readChain(presented);
  const [leaf] = chain;
  if (leaf === undefined) return { message: 'Invalid certificate.', reason: 'the client certificate cannot be read' };
  const commonName = commonNameOf(leaf);
  if (commonName?.toLowerCase() !== question.registrationId.toLowerCase()) {
    const found = commonName === undefined ? 'has no single common name' : `is for ${JSON.stringify(commonName)}`;
    return { message: 'Invalid certificate.', reason: `the client certificate ${found}, not for the registration id` };
  }
  const authentication: HubAuthentication = { type: 'selfSigned', primaryThumbprint: thumbprintOf(leaf) };
  const found =
    question.individual === undefined
      ? findGroup(question, chain)
      : matchIndividual(question.individual, question, chain);
  return 'match' in found ? { entry: found.match, authentication } : found;
}

type Found = ChainVerdict<EnrollmentEntry>;

function findGroup(question: Question, chain: readonly X509Certificate[]): Found {
  return findIssuer(chain, question.groups.flatMap(authoritiesOf), question.atMs);
}

function matchIndividual(entry: EnrollmentEntry, question: Question, chain: readonly X509Certificate[]): Found {
  const { attestation } = entry;
  const [leaf] = chain;
  if (attestation.type !== 'x509' || leaf === undefined) {
    return { message: 'Invalid certificate.', reason: 'the enrollment wants a SAS token, not a client certificate' };
  }
  if (attestation.role === 'signing') return findIssuer(chain, authoritiesOf(entry), question.atMs);
  if (!attestation.certificates.some((enrolled) => enrolled.raw.equals(leaf.raw))) {
    return { message: 'Invalid certificate.', reason: 'the client certificate is not the one enrolled' };
  }
  const problem = datesProblem(leaf, question.atMs);
  return problem === undefined ? { match: entry } : { message: 'Invalid certificate.', reason: problem };
}

function authoritiesOf(entry: EnrollmentEntry): { authority: X509Certificate; value: EnrollmentEntry }[] {
  if (entry.attestation.type !== 'x509' || entry.attestation.role !== 'signing') return [];
  return entry.attestation.certificates.map((authority) => ({ authority, value: entry }));
}
