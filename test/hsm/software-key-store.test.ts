import {
  createHmac,
  createPrivateKey,
  createSecretKey,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import {
  chmodSync,
  constants,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { makePrivateKey, makeSigningRequest } from '../../hsm/key-store/signing-request.js';
import { withoutRemarks } from '../../hsm/key-store/store-header.js';
import { type KeyStoreOptions, keyStoreHsm, listSealedEntries, openKeyStore } from '../../hsm/software-key-store.js';
import type { SymmetricKeyHsm, X509Hsm } from '../../src/core/attestation.js';
import { type DurableIo, nodeDurableIo } from '../../src/durable/durable-io.js';
import { lockFile } from '../../src/durable/file-lock.js';
import { decodeSlot, encodeSlot } from '../../src/durable/slot.js';
import { issueCertificate, makeAuthority, makeSelfSigned } from '../../src/emulator/pki.js';
import { describeHsmContract, expectNoSecrets } from '../contracts/hsm.js';
import {
  base64Of,
  certified,
  failureOf,
  keyFile,
  makeTestStore,
  PASSPHRASE,
  scratchFolder,
  signRequest,
  symmetric,
} from './key-store/store-bench.js';

const { signal } = new AbortController();
const NEVER_MIND = { wallMs: () => Date.parse('2026-06-01T00:00:00Z') };

/** A store for a whole suite. */
async function lastingStore(): Promise<{ options: KeyStoreOptions; dispose: () => Promise<void> }> {
  const folder = mkdtempSync(join(tmpdir(), 'dps-device-keys-'));
  const options = { directory: join(folder, 'store'), sealingKey: { file: keyFile(folder) } };
  return { options, dispose: async () => rmSync(folder, { recursive: true, force: true }) };
}

function spellings(secret: Uint8Array): string[] {
  const bytes = Buffer.from(secret);
  return [bytes.toString('base64'), bytes.toString('hex'), bytes.subarray(0, 12).join(', '), bytes.toString('latin1')];
}

describeHsmContract('a key store with a symmetric key and a staged one', async () => {
  const { options, dispose } = await lastingStore();
  const store = await openKeyStore({ ...options, create: true });
  const keys = [randomBytes(64), randomBytes(32)].map((bytes) => createSecretKey(bytes));
  const [first, second] = keys as [KeyObject, KeyObject];
  await store.add('dev-1', symmetric('dev-1', first));
  await store.stage('dev-1', symmetric('dev-1', second));
  const hsm = await store.hsm('dev-1');
  return { hsm, registrationId: 'dev-1', secrets: keys.flatMap((key) => spellings(key.export())), dispose };
});

describeHsmContract('a key store with a certificate and a staged one', async () => {
  const { options, dispose } = await lastingStore();
  const store = await openKeyStore({ ...options, create: true });
  const [first, second] = [await certified('dev-1'), await certified('dev-1', 'EC-P384')];
  await store.add('dev-1', first);
  await store.stage('dev-1', second);
  const secrets = [first, second].flatMap(({ key }) =>
    spellings(key.export({ type: 'pkcs8', format: 'der' }) as Uint8Array),
  );
  return { hsm: await keyStoreHsm({ ...options, entry: 'dev-1' }), registrationId: 'dev-1', secrets, dispose };
});

describe('a key store', () => {
  it('keeps a symmetric key and signs with it', async () => {
    const { store, options } = await makeTestStore();
    const key = createSecretKey(randomBytes(64));
    await store.add('sensor-17', symmetric('Sensor:17', key));
    const hsm = (await keyStoreHsm({ ...options, entry: 'sensor-17' })) as SymmetricKeyHsm;
    expect(await hsm.registrationId(signal)).toBe('Sensor:17');
    expect(await hsm.exportKey?.(0, signal)).toBe(base64Of(key));
    const expected = createHmac('sha256', key).update('data').digest();
    expect(Buffer.from(await hsm.sign(Buffer.from('data'), 0, signal)).equals(expected)).toBe(true);
  });

  it.each(['EC-P256', 'EC-P384', 'RSA-2048'] as const)('keeps an %s key with its chain', async (keyAlgorithm) => {
    const { store, options } = await makeTestStore();
    const root = await makeAuthority({ commonName: 'Root' });
    const authority = await makeAuthority({ commonName: 'Intermediate', issuer: root });
    const leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client', keyAlgorithm });
    const certificates = [leaf.certificatePem, authority.certificatePem].map((pem) => new X509Certificate(pem));
    await store.add('dev-1', { kind: 'x509', key: createPrivateKey(leaf.privateKeyPem), certificates });
    const hsm = (await keyStoreHsm({ ...options, entry: 'dev-1' })) as X509Hsm;
    const credential = await hsm.tlsCredential(0, signal);
    expect(credential.privateKeyPem).toBe(leaf.privateKeyPem);
    expect(credential.certificateChainPem).toBe(certificates.map((each) => each.toString()).join(''));
    const [entry] = await store.list();
    expect(entry).toMatchObject({
      name: 'dev-1',
      kind: 'x509',
      registrationId: 'dev-1',
      current: {
        algorithm: { 'EC-P256': 'EC P-256', 'EC-P384': 'EC P-384', 'RSA-2048': 'RSA 2048' }[keyAlgorithm],
        certificate: {
          commonName: 'dev-1',
          chainLength: 2,
          sha256: certificates[0]?.fingerprint256.replaceAll(':', ''),
          sha1: certificates[0]?.fingerprint.replaceAll(':', ''),
        },
      },
      staged: undefined,
    });
  });

  it('opens with the passphrase however its accents are composed, and with nothing else', async () => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    const store = await openKeyStore({ directory, create: true, passphrase: 'caf\u00e9 au lait\n' });
    await store.add('dev-1', symmetric('dev-1'));
    await openKeyStore({ directory, passphrase: 'cafe\u0301 au lait' });
    const error = await failureOf(openKeyStore({ directory, passphrase: 'cafe au lait' }));
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_PASSPHRASE' });
    expect(error.message).toContain(`does not open the key store ${directory}`);
    expectNoSecrets(error, ['cafe au lait']);
    const other = await failureOf(openKeyStore({ directory, sealingKey: { file: keyFile(folder) } }));
    expect(other.message).toBe(
      `The key store ${directory} is sealed with a passphrase, not a key: give { file: … } as option hsm.passphrase.`,
    );
  });

  it('reads systemd credentials whatever their mode', async () => {
    const credentialsDirectory = scratchFolder();
    writeFileSync(join(credentialsDirectory, 'dps-key-store-key'), randomBytes(32), { mode: 0o444 });
    const directory = join(scratchFolder(), 'store');
    const options = { directory, sealingKey: { credential: 'dps-key-store-key' }, credentialsDirectory };
    await (await openKeyStore({ ...options, create: true })).add('dev-1', symmetric('dev-1'));
    expect(await (await openKeyStore(options)).list()).toHaveLength(1);
    for (const credential of ['../secret', '..', '']) {
      const error = await failureOf(openKeyStore({ ...options, sealingKey: { credential } }));
      expect(error).toMatchObject({ name: 'ConfigurationError' });
    }
  });

  it.each([
    [{}, 'ERR_DPS_CONFIG_MISSING_OPTION', 'Nothing opens the key store: give { file: … } as option hsm.passphrase'],
    [{ passphrase: 'x'.repeat(9), sealingKey: { file: 'x' } }, 'ERR_DPS_CONFIG_OPTION', 'not both'],
    [
      { passphrase: 5 },
      'ERR_DPS_CONFIG_OPTION',
      'must be a text, { file: path } or { credential: name }, not a number',
    ],
    [{ sealingKey: 'text' }, 'ERR_DPS_CONFIG_OPTION', 'must be { file: path } or { credential: name }, not a text'],
    [{ passphrase: 'short' }, 'ERR_DPS_HSM_PASSPHRASE', 'at least 8 characters'],
    [{ passphrase: '\n' }, 'ERR_DPS_HSM_PASSPHRASE', 'is empty'],
    [{ pasphrase: 'x' }, 'ERR_DPS_CONFIG_UNKNOWN_OPTION', 'Did you mean hsm.passphrase?'],
  ])('refuses to be made with %j', async (options, code, message) => {
    const directory = join(scratchFolder(), 'store');
    const error = await failureOf(openKeyStore({ directory, create: true, ...options } as KeyStoreOptions));
    expect(error.code).toBe(code);
    expect(error.message).toContain(message);
    expect(() => statSync(directory)).toThrow('ENOENT');
  });

  it('refuses a sealing key of another length, or that others may read', async () => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    const file = join(folder, 'sealing.key');
    writeFileSync(file, randomBytes(31), { mode: 0o600 });
    const short = await failureOf(openKeyStore({ directory, create: true, sealingKey: { file } }));
    expect(short.message).toContain('has 31 bytes; it must have exactly 32');
    chmodSync(file, 0o644);
    const open = await failureOf(openKeyStore({ directory, create: true, sealingKey: { file } }));
    expect(open).toMatchObject({ code: 'ERR_DPS_HSM_FILE_MODE' });
    expect(open.message).toContain(`chmod 600 ${file}`);
  });

  it('is not made where nobody asked for it, and says so before it asks for a secret', async () => {
    const directory = join(scratchFolder(), 'nowhere');
    const error = await failureOf(openKeyStore({ directory }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_STORE_MISSING' });
    expect(error.message).toContain(`dps-device keys make --key-store ${directory}`);
  });

  it('refuses names that are no names of files, without repeating them', async () => {
    const { store } = await makeTestStore();
    for (const name of ['../x', 'A', 'a/b', '', '.a', 'a.', 'k'.repeat(65), 'S3cr3t+key=']) {
      const error = await failureOf(store.add(name, symmetric('dev-1')));
      expect(error).toMatchObject({ name: 'ConfigurationError', option: 'hsm.entry' });
      expect(error.message).not.toContain('S3cr3t');
    }
  });

  it('knows what is there and what is not', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    expect(await failureOf(store.add('a', symmetric('dev-1')))).toMatchObject({ code: 'ERR_DPS_HSM_ENTRY_EXISTS' });
    for (const call of [
      () => store.describe('b'),
      () => store.hsm('b'),
      () => store.remove('b'),
      () => store.commit('b'),
      () => store.discard('b'),
      () => store.stage('b', symmetric('dev-1')),
      () => keyStoreHsm({ ...options, entry: 'b' }),
    ]) {
      const error = await failureOf(call());
      expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_ENTRY_MISSING' });
      expect(error.message).toContain('There is no entry b');
    }
    await store.remove('a');
    expect(await store.list()).toEqual([]);
    await store.add('a', symmetric('dev-2'));
  });

  it('does many things at once, each in its turn', async () => {
    const { store } = await makeTestStore();
    const names = Array.from({ length: 8 }, (_, index) => `dev-${index}`);
    await Promise.all(names.map((name) => store.add(name, symmetric(name))));
    expect((await store.list()).map(({ name }) => name)).toEqual(names);
  });

  it('forgets its key when it is closed', async () => {
    const { store } = await makeTestStore();
    await store.close();
    for (const call of [
      () => store.list(),
      () => store.hsm('a'),
      () => store.add('a', symmetric('a')),
      () => store.seal({ passphrase: PASSPHRASE }),
    ]) {
      expect((await failureOf(call())).message).toContain('has been closed');
    }
  });

  it('does nothing for a signal that has aborted, in any method', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.stage('a', symmetric('dev-1'));
    const before = contentOf(options.directory);
    const aborted = AbortSignal.abort(new Error('enough'));
    for (const call of [
      () => openKeyStore(options, aborted),
      () => openKeyStore({ ...options, directory: `${options.directory}-2`, create: true }, aborted),
      () => listSealedEntries({ directory: options.directory }, aborted),
      () => store.list(aborted),
      () => store.describe('a', aborted),
      () => store.hsm('a', aborted),
      () => store.add('b', symmetric('dev-1'), aborted),
      () => store.stage('a', symmetric('dev-1'), aborted),
      () => store.commit('a', aborted),
      () => store.discard('a', aborted),
      () => store.remove('a', aborted),
      () => store.seal({ passphrase: PASSPHRASE }, aborted),
    ]) {
      expect(await failureOf(call())).toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: { message: 'enough' } });
    }
    expect(contentOf(options.directory)).toEqual(before);
  });

  it('gives the lock back after a change that was cancelled half way', async () => {
    const { store } = await makeTestStore();
    const controller = new AbortController();
    const adding = store.add('a', symmetric('dev-1'), controller.signal);
    controller.abort(new Error('enough'));
    expect(await failureOf(adding)).toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await store.add('b', symmetric('dev-1'));
  });

  it('keeps the lock for as long as a cancelled write still goes on', async () => {
    const { store, options } = await makeTestStore();
    await store.close();
    const controller = new AbortController();
    const events: string[] = [];
    const io: DurableIo = {
      ...nodeDurableIo,
      unlink: (path) => {
        if (path.endsWith('/lock')) events.push('unlocked');
        return nodeDurableIo.unlink(path);
      },
      rename: async (from, to) => {
        controller.abort(new Error('enough'));
        // Time enough to give the lock back, for who does not wait.
        for (let turn = 0; turn < 2000 && events.length === 0; turn += 1) {
          await new Promise((resolve) => setImmediate(resolve));
        }
        await nodeDurableIo.rename(from, to);
        events.push('written');
      },
    };
    const slow = await openKeyStore({ ...options, io });
    const error = await failureOf(slow.add('a', symmetric('dev-1'), controller.signal));
    expect(error).toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await slow.close();
    expect(events).toEqual(['written', 'unlocked']);
  });

  it('shows nothing when it is printed', async () => {
    const { store } = await makeTestStore();
    const key = createSecretKey(randomBytes(64));
    await store.add('a', symmetric('dev-1', key));
    expectNoSecrets(
      [store, await store.list(), await store.describe('a')],
      [...spellings(key.export()), '\u0007'.repeat(8)],
    );
    expect(inspect(store)).toBe('SoftwareKeyStore {}');
  });
});

