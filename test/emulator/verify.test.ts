import { X509Certificate } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import type { EnrollmentEntry, EntryAttestation } from '../../src/emulator/enrollment.js';
import {
  type CertificateAuthority,
  type IssuedCertificate,
  issueCertificate,
  makeAuthority,
  makeSelfSigned,
} from '../../src/emulator/pki.js';
import { type PresentedCredential, type Question, type Verdict, verifyCredential } from '../../src/emulator/verify.js';
import { DEVICE_KEY, dpsToken, GROUP_KEY, hmacBase64, OTHER_KEY } from './tokens.js';

const NOW_MS = Date.UTC(2026, 10, 21);
const DAY_MS = 86_400_000;
const LATER = NOW_MS / 1000 + 3600;
const SCOPE = '0neABCDEF12';

function entry(id: string, attestation: EntryAttestation, more: Partial<EnrollmentEntry> = {}): EnrollmentEntry {
  return {
    kind: 'individual',
    id,
    deviceId: undefined,
    attestation,
    isEnabled: true,
    isEdge: false,
    initialTwin: { tags: {}, desired: {} },
    reprovision: undefined,
    allocationPolicy: undefined,
    hubs: [],
    optionalDeviceInformation: undefined,
    createdMs: 0,
    updatedMs: 0,
    etag: '',
    ...more,
  };
}

const keys = (primaryKey: string, secondaryKey = OTHER_KEY): EntryAttestation => ({
  type: 'symmetricKey',
  primaryKey,
  secondaryKey,
});

const group = (id: string, attestation: EntryAttestation, more: Partial<EnrollmentEntry> = {}): EnrollmentEntry =>
  entry(id, attestation, { kind: 'group', ...more });

function ask(credential: PresentedCredential, question: Partial<Question> = {}): Verdict {
  return verifyCredential({
    idScope: SCOPE,
    registrationId: 'dev-1',
    credential,
    atMs: NOW_MS,
    individual: undefined,
    challenge: undefined,
    groups: [],
    ...question,
  });
}

const sas = (key: string, registrationId = 'dev-1', expiry = LATER, scope = SCOPE): PresentedCredential => ({
  kind: 'sas',
  token: dpsToken(scope, registrationId, key, expiry),
  presentedAtMs: NOW_MS,
});

/** Self-signed, without the CA flag, but with no key usage that would forbid signing either. */
async function makeUnconstrainedAuthority(): Promise<CertificateAuthority> {
  const { webcrypto } = await import('node:crypto');
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const { BasicConstraintsExtension, X509CertificateGenerator } = await import('@peculiar/x509');
  const certificate = await X509CertificateGenerator.createSelfSigned(
    {
      name: 'CN=no CA',
      keys,
      signingAlgorithm: algorithm,
      notBefore: new Date(NOW_MS - DAY_MS),
      notAfter: new Date(NOW_MS + DAY_MS),
      extensions: [new BasicConstraintsExtension(false)],
    },
    webcrypto,
  );
  const privateKey = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey)).toString('base64');
  const certificatePem = `${certificate.toString('pem')}\n`;
  const privateKeyPem = `-----BEGIN PRIVATE KEY-----\n${privateKey}\n-----END PRIVATE KEY-----\n`;
  return { certificatePem, privateKeyPem, chainPem: '', rootPem: certificatePem };
}

