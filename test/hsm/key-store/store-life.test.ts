import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { MISHAPS } from '../../durable/disk-mishap.js';
import { CHANGES } from './change-plan.js';
import { keyFile } from './store-bench.js';
import { liveThrough, randomLife, type StoreLife } from './store-life.js';

const folder = mkdtempSync(join(tmpdir(), 'dps-device-key-life-'));
const keyFiles = { oldKeyFile: keyFile(folder, 7), newKeyFile: keyFile(folder, 9) };
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(MISHAPS)('a key store through %s', (kind) => {
  it.each(CHANGES)('in every call of "%s" is as before or as after', async (change) => {
    const at = (atCall: number): StoreLife => ({ seed: atCall, change, mishap: { kind, atCall } });
    const calls = await liveThrough(at(Number.MAX_SAFE_INTEGER), keyFiles);
    expect(calls).toBeGreaterThan(20);
    for (let atCall = 0; atCall < calls; atCall += 1) await liveThrough(at(atCall), keyFiles);
  });
});

describe('a key store', () => {
  it('lives through whatever comes', async () => {
    for (let seed = 0; seed < 300; seed += 1) await liveThrough(randomLife(seed), keyFiles);
  });
});
