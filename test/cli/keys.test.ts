import { spawnSync } from 'node:child_process';
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { keyStoreHsm } from '../../hsm/software-key-store.js';
import { EXIT } from '../../src/cli/exit-codes.js';
import type { X509Hsm } from '../../src/core/attestation.js';
import { lockFile } from '../../src/durable/file-lock.js';
import { issueCertificate, makeAuthority, makeSelfSigned } from '../../src/emulator/pki.js';
import { signRequest } from '../hsm/key-store/store-bench.js';
import { keys, keysBench, secretFile, succeed, symmetricKeysOf } from './keys-bench.js';

const { signal } = new AbortController();

// From Microsoft's symmetric key page.
const GROUP_KEY = '8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==';
const GROUP_MEMBER = 'sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6';
const MEMBER_KEY = 'Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=';

const PASSPHRASE = 'correct horse battery staple';

describe('keys make', () => {
  it('makes a symmetric key, the store and its key file; the key goes where it was asked for only', async () => {
    const { folder, store, keyFile, flags } = keysBench();
    const out = join(folder, 'sensor.key');
    const { status, io, result } = await keys([
      ...['make', '--key-name', 'sensor-17', '--kind', 'symmetric-key', '--write-key', out],
      ...flags,
    ]);
    expect(status).toBe(EXIT.ok);
    expect(io.err()).toBe(
      `made the key file ${keyFile}: keep a copy elsewhere, without it the key store cannot be opened\nmade the key store ${store}\n`,
    );
    expect(result).toMatchObject({
      keyStore: store,
      entry: { name: 'sensor-17', kind: 'symmetricKey', registrationId: 'sensor-17' },
      keyFile: out,
    });
    const key = readFileSync(out, 'utf8').trim();
    expect(Buffer.from(key, 'base64')).toHaveLength(64);
    expect(statSync(out).mode & 0o777).toBe(0o600);
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(await symmetricKeysOf(store, keyFile, 'sensor-17')).toEqual([key]);
    expect(io.out() + io.err()).not.toContain(key.slice(0, 16));
  });

  it('makes a signing request whose certificate can be imported, then staged the same way', async () => {
    const { folder, store, keyFile, flags } = keysBench();
    const made = await succeed(['make', '--key-name', 'dev', '--kind', 'csr', '--registration-id', 'Dev:1', ...flags]);
    const certFile = join(folder, 'issued.pem');
    writeFileSync(certFile, (await signRequest(String(made.signingRequestPem))).toString());
    const imported = await succeed(['import', '--key-name', 'dev', '--cert-file', certFile, ...flags]);
    expect(imported.entry.current.certificate).toMatchObject({ commonName: 'Dev:1', chainLength: 1 });
    const request = join(folder, 'next.csr');
    const staging = ['rotate', '--key-name', 'dev', '--step', 'stage', '--kind', 'csr', '--algorithm', 'ec-p384'];
    const staged = await succeed([...staging, '--write-request', request, ...flags]);
    expect(staged).toMatchObject({ signingRequestFile: request, entry: { staged: { algorithm: 'EC P-384' } } });
    const early = await keys(['rotate', '--key-name', 'dev', '--step', 'commit', ...flags]);
    expect(early.status).toBe(EXIT.hsm);
    expect(early.io.err()).toContain('has no certificate yet');
    writeFileSync(certFile, (await signRequest(readFileSync(request, 'utf8'))).toString());
    await succeed(['import', '--key-name', 'dev', '--cert-file', certFile, ...flags]);
    const committed = await succeed(['rotate', '--key-name', 'dev', '--step', 'commit', ...flags]);
    expect(committed.entry.staged).toBeUndefined();
    const hsm = (await keyStoreHsm({ directory: store, sealingKey: { file: keyFile }, entry: 'dev' })) as X509Hsm;
    const credential = await hsm.tlsCredential(0, signal);
    expect(new X509Certificate(credential.certificateChainPem).toString()).toBe(readFileSync(certFile, 'utf8'));
    expect(createPrivateKey(credential.privateKeyPem).asymmetricKeyDetails?.namedCurve).toBe('secp384r1');
  });

  it('makes the authorities and devices of a test bench, each a chain to its root', async () => {
    const { folder, flags } = keysBench();
    const root = join(folder, 'root.pem');
    const certificate = ['--write-certificate'];
    await succeed([
      'make',
      '--key-name',
      'root',
      '--kind',
      'ca',
      '--common-name',
      'Bench Root',
      ...certificate,
      root,
      ...flags,
    ]);
    await succeed(['make', '--key-name', 'line', '--kind', 'ca', '--issuer', 'root', ...flags]);
    const device = join(folder, 'device.pem');
    const args = ['make', '--key-name', 'dev-1', '--kind', 'device', '--issuer', 'line', '--days', '30'];
    const made = await succeed([...args, ...certificate, device, ...flags]);
    expect(made).toMatchObject({ certificateFile: device, entry: { current: { certificate: { chainLength: 2 } } } });
    const { status, stdout, stderr } = spawnSync(
      'openssl',
      ['verify', '-purpose', 'sslclient', '-CAfile', root, '-untrusted', device, device],
      { encoding: 'utf8' },
    );
    expect([status, stdout, stderr]).toEqual([0, `${device}: OK\n`, '']);
    const other = await keys(['make', '--key-name', 'dev-2', '--kind', 'device', '--issuer', 'dev-1', ...flags]);
    expect(other.status).toBe(EXIT.usage);
    expect(other.io.err()).toContain('the entry dev-1 is no authority');
  });

  it.each(['ec-p256', 'ec-p384', 'rsa-2048'])('makes a certificate of its own with %s', async (algorithm) => {
    const { flags } = keysBench();
    const args = ['make', '--key-name', 'dev-1', '--kind', 'self-signed', '--algorithm', algorithm];
    const made = await succeed([...args, ...flags]);
    const certificate = new X509Certificate(String(made.certificateChainPem));
    expect(certificate.subject).toBe('CN=dev-1');
    expect(made.entry.current.certificate?.sha256).toBe(certificate.fingerprint256.replaceAll(':', ''));
    expect(JSON.stringify(made)).not.toContain('PRIVATE KEY');
  });

  it.each([
    [['--kind', 'symmetric-key'], '--key-name is missing'],
    [['--key-name', 'a'], '--kind is missing'],
    [['--key-name', 'a', '--kind', 'csr', '--write-key', 'x'], '--write-key does not go with --kind csr'],
    [['--key-name', 'a', '--kind', 'symmetric-key', '--issuer', 'b'], '--issuer does not go with --kind symmetric-key'],
    [['--key-name', 'a', '--kind', 'device'], '--issuer is missing'],
    [['--key-name', 'a', '--kind', 'ca', '--days', '0'], '--days: it must be a whole number of days'],
    [['--key-name', 'S3CRET+KEY=', '--kind', 'csr'], '--key-name: it must have 1 to 64 lower-case letters'],
    [
      ['--key-name', 'a', '--kind', 'csr', '--key-store-passphrase', 'S3CRET'],
      'There is no flag --key-store-passphrase. Every user',
    ],
    [['--key-name', 'a', '--kind', 'csr', '--key', 'S3CRET'], 'There is no flag --key: every user'],
  ])('%j is a usage error, and nothing of a secret is told', async (args, message) => {
    const { flags } = keysBench();
    const { status, io } = await keys(['make', ...args, ...flags]);
    expect(io.err()).toContain(message);
    expect(status).toBe(EXIT.usage);
    expect(io.err()).not.toContain('S3CRET');
  });

  it('tells a missing store and a missing seal', async () => {
    const { store } = keysBench();
    const args = ['make', '--key-name', 'a', '--kind', 'symmetric-key'];
    expect((await keys(args)).io.err()).toContain('--key-store is missing');
    expect((await keys([...args, '--key-store', store])).io.err()).toContain(
      'give --key-store-key-file or --key-store-passphrase-file',
    );
    expect(existsSync(store)).toBe(false);
  });

  it('looks whether its files can be written before it makes anything', async () => {
    const { folder, store, flags } = keysBench();
    const target = join(folder, 'nowhere', 'key');
    const args = ['make', '--key-name', 'a', '--kind', 'symmetric-key', '--write-key', target];
    expect((await keys([...args, ...flags])).status).toBe(EXIT.configuration);
    expect(existsSync(store)).toBe(false);
  });

  it('says that a key made without --write-key is nowhere else, and what to do', async () => {
    const { folder, flags } = keysBench();
    const made = await keys(['make', '--key-name', 'a', '--kind', 'symmetric-key', ...flags]);
    expect(made.status).toBe(EXIT.ok);
    expect(made.io.err()).toMatch(
      /\ncareful: .* nobody can enroll it\. .* keys remove .* keys make .* --write-key FILE\n$/,
    );
    const staging = ['rotate', '--key-name', 'a', '--step', 'stage', ...flags];
    const staged = await keys(staging);
    expect(staged.io.err()).toMatch(/^careful: .* keys rotate --step discard, .* --write-key FILE\n$/);
    const discarding = ['rotate', '--key-name', 'a', '--step', 'discard', ...flags];
    await succeed(discarding);
    expect((await keys([...staging, '--quiet'])).io.err()).toBe('');
    await succeed(discarding);
    const written = await keys([...staging, '--write-key', join(folder, 'a.key')]);
    expect([written.status, written.io.err()]).toEqual([EXIT.ok, '']);
    await succeed(discarding);
    const given = await keys([...staging, '--symmetric-key-file', join(folder, 'a.key')]);
    expect([given.status, given.io.err()]).toEqual([EXIT.ok, '']);
  });

  it('never replaces a file that may hold a key', async () => {
    const { folder, store, flags } = keysBench();
    const target = join(folder, 'sensor-17.key');
    writeFileSync(target, 'the only copy');
    const args = ['make', '--key-name', 'a', '--kind', 'symmetric-key', '--write-key', target];
    const { status, io } = await keys([...args, ...flags]);
    expect([status, io.out()]).toEqual([EXIT.configuration, '']);
    expect(io.err()).toContain('exists, and may be the only copy of a key. Give another path, or remove it first.');
    expect(readFileSync(target, 'utf8')).toBe('the only copy');
    expect(existsSync(store)).toBe(false);
  });
});

