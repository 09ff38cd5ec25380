import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { lockFile } from '../../src/durable/file-lock.js';
import { nodeProcessTable } from '../../src/durable/process-table.js';
import { FakeProcesses } from './fake-processes.js';
import { claimPath, EMPTY_TOKEN } from './lock-claims.js';
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

  it.each<[string, (lock: string) => readonly [path: string, content: string][]]>([
    [
      'an empty lock and the empty claim on it',
      (lock) => [
        [lock, ''],
        [claimPath(lock, [EMPTY_TOKEN]), ''],
      ],
    ],
    [
      'empty claims on empty claims',
      (lock) => [
        [lock, ''],
        ...[1, 2, 3].map((n) => [claimPath(lock, Array(n).fill(EMPTY_TOKEN)), ''] as [string, string]),
      ],
    ],
    [
      'a claim with the token of the lock itself',
      (lock) => [
        [lock, deadOwner('a')],
        [`${lock}.${'a'.repeat(16)}.claim`, deadOwner('a')],
      ],
    ],
    [
      'two claims that name each other',
      (lock) => [
        [lock, deadOwner('a')],
        [`${lock}.${'a'.repeat(16)}.claim`, deadOwner('b')],
        [`${lock}.${'b'.repeat(16)}.claim`, deadOwner('a')],
      ],
    ],
  ])('takes over %s, and cleans up', async (_, leftovers) => {
    const disk = new SimulatedDisk('/var', '/var/lib', '/var/lib/device');
    disk.onCall = (_call, index) => {
      if (index > 500) throw new Error('goes round and round');
    };
    const place = '/var/lib/device/device.lock';
    for (const [file, content] of leftovers(place)) disk.put(file, { bytes: Buffer.from(content) });
    const lock = await lockFile(place, { io: disk, processes: new FakeProcesses().start() });
    expect(disk.paths()).toEqual([place]);
    await lock.release();
  });

  it('gives way to who is about to take over, behind however many dead', async () => {
    const processes = new FakeProcesses();
    const running = processes.start();
    const claimant = { token: 'c'.repeat(16), ...(await running.self()) };
    for (const tokens of [['a'], ['a', 'b'], ['a', 'a', 'b'], ['a', 'b', 'a', 'b']]) {
      const disk = new SimulatedDisk('/var', '/var/lib', '/var/lib/device');
      const place = '/var/lib/device/device.lock';
      const paths = tokens.map((__, index) => {
        const before = tokens.slice(0, index).map((letter) => letter.repeat(16));
        return index === 0 ? place : claimPath(place, before);
      });
      for (const [index, letter] of tokens.entries())
        disk.put(paths[index] ?? '', { bytes: Buffer.from(deadOwner(letter)) });
      const last = claimPath(
        place,
        tokens.map((letter) => letter.repeat(16)),
      );
      disk.put(last, { bytes: Buffer.from(JSON.stringify(claimant)) });
      const before = disk.paths();
      await expect(lockFile(place, { io: disk, processes: processes.start() })).rejects.toMatchObject({
        code: 'ERR_DPS_STORE_LOCKED',
        message: expect.stringContaining(`process ${running.pid}`),
      });
      expect(disk.paths()).toEqual(before);
    }
  });

  it('does not follow claims without end, and stops between two of them', async () => {
    const disk = new SimulatedDisk('/var', '/var/lib', '/var/lib/device');
    const place = '/var/lib/device/device.lock';
    const tokens = Array<string>(150).fill('a'.repeat(16));
    disk.put(place, { bytes: Buffer.from(deadOwner('a')) });
    for (let n = 1; n <= tokens.length; n += 1)
      disk.put(claimPath(place, tokens.slice(0, n)), { bytes: Buffer.from(deadOwner('a')) });
    disk.onCall = (_, index) => {
      if (index > 5000) throw new Error('goes on for ever');
    };
    const options = { io: disk, processes: new FakeProcesses().start() };
    await expect(lockFile(place, options)).rejects.toMatchObject({
      code: 'ERR_DPS_STORE_UNWRITABLE',
      message: expect.stringContaining(`remove them: rm ${place} ${place}.*`),
    });
    const controller = new AbortController();
    disk.onCall = (call) => {
      if (call === `link ${claimPath(place, tokens.slice(0, 3))}`) controller.abort();
      if (call === `link ${claimPath(place, tokens.slice(0, 4))}`) throw new Error('went on');
    };
    await expect(lockFile(place, { ...options, signal: controller.signal })).rejects.toMatchObject({
      code: 'ERR_DPS_CANCELLED',
    });
    expect(disk.paths().some((each) => each.endsWith('.new'))).toBe(false);
  });

  it('says how to get rid of the lock of a process that never ends', async () => {
    const init = { ...new FakeProcesses().start(), isRunning: async () => true, commandOf: async () => 'init' };
    writeFileSync(path, JSON.stringify({ token: 'a'.repeat(16), pid: 1 }), { mode: 0o600 });
    await expect(lockFile(path, { processes: init })).rejects.toMatchObject({
      code: 'ERR_DPS_STORE_LOCKED',
      message: expect.stringMatching(/process 1 \(init\), .* remove the file: rm \/.*device\.lock$/),
    });
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

  it.each<[string, () => void]>([
    ['nothing', () => undefined],
    [
      'an empty lock and empty claims',
      () => {
        for (const file of [path, claimPath(path, [EMPTY_TOKEN])]) writeFileSync(file, '', { mode: 0o600 });
      },
    ],
    [
      'claims that name each other',
      () => {
        writeFileSync(path, deadOwner('a'), { mode: 0o600 });
        writeFileSync(`${path}.${'a'.repeat(16)}.claim`, deadOwner('b'), { mode: 0o600 });
        writeFileSync(`${path}.${'b'.repeat(16)}.claim`, deadOwner('a'), { mode: 0o600 });
      },
    ],
  ])(
    'has one owner at a time among processes that begin with %s, each killed with the lock in hand',
    async (_, plant) => {
      plant();
      const program = join(folder, 'contender.mjs');
      await bundle('lock-contender.ts', program);
      const outputs = await Promise.all(Array.from({ length: 5 }, () => outputOf([program, path, '20'])));
      expect(outputs).toEqual(Array.from({ length: 5 }, () => 'done'));
      await (await lockFile(path)).release();
      expect(readdirSync(folder)).toEqual(['contender.mjs']);
    },
  );
});

/** The lock or claim of a process of an earlier boot. */
function deadOwner(letter: string): string {
  return JSON.stringify({ token: letter.repeat(16), pid: 1, startTicks: 1, bootId: 'boot-0', pidNamespace: 'pid:[1]' });
}

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
