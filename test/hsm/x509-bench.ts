/** Certificates and a folder for a test file that loads them: its hooks run in each file that imports it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { x509FileHsm } from '../../hsm/x509-file.js';
import type { X509Hsm } from '../../src/core/attestation.js';
import {
  type CertificateAuthority,
  type IssuedCertificate,
  issueCertificate,
  makeAuthority,
} from '../../src/emulator/pki.js';
import { ConfigurationError, HsmError } from '../../src/errors.js';

const { signal } = new AbortController();

export let folder = '';
let counter = 0;
export let root: CertificateAuthority;
export let middle: CertificateAuthority;
export let device: IssuedCertificate;
export let other: IssuedCertificate;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dps-device-x509-'));
  root = await makeAuthority({ commonName: 'Root' });
  middle = await makeAuthority({ commonName: 'Middle', issuer: root });
  device = await issueCertificate(middle, { commonName: 'dev-1', usage: 'client' });
  other = await issueCertificate(middle, { commonName: 'dev-2', usage: 'client' });
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

export async function makeFile(content: string | Uint8Array, mode = 0o600): Promise<string> {
  const path = join(folder, `file-${counter++}`);
  await writeFile(path, content, { mode });
  return path;
}

/** From texts to files to the HSM: all that is not under test stays right. */
export async function loadFiles(certificatePem: string, keyPem: string, more: object = {}): Promise<X509Hsm> {
  return x509FileHsm({ certificate: await makeFile(certificatePem, 0o644), key: await makeFile(keyPem), ...more });
}

export function loadTexts(certificatePem: string, keyPem: string, more: object = {}): Promise<X509Hsm> {
  return x509FileHsm({ certificatePem, keyPem, ...more });
}

export async function failureOf(work: Promise<unknown>): Promise<HsmError | ConfigurationError> {
  const error = await work.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof HsmError || error instanceof ConfigurationError) return error;
  throw new Error(`Expected an HsmError or a ConfigurationError, not ${String(error)}.`);
}

export async function chainOf(hsm: X509Hsm): Promise<string> {
  return (await hsm.tlsCredential(0, signal)).certificateChainPem;
}
