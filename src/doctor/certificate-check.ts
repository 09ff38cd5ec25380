import type { KeyObject, X509Certificate } from 'node:crypto';
import {
  checkChainOrder,
  checkDates,
  checkKeyMatches,
  dropRepeated,
  readCertificates,
  readRegistrationId,
} from '../../hsm/certificate-chain.js';
import { type NamedText, readPrivateKey } from '../../hsm/private-key.js';
import { readPublicFile } from '../../hsm/secret-file.js';
import type { X509FileHsmOptions } from '../../hsm/x509-file.js';
import type { TlsClientCredential } from '../core/attestation.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { type Clock, isPlausibleWallMs } from '../core/clock.js';
import { attempt, doubtful, type Finding, failed, ok, skipped, warning } from './finding.js';
import { readSecret } from './secret-check.js';

/** Who renews once a year is to hear of it in time. */
const SOON_MS = 30 * 24 * 3_600_000;

export interface CertificateCheck {
  readonly findings: readonly Finding[];
  /** To connect with, when nothing is wrong with it. */
  readonly client: TlsClientCredential | undefined;
}

/** Checks the device's certificate, its intermediates and its key, each fault on its own. */
export async function checkCertificate(
  options: X509FileHsmOptions,
  clock: Clock,
  signal: CancelSignal,
): Promise<CertificateCheck> {
  const certificates = await readChain(options, signal);
  const key = await readKey(options, signal);
  const { chain, place } = certificates;
  if (chain === undefined) return { findings: [...certificates.findings, ...key.findings], client: undefined };
  const [leaf] = chain;
  const findings = [
    ...certificates.findings,
    ...key.findings,
    await checkMatch(chain, key, place),
    await verdictOn('chain', () => checkChainOrder(chain, place), describeChain(chain)),
    await checkExpiry(chain, clock, place),
    await checkRegistrationId(leaf, place, options.registrationId),
  ];
  const isSound = key.key !== undefined && findings.every(({ verdict }) => verdict !== 'failed');
  return { findings, client: isSound ? credentialOf(chain, key.key) : undefined };
}

/** Checks the certificates that servers are trusted by. What has expired does no harm, unless it is the one needed. */
export async function checkAuthorities(pem: string, place: string, clock: Clock): Promise<Finding[]> {
  const read = await attempt(() => readCertificates({ text: pem, place }));
  if (read.error !== undefined) return [failed('authorities', read.error)];
  const certificates = read.value;
  const stale = await attempt(() => checkDates(certificates, clock.wallMs(), place));
  const count = `${certificates.length} ${certificates.length === 1 ? 'certificate' : 'certificates'}`;
  const found = ok('authorities', `Servers are trusted by ${place}, which has ${count}.`);
  return stale.error === undefined ? [found] : [found, doubtful('authorities', stale.error)];
}

interface ReadChain {
  readonly chain: readonly X509Certificate[] | undefined;
  readonly place: string;
  readonly findings: readonly Finding[];
}

async function readChain(options: X509FileHsmOptions, signal: CancelSignal): Promise<ReadChain> {
  const texts = 'certificatePem' in options;
  const sources = texts
    ? [named(options.certificatePem, 'option hsm.certificatePem'), named(options.chainPem, 'option hsm.chainPem')]
    : [await readFile(options.certificate, signal), await readFile(options.chain, signal)];
  const place = sources.flatMap((source) => source?.place ?? []).join(' and ');
  const certificates: X509Certificate[] = [];
  for (const source of sources) {
    if (source === undefined) continue;
    const read = source.error === undefined ? await attempt(() => readCertificates(source)) : { error: source.error };
    if (read.error !== undefined) return { chain: undefined, place, findings: [failed('certificate', read.error)] };
    certificates.push(...read.value);
  }
  const chain = dropRepeated(certificates);
  return { chain, place, findings: [ok('certificate', `The certificate in ${place} can be read.`)] };
}

type Source = NamedText & { readonly error?: Error };