describe('a key roll', () => {
  it('tries the staged key first, and keeps the one in use until the hub accepted it', async () => {
    const { store } = await makeTestStore();
    const [old, next] = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
    await store.add('a', symmetric('dev-1', old));
    await store.stage('a', symmetric('dev-1', next));
    const hsm = await store.hsm('a');
    expect(hsm.slots).toBe(2);
    expect(hsm.stagedSlot).toBe(0);
    expect(await keysOf(hsm)).toEqual([base64Of(next), base64Of(old)]);
    await hsm.accepted(1, signal);
    expect((await store.describe('a')).staged).toBeDefined();
    await hsm.accepted(0, signal);
    await hsm.accepted(0, signal);
    expect((await store.describe('a')).staged).toBeUndefined();
    const after = await store.hsm('a');
    expect(after.stagedSlot).toBeUndefined();
    expect(await keysOf(after)).toEqual([base64Of(next)]);
  });

  it('never commits another key than the one that was accepted', async () => {
    const { store } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.stage('a', symmetric('dev-1'));
    const hsm = await store.hsm('a');
    await store.discard('a');
    expect((await failureOf(hsm.accepted(0, signal))).message).toContain('There is nothing to commit');
    await store.stage('a', symmetric('dev-1'));
    expect((await failureOf(hsm.accepted(0, signal))).message).toContain('another was staged since');
    expect((await store.describe('a')).staged).toBeDefined();
  });

  it('can be discarded', async () => {
    const { store } = await makeTestStore();
    const old = createSecretKey(randomBytes(64));
    await store.add('a', symmetric('dev-1', old));
    expect((await failureOf(store.discard('a'))).message).toContain('There is nothing to discard');
    expect((await failureOf(store.commit('a'))).message).toContain('There is nothing to commit');
    await store.stage('a', symmetric('dev-1'));
    await store.discard('a');
    expect(await keysOf(await store.hsm('a'))).toEqual([base64Of(old)]);
  });

  it('is for the same device, with a key of the same kind, one at a time', async () => {
    const { store } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    expect(await failureOf(store.stage('a', symmetric('dev-2')))).toMatchObject({
      code: 'ERR_DPS_HSM_REGISTRATION_ID',
      message: expect.stringContaining('is for the registration id "dev-1"'),
    });
    expect((await failureOf(store.stage('a', await certified('dev-1')))).message).toContain('holds a symmetric key');
    await store.stage('a', symmetric('dev-1'));
    expect((await failureOf(store.stage('a', symmetric('dev-1')))).message).toContain('has a staged key already');
  });

  it('takes a certificate for a key whose request was signed elsewhere', async () => {
    const { store } = await makeTestStore();
    const key = await makePrivateKey('ec-p256');
    await store.add('a', { kind: 'x509', key, certificates: [], registrationId: 'dev-1' });
    const waiting = await failureOf(store.hsm('a'));
    expect(waiting).toMatchObject({ code: 'ERR_DPS_HSM_CERTIFICATE_INVALID' });
    expect(waiting.message).toContain('keys import --key-name a --cert-file');
    const other = new X509Certificate((await makeSelfSigned({ commonName: 'dev-1' })).certificatePem);
    expect(await failureOf(store.attach('a', [other], 'other.pem'))).toMatchObject({
      code: 'ERR_DPS_HSM_KEY_MISMATCH',
    });
    const mine = await signRequest(makeSigningRequest(key, 'dev-1'));
    const wrongName = await signRequest(makeSigningRequest(key, 'dev-2'));
    expect(await failureOf(store.attach('a', [wrongName], 'x.pem'))).toMatchObject({
      code: 'ERR_DPS_HSM_REGISTRATION_ID',
    });
    await store.attach('a', [mine], 'mine.pem');
    expect(await (await store.hsm('a')).registrationId(signal)).toBe('dev-1');
  });

  it('leaves out a certificate that is out of date as long as there is another', async () => {
    const { store } = await makeTestStore({ clock: NEVER_MIND });
    const old = await makeSelfSigned({
      commonName: 'dev-1',
      notBeforeMs: Date.parse('2024-01-01'),
      notAfterMs: Date.parse('2025-01-01'),
    });
    const good = await makeSelfSigned({
      commonName: 'dev-1',
      notBeforeMs: Date.parse('2026-01-01'),
      notAfterMs: Date.parse('2027-01-01'),
    });
    const [expired, valid] = [old, good].map(({ privateKeyPem, certificatePem }) => ({
      kind: 'x509' as const,
      key: createPrivateKey(privateKeyPem),
      certificates: [new X509Certificate(certificatePem)],
    }));
    if (expired === undefined || valid === undefined) throw new Error('unreachable');
    await store.add('a', expired);
    expect(await failureOf(store.hsm('a'))).toMatchObject({ code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED' });
    await store.stage('a', valid);
    const hsm = (await store.hsm('a')) as X509Hsm & { stagedSlot: number | undefined };
    expect([hsm.slots, hsm.stagedSlot]).toEqual([1, 0]);
    expect((await hsm.tlsCredential(0, signal)).privateKeyPem).toBe(good.privateKeyPem);
  });

  it('cannot commit a key without certificate', async () => {
    const { store } = await makeTestStore();
    await store.add('a', await certified('dev-1'));
    await store.stage('a', { kind: 'x509', key: await makePrivateKey('ec-p256'), certificates: [] });
    expect((await store.hsm('a')).slots).toBe(1);
    expect((await failureOf(store.commit('a'))).message).toContain('has no certificate yet');
  });
});

describe('re-sealing', () => {
  it('moves from passphrase to key and back; the old secret opens nothing any more, the spare copy included', async () => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    const sealingKey = { file: keyFile(folder) };
    const first = await openKeyStore({ directory, create: true, passphrase: PASSPHRASE });
    await first.add('a', symmetric('dev-1'));
    const entryBefore = readFileSync(join(directory, 'entry-a.a'));
    await first.seal({ sealingKey });
    expect(readFileSync(join(directory, 'entry-a.a')).equals(entryBefore)).toBe(true);
    expect(await failureOf(openKeyStore({ directory, passphrase: PASSPHRASE }))).toMatchObject({
      code: 'ERR_DPS_HSM_PASSPHRASE',
    });
    for (const slot of ['store.a', 'store.b']) {
      const path = join(directory, slot);
      renameSync(path, `${path}.kept`);
      expect(await failureOf(openKeyStore({ directory, passphrase: PASSPHRASE }))).toMatchObject({
        code: 'ERR_DPS_HSM_PASSPHRASE',
      });
      expect(await (await openKeyStore({ directory, sealingKey })).list()).toHaveLength(1);
      renameSync(`${path}.kept`, path);
    }
    const second = await openKeyStore({ directory, sealingKey });
    await second.seal({ passphrase: `${PASSPHRASE}!` });
    expect(await failureOf(openKeyStore({ directory, sealingKey }))).toMatchObject({ code: 'ERR_DPS_HSM_PASSPHRASE' });
    // A store that was open before has the data key, and goes on.
    await first.add('b', symmetric('dev-1'));
    expect(await (await openKeyStore({ directory, passphrase: `${PASSPHRASE}!` })).list()).toHaveLength(2);
  });

  it('makes up for a second write that never happened, at the next change', async () => {
    const { store, options } = await makeTestStore();
    const { directory } = options;
    const file = readFileSync(join(directory, 'store.b'));
    const other = keyFile(scratchFolder(), 9);
    await store.seal({ sealingKey: { file: other } });
    // As a power cut between the two writes leaves it: the newest slot with the remark, the other sealed as before.
    const slots = ['a', 'b'].map((letter) => ({ letter, slot: slotOf(join(directory, `store.${letter}`)) }));
    const [newest] = slots.sort((one, two) => two.slot.generation - one.slot.generation);
    if (newest === undefined) throw new Error('unreachable');
    const marked = Buffer.concat([newest.slot.bytes, Buffer.from('spare-is-older\n')]);
    writeFileSync(join(directory, `store.${newest.letter}`), encodeSlot('store', { ...newest.slot, bytes: marked }));
    const spare = join(directory, `store.${newest.letter === 'a' ? 'b' : 'a'}`);
    writeFileSync(spare, file);
    const reopened = await openKeyStore({ directory, sealingKey: { file: other } });
    expect(readFileSync(spare).equals(file)).toBe(true);
    await reopened.add('a', symmetric('dev-1'));
    expect(readFileSync(spare).equals(file)).toBe(false);
    expect(withoutRemarks(slotOf(spare).bytes)).toEqual(withoutRemarks(newest.slot.bytes));
  });
});

describe('files that are not as they should be', () => {
  it.each([
    ['a file', 'entry-a.a', 0o640, 'ERR_DPS_STORE_MODE', 'chmod 600'],
    ['the header', 'store.a', 0o604, 'ERR_DPS_STORE_MODE', 'chmod 600'],
    ['the folder', '', 0o755, 'ERR_DPS_STORE_MODE', 'chmod 700'],
  ])('%s with a mode for others is refused with the fix', async (_, name, mode, code, fix) => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const path = join(options.directory, name);
    chmodSync(path, mode);
    const error = await failureOf(keyStoreHsm({ ...options, entry: 'a' }));
    expect(error).toMatchObject({ code });
    expect(error.message).toContain(`${fix} ${path.replace(/\/$/, '')}`);
    chmodSync(path, name === '' ? 0o700 : 0o600);
    await keyStoreHsm({ ...options, entry: 'a' });
  });

  it('a foreign owner is refused with the fix', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const { uid } = statSync(options.directory);
    const io = { ...nodeDurableIo, userId: uid + 1 };
    const error = await failureOf(keyStoreHsm({ ...options, io, entry: 'a' }));
    expect(error).toMatchObject({ name: 'StoreError', code: 'ERR_DPS_STORE_OWNER' });
    expect(error.message).toContain(
      `${options.directory} belongs to user ${uid}, and this process runs as user ${uid + 1}.`,
    );
    expect(error.message).toContain(`chown ${uid + 1} ${options.directory}`);
    // One file alone, in a folder that is in order.
    const lyingIo = { ...nodeDurableIo, open: openAsOwnedBy(join(options.directory, 'entry-a.a'), uid + 1) };
    const one = await failureOf(keyStoreHsm({ ...options, io: lyingIo, entry: 'a' }));
    expect(one).toMatchObject({
      code: 'ERR_DPS_STORE_OWNER',
      message: expect.stringContaining('entry-a.a belongs to user'),
    });
  });

  it.each([
    ['ENOSPC', 'ERR_DPS_STORE_FULL', 'Free space'],
    ['EROFS', 'ERR_DPS_STORE_READ_ONLY', 'Mount it writable'],
  ])('a disk with %s says so, keeps what there is, and can be read', async (systemCode, code, fix) => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.stage('a', symmetric('dev-1'));
    const before = contentOf(options.directory);
    const io: DurableIo = {
      ...nodeDurableIo,
      mkdir: async () => fail(systemCode),
      open: async (path, flags, mode) =>
        (flags & constants.O_CREAT) === 0 ? nodeDurableIo.open(path, flags, mode) : fail(systemCode),
    };
    const stuck = await openKeyStore({ ...options, io });
    for (const call of [
      () => stuck.add('b', symmetric('dev-1')),
      () => stuck.stage('a', symmetric('dev-1')),
      () => stuck.commit('a'),
      () => stuck.discard('a'),
      () => stuck.remove('a'),
      () => stuck.seal({ passphrase: PASSPHRASE }),
      () => openKeyStore({ ...options, directory: `${options.directory}-2`, io, create: true }),
    ]) {
      const error = await failureOf(call());
      expect(error).toMatchObject({ name: 'StoreError', code });
      expect(error.message).toContain(fix);
    }
    expect(contentOf(options.directory)).toEqual(before);
    expect((await keyStoreHsm({ ...options, io, entry: 'a' })).slots).toBe(2);
  });

  it('a store that somebody else is changing is locked, and can be read', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const lock = await lockFile(join(options.directory, 'lock'));
    for (const call of [
      () => store.add('b', symmetric('dev-1')),
      () => store.stage('a', symmetric('dev-1')),
      () => store.remove('a'),
      () => store.seal({ passphrase: PASSPHRASE }),
    ]) {
      expect(await failureOf(call())).toMatchObject({ code: 'ERR_DPS_STORE_LOCKED', retryable: true });
    }
    await keyStoreHsm({ ...options, entry: 'a' });
    await lock.release();
    await store.remove('a');
  });

  it('swapped entry files are found out, also by whoever mends their checksums', async () => {
    const { store, options } = await makeTestStore();
    const { directory } = options;
    await store.add('a', symmetric('dev-1'));
    await store.add('b', symmetric('dev-2'));
    copyFileSync(join(directory, 'entry-a.a'), join(directory, 'kept'));
    copyFileSync(join(directory, 'entry-b.a'), join(directory, 'entry-a.a'));
    const plain = await failureOf(store.hsm('a'));
    expect(plain).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(plain.message).toContain('it was made under another name');
    writeFileSync(join(directory, 'entry-a.a'), encodeSlot('entry-a', slotOf(join(directory, 'entry-b.a'), 'entry-b')));
    const mended = await failureOf(store.hsm('a'));
    expect(mended).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(mended.message).toContain('it was made for the entry "b"');
    expect(await store.list()).toMatchObject([{ name: 'a', problem: mended.message }, { name: 'b' }]);
    copyFileSync(join(directory, 'kept'), join(directory, 'entry-a.a'));
    await store.hsm('a');
  });

  it.each([
    ['its name', (label: Label) => ({ ...label, name: 'a' }), 'changed after it was sealed'],
    ['its registration id', (label: Label) => ({ ...label, registrationId: 'dev-9' }), 'changed after it was sealed'],
    ['its kind', (label: Label) => ({ ...label, kind: 'x509' }), 'changed after it was sealed'],
    [
      'the id of its key',
      (label: Label) => ({ ...label, current: { id: '0'.repeat(16), algorithm: 'x' } }),
      'changed after it was sealed',
    ],
    ['its generation', (label: Label) => ({ ...label, generation: 2 }), 'changed after it was sealed'],
    ['its store', (label: Label) => ({ ...label, store: '0'.repeat(32) }), 'belongs to another key store'],
    ['its type', (label: Label) => ({ ...label, type: 'x' }), 'is not that of an entry'],
    ['its format', (label: Label) => ({ ...label, format: 0 }), 'makes no sense'],
  ])('a label with %s changed does not open', async (what, change, message) => {
    const { store, options } = await makeTestStore();
    await store.add('b', symmetric('dev-1'));
    const path = join(options.directory, 'entry-b.a');
    const slot = slotOf(path, 'entry-b');
    const [line = '', ...rest] = Buffer.from(slot.bytes).toString().split('\n');
    const text = [JSON.stringify(change(JSON.parse(line) as Label)), ...rest].join('\n');
    const name = what === 'its name' ? 'a' : 'b';
    const target = join(options.directory, `entry-${name}.a`);
    writeFileSync(target, encodeSlot(`entry-${name}`, { ...slot, bytes: Buffer.from(text) }), {
      mode: 0o600,
    });
    const error = await failureOf(store.hsm(name));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(error.message).toContain(message);
  });

  it('an entry of a later format is left alone', async () => {
    const { store, options } = await makeTestStore();
    await store.add('b', symmetric('dev-1'));
    const path = join(options.directory, 'entry-b.a');
    const slot = slotOf(path, 'entry-b');
    const bytes = Buffer.from(Buffer.from(slot.bytes).toString().replace('"format":1', '"format":2'));
    writeFileSync(path, encodeSlot('entry-b', { ...slot, bytes }));
    expect(await failureOf(store.hsm('b'))).toMatchObject({ code: 'ERR_DPS_STORE_NEWER_FORMAT' });
    for (const path of ['store.a', 'store.b'].map((file) => join(options.directory, file))) {
      const header = slotOf(path);
      const newer = Buffer.from(Buffer.from(header.bytes).toString().replace('"format":1', '"format":2'));
      writeFileSync(path, encodeSlot('store', { ...header, bytes: newer }));
    }
    expect(await failureOf(openKeyStore(options))).toMatchObject({ code: 'ERR_DPS_STORE_NEWER_FORMAT' });
  });

  it('a truncated file gives way to the one before, which is told; without one it is damaged, and can be replaced', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.stage('a', symmetric('dev-1'));
    const newest = join(options.directory, 'entry-a.b');
    truncateSync(newest, 200);
    const [entry] = await store.list();
    expect(entry).toMatchObject({
      name: 'a',
      staged: undefined,
      warning: expect.stringContaining('entry-a.b is damaged'),
    });
    truncateSync(join(options.directory, 'entry-a.a'), 0);
    for (const call of [
      () => store.hsm('a'),
      () => store.stage('a', symmetric('dev-1')),
      () => store.add('a', symmetric('dev-1')),
    ]) {
      const error = await failureOf(call());
      expect(error).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
      expect(error.message).toContain('dps-device keys remove --key-name a');
    }
    expect(await store.list()).toMatchObject([{ name: 'a', problem: expect.stringContaining('is empty') }]);
    await store.remove('a');
    await store.add('a', symmetric('dev-1'));
  });

  it('a header that is gone is never made anew over entries, and a damaged one says what is lost', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const { directory } = options;
    for (const letter of ['a', 'b']) truncateSync(join(directory, `store.${letter}`), 100);
    expect(await failureOf(openKeyStore({ ...options, create: true }))).toMatchObject({
      code: 'ERR_DPS_HSM_STORE_DAMAGED',
    });
    for (const letter of ['a', 'b']) rmSync(join(directory, `store.${letter}`));
    const error = await failureOf(openKeyStore({ ...options, create: true }));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
    expect(error.message).toContain('Put the folder back from a backup');
    expect(await failureOf(store.add('b', symmetric('dev-1')))).toMatchObject({ code: 'ERR_DPS_HSM_STORE_DAMAGED' });
  });

  it('a folder that was replaced by another store is not written into', async () => {
    const { store, options } = await makeTestStore();
    rmSync(options.directory, { recursive: true });
    await openKeyStore({ ...options, create: true });
    expect((await failureOf(store.add('a', symmetric('dev-1')))).message).toContain('holds another key store');
  });

  it.each([
    ['too much memory', { log2N: 24 }],
    ['too little work', { log2N: 10 }],
    ['too many passes', { p: 1000 }],
    ['blocks of another size', { r: 1024 }],
    ['fractions', { log2N: 15.5 }],
    ['no numbers', { p: '3' }],
    ['no salt', { salt: '' }],
    ['another derivation', { kdf: 'argon2id' }],
    ['another kind', { kind: 'tpm' }],
  ])('a header that asks for %s is refused before anything is derived', async (_, change) => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    await openKeyStore({ directory, create: true, passphrase: PASSPHRASE });
    for (const letter of ['a', 'b']) {
      const path = join(directory, `store.${letter}`);
      const slot = slotOf(path);
      const [line = '', ...rest] = Buffer.from(slot.bytes).toString().split('\n');
      const label = JSON.parse(line) as { sealing: object };
      const text = [JSON.stringify({ ...label, sealing: { ...label.sealing, ...change } }), ...rest].join('\n');
      writeFileSync(path, encodeSlot('store', { ...slot, bytes: Buffer.from(text) }));
    }
    expect(await failureOf(openKeyStore({ directory, passphrase: PASSPHRASE }))).toMatchObject({
      code: 'ERR_DPS_HSM_STORE_DAMAGED',
      message: expect.stringContaining('does not say in a way known here how it is sealed'),
    });
  });

  it('lists by labels without a secret', async () => {
    const { store, options } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.add('b', await certified('dev-2'));
    expect(await listSealedEntries({ directory: options.directory })).toEqual(await store.list());
    const missing = join(options.directory, 'nowhere');
    expect(await failureOf(listSealedEntries({ directory: missing }))).toMatchObject({
      code: 'ERR_DPS_HSM_STORE_MISSING',
    });
  });

  it('leaves other files in the folder alone', async () => {
    const { store, options } = await makeTestStore();
    await store.add('x.a', symmetric('dev-1'));
    await store.add('x', symmetric('dev-1'));
    for (const name of ['entry-UPPER.a', 'README']) writeFileSync(join(options.directory, name), '', { mode: 0o600 });
    mkdirSync(join(options.directory, 'lost+found'));
    expect((await store.list()).map(({ name }) => name)).toEqual(['x', 'x.a']);
  });
});

