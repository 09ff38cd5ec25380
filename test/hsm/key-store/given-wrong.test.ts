import { createPublicKey, createSecretKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { openEntry, sealEntry } from '../../../hsm/key-store/entry.js';
import { newEntry } from '../../../hsm/key-store/entry-change.js';
import type { KeyMaterial } from '../../../hsm/key-store/key-material.js';
import { sealBox } from '../../../hsm/key-store/sealed-box.js';
import { type KeyStoreHsmOptions, keyStoreHsm, openKeyStore } from '../../../hsm/software-key-store.js';
import { failureOf } from '../../fakes/failure-of.js';
import { certified, makeTestStore, symmetric } from './store-bench.js';

const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const secretKey = createSecretKey(randomBytes(32));

describe('what is to be added to a key store', () => {
  it.each<[string, unknown, string]>([
    ['null', null, 'it is null'],
    ['a number', 5, 'it is a number'],
    ['nothing known', {}, 'its kind is neither'],
    ['a kind of everyone', { kind: '__proto__' }, 'its kind is neither'],
    ['no key', { kind: 'symmetricKey', registrationId: 'd' }, 'with a secret key, not undefined'],
    ['a key as text', { kind: 'x509', key: 'canary', certificates: [] }, 'with a private key, not a text'],
    ['a key of the other kind', { kind: 'symmetricKey', registrationId: 'd', key: privateKey }, 'not a private key'],
    ['a public key', { kind: 'x509', key: createPublicKey(privateKey), certificates: [] }, 'not a public key'],
    ['no registration id', { kind: 'symmetricKey', key: secretKey }, 'registrationId cannot be used (undefined)'],
    ['a bad one', { kind: 'symmetricKey', key: secretKey, registrationId: 'a b' }, 'registrationId cannot be used'],
    ['no certificates', { kind: 'x509', key: privateKey }, 'must be a list of X509Certificate'],
    ['certificates as text', { kind: 'x509', key: privateKey, certificates: ['canary'] }, 'a list of X509Certificate'],
  ])('is refused as %s, and not repeated', async (_, material, words) => {
    const { store } = await makeTestStore();
    const error = await failureOf(store.add('a', material as KeyMaterial));
    expect(error).toMatchObject({ name: 'ConfigurationError', code: 'ERR_DPS_CONFIG_OPTION', option: 'material' });
    expect(error.message).toContain(words);
    expect(error.message).not.toContain('canary');
    expect(await store.list()).toEqual([]);
  });

  it('is taken when it is what its type says', async () => {
    const { store } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.add('b', await certified('dev-1'));
    await store.add('c', { kind: 'x509', key: privateKey, certificates: [] });
    expect((await store.list()).map(({ name }) => name)).toEqual(['a', 'b', 'c']);
  });
});

describe('an option of a key store', () => {
  it.each([
    ['dir', 'Did you mean hsm.directory?'],
    ['pasphrase', 'Did you mean hsm.passphrase?'],
    ['ios', 'Known are directory, create, passphrase, sealingKey, credentialsDirectory.'],
  ])('that is unknown, %s, names documented ones only', async (name, words) => {
    const { options } = await makeTestStore();
    const error = await failureOf(openKeyStore({ ...options, [name]: 'x' }));
    expect(error).toMatchObject({ code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION', option: `hsm.${name}` });
    expect(error.message).toContain(words);
    const hsmError = await failureOf(keyStoreHsm({ entry: 'a', [name]: 'x' } as unknown as KeyStoreHsmOptions));
    expect(hsmError.message).not.toMatch(/hsm\.io\b|processes|clock/);
  });
});

describe('the generation of an entry', () => {
  const dataKey = createSecretKey(randomBytes(32));
  const storeId = 'ab'.repeat(16);
  const place = { path: '/keys/entry-a', storeId, name: 'a' };
  const last = Number.MAX_SAFE_INTEGER - 1;
  const entryOf = (generation: number): Parameters<typeof sealEntry>[2] => ({
    ...newEntry('a', symmetric('dev-1')),
    generation,
  });

  it('is never written so that it could not be read', () => {
    expect(openEntry(dataKey, sealEntry(storeId, dataKey, entryOf(last)), place).generation).toBe(last);
    for (const generation of [last + 1, last + 2, 0, -1, 1.5, Number.NaN]) {
      expect(() => sealEntry(storeId, dataKey, entryOf(generation))).toThrow(
        expect.objectContaining({ code: 'ERR_DPS_HSM_OPERATION', message: expect.stringContaining('keys remove') }),
      );
    }
  });

  it.each([last + 1, 0, -1, 1.5])('makes no sense as %d', async (generation) => {
    const file = Buffer.from(sealEntry(storeId, dataKey, entryOf(1))).toString();
    const [line = ''] = file.split('\n');
    const label = { ...(JSON.parse(line) as object), generation };
    expect(() => openEntry(dataKey, sealBox(dataKey, label, new Uint8Array(8)), place)).toThrow(
      expect.objectContaining({
        code: 'ERR_DPS_HSM_STORE_DAMAGED',
        message: expect.stringContaining('makes no sense'),
      }),
    );
  });
});
