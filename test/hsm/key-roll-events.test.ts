import { createSecretKey, randomBytes } from 'node:crypto';
import { describe, expect, it, onTestFinished } from 'vitest';
import { keyStoreHsm } from '../../hsm/software-key-store.js';
import { startEmulator } from '../../src/emulator/index.js';
import { provision } from '../../src/index.js';
import { base64Of, makeTestStore, symmetric } from './key-store/store-bench.js';

describe('a key roll', () => {
  it('is an event of the journey in which the staged key was committed, and of no other', async () => {
    const { store, options } = await makeTestStore();
    const [old, next] = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
    await store.add('dev-1', symmetric('dev-1', old));
    const emulator = await startEmulator();
    onTestFinished(() => emulator.close());
    const symmetricKey = { primaryKey: base64Of(old), secondaryKey: base64Of(next) };
    emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey } });
    const tell = async (): Promise<string[]> => {
      const hsm = await keyStoreHsm({ ...options, entry: 'dev-1' });
      const { idScope, endpoints, caPem } = emulator;
      const journey = provision({ idScope, endpoint: endpoints.dps.mqtt, ca: caPem, hsm });
      const types: string[] = [];
      for await (const { type } of journey.events) types.push(type);
      await journey;
      return types.filter((type) => type === 'key-rolled' || type === 'twin' || type === 'provisioned');
    };
    expect(await tell()).toEqual(['twin', 'provisioned']);
    await store.stage('dev-1', symmetric('dev-1', next));
    expect(await tell()).toEqual(['twin', 'key-rolled', 'provisioned']);
    expect((await store.describe('dev-1')).staged).toBeUndefined();
    expect(await tell()).toEqual(['twin', 'provisioned']);
  });
});