describe('no file of the store', () => {
  it('has a key in plain, in any spelling', async () => {
    const folder = scratchFolder();
    const directory = join(folder, 'store');
    const store = await openKeyStore({ directory, create: true, passphrase: PASSPHRASE });
    const keys = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
    const pairs = [await certified('dev-2'), await certified('dev-2', 'RSA-2048')];
    const [first, second] = keys as [KeyObject, KeyObject];
    const [pair, nextPair] = pairs;
    if (pair === undefined || nextPair === undefined) throw new Error('unreachable');
    await store.add('a', symmetric('dev-1', first));
    await store.stage('a', symmetric('dev-1', second));
    await store.add('b', pair);
    await store.stage('b', nextPair);
    const secrets = [...keys.map((key) => key.export()), ...pairs.flatMap(({ key }) => privateParts(key))];
    const needles = [...secrets.flatMap(needlesOf), Buffer.from(PASSPHRASE)];
    expect(needles.length).toBeGreaterThan(20);
    const scanned = scan(directory, needles);
    expect(scanned).toEqual({ files: expect.any(Number), found: [] });
    expect(scanned.files).toBeGreaterThanOrEqual(6);
    await store.commit('a');
    await store.seal({ sealingKey: { file: keyFile(folder) } });
    await store.discard('b');
    expect(scan(directory, [...needles, ...needlesOf(new Uint8Array(32).fill(7))]).found).toEqual([]);
    // The scan finds what is there.
    writeFileSync(join(directory, 'leak'), needles[0] ?? '');
    expect(scan(directory, needles).found).toEqual(['leak']);
  });
});

