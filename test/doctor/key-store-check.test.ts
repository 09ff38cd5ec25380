import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { chmodSync, readdirSync, truncateSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { KeyMaterial } from '../../hsm/key-store/key-material.js';
import type { KeyStoreOptions } from '../../hsm/software-key-store.js';
import { checkKeyStore, type KeyStoreCheck } from '../../src/doctor/key-store-check.js';
import { lockFile } from '../../src/durable/file-lock.js';
import { issueCertificate, makeAuthority } from '../../src/emulator/index.js';
import { HsmError } from '../../src/errors.js';
import { systemClock } from '../../src/system-clock.js';
import { ManualClock } from '../fakes/manual-clock.js';
import {
  certified,
  contentOf,
  keyFile,
  makeTestStore,
  scratchFolder,
  symmetric,
} from '../hsm/key-store/store-bench.js';

const { signal } = new AbortController();

async function storeWith(material: KeyMaterial, name = 'device'): Promise<KeyStoreOptions & { entry: string }> {
  const { store, options } = await makeTestStore();
  await store.add(name, material);
  await store.close();
  return { ...options, entry: 'device' };
}

async function expired(): Promise<KeyMaterial> {
  const { privateKeyPem, certificatePem } = await issueCertificate(await makeAuthority({ commonName: 'CA' }), {
    commonName: 'dev-1',
    usage: 'client',
    notAfterMs: Date.now() - 1_000,
  });
  const key = createPrivateKey(privateKeyPem);
  return { kind: 'x509', key, certificates: [new X509Certificate(certificatePem)] };
}

/** Also sees to it that nothing is changed. */
async function check(options: KeyStoreOptions & { entry: string }): Promise<KeyStoreCheck & { told: string[] }> {
  const contentIn = () =>
    readdirSync(join(options.directory, '..')).includes('store') ? contentOf(options.directory) : {};
  const before = contentIn();
  const checked = await checkKeyStore(options, systemClock, signal);
  expect(contentIn()).toEqual(before);
  const told = checked.findings.map(({ check: name, verdict, error, message }) => {
    const code = error instanceof HsmError || error !== undefined ? (error as HsmError).code : '';
    return `${name} ${verdict}: ${code === '' ? message : code}`;
  });
  return { ...checked, told };
}

describe('checkKeyStore', () => {
  it('opens the store and finds the key', async () => {
    const options = await storeWith(symmetric('dev-1'));
    const { told, client } = await check(options);
    expect(told).toEqual([
      `key-store ok: The key store ${options.directory} can be opened.`,
      'key ok: The entry device holds a symmetric key.',
      'registration-id ok: The device registers as dev-1.',
    ]);
    expect(client).toBeUndefined();
  });

  it('does so while somebody else changes it', async () => {
    const options = await storeWith(symmetric('dev-1'));
    const lock = await lockFile(join(options.directory, 'lock'), { signal });
    const { told } = await check(options);
    await lock.release();
    expect(told.map((line) => line.split(':')[0])).toEqual(['key-store ok', 'key ok', 'registration-id ok']);
  });

  it('connects with the certificate of the entry, and says how long it is good for', async () => {
    const { told, client } = await check(await storeWith(await certified('dev-1')));
    expect(told.slice(1)).toEqual([
      'key ok: The entry device holds a private key with its certificate.',
      expect.stringMatching(/^expiry (ok|warning): .*20\d\d-/),
      'registration-id ok: The device registers as dev-1.',
    ]);
    expect(new X509Certificate(client?.certificateChainPem ?? '').subject).toBe('CN=dev-1');
    expect(client?.privateKeyPem).toContain('BEGIN PRIVATE KEY');
  });

  it('tells of a staged key, and of one of its two files that is damaged', async () => {
    const { store, options } = await makeTestStore();
    await store.add('device', symmetric('dev-1'));
    await store.stage('device', symmetric('dev-1'));
    await store.close();
    truncateSync(join(options.directory, 'entry-device.b'), 20);
    const { told, findings } = await check({ ...options, entry: 'device' });
    expect(told.slice(1, 3)).toEqual([
      expect.stringMatching(/^key-store warning: The entry device: .*entry-device\.b/),
      'key ok: The entry device holds a symmetric key; a staged one is tried first.',
    ]);
    expect(findings[1]?.fix).toBe('The next change of the entry writes that file anew.');
  });

  it('says where a certificate has expired', async () => {
    const { told, client } = await check(await storeWith(await expired()));
    expect(told.slice(1)).toEqual(['expiry failed: ERR_DPS_HSM_CERTIFICATE_EXPIRED']);
    expect(client).toBeUndefined();
  });

  it.each<[string, (options: KeyStoreOptions) => KeyStoreOptions, string]>([
    [
      'no folder',
      (options) => ({ ...options, directory: join(options.directory, 'none') }),
      'key-store failed: ERR_DPS_HSM_STORE_MISSING',
    ],
    [
      'another key',
      (options) => ({ ...options, sealingKey: { file: keyFile(scratchFolder(), 8) } }),
      'key-store failed: ERR_DPS_HSM_PASSPHRASE',
    ],
    [
      'no key',
      (options) => ({ ...options, sealingKey: { file: join(options.directory, 'no.key') } }),
      'permissions failed: ERR_DPS_HSM_FILE_UNREADABLE',
    ],
    [
      'a key for everybody',
      (options) => {
        const file = keyFile(scratchFolder());
        chmodSync(file, 0o644);
        return { ...options, sealingKey: { file } };
      },
      'permissions failed: ERR_DPS_HSM_FILE_MODE',
    ],
    [
      'a folder for everybody',
      (options) => {
        chmodSync(options.directory, 0o755);
        return options;
      },
      'permissions failed: ERR_DPS_STORE_MODE',
    ],
    [
      'a header that is damaged',
      (options) => {
        for (const slot of ['a', 'b']) truncateSync(join(options.directory, `store.${slot}`), 10);
        return options;
      },
      'key-store failed: ERR_DPS_HSM_STORE_DAMAGED',
    ],
  ])('says what is wrong: %s', async (_, spoil, expected) => {
    const { entry, ...options } = await storeWith(symmetric('dev-1'));
    const { told, findings } = await check({ ...spoil(options), entry });
    expect(told).toEqual([expected]);
    expect(findings[0]?.fix).toMatch(/\w{3}/);
  });

  it('says that a key has no certificate yet, and that a name is none of a device', async () => {
    const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const bare = await check(
      await storeWith({ kind: 'x509', key, registrationId: 'dev-1', certificates: [] } as KeyMaterial),
    );
    expect(bare.told.slice(1)).toEqual(['certificate failed: ERR_DPS_HSM_CERTIFICATE_INVALID']);
    const named = await check(await storeWith(await certified('no device')));
    expect(named.told.slice(1)).toEqual(['registration-id failed: ERR_DPS_HSM_REGISTRATION_ID']);
  });

  it('judges no certificate by a clock that is not set', async () => {
    const options = await storeWith(await expired());
    const { findings } = await checkKeyStore(options, new ManualClock(0), signal);
    expect(findings.map(({ check: name, verdict }) => `${name} ${verdict}`)).toContain('expiry skipped');
  });

  it('says that the entry is not there', async () => {
    const { told, findings } = await check(await storeWith(symmetric('dev-1'), 'other'));
    expect(told.slice(1)).toEqual(['key failed: ERR_DPS_HSM_ENTRY_MISSING']);
    expect(findings[1]?.fix).toBe('See what there is: dps-device keys list');
  });
});
