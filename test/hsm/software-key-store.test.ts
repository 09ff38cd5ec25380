import {
  createHmac,
  createPrivateKey,
  createSecretKey,
  type KeyObject,
  randomBytes,
  X509Certificate,
} from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { type KeyStoreOptions, keyStoreHsm, listSealedEntries, openKeyStore } from '../../hsm/software-key-store.js';
import type { SymmetricKeyHsm, X509Hsm } from '../../src/core/attestation.js';
import { type DurableIo, nodeDurableIo } from '../../src/durable/durable-io.js';
import { issueCertificate, makeAuthority } from '../../src/emulator/pki.js';
import { describeHsmContract, expectNoSecrets } from '../contracts/hsm.js';
import { failureOf } from '../fakes/failure-of.js';
import {
  base64Of,
  certified,
  contentOf,
  keyFile,
  makeTestStore,
  PASSPHRASE,
  scratchFolder,
  symmetric,
} from './key-store/store-bench.js';

const { signal } = new AbortController();

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
