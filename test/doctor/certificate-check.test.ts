import { chmodSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import type { X509FileHsmOptions } from '../../hsm/x509-file.js';
import { type CertificateCheck, checkAuthorities, checkCertificate } from '../../src/doctor/certificate-check.js';
import { type CertificateAuthority, issueCertificate, makeAuthority } from '../../src/emulator/index.js';
import { fileWith } from '../cli/temporary-folder.js';
import { ManualClock } from '../fakes/manual-clock.js';

const NOW_MS = Date.UTC(2026, 10, 21);
const DAY_MS = 24 * 3_600_000;
const WHILE = { notBeforeMs: NOW_MS - DAY_MS, notAfterMs: NOW_MS + 365 * DAY_MS };
const { signal } = new AbortController();
let authority: CertificateAuthority;
let root: CertificateAuthority;

beforeAll(async () => {
  root = await makeAuthority({ commonName: 'Root', ...WHILE });
  authority = await makeAuthority({ commonName: 'Devices', issuer: root, ...WHILE });
});

interface Files {
  certificate: string;
  key: string;
}

async function device(validity = WHILE): Promise<Files> {
  const leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client', ...validity });
  return { certificate: fileWith(leaf.chainPem, 0o644), key: fileWith(leaf.privateKeyPem) };
}

async function check(options: X509FileHsmOptions, wallMs = NOW_MS): Promise<CertificateCheck> {
  const checked = await checkCertificate(options, new ManualClock(wallMs), signal);
  expect(JSON.stringify(checked.findings)).not.toMatch(/MI[A-Za-z0-9+/]{30}/);
  for (const { verdict, fix } of checked.findings) if (verdict === 'failed') expect(fix).toBeTruthy();
  return checked;
}

/** All that is not as it should be. */
function faults({ findings }: CertificateCheck): string[] {
  return findings.filter(({ verdict }) => verdict !== 'ok').map(({ check: name, verdict }) => `${name} ${verdict}`);
}

describe('checkCertificate', () => {
  it('is content with what belongs together, and lends it for the connection', async () => {
    const checked = await check(await device());
    expect(checked.findings.map(({ check: name, verdict }) => `${name} ${verdict}`)).toEqual([
      'certificate ok',
      'permissions ok',
      'key ok',
      'key-match ok',
      'chain ok',
      'expiry ok',
      'registration-id ok',
    ]);
    expect(checked.client?.certificateChainPem.match(/BEGIN CERTIFICATE/g)?.length).toBeGreaterThan(1);
  });

  it('finds each fault on its own', async () => {
    const [one, two] = [await device(), await device({ ...WHILE, notAfterMs: NOW_MS - 1_000 })];
    chmodSync(one.key, 0o640);
    const checked = await check({ ...two, key: one.key, registrationId: 'dev-2' });
    expect(faults(checked)).toEqual([
      'permissions failed',
      'key-match failed',
      'expiry failed',
      'registration-id failed',
    ]);
    expect(checked.client).toBeUndefined();
  });

  it('warns of the end in time', async () => {
    const files = await device({ ...WHILE, notAfterMs: NOW_MS + 10 * DAY_MS });
    expect(faults(await check(files))).toEqual(['expiry warning']);
    expect(faults(await check(files, NOW_MS + 11 * DAY_MS))).toEqual(['expiry failed']);
    expect(faults(await check(files, NOW_MS - 2 * DAY_MS))).toEqual(['expiry failed']);
  });

  it('condemns nothing by a clock that is not set', async () => {
    expect(faults(await check(await device(), 0))).toEqual(['expiry skipped']);
  });

  it('tells intermediates in the wrong order', async () => {
    const leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client', ...WHILE });
    const certificatePem = `${leaf.certificatePem}${root.certificatePem}${authority.certificatePem}`;
    const checked = await check({ certificatePem, keyPem: leaf.privateKeyPem });
    expect(faults(checked)).toEqual(['chain failed']);
    expect(checked.findings.find(({ verdict }) => verdict === 'failed')?.fix).toContain('order 1, 3, 2');
  });

  it('goes on where a file cannot be read', async () => {
    const { certificate, key } = await device();
    expect(faults(await check({ certificate, key: '/nowhere/key' }))).toEqual([
      'permissions failed',
      'key-match skipped',
    ]);
    expect(faults(await check({ certificate: '/nowhere/cert', key }))).toEqual(['certificate failed']);
    expect(faults(await check({ certificate, key: fileWith('no key') }))).toEqual(['key failed', 'key-match skipped']);
  });
});

describe('checkAuthorities', () => {
  it('names what is damaged, and what has expired', async () => {
    const clock = new ManualClock(NOW_MS);
    const { certificatePem: old } = await makeAuthority({ commonName: 'Old', ...WHILE, notAfterMs: NOW_MS - 1 });
    const both = `${root.certificatePem}${old}`;
    expect(await checkAuthorities(both, 'ca.pem', clock)).toMatchObject([
      { verdict: 'ok', message: 'Servers are trusted by ca.pem, which has 2 certificates.' },
      { verdict: 'warning', message: expect.stringContaining('Certificate 2 ("Old") in ca.pem expired') },
    ]);
    expect(await checkAuthorities(both.replace(/MII.{40}/s, 'MII'), 'ca.pem', clock)).toMatchObject([
      { verdict: 'failed', message: expect.stringContaining('Certificate 1 in ca.pem') },
    ]);
  });
});
