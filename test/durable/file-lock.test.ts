import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockFile } from '../../src/durable/file-lock.js';
import { nodeProcessTable } from '../../src/durable/process-table.js';
import { FakeProcesses } from './fake-processes.js';
import { raceForLock } from './lock-race.js';
import { SimulatedDisk, systemError } from './simulated-disk.js';
import { bundle } from './system-call-tracer.js';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'lock-'));
  path = join(folder, 'device.lock');
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('lockFile', () => {
  it('refuses the second in the same process, says so, and gives way after release', async () => {
    const lock = await lockFile(path);
    await expect(lockFile(path)).rejects.toMatchObject({
      name: 'StoreError',
      code: 'ERR_DPS_STORE_LOCKED',
      operation: 'lock',
      path,
      retryable: true,
      message: `${path} is held by this process itself. Close what uses it first.`,
    });
    await lock.release();
    await lock.release();
    expect(readdirSync(folder)).toEqual([]);
    await (await lockFile(path)).release();
  });

  it('lets one of many in that come at the same time', async () => {
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => lockFile(path)));
    const owners = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
    expect(owners).toHaveLength(1);
    expect(readdirSync(folder)).toEqual(['device.lock']);
    await owners[0]?.release();
  });

  it('says which process has it', async () => {
    const child = spawn('sleep', ['600']);
    try {
      writeFileSync(path, JSON.stringify({ token: 'a'.repeat(16), pid: child.pid }), { mode: 0o600 });
      await expect(lockFile(path)).rejects.toMatchObject({
        code: 'ERR_DPS_STORE_LOCKED',
        message: expect.stringMatching(new RegExp(`is held by process ${child.pid} \\((sleep|node|MainThread)\\)`)),
      });
    } finally {
      child.kill('SIGKILL');
      await once(child, 'close');
    }
    await (await lockFile(path)).release();
  });

  it.each<[string, () => Promise<string>]>([
    ['of an earlier boot', async () => leftBy({ bootId: 'of another boot' })],
    ['of an earlier process with the number of this one', async () => leftBy({ startTicks: 1 })],
    ['that a power cut left empty', async () => ''],
    ['that a power cut left torn', async () => (await leftBy({})).slice(0, 30)],
    ['that speaks of process 0', async () => leftBy({ pid: 0 })],
    ['that is far too long', async () => 'x'.repeat(10_000)],
  ])('takes over a lock %s, and cleans up', async (_, content) => {
    writeFileSync(path, await content(), { mode: 0o600 });
    writeFileSync(`${path}.${'1'.repeat(16)}.new`, '', { mode: 0o600 });
    writeFileSync(`${path}.${'2'.repeat(16)}.claim`, await leftBy({ startTicks: 1 }), { mode: 0o600 });
    const lock = await lockFile(path);
    expect(readdirSync(folder)).toEqual(['device.lock']);
    expect(JSON.parse(readFileSync(path, 'utf8'))).toMatchObject(await nodeProcessTable.self());
    await lock.release();
    expect(readdirSync(folder)).toEqual([]);
  });

  it('does not give back the lock that another has made since', async () => {
    const lock = await lockFile(path);
    unlinkSync(path);
    const other = await lockFile(path);
    await lock.release();
    expect(existsSync(path)).toBe(true);
    await other.release();
  });

  it.each(['ENOSPC', 'EROFS'])('says that it is held also where %s forbids to make one', async (code) => {
    const disk = new SimulatedDisk('/var', '/var/lib');
    const processes = new FakeProcesses();
    const place = '/var/lib/device/device.lock';
    const lock = await lockFile(place, { io: disk, processes: processes.start() });
    disk.onCall = (call) => {
      if (call.endsWith('.new') && call.startsWith('open')) throw systemError(code);
    };
    const next = { io: disk, processes: processes.start() };
    await expect(lockFile(place, next)).rejects.toMatchObject({ code: 'ERR_DPS_STORE_LOCKED' });
    await lock.release();
    await expect(lockFile(place, next)).rejects.toMatchObject({ code: /FULL|READ_ONLY/ });
  });

  it('says that it needs a file system with hard links', async () => {
    const io = new SimulatedDisk('/var', '/var/lib');
    io.onCall = (call) => {
      if (call.startsWith('link')) throw systemError('EPERM');
    };
    const needsLinks = { code: 'ERR_DPS_STORE_UNWRITABLE', message: expect.stringContaining('knows no hard links') };
    await expect(lockFile('/var/lib/device/device.lock', { io })).rejects.toMatchObject(needsLinks);
    expect(io.paths()).toEqual([]);
  });

  it('stops when the signal aborts', async () => {
    await expect(lockFile(path, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    expect(readdirSync(folder)).toEqual([]);
  });

  it('has one owner at a time, whatever the order of calls and whoever is killed', async () => {
    const total = { taken: 0, refused: 0, killed: 0 };
    for (let seed = 0; seed < 3000; seed += 1) {
      const { taken, refused, killed } = await raceForLock(seed);
      total.taken += taken;
      total.refused += refused;
      total.killed += killed;
    }
    expect(total.taken).toBeGreaterThan(3000);
    expect(total.refused).toBeGreaterThan(1000);
    expect(total.killed).toBeGreaterThan(1000);
  });

  it('has one owner at a time among processes, each of which is killed with the lock in hand', async () => {
    const program = join(folder, 'contender.mjs');
    await bundle('lock-contender.ts', program);
    const outputs = await Promise.all(Array.from({ length: 5 }, () => outputOf([program, path, '20'])));
    expect(outputs).toEqual(Array.from({ length: 5 }, () => 'done'));
    await (await lockFile(path)).release();
    expect(readdirSync(folder)).toEqual(['contender.mjs']);
  });
});

/** What is in the lock of this process, but for `difference`. */
async function leftBy(difference: object): Promise<string> {
  return JSON.stringify({ token: 'c'.repeat(16), ...(await nodeProcessTable.self()), ...difference });
}

async function outputOf(words: readonly string[]): Promise<string> {
  const child = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'pipe'] });
  const parts: Buffer[] = [];
  child.stdout.on('data', (part: Buffer) => parts.push(part));
  child.stderr.on('data', (part: Buffer) => parts.push(part));
  await once(child, 'close');
  return Buffer.concat(parts).toString();
}