describe('SAS tokens', () => {
  const individual = entry('dev-1', keys(DEVICE_KEY));

  it('accepts primary and secondary key alike', () => {
    expect(ask(sas(DEVICE_KEY), { individual })).toMatchObject({ entry: { id: 'dev-1' } });
    expect(ask(sas(OTHER_KEY), { individual })).toMatchObject({
      entry: { id: 'dev-1' },
      authentication: { type: 'sas', primaryKey: DEVICE_KEY, secondaryKey: OTHER_KEY },
    });
  });

  it.each<[string, PresentedCredential]>([
    ['another key', sas(GROUP_KEY)],
    ['another device', sas(DEVICE_KEY, 'dev-2')],
    ['another scope', sas(DEVICE_KEY, 'dev-1', LATER, '0ne99999999')],
    ['expired more than five minutes ago', sas(DEVICE_KEY, 'dev-1', NOW_MS / 1000 - 301)],
    ['garbage', { kind: 'sas', token: 'SharedAccessSignature x', presentedAtMs: NOW_MS }],
    ['nothing', { kind: 'none' }],
  ])('refuses %s', (_what, credential) => {
    expect(ask(credential, { individual })).toMatchObject({ message: 'Unauthorized' });
  });

  it('judges expiry when the token was shown, not when it is used', () => {
    const credential = { ...sas(DEVICE_KEY, 'dev-1', NOW_MS / 1000), presentedAtMs: NOW_MS };
    expect(ask(credential as PresentedCredential, { individual, atMs: NOW_MS + DAY_MS })).toHaveProperty('entry');
  });

  it('ignores the case of the registration id and of the resource', () => {
    const credential = sas(DEVICE_KEY, 'DEV-1', LATER, SCOPE.toLowerCase());
    expect(ask(credential, { individual, registrationId: 'Dev-1' })).toHaveProperty('entry');
  });

  it('refuses a token where the enrollment wants a certificate', () => {
    const wantsCertificate = entry('dev-1', { type: 'x509', role: 'client', certificates: [] });
    expect(ask(sas(DEVICE_KEY), { individual: wantsCertificate })).toMatchObject({ message: 'Unauthorized' });
  });
});

describe('symmetric-key groups', () => {
  const first = group('first', keys(OTHER_KEY, DEVICE_KEY));
  const second = group('second', keys(OTHER_KEY.replace('M', 'N'), GROUP_KEY));
  const derived = hmacBase64(GROUP_KEY, 'dev-1');

  it('accepts a key derived from either group key, and hands on the derived pair', () => {
    expect(ask(sas(derived), { groups: [first, second] })).toMatchObject({
      entry: { id: 'second' },
      authentication: { type: 'sas', secondaryKey: derived },
    });
  });

  it('accepts a key derived from the lower-case id', () => {
    expect(ask(sas(derived, 'DEV-1'), { groups: [second], registrationId: 'DEV-1' })).toHaveProperty('entry');
  });

  it('refuses the raw group key', () => {
    expect(ask(sas(GROUP_KEY), { groups: [first, second] })).toHaveProperty('reason');
  });

  it('does not fall through an individual enrollment, enabled or not', () => {
    for (const isEnabled of [true, false]) {
      const individual = entry('dev-1', keys(DEVICE_KEY), { isEnabled });
      expect(ask(sas(derived), { individual, groups: [second] })).toHaveProperty('reason');
    }
  });
});

