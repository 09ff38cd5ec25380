import { mkdtempSync, rmSync, symlinkSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { fileRecordStore } from '../../src/state/file-store.js';
import { FakeProcesses } from '../durable/fake-processes.js';
import { sampleRecord } from '../durable/sample-record.js';
import { SimulatedDisk } from '../durable/simulated-disk.js';
import { turns } from '../fakes/run-world.js';

const NEVER = new AbortController().signal;

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'store-ends-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return join(path, 'state');
}

describe('a file store', () => {
  it('gives its lock back only when a save that was cancelled has come to its end', async () => {
    const disk = new SimulatedDisk('/var', '/var/lib');
    const store = fileRecordStore({ directory: '/var/lib/device', io: disk, processes: new FakeProcesses().start() });
    await store.save(sampleRecord(1), NEVER);
    const abort = new AbortController();
    const calls: string[] = [];
    let goOn: () => void = () => {};
    disk.onCall = async (call) => {
      calls.push(call);
      if (calls.at(-2)?.startsWith('rename') !== true) return;
      // Past the point of no return: the name is there, and must still be made to last.
      abort.abort();
      await new Promise<void>((resolve) => {
        goOn = resolve;
      });
    };
    await expect(store.save(sampleRecord(2), abort.signal)).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    const closing = store.close();
    await turns();
    const isUnlocking = (call: string): boolean => call.startsWith('unlink') && call.endsWith('device.lock');
    expect(calls.filter(isUnlocking)).toEqual([]);
    goOn();
    await closing;
    expect(calls.filter(isUnlocking)).toHaveLength(1);
  });

  it('tells of a damaged copy beside the record that it gives', async () => {
    const directory = folder();
    const store = fileRecordStore({ directory });
    onTestFinished(() => store.close());
    await store.save(sampleRecord(1), NEVER);
    await store.save(sampleRecord(2), NEVER);
    truncateSync(join(directory, 'device.b'), 50);
    expect(await store.load(NEVER)).toEqual({
      kind: 'record',
      record: sampleRecord(1),
      damaged: expect.stringMatching(/device\.b is damaged: /),
    });
  });

  it('fails typed where its lock has become something else', async () => {
    const directory = folder();
    const store = fileRecordStore({ directory });
    onTestFinished(() => store.close());
    await store.save(sampleRecord(1), NEVER);
    const lock = join(directory, 'device.lock');
    rmSync(lock);
    symlinkSync('/nowhere', lock);
    await expect(store.save(sampleRecord(2), NEVER)).rejects.toMatchObject({
      name: 'StoreError',
      path: lock,
      message: expect.stringContaining('symbolic link'),
    });
  });
});
