import { createSecretKey, randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { type KeyStoreHsm, keyStoreHsm } from '../../hsm/software-key-store.js';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { provision } from '../../src/index.js';
import { base64Of, certified, makeTestStore, symmetric } from './key-store/store-bench.js';

let emulator: Emulator | undefined;
afterEach(async () => {
  await emulator?.close();
  emulator = undefined;
});

async function register(hsm: KeyStoreHsm): Promise<string> {
  if (emulator === undefined) throw new Error('no emulator');
  const { idScope, endpoints, caPem } = emulator;
  const device = await provision({ idScope, endpoint: endpoints.dps.mqtt, ca: caPem, hsm });
  return device.assignment.deviceId;
}

describe('a device with a key store', () => {
  it('is provisioned with the key in use while the service does not know the staged one, and with that as soon as it does', async () => {
    const { store, options } = await makeTestStore();
    const [old, next] = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
    await store.add('dev-1', symmetric('dev-1', old));
    await store.stage('dev-1', symmetric('dev-1', next));
    for (const key of [old, next]) {
      emulator = await startEmulator();
      const primaryKey = base64Of(key);
      emulator.enroll({
        registrationId: 'dev-1',
        attestation: { symmetricKey: { primaryKey, secondaryKey: randomBytes(64).toString('base64') } },
      });
      expect(await register(await keyStoreHsm({ ...options, entry: 'dev-1' }))).toBe('dev-1');
      await emulator.close();
    }
  });

  it('is provisioned with a certificate of the store', async () => {
    const { store, options } = await makeTestStore();
    const material = await certified('dev-1');
    await store.add('dev-1', material);
    emulator = await startEmulator();
    const certificate = material.kind === 'x509' ? String(material.certificates[0]) : '';
    emulator.enroll({
      registrationId: 'dev-1',
      attestation: { x509: { clientCertificates: { primary: { certificate } } } },
    });
    expect(await register(await keyStoreHsm({ ...options, entry: 'dev-1' }))).toBe('dev-1');
  });
});