function named(text: string | undefined, place: string): Source | undefined {
  return text === undefined ? undefined : { text, place };
}

async function readFile(path: string | undefined, signal: CancelSignal): Promise<Source | undefined> {
  if (path === undefined) return undefined;
  const read = await attempt(() => readPublicFile(path, { what: 'certificate', signal }));
  if (read.error !== undefined) return { text: '', place: path, error: read.error };
  return { text: Buffer.from(read.value).toString('latin1'), place: path };
}

interface ReadKey {
  readonly key: KeyObject | undefined;
  readonly place: string;
  readonly findings: readonly Finding[];
}

async function readKey(options: X509FileHsmOptions, signal: CancelSignal): Promise<ReadKey> {
  const isText = 'keyPem' in options;
  const place = isText ? 'option hsm.keyPem' : options.key;
  const secret = await readSecret(isText ? options.keyPem : { file: options.key }, 'private key', signal);
  const passphrase =
    options.passphrase === undefined ? undefined : await readSecret(options.passphrase, 'passphrase', signal);
  const findings = [...secret.findings, ...(passphrase?.findings ?? [])];
  const isUnread = secret.bytes === undefined || (passphrase !== undefined && passphrase.bytes === undefined);
  if (isUnread) return { key: undefined, place, findings };
  const text = Buffer.from(secret.bytes ?? []).toString('latin1');
  const phrase =
    passphrase?.bytes &&
    Buffer.from(passphrase.bytes)
      .toString()
      .replace(/\r?\n$/, '');
  const read = await attempt(() => readPrivateKey({ text, place }, phrase));
  if (read.error !== undefined) return { key: undefined, place, findings: [...findings, failed('key', read.error)] };
  return { key: read.value, place, findings: [...findings, ok('key', `The private key in ${place} can be used.`)] };
}

async function checkMatch(chain: readonly X509Certificate[], key: ReadKey, place: string): Promise<Finding> {
  const { key: privateKey } = key;
  if (privateKey === undefined) return skipped('key-match', 'The private key could not be read.');
  const check = (): void => checkKeyMatches(chain, privateKey, place, key.place);
  return verdictOn('key-match', check, 'The private key belongs to the certificate.');
}

/** Whether the certificates are in date, and for how long. */
export async function checkExpiry(chain: readonly X509Certificate[], clock: Clock, place: string): Promise<Finding> {
  const nowMs = clock.wallMs();
  if (!isPlausibleWallMs(nowMs)) return skipped('expiry', 'No certificate can be judged by a clock that is not set.');
  const dated = await attempt(() => checkDates(chain, nowMs, place));
  if (dated.error !== undefined) return failed('expiry', dated.error);
  const endMs = Math.min(...chain.map(({ validTo }) => Date.parse(validTo)));
  const end = new Date(endMs).toISOString();
  if (endMs - nowMs > SOON_MS) return ok('expiry', `The certificates are valid until ${end}.`);
  return warning('expiry', `A certificate in ${place} expires on ${end}.`, 'Renew it before that.');
}

async function checkRegistrationId(
  leaf: X509Certificate | undefined,
  place: string,
  expected: string | undefined,
): Promise<Finding> {
  const read = await attempt(() => readRegistrationId(leaf?.raw ?? new Uint8Array(), place, expected));
  if (read.error !== undefined) return failed('registration-id', read.error);
  return ok('registration-id', `The device registers as ${read.value}.`);
}

async function verdictOn(check: Finding['check'], work: () => void, message: string): Promise<Finding> {
  const { error } = await attempt(work);
  return error === undefined ? ok(check, message) : failed(check, error);
}

function describeChain(chain: readonly X509Certificate[]): string {
  if (chain.length === 1) return 'There is one certificate, without intermediates.';
  return `The ${chain.length} certificates are in order, each issued by the next.`;
}

function credentialOf(chain: readonly X509Certificate[], key: KeyObject): TlsClientCredential {
  return {
    certificateChainPem: chain.map((certificate) => certificate.toString()).join(''),
    privateKeyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  };
}