describe('keys import', () => {
  const base64 = randomBytes(64).toString('base64');

  it.each(['file', 'standard input', 'environment', 'credential'])('takes a symmetric key from %s', async (source) => {
    const { folder, store, keyFile, flags } = keysBench();
    const args = ['import', '--key-name', 'dev', '--registration-id', 'Dev-1', ...flags];
    if (source === 'file') await succeed([...args, '--symmetric-key-file', secretFile(folder, `${base64}\n`)]);
    if (source === 'standard input') await succeed([...args, '--symmetric-key-file', '-'], { stdin: `${base64}\n` });
    if (source === 'environment') await succeed(args, { env: { DPS_SYMMETRIC_KEY: base64 } });
    if (source === 'credential') {
      mkdirSync(join(folder, 'credentials'));
      writeFileSync(join(folder, 'credentials', 'dps-symmetric-key'), base64);
      await succeed(args, { env: { CREDENTIALS_DIRECTORY: join(folder, 'credentials') } });
    }
    expect(await symmetricKeysOf(store, keyFile, 'dev')).toEqual([base64]);
  });

  it('takes keys and chains in PEM, encrypted or not', async () => {
    const { folder, store, keyFile, flags } = keysBench();
    const root = await makeAuthority({ commonName: 'Root' });
    const authority = await makeAuthority({ commonName: 'Line', issuer: root });
    const leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client' });
    const [cert, chain] = [join(folder, 'cert.pem'), join(folder, 'chain.pem')];
    writeFileSync(cert, leaf.certificatePem);
    writeFileSync(chain, authority.certificatePem);
    const key = createPrivateKey(leaf.privateKeyPem);
    const encrypted = key.export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'opensesame' });
    const forms: [string, string | Buffer, Record<string, string>][] = [
      ['pkcs8', leaf.privateKeyPem, {}],
      ['sec1', key.export({ type: 'sec1', format: 'pem' }), {}],
      ['encrypted', encrypted, { DPS_KEY_PASSPHRASE: 'opensesame' }],
    ];
    for (const [name, pem, env] of forms) {
      const certificates = ['--cert-file', cert, '--chain-file', chain];
      const args = ['import', '--key-name', name, ...certificates, '--cert-key-file', secretFile(folder, String(pem))];
      const { entry } = await succeed([...args, ...flags], { env });
      expect(entry).toMatchObject({ registrationId: 'dev-1', current: { certificate: { chainLength: 2 } } });
      const hsm = (await keyStoreHsm({ directory: store, sealingKey: { file: keyFile }, entry: name })) as X509Hsm;
      expect((await hsm.tlsCredential(0, signal)).privateKeyPem).toBe(leaf.privateKeyPem);
    }
    const bad = [
      'import',
      '--key-name',
      'bad',
      '--cert-file',
      cert,
      '--cert-key-file',
      secretFile(folder, String(encrypted)),
    ];
    const wrong = await keys([...bad, ...flags], { env: { DPS_KEY_PASSPHRASE: 'wrong' } });
    expect(wrong.status).toBe(EXIT.hsm);
    expect(wrong.io.err()).toContain('the passphrase is wrong');
  });

  it('refuses what does not belong together, and files that others may read', async () => {
    const { folder, flags } = keysBench();
    const [one, two] = [await makeSelfSigned({ commonName: 'dev-1' }), await makeSelfSigned({ commonName: 'dev-1' })];
    const cert = join(folder, 'cert.pem');
    writeFileSync(cert, one.certificatePem);
    const args = ['import', '--key-name', 'dev', ...flags];
    const mismatch = await keys([
      ...args,
      '--cert-file',
      cert,
      '--cert-key-file',
      secretFile(folder, two.privateKeyPem),
    ]);
    expect([mismatch.status, mismatch.io.err()]).toEqual([
      EXIT.hsm,
      expect.stringContaining('ERR_DPS_HSM_KEY_MISMATCH'),
    ]);
    const open = await keys([
      ...args,
      '--cert-file',
      cert,
      '--cert-key-file',
      secretFile(folder, one.privateKeyPem, 0o640),
    ]);
    expect([open.status, open.io.err()]).toEqual([EXIT.hsm, expect.stringContaining('chmod 600')]);
    const both = await keys([...args, '--cert-file', cert, '--symmetric-key-file', secretFile(folder, base64)]);
    expect([both.status, both.io.err()]).toEqual([
      EXIT.usage,
      expect.stringContaining('does not go with a certificate'),
    ]);
    const nothing = await keys(args);
    expect([nothing.status, nothing.io.err()]).toEqual([EXIT.usage, expect.stringContaining('nothing to import')]);
    const text = await keys([...args, '--symmetric-key-file', secretFile(folder, 'not Base64!')]);
    expect([text.status, text.io.err()]).toEqual([EXIT.hsm, expect.stringContaining('is not Base64')]);
  });
});

