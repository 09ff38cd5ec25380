import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { fileRecordStore } from '../../src/state/file-store.js';
import { FakeProcesses } from '../durable/fake-processes.js';
import { sampleRecord } from '../durable/sample-record.js';
import { SimulatedDisk } from '../durable/simulated-disk.js';

const NEVER = new AbortController().signal;
let directory: string;
beforeEach(() => {
  const folder = mkdtempSync(join(tmpdir(), 'lost-lock-'));
  directory = join(folder, 'state');
  onTestFinished(() => rmSync(folder, { recursive: true }));
});

function open(): ReturnType<typeof fileRecordStore> {
  const store = fileRecordStore({ directory });
  onTestFinished(() => store.close());
  return store;
}

describe('a store whose folder was removed while it was in use', () => {
  it('does not write beside another process that has taken it, and says what to do', async () => {
    const first = open();
    await first.save(sampleRecord(1), NEVER);
    rmSync(directory, { recursive: true });
    const second = open();
    await second.save(sampleRecord(2), NEVER);
    for (const attempt of [() => first.save(sampleRecord(3), NEVER), () => first.forget(NEVER)]) {
      await expect(attempt()).rejects.toMatchObject({
        name: 'StoreError',
        code: 'ERR_DPS_STORE_LOCKED',
        retryable: true,
        message: expect.stringMatching(
          /state\/device was in use by this process when somebody removed its lock, or the folder; another process uses it now: .* is held by .*end one of them/,
        ),
      });
    }
    expect(await second.load(NEVER)).toMatchObject({ kind: 'record', record: sampleRecord(2) });
    await first.close();
    // What is given back is not the other's lock.
    expect(readdirSync(directory)).toContain('device.lock');
  });

  it('takes its lock again where nobody has', async () => {
    const store = open();
    await store.save(sampleRecord(1), NEVER);
    rmSync(directory, { recursive: true });
    await store.save(sampleRecord(2), NEVER);
    expect(readdirSync(directory).sort()).toEqual(['device.a', 'device.lock']);
    await expect(open().load(NEVER)).rejects.toMatchObject({ code: 'ERR_DPS_STORE_LOCKED' });
    rmSync(join(directory, 'device.lock'));
    await store.save(sampleRecord(3), NEVER);
    await expect(open().load(NEVER)).rejects.toMatchObject({ code: 'ERR_DPS_STORE_LOCKED' });
    await store.close();
    expect(readdirSync(directory).sort()).toEqual(['device.a', 'device.b']);
  });

  it('looks at its lock with no more calls than reading a small file takes', async () => {
    const io = new SimulatedDisk('/var', '/var/lib');
    const calls: string[] = [];
    const store = fileRecordStore({ directory: '/var/lib/device', io, processes: new FakeProcesses().start() });
    await store.save(sampleRecord(1), NEVER);
    io.onCall = (call) => void calls.push(call);
    await store.save(sampleRecord(2), NEVER);
    const locking = calls.filter((call) => call.includes('device.lock'));
    expect(locking.length).toBeGreaterThan(0);
    expect(locking.length).toBeLessThanOrEqual(5);
    await store.close();
  });
});
