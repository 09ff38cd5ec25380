import { createSecretKey, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { describe, expect, it, onTestFinished } from 'vitest';
import type { KeyStoreOptions, SoftwareKeyStore } from '../../hsm/software-key-store.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import { type DurableIo, nodeDurableIo } from '../../src/durable/durable-io.js';
import { startEmulator } from '../../src/emulator/index.js';
import { provision } from '../../src/index.js';
import { base64Of, makeTestStore, symmetric } from './key-store/store-bench.js';

const TOLD: readonly ProgressEvent['type'][] = ['key-rolled', 'commit-failed', 'record', 'twin', 'provisioned'];

interface Bench {
  readonly store: SoftwareKeyStore;
  readonly options: KeyStoreOptions;
  /** Stages the second key of the enrollment. */
  stage(): Promise<unknown>;
  /** What is told of the keys on a journey, which has to end at the hub. */
  tell(io?: DurableIo): Promise<ProgressEvent[]>;
}

/** A device whose enrollment has a second key already. */
async function makeBench(): Promise<Bench> {
  const { store, options } = await makeTestStore();
  const [old, next] = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
  await store.add('dev-1', symmetric('dev-1', old));
  const emulator = await startEmulator();
  onTestFinished(() => emulator.close());
  const symmetricKey = { primaryKey: base64Of(old), secondaryKey: base64Of(next) };
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey } });
  const tell = async (io: DurableIo = nodeDurableIo): Promise<ProgressEvent[]> => {
    const { idScope, endpoints, caPem } = emulator;
    const hsm = { kind: 'keyStore', ...options, io, entry: 'dev-1' } as const;
    const journey = provision({ idScope, endpoint: endpoints.dps.mqtt, ca: caPem, hsm });
    const events: ProgressEvent[] = [];
    for await (const event of journey.events) events.push(event);
    await journey;
    return events.filter(({ type }) => TOLD.includes(type));
  };
  return { store, options, stage: () => store.stage('dev-1', symmetric('dev-1', next)), tell };
}

const typesOf = (events: readonly ProgressEvent[]): string[] => events.map(({ type }) => type);

describe('a key roll', () => {
  it('is an event of the journey in which the staged key was committed, and of no other', async () => {
    const { store, stage, tell } = await makeBench();
    expect(typesOf(await tell())).toEqual(['twin', 'provisioned']);
    await stage();
    expect(typesOf(await tell())).toEqual(['twin', 'key-rolled', 'provisioned']);
    expect((await store.describe('dev-1')).staged).toBeUndefined();
    expect(typesOf(await tell())).toEqual(['twin', 'provisioned']);
  });

  it('that the disk does not take is told as that, with the file and what to do, and made at the next start', async () => {
    const { store, options, stage, tell } = await makeBench();
    await stage();
    const fullDisk: DurableIo = {
      ...nodeDurableIo,
      open: async (path, flags, mode) => {
        if ((flags & constants.O_CREAT) === 0) return nodeDurableIo.open(path, flags, mode);
        throw Object.assign(new Error('no space left on device'), { code: 'ENOSPC' });
      },
    };
    const events = await tell(fullDisk);
    expect(typesOf(events)).toEqual(['twin', 'commit-failed', 'provisioned']);
    expect(events[1]).toMatchObject({ slot: 0, code: 'ERR_DPS_STORE_FULL' });
    const { message } = events[1] as Extract<ProgressEvent, { type: 'commit-failed' }>;
    expect(message).toContain('The hub accepted the staged key, but the HSM could not commit it.');
    expect(message).toContain(options.directory);
    expect(message).toContain('Free space');
    expect((await store.describe('dev-1')).staged).toBeDefined();
    expect(typesOf(await tell())).toEqual(['twin', 'key-rolled', 'provisioned']);
  });
});
