import { createSecretKey, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { type KeyStoreHsm, keyStoreHsm } from '../../hsm/software-key-store.js';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { provision } from '../../src/index.js';
import { base64Of, certified, makeTestStore, scratchFolder, symmetric } from './key-store/store-bench.js';

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

  it('that remembers its hub rolls its key by way of DPS, keeps the old one while the new one is unknown, and forgets neither', async () => {
    const { store, options } = await makeTestStore();
    const [old, next] = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
    await store.add('dev-1', symmetric('dev-1', old));
    emulator = await startEmulator();
    const { idScope, endpoints, caPem } = emulator;
    const secondaryKey = randomBytes(64).toString('base64');
    emulator.enroll({
      registrationId: 'dev-1',
      attestation: { symmetricKey: { primaryKey: base64Of(old), secondaryKey } },
    });
    const state = join(scratchFolder(), 'state');
    const start = async (reprovision = false): Promise<string[]> => {
      const hsm = { kind: 'keyStore', ...options, entry: 'dev-1' } as const;
      const journey = provision({ idScope, endpoint: endpoints.dps.mqtt, ca: caPem, hsm, state, reprovision });
      const told: string[] = [];
      for await (const event of journey.events) {
        if (event.type === 'reprovisioning') told.push(event.reason);
        if (['registering', 'next-credential', 'key-rolled', 'waiting'].includes(event.type)) told.push(event.type);
      }
      return [...told, (await journey).source];
    };
    const known = ['registering', 'waiting', 'registered'];
    expect(await start()).toEqual(known);
    await store.stage('dev-1', symmetric('dev-1', next));
    expect(await start()).toEqual(['new-key', 'registering', 'next-credential', ...known]);
    expect(await start()).toEqual(['stored']);
    emulator.updateEnrollment('dev-1', {
      attestation: { symmetricKey: { primaryKey: base64Of(next), secondaryKey: base64Of(old) } },
    });
    expect(await start()).toEqual(['stored']);
    expect(await start(true)).toEqual(['registering', 'waiting', 'key-rolled', 'registered']);
    expect((await store.describe('dev-1')).staged).toBeUndefined();
    expect(await start()).toEqual(['stored']);
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