describe('certificates', () => {
  let root: CertificateAuthority;
  let intermediate: CertificateAuthority;
  let other: CertificateAuthority;
  let leaf: IssuedCertificate;
  const made: Record<string, IssuedCertificate> = {};

  beforeAll(async () => {
    const validity = { notBeforeMs: NOW_MS - 10 * DAY_MS, notAfterMs: NOW_MS + 10 * DAY_MS };
    const device = { commonName: 'dev-1', usage: 'client' as const, ...validity };
    root = await makeAuthority({ commonName: 'root', ...validity });
    intermediate = await makeAuthority({ commonName: 'intermediate', issuer: root, ...validity });
    // The same name, another key: nothing but the signature tells them apart.
    other = await makeAuthority({ commonName: 'intermediate', ...validity });
    leaf = await issueCertificate(intermediate, device);
    made.wrongCa = await issueCertificate(other, device);
    made.expired = await issueCertificate(intermediate, { ...device, notAfterMs: NOW_MS - 1000 });
    made.future = await issueCertificate(intermediate, { ...device, notBeforeMs: NOW_MS + 1000 });
    made.otherName = await issueCertificate(intermediate, { ...device, commonName: 'dev-2' });
    made.upperCase = await issueCertificate(intermediate, { ...device, commonName: 'DEV-1' });
    made.noName = await issueCertificate(intermediate, { ...device, commonName: '', subjectExtra: [{ O: ['dev-1'] }] });
    made.twoNames = await issueCertificate(intermediate, { ...device, subjectExtra: [{ CN: ['dev-2'] }] });
    made.selfSigned = await makeSelfSigned(device);
    // A device certificate is no CA, although its key can sign.
    const asAuthority = { ...leaf, rootPem: root.certificatePem };
    made.signedByDevice = await issueCertificate(asAuthority, device);
    const oldRoot = await makeAuthority({ commonName: 'old', ...validity, notAfterMs: NOW_MS - 1000 });
    made.oldRoot = oldRoot;
    made.underOldRoot = await issueCertificate(oldRoot, device);
    const oldMiddle = await makeAuthority({
      commonName: 'old middle',
      issuer: root,
      notAfterMs: NOW_MS - 1000,
      notBeforeMs: 0,
    });
    made.underOldMiddle = await issueCertificate(oldMiddle, device);
  });

  const der = (pem: string): Uint8Array[] =>
    (pem.match(/-----BEGIN[\s\S]+?-----END CERTIFICATE-----/g) ?? []).map((each) => new X509Certificate(each).raw);
  const signing = (...pems: string[]): EntryAttestation => ({
    type: 'x509',
    role: 'signing',
    certificates: pems.map((pem) => new X509Certificate(pem)),
  });
  const client = (...pems: string[]): EntryAttestation => ({ ...signing(...pems), role: 'client' }) as EntryAttestation;
  const show = (chainPem: string): PresentedCredential => ({ kind: 'x509', chain: der(chainPem) });
  const pem = (name: string): IssuedCertificate => {
    const found = made[name];
    if (found === undefined) throw new Error(`no certificate "${name}"`);
    return found;
  };
  const thumbprint = (text: string): string =>
    new X509Certificate(text).fingerprint256.replaceAll(':', '').toLowerCase();

  it('matches an individual enrollment by the very certificate, primary or secondary', () => {
    const individual = entry('dev-1', client(pem('selfSigned').certificatePem, leaf.certificatePem));
    for (const shown of [pem('selfSigned'), leaf]) {
      expect(ask(show(shown.chainPem), { individual })).toMatchObject({
        entry: { id: 'dev-1' },
        authentication: { type: 'selfSigned', primaryThumbprint: thumbprint(shown.certificatePem) },
      });
    }
  });

  it('finds a group by its intermediate, when the leaf alone is shown', () => {
    const groups = [group('g', signing(intermediate.certificatePem))];
    expect(ask(show(leaf.certificatePem), { groups })).toMatchObject({ entry: { id: 'g' } });
  });

  it('finds a group by its root, when the intermediates are shown in any order', () => {
    const groups = [group('g', signing(root.certificatePem))];
    expect(ask(show(leaf.chainPem), { groups })).toMatchObject({ entry: { id: 'g' } });
    expect(
      ask(show(leaf.certificatePem + root.certificatePem + intermediate.certificatePem), { groups }),
    ).toMatchObject({
      entry: { id: 'g' },
    });
  });

  it('takes the group nearest the leaf, also when it is disabled', () => {
    const groups = [
      group('root group', signing(root.certificatePem)),
      group('near group', signing(intermediate.certificatePem), { isEnabled: false }),
    ];
    expect(ask(show(leaf.chainPem), { groups })).toMatchObject({ entry: { id: 'near group' } });
  });

  it('takes an individual enrollment under a CA of its own', () => {
    const individual = entry('dev-1', signing(root.certificatePem));
    expect(ask(show(leaf.chainPem), { individual })).toMatchObject({ entry: { id: 'dev-1' } });
  });

  it('ignores case between common name and registration id', () => {
    const groups = [group('g', signing(intermediate.certificatePem))];
    expect(ask(show(pem('upperCase').chainPem), { groups })).toHaveProperty('entry');
  });

  it.each<[string, () => [string, Partial<Question>], string]>([
    [
      'a leaf of another CA with the same name',
      () => [pem('wrongCa').chainPem, inGroup(intermediate)],
      'no enrolled CA',
    ],
    ['an expired leaf', () => [pem('expired').chainPem, inGroup(intermediate)], 'expired'],
    ['a leaf of tomorrow', () => [pem('future').chainPem, inGroup(intermediate)], 'not valid before'],
    ['a common name of another device', () => [pem('otherName').chainPem, inGroup(intermediate)], 'is for "dev-2"'],
    ['a leaf without common name', () => [pem('noName').chainPem, inGroup(intermediate)], 'no single common name'],
    ['a leaf with two common names', () => [pem('twoNames').chainPem, inGroup(intermediate)], 'no single common name'],
    ['a chain without its intermediate', () => [leaf.certificatePem, inGroup(root)], 'intermediate missing'],
    ['a self-signed leaf for a group', () => [pem('selfSigned').chainPem, inGroup(root)], 'no enrolled CA'],
    [
      'a leaf signed by a device',
      () => [pem('signedByDevice').chainPem + intermediate.certificatePem, inGroup(root)],
      'no enrolled CA',
    ],
    ['an expired group CA', () => [pem('underOldRoot').chainPem, inGroup(pem('oldRoot'))], 'expired'],
    ['an expired intermediate', () => [pem('underOldMiddle').chainPem, inGroup(root)], 'expired'],
    [
      'the CA itself as a device',
      () => [root.certificatePem, { ...inGroup(root), registrationId: 'root' }],
      'no enrolled CA',
    ],
    [
      'a leaf that is not the enrolled one',
      () => [leaf.chainPem, { individual: entry('dev-1', client(pem('selfSigned').certificatePem)) }],
      'not the one enrolled',
    ],
    [
      'an enrolled leaf that expired',
      () => [pem('expired').chainPem, { individual: entry('dev-1', client(pem('expired').certificatePem)) }],
      'expired',
    ],
    [
      'an enrolled leaf with another name',
      () => [pem('otherName').chainPem, { individual: entry('dev-1', client(pem('otherName').certificatePem)) }],
      'is for "dev-2"',
    ],
    [
      'a certificate where a key is wanted',
      () => [leaf.chainPem, { ...inGroup(intermediate), individual: entry('dev-1', keys(DEVICE_KEY)) }],
      'wants a SAS token',
    ],
    ['no group at all', () => [leaf.chainPem, {}], 'no enrolled CA'],
  ])('refuses %s', (_what, make, reason) => {
    const [chainPem, question] = make();
    const verdict = ask(show(chainPem), question);
    expect(verdict).toHaveProperty('reason', expect.stringContaining(reason));
    expect(['Invalid certificate.', 'CA certificate not found']).toContain((verdict as { message: string }).message);
  });

  it('looks at the signature, not only at the names', () => {
    const groups = [group('g', signing(intermediate.certificatePem))];
    const [tampered = new Uint8Array()] = der(leaf.certificatePem).map((bytes) => Uint8Array.from(bytes));
    tampered[tampered.length - 1] = (tampered.at(-1) ?? 0) ^ 1;
    expect(ask({ kind: 'x509', chain: [tampered] }, { groups })).toHaveProperty('reason');
  });

  it('wants a CA by its basic constraints, whatever it may have signed', async () => {
    const fake = await makeUnconstrainedAuthority();
    const shown = await issueCertificate(fake, { commonName: 'dev-1', usage: 'client', nowMs: NOW_MS });
    expect(ask(show(shown.chainPem), inGroup(fake))).toHaveProperty(
      'reason',
      expect.stringContaining('no enrolled CA'),
    );
  });

  it('survives bytes that are no certificate', () => {
    expect(ask({ kind: 'x509', chain: [Uint8Array.of(1, 2, 3)] })).toHaveProperty('reason');
    const chain = [...der(leaf.certificatePem), Uint8Array.of(1, 2, 3)];
    expect(ask({ kind: 'x509', chain }, inGroup(intermediate))).toHaveProperty('entry');
  });

  function inGroup(authority: IssuedCertificate): Partial<Question> {
    return { groups: [group('g', signing(authority.certificatePem))] };
  }
});