describe('keys derive', () => {
  const derive = ['derive', '--registration-id', GROUP_MEMBER, '--group-key-file', '-'];

  it('prints the key when it is asked to, and nothing else', async () => {
    const env = { DPS_KEY_STORE: '/of/other/commands' };
    const { status, io } = await keys([...derive, '--print-key'], { stdin: `${GROUP_KEY}\n`, env });
    expect([status, io.out(), io.err()]).toEqual([EXIT.ok, `${MEMBER_KEY}\n`, '']);
  });

  it('writes it into a file, or a store, and then does not print it', async () => {
    const { folder, store, keyFile, flags } = keysBench();
    const file = join(folder, 'derived.key');
    const args = [...derive, '--write-key', file, '--key-name', 'dev', ...flags];
    const { status, io, result } = await keys(args, { stdin: GROUP_KEY });
    expect(status).toBe(EXIT.ok);
    expect(result).toMatchObject({ registrationId: GROUP_MEMBER, keyFile: file, entry: { name: 'dev' } });
    expect(readFileSync(file, 'utf8')).toBe(`${MEMBER_KEY}\n`);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(await symmetricKeysOf(store, keyFile, 'dev')).toEqual([MEMBER_KEY]);
    expect(io.out() + io.err()).not.toContain(MEMBER_KEY);
  });

  it('says what is missing', async () => {
    expect((await keys(derive, { stdin: GROUP_KEY })).io.err()).toContain('Nothing says where the key is to go');
    expect((await keys(['derive', '--print-key'])).io.err()).toContain('--group-key-file is missing');
    const bad = await keys([...derive, '--print-key'], { stdin: 'short' });
    expect([bad.status, bad.io.out()]).toEqual([EXIT.hsm, '']);
    const flag = await keys(['derive', '--group-key', GROUP_KEY]);
    expect([flag.status, flag.io.err()]).toEqual([EXIT.usage, expect.not.stringContaining(GROUP_KEY.slice(0, 12))]);
  });
});

