import { type KeyObject, X509Certificate } from 'node:crypto';
import { isPlausibleWallMs } from '../src/core/clock.js';
import { registrationIdProblem } from '../src/core/identifiers.js';
import { type DpsErrorCode, HsmError } from '../src/errors.js';
import { readCommonNames } from './certificate-subject.js';
import { isOneDerElement, type PemBlock, readPemBlocks } from './pem.js';
import type { NamedText } from './private-key.js';

const CERTIFICATE_LABELS = ['CERTIFICATE', 'X509 CERTIFICATE'];

/**
 * Reads the certificates in PEM text, at least one, in the order they have there.
 *
 * @throws {HsmError} `ERR_DPS_HSM_CERTIFICATE_INVALID` when there is none, or one is cut or damaged.
 */
export function readCertificates(source: NamedText): X509Certificate[] {
  const blocks = readPemBlocks(source.text);
  const found = blocks.filter((block) => CERTIFICATE_LABELS.includes(block.label));
  if (found.length === 0) {
    throw chainError('ERR_DPS_HSM_CERTIFICATE_INVALID', `${source.place} ${explainNoCertificate(source, blocks)}`);
  }
  return found.map((block, index) => parseCertificate(block, `Certificate ${index + 1} in ${source.place}`));
}

/** The same certificates, each once: a chain file often begins with the leaf that the certificate file has too. */
export function dropRepeated(certificates: readonly X509Certificate[]): X509Certificate[] {
  const isFirst = (one: X509Certificate, index: number): boolean =>
    certificates.findIndex((other) => other.fingerprint256 === one.fingerprint256) === index;
  return certificates.filter(isFirst);
}

/**
 * Makes sure that the key is that of the first certificate.
 *
 * @throws {HsmError} `ERR_DPS_HSM_CHAIN_ORDER` when it is that of a later one, else `ERR_DPS_HSM_KEY_MISMATCH`.
 */
export function checkKeyMatches(
  chain: readonly X509Certificate[],
  key: KeyObject,
  place: string,
  keyPlace: string,
): void {
  const owner = chain.findIndex((certificate) => certificate.checkPrivateKey(key));
  if (owner === 0) return;
  if (owner > 0) {
    throw chainError(
      'ERR_DPS_HSM_CHAIN_ORDER',
      `The private key belongs to certificate ${describe(chain, owner)} of ${place}, but the device's own must be the first. ${adviseOrder(chain, owner)}`,
    );
  }
  const names = chain.length === 1 ? describe(chain, 0) : `${describe(chain, 0)} nor to one after it`;
  throw chainError(
    'ERR_DPS_HSM_KEY_MISMATCH',
    `The private key in ${keyPlace} does not belong to certificate ${names} in ${place}. Find the key the certificate was requested with, or request a new certificate.`,
  );
}

/**
 * Makes sure that each certificate was issued, and signed, by the next one. The last may be a root or not.
 *
 * @throws {HsmError} `ERR_DPS_HSM_CHAIN_ORDER` naming the first place where the chain breaks.
 */
export function checkChainOrder(chain: readonly X509Certificate[], place: string): void {
  const broken = chain.findIndex((certificate, index) => {
    const next = chain[index + 1];
    return next !== undefined && !isIssuedBy(certificate, next);
  });
  if (broken < 0) return;
  throw chainError(
    'ERR_DPS_HSM_CHAIN_ORDER',
    `In ${place} certificate ${describe(chain, broken)} is followed by ${describe(chain, broken + 1)}, which did not issue it. ${adviseOrder(chain, 0)}`,
  );
}

/**
 * Makes sure that every certificate is within its dates. An implausible clock condemns none.
 *
 * @throws {HsmError} `ERR_DPS_HSM_CERTIFICATE_EXPIRED` or `ERR_DPS_HSM_CERTIFICATE_NOT_YET_VALID` with the dates.
 */
export function checkDates(chain: readonly X509Certificate[], wallMs: number, place: string): void {
  if (!isPlausibleWallMs(wallMs)) return;
  for (const [index, certificate] of chain.entries()) {
    const name = `Certificate ${describe(chain, index)} in ${place}`;
    const now = `the device's clock says ${formatDate(wallMs)}`;
    if (wallMs > Date.parse(certificate.validTo)) {
      const message = `${name} expired on ${formatDate(Date.parse(certificate.validTo))}; ${now}. Renew it, or set the clock if that is wrong.`;
      throw chainError('ERR_DPS_HSM_CERTIFICATE_EXPIRED', message);
    }
    if (wallMs < Date.parse(certificate.validFrom)) {
      const message = `${name} is valid only from ${formatDate(Date.parse(certificate.validFrom))}; ${now}. Set the clock if that is wrong, or wait.`;
      throw chainError('ERR_DPS_HSM_CERTIFICATE_NOT_YET_VALID', message);
    }
  }
}

