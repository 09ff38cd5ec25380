import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { nodeProcessTable, processTableAt } from '../../src/durable/process-table.js';

const HOST = 'pid:[4026531836]';
const leftovers: (() => void)[] = [];
afterEach(() => {
  for (const remove of leftovers.splice(0)) remove();
});

describe('the processes of this machine', () => {
  it('know themselves, and tell who has the same number from who had it', async () => {
    const self = await nodeProcessTable.self();
    expect(self.pid).toBe(process.pid);
    expect(await nodeProcessTable.isRunning(self)).toBe(true);
    expect(await nodeProcessTable.isRunning({ ...self, startTicks: (self.startTicks ?? 0) - 1 })).toBe(false);
    expect(await nodeProcessTable.isRunning({ ...self, bootId: 'of another boot' })).toBe(false);
    expect(await nodeProcessTable.commandOf(self)).toBe(readFileSync('/proc/self/comm', 'utf8').trim());
  });

  it('do not count one that has ended', async () => {
    const child = spawn('true');
    const pid = child.pid ?? 0;
    await once(child, 'close');
    expect(await nodeProcessTable.isRunning({ pid })).toBe(false);
    expect(await nodeProcessTable.commandOf({ pid })).toBeUndefined();
  });

  it('do not count one that is dead and waits for its parent to hear of it', async () => {
    const processes: FakeProcess[] = [
      [7, 'device', 'Z', 900, '7'],
      [8, 'device', 'D', 901, '8'],
    ];
    const table = processTableAt(fakeProc({ namespace: HOST, processes }));
    expect(await table.isRunning({ pid: 7, startTicks: 900 })).toBe(false);
    expect(await table.isRunning({ pid: 8, startTicks: 901 })).toBe(true);
  });
});

describe('processes in containers', () => {
  it('are found from the machine by start time and inner number', async () => {
    const table = processTableAt(
      fakeProc({ namespace: HOST, processes: [[4711, 'dps) device', 'S', 900, '4711\t7']] }),
    );
    const held = { pid: 7, startTicks: 900, bootId: 'boot-1', pidNamespace: 'pid:[77]' };
    expect(await table.isRunning(held)).toBe(true);
    expect(await table.isRunning({ ...held, startTicks: 901 })).toBe(false);
    expect(await table.isRunning({ ...held, pid: 8 })).toBe(false);
    expect(await table.commandOf(held)).toBeUndefined();
    expect(await table.commandOf({ pid: 4711 })).toBe('dps) device');
  });

  it('are taken to be gone by other containers, which cannot see them', async () => {
    const table = processTableAt(fakeProc({ namespace: 'pid:[88]', processes: [[7, 'device', 'S', 900, '7']] }));
    expect(await table.isRunning({ pid: 7, startTicks: 900, bootId: 'boot-1', pidNamespace: 'pid:[77]' })).toBe(false);
    expect(await table.isRunning({ pid: 7, startTicks: 900, bootId: 'boot-1', pidNamespace: 'pid:[88]' })).toBe(true);
  });

  it('take a process of the machine to run until the machine starts anew', async () => {
    const table = processTableAt(fakeProc({ namespace: 'pid:[88]', processes: [] }));
    expect(await table.isRunning({ pid: 7, startTicks: 900, bootId: 'boot-1', pidNamespace: HOST })).toBe(true);
    expect(await table.isRunning({ pid: 7, startTicks: 900, bootId: 'boot-0', pidNamespace: HOST })).toBe(false);
  });

  it('go by the number alone where there is no /proc', async () => {
    const table = processTableAt('/nowhere');
    expect(await table.self()).toEqual({ pid: process.pid });
    expect(await table.isRunning({ pid: process.pid })).toBe(true);
    expect(await table.isRunning({ pid: 0x3fff_ffff })).toBe(false);
  });
});

type FakeProcess = readonly [pid: number, command: string, state: string, startTicks: number, namespacePids: string];

function fakeProc(options: { readonly namespace: string; readonly processes: readonly FakeProcess[] }): string {
  const root = mkdtempSync(join(tmpdir(), 'proc-'));
  leftovers.push(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'sys/kernel/random'), { recursive: true });
  writeFileSync(join(root, 'sys/kernel/random/boot_id'), 'boot-1\n');
  mkdirSync(join(root, 'self/ns'), { recursive: true });
  symlinkSync(options.namespace, join(root, 'self/ns/pid'));
  for (const [pid, command, state, startTicks, namespacePids] of options.processes) {
    mkdirSync(join(root, String(pid)));
    const fields = [state, ...Array.from({ length: 18 }, () => 0), startTicks, 0, 0].join(' ');
    writeFileSync(join(root, String(pid), 'stat'), `${pid} (${command}) ${fields}\n`);
    writeFileSync(join(root, String(pid), 'status'), `Name:\t${command}\nNSpid:\t${namespacePids}\n`);
  }
  return root;
}