describe('keys seal', () => {
  it('goes from a key file to a passphrase and back; then the old secret opens nothing', async () => {
    const { folder, store, flags } = keysBench();
    await succeed(['make', '--key-name', 'a', '--kind', 'symmetric-key', ...flags]);
    const phrase = { env: { DPS_NEW_KEY_STORE_PASSPHRASE: PASSPHRASE } };
    expect(await succeed(['seal', ...flags], phrase)).toEqual({ keyStore: store, sealedWith: 'passphrase' });
    const old = await keys(['list', ...flags]);
    expect([old.status, old.io.err()]).toEqual([
      EXIT.hsm,
      expect.stringContaining('is sealed with a passphrase, not a key: give --key-store-passphrase-file FILE'),
    ]);
    const wrong = await keys(['list', '--key-store', store], { env: { DPS_KEY_STORE_PASSPHRASE: 'wrong horse' } });
    expect([wrong.status, wrong.io.err()]).toEqual([
      EXIT.hsm,
      expect.stringContaining('The passphrase from DPS_KEY_STORE_PASSPHRASE does not open the key store'),
    ]);
    expect(wrong.io.err()).not.toContain('wrong horse');
    const next = join(folder, 'next.key');
    const passphraseFile = secretFile(folder, `${PASSPHRASE}\n`);
    const back = ['--key-store-passphrase-file', passphraseFile, '--new-key-store-key-file', next];
    await succeed(['seal', '--key-store', store, ...back]);
    const opened = await succeed(['list', '--key-store', store, '--key-store-key-file', next]);
    expect(opened).toMatchObject({ verified: true, entries: [{ name: 'a' }] });
  });

  it('takes a flag before the environment, and refuses two of a kind', async () => {
    const { flags, keyFile } = keysBench();
    await succeed(['make', '--key-name', 'a', '--kind', 'symmetric-key', ...flags]);
    const env = { DPS_KEY_STORE_PASSPHRASE: PASSPHRASE };
    expect(await succeed(['list', ...flags], { env })).toMatchObject({ verified: true });
    const both = await keys(['list', ...flags.slice(0, 2)], { env: { ...env, DPS_KEY_STORE_KEY_FILE: keyFile } });
    expect([both.status, both.io.err()]).toEqual([EXIT.usage, expect.stringContaining('are both given')]);
    const none = await keys(['seal', ...flags]);
    expect([none.status, none.io.err()]).toEqual([
      EXIT.usage,
      expect.stringContaining('give --new-key-store-key-file or --new-key-store-passphrase-file'),
    ]);
  });

  it('opens with the systemd credential dps-key-store-key', async () => {
    const { folder, store, keyFile, flags } = keysBench();
    await succeed(['make', '--key-name', 'a', '--kind', 'symmetric-key', ...flags]);
    mkdirSync(join(folder, 'credentials'));
    writeFileSync(join(folder, 'credentials', 'dps-key-store-key'), readFileSync(keyFile), { mode: 0o440 });
    const env = { CREDENTIALS_DIRECTORY: join(folder, 'credentials'), DPS_KEY_STORE: store };
    expect(await succeed(['list'], { env })).toMatchObject({ verified: true, entries: [{ name: 'a' }] });
  });
});

