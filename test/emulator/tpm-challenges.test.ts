import { describe, expect, it } from 'vitest';
import type { TpmKeys } from '../../src/emulator/tpm-activation.js';
import { TpmChallenges } from '../../src/emulator/tpm-challenges.js';
import { parseStorageKey, type StorageKey } from '../../src/emulator/tpm-storage-key.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { SoftwareTpm } from './software-tpm.js';

const tpm = new SoftwareTpm();
const read = (bytes: Uint8Array): StorageKey => {
  const key = parseStorageKey(bytes);
  if ('problem' in key) throw new Error(key.problem);
  return key;
};
const KEYS: TpmKeys = { endorsementKey: read(tpm.endorsementKey), storageRootKey: read(tpm.storageRootKey) };

function makeChallenges(): { clock: ManualClock; challenges: TpmChallenges } {
  const clock = new ManualClock();
  let drawn = 0;
  const randomBytes = (size: number): Uint8Array => {
    drawn += 1;
    return new Uint8Array(size).fill(drawn);
  };
  return { clock, challenges: new TpmChallenges({ wallMs: () => clock.wallMs(), randomBytes }) };
}

describe('challenges', () => {
  it('are the key in the blob, by a registration id that ignores case, for an hour', () => {
    const { clock, challenges } = makeChallenges();
    const key = tpm.activate(challenges.issue('Dev-1', KEYS, 'uri'));
    expect(challenges.current('dEV-1')).toMatchObject({ keyBase64: key.toString('base64'), keys: KEYS });
    expect(challenges.current('dev-2')).toBeUndefined();
    clock.advance(3_600_000);
    expect(challenges.current('dev-1')).toBeDefined();
    clock.advance(1);
    expect(challenges.current('dev-1')).toBeUndefined();
  });

  it('are kept for the latest thousand ids that asked', () => {
    const { challenges } = makeChallenges();
    for (const id of ['first', 'second', 'first']) challenges.issue(id, KEYS, '');
    for (let index = 0; index < 999; index += 1) challenges.issue(`dev-${index}`, KEYS, '');
    expect(challenges.current('second')).toBeUndefined();
    expect(challenges.current('first')).toBeDefined();
    challenges.issue('one-more', KEYS, '');
    expect(challenges.current('first')).toBeUndefined();
    expect(challenges.current('dev-0')).toBeDefined();
  });
});