function fail(code: string): never {
  throw Object.assign(new Error(`${code}: simulated`), { code });
}

/** The real files, but for one that seems to belong to somebody else. */
function openAsOwnedBy(path: string, userId: number): DurableIo['open'] {
  return async (opened, flags, mode) => {
    const file = await nodeDurableIo.open(opened, flags, mode);
    if (opened === path)
      Object.assign(file, { stat: async () => ({ kind: 'file', userId, mode: 0o600, sizeBytes: 1 }) });
    return file;
  };
}

interface Label {
  readonly name: string;
}

function contentOf(directory: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'base64')]),
  );
}

function slotOf(path: string, name = 'store'): { format: number; generation: number; bytes: Uint8Array } {
  const decoded = decodeSlot(name, readFileSync(path));
  if (decoded.kind !== 'slot') throw new Error(decoded.what);
  return decoded.slot;
}

async function keysOf(hsm: { kind: string; slots?: number }): Promise<(string | undefined)[]> {
  const slots = Array.from({ length: hsm.slots ?? 1 }, (_, slot) => slot);
  return Promise.all(slots.map((slot) => (hsm as SymmetricKeyHsm).exportKey?.(slot, signal)));
}

/** The whole key, and what alone makes it secret. */
function privateParts(key: KeyObject): Uint8Array[] {
  const { d = '', p = '', q = '' } = key.export({ format: 'jwk' });
  return [
    key.export({ type: 'pkcs8', format: 'der' }),
    ...[d, p, q].filter((part) => part !== '').map((part) => Buffer.from(part, 'base64url')),
  ];
}

/** The bytes, and 18 of them in hex and in Base64 at each of the three offsets a text may have. */
function needlesOf(secret: Uint8Array): Buffer[] {
  const middle = Math.max(0, Math.floor(secret.length / 2) - 12);
  const part = Buffer.from(secret.subarray(middle, middle + 24));
  const base64 = [0, 1, 2].map((offset) => Buffer.from(part.subarray(offset, offset + 18).toString('base64')));
  return [part, Buffer.from(part.toString('hex')), ...base64];
}

function scan(directory: string, needles: readonly Buffer[]): { files: number; found: string[] } {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(directory, name)).isFile(),
  );
  const found = names.filter((name) => {
    const content = readFileSync(join(directory, name));
    // PEM breaks Base64 into lines.
    const joined = Buffer.from(content.toString('latin1').replace(/\s|\\n/g, ''), 'latin1');
    return needles.some((needle) => content.includes(needle) || joined.includes(needle));
  });
  return { files: names.length, found };
}
