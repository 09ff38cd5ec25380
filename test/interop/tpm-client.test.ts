/**
 * Microsoft's `azure-iot-security-tpm`, and `azure-iot-provisioning-device` with its HTTPS and AMQP transports, unmodified,
 * with a real swtpm and our emulator. Their TPM library knows the reference simulator's protocol only, so a framing bridge
 * stands in front of swtpm. Each call has a process of its own: a TPM error ends theirs.
 */
import { execFile } from 'node:child_process';
import { createHmac, randomBytes } from 'node:crypto';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SwtpmLink } from '../../hsm/tpm2/links/swtpm.js';
import { makeActivationBlob, type TpmBlobDamage } from '../../src/emulator/tpm-activation.js';
import { parseStorageKey, type StorageKey } from '../../src/emulator/tpm-storage-key.js';
import { systemClock } from '../../src/system-clock.js';
import { temporaryFolder } from '../cli/temporary-folder.js';
import { signal, TpmBench } from '../hsm/tpm2/tpm-bench.js';
import { startMssimPeer, type TpmPeer } from '../hsm/tpm2/tpm-peer.js';
import { startBench } from './emulator-bench.js';

const PROGRAM = fileURLToPath(new URL('microsoft-tpm.mjs', import.meta.url));
const INSTALLED = fileURLToPath(new URL('../../.rig/tpm-peers/installed.sha256', import.meta.url));
const TEXT = Buffer.from('hub.example%2Fdevices%2Fdev-1\n1735689600');

interface Identity {
  readonly registrationId: string;
  readonly endorsementKey: string;
  readonly storageRootKey: string;
}

describe('Microsoft’s TPM client', () => {
  let bench: TpmBench;
  let simulator: TpmPeer & { readonly port: number };
  beforeAll(() => {
    if (!existsSync(INSTALLED)) throw new Error('Microsoft’s TPM client is not installed: npm run rig');
  });
  beforeEach(async () => {
    bench = await TpmBench.start();
    const inner = new SwtpmLink({ path: bench.swtpm.socketPath }, systemClock);
    simulator = await startMssimPeer(async (command) => ({ response: await inner.transceive(command, 60_000) }));
    return async () => {
      await simulator.close();
      await bench.stop();
    };
  });
  async function run<T>(command: string, options: object = {}, caPem?: string): Promise<T> {
    const env: NodeJS.ProcessEnv = { PATH: process.env.PATH ?? '' };
    if (caPem !== undefined) {
      env.NODE_EXTRA_CA_CERTS = join(temporaryFolder(), 'ca.pem');
      writeFileSync(env.NODE_EXTRA_CA_CERTS, caPem);
    }
    const argument = JSON.stringify({ command, port: simulator.port, ...options });
    const { stdout } = await promisify(execFile)(process.execPath, [PROGRAM, argument], { env });
    return JSON.parse(stdout) as T;
  }

  function blobFor(identity: Identity, hmacKey: Buffer, damage?: TpmBlobDamage): string {
    const parse = (text: string): StorageKey => {
      const key = parseStorageKey(Buffer.from(text, 'base64'));
      if ('problem' in key) throw new Error(key.problem);
      return key;
    };
    const blob = makeActivationBlob({
      endorsementKey: parse(identity.endorsementKey),
      storageRootKey: parse(identity.storageRootKey),
      hmacKey,
      uri: 'hub.example/devices/dev-1',
      randomBytes: (size) => randomBytes(size),
      damage,
    });
    return Buffer.from(blob).toString('base64');
  }

  it('opens the emulator’s blob and signs with the key in it, short texts and long', async () => {
    const identity = await run<Identity>('identify');
    const key = randomBytes(32);
    const texts = [TEXT, Buffer.alloc(1024, 1), Buffer.alloc(2500, 2)];
    const signatures = await run<string[]>('activate', {
      blob: blobFor(identity, key),
      texts: texts.map((text) => text.toString('base64')),
    });
    expect(signatures).toEqual(texts.map((text) => createHmac('sha256', key).update(text).digest('hex')));
  });

  it('fails on a blob that the emulator has spoiled', async () => {
    const identity = await run<Identity>('identify');
    const blob = blobFor(identity, randomBytes(32), 'field3');
    await expect(run('activate', { blob, texts: [] })).rejects.toThrow();
  });

  it.each(['https', 'amqp', 'amqp-ws'] as const)(
    'registers over %s with the emulator, and its tokens open the hub',
    async (transport) => {
      const emulator = await startBench();
      const { registrationId, endorsementKey } = await run<Identity>('identify');
      const initialTwin = { properties: { desired: { fan: 'on' } } };
      emulator.enroll({ registrationId, attestation: { type: 'tpm', tpm: { endorsementKey } }, initialTwin });
      const { https, amqp } = emulator.endpoints.dps;
      const endpoint = transport === 'amqp' ? amqp : https;
      const options = { transport, endpoint, idScope: emulator.idScope, ca: emulator.caPem };
      const { state, twin } = await run<{ state: Record<string, unknown>; twin: unknown }>(
        'register',
        options,
        emulator.caPem,
      );
      expect(state).toMatchObject({ registrationId, deviceId: registrationId, status: 'assigned' });
      expect(twin).toMatchObject({ fan: 'on' });
      expect(emulator.trace.count({ event: 'challenge' })).toBe(1);
      const [protocol = ''] = transport.split('-');
      expect(emulator.trace.count({ protocol: protocol as 'https' | 'amqp', event: 'register' })).toBeGreaterThan(0);
      expect(emulator.trace.entries({ event: 'violation' })).toEqual([]);
    },
  );

  it.each(['mqtt', 'mqtt-ws'])('cannot register over %s: their transport does not take a TPM', async (transport) => {
    const options = { transport, endpoint: 'localhost:1', idScope: '0ne00111111' };
    await expect(run('register', options)).rejects.toThrow('Transport does not support TPM authentication');
  });

  it('is known by the same registration id as our own client that keeps its kind of keys', async () => {
    const theirs = await run<Identity>('identify');
    const ours = await (await bench.device({ template: 'azure-node-c' })).identity(signal);
    expect(ours).toMatchObject({ ...theirs });
    for (const handle of [0x8101_0001, 0x8100_0001]) await bench.probe.evict(handle);
    // Made anew by ours this time.
    const again = await (await bench.device({ template: 'azure-node-c' })).identity(signal);
    expect(again).toMatchObject({ ...theirs });
  });

  it('leaves a hub key that our client takes over', async () => {
    const identity = await run<Identity>('identify');
    const key = randomBytes(32);
    await run('activate', { blob: blobFor(identity, key), texts: [] });
    const hsm = await bench.device({ template: 'azure-node-c' });
    const signature = Buffer.from(await hsm.sign(TEXT, 0, signal)).toString('hex');
    expect(signature).toBe(createHmac('sha256', key).update(TEXT).digest('hex'));
  });
});