/**
 * The registration id of a device: the one common name in its certificate's subject.
 *
 * @param expected must be equal to it, if given.
 * @throws {HsmError} `ERR_DPS_HSM_REGISTRATION_ID` when there is none, more than one, another, or one that cannot be an id.
 */
export function readRegistrationId(leafDer: Uint8Array, place: string, expected: string | undefined): string {
  const names = readCommonNames(leafDer) ?? [];
  const [name] = names;
  if (name === undefined) {
    throw idError(
      `The first certificate in ${place} has no common name (CN) in its subject; DPS takes the registration id from there. Request one with the registration id as CN.`,
    );
  }
  if (names.length > 1) {
    throw idError(
      `The first certificate in ${place} has ${names.length} common names (CN) in its subject; which one is the registration id would be a guess. Request one with a single CN.`,
    );
  }
  const problem = registrationIdProblem(name);
  if (problem !== undefined) {
    throw idError(
      `The common name (CN) of the first certificate in ${place} is to be the registration id, but cannot be one. ${problem}`,
    );
  }
  if (expected === undefined || expected === name) return name;
  throw idError(
    `Option hsm.registrationId says ${JSON.stringify(expected)}, but the certificate in ${place} is for ${JSON.stringify(name)}. They must be equal, letter case included.`,
  );
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  try {
    return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
  } catch {
    // A key of a kind that cannot verify this signature did not make it.
    return false;
  }
}

/** What to do about a chain that is not in order from `leaf` on. */
function adviseOrder(chain: readonly X509Certificate[], leaf: number): string {
  const order = [leaf];
  for (let current = leaf; order.length < chain.length; ) {
    const issuer = chain.findIndex((candidate, index) => !order.includes(index) && issues(chain, current, candidate));
    if (issuer < 0) break;
    order.push(issuer);
    current = issuer;
  }
  if (order.length === chain.length) {
    return `Reordering mends it: put them in the order ${order.map((index) => index + 1).join(', ')}.`;
  }
  const strangers = chain.flatMap((_, index) => (order.includes(index) ? [] : [describe(chain, index)]));
  const longest = order.map((index) => index + 1).join(', ');
  return `Reordering alone does not mend it: the longest chain from the device's own is ${longest}, and no path leads to ${strangers.join(', ')}. Add the certificate that is missing between them, or take out what does not belong.`;
}

function issues(chain: readonly X509Certificate[], subject: number, candidate: X509Certificate): boolean {
  const certificate = chain[subject];
  return certificate !== undefined && isIssuedBy(certificate, candidate);
}

/** Its number, from 1, and its name: `2 ("Factory CA 1")`. */
function describe(chain: readonly X509Certificate[], index: number): string {
  const certificate = chain[index];
  const [name] = (certificate && readCommonNames(certificate.raw)) ?? [];
  return `${index + 1} (${name === undefined ? 'without CN' : JSON.stringify(name)})`;
}

function parseCertificate(block: PemBlock, name: string): X509Certificate {
  if (block.der === undefined) {
    throw chainError('ERR_DPS_HSM_CERTIFICATE_INVALID', `${name} ${block.problem}. Copy the file again.`);
  }
  try {
    return new X509Certificate(block.der);
  } catch (error) {
    const message = `${name} is damaged: it is not an X.509 certificate inside. Copy the file again.`;
    throw chainError('ERR_DPS_HSM_CERTIFICATE_INVALID', message, error);
  }
}

function explainNoCertificate({ text, place }: NamedText, blocks: readonly PemBlock[]): string {
  const labels = blocks.map((block) => block.label);
  if (labels.some((label) => label.endsWith('PRIVATE KEY'))) {
    return 'holds a private key and no certificate. Were certificate and key swapped?';
  }
  if (labels.some((label) => label.endsWith('CERTIFICATE REQUEST'))) {
    return 'holds a signing request; the certificate that the authority made from it is wanted.';
  }
  if (labels.length > 0) return `holds ${labels[0]} and no certificate.`;
  if (isOneDerElement(Buffer.from(text, 'latin1'))) {
    return `is binary (DER or PKCS#12), not PEM. Convert it: openssl x509 -inform DER -in ${place} -out CERTIFICATE.pem (openssl pkcs12 for .p12 and .pfx)`;
  }
  return 'holds no certificate in PEM (-----BEGIN CERTIFICATE-----).';
}

function formatDate(epochMs: number): string {
  return new Date(epochMs).toISOString();
}

function chainError(code: DpsErrorCode, message: string, cause?: unknown): HsmError {
  return new HsmError({ code, operation: 'load certificate', message, cause });
}

function idError(message: string): HsmError {
  return new HsmError({ code: 'ERR_DPS_HSM_REGISTRATION_ID', operation: 'load certificate', message });
}