describe('keys rotate and remove', () => {
  it('rolls a symmetric key made here, and one that is given', async () => {
    const { folder, store, keyFile, flags } = keysBench();
    const files = ['one', 'two'].map((name) => join(folder, name)) as [string, string];
    await succeed(['make', '--key-name', 'a', '--kind', 'symmetric-key', '--write-key', files[0], ...flags]);
    const rotate = ['rotate', '--key-name', 'a', ...flags, '--step'];
    await succeed([...rotate, 'stage', '--write-key', files[1]]);
    const [one = '', two = ''] = files.map((file) => readFileSync(file, 'utf8').trim());
    expect(await symmetricKeysOf(store, keyFile, 'a')).toEqual([two, one]);
    await succeed([...rotate, 'commit']);
    expect(await symmetricKeysOf(store, keyFile, 'a')).toEqual([two]);
    await succeed([...rotate, 'stage', '--symmetric-key-file', '-'], { stdin: one });
    expect(await symmetricKeysOf(store, keyFile, 'a')).toEqual([one, two]);
    await succeed([...rotate, 'discard']);
    expect(await symmetricKeysOf(store, keyFile, 'a')).toEqual([two]);
    const again = await keys([...rotate, 'discard']);
    expect([again.status, again.io.err()]).toEqual([EXIT.hsm, expect.stringContaining('nothing to discard')]);
    const both = await keys([...rotate, 'stage', '--kind', 'symmetric-key', '--symmetric-key-file', '-'], {
      stdin: one,
    });
    expect(both.status).toBe(EXIT.usage);
  });

  it('removes an entry, and says when there is none', async () => {
    const { store, flags } = keysBench();
    await succeed(['make', '--key-name', 'a', '--kind', 'symmetric-key', ...flags]);
    expect(await succeed(['remove', '--key-name', 'a', ...flags])).toEqual({ keyStore: store, removed: 'a' });
    expect(readdirSync(store).sort()).toEqual(['store.a', 'store.b']);
    const again = await keys(['remove', '--key-name', 'a', ...flags]);
    expect([again.status, again.io.err()]).toEqual([EXIT.hsm, expect.stringContaining('There is no entry a')]);
  });

  it('is told to try later when somebody else changes the store', async () => {
    const { store, flags } = keysBench();
    await succeed(['make', '--key-name', 'a', '--kind', 'symmetric-key', ...flags]);
    const lock = await lockFile(join(store, 'lock'));
    const locked = await keys(['remove', '--key-name', 'a', ...flags]);
    await lock.release();
    expect([locked.status, locked.io.err()]).toEqual([EXIT.tryLater, expect.stringContaining('ERR_DPS_STORE_LOCKED')]);
  });
});

describe('help', () => {
  it.each(['make', 'import', 'list', 'derive', 'seal', 'rotate', 'remove'])(
    'of keys %s is its own',
    async (command) => {
      const { status, io } = await keys([command, '--help']);
      expect(status).toBe(EXIT.ok);
      expect(io.out()).toMatch(new RegExp(`^dps-device keys ${command}: `));
      expect(io.out()).toContain('--key-store DIR');
    },
  );

  it('of keys names its commands, as do the errors', async () => {
    expect((await keys(['--help'])).io.out()).toContain('keys rotate');
    expect((await keys([])).io.err()).toContain('which is one of make, import, list');
    const { status, io } = await keys(['rotat']);
    expect([status, io.err()]).toEqual([EXIT.usage, expect.stringContaining('Did you mean keys rotate?')]);
    expect((await keys(['S3CRET+/='])).io.err()).not.toContain('S3CRET');
  });
});
