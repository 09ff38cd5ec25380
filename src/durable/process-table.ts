import { readdir, readFile, readlink } from 'node:fs/promises';
import { join } from 'node:path';

/** What tells one process from all others, those included that get its number later. What the system does not say is left out. */
export interface ProcessIdentity {
  readonly pid: number;
  /** When it started, in ticks since boot: field 22 of /proc/PID/stat. */
  readonly startTicks?: number;
  /** Of this run of the kernel. */
  readonly bootId?: string;
  /** `pid:[4026531836]`: in a container the same numbers mean other processes. */
  readonly pidNamespace?: string;
}

/** The processes of this machine. */
export interface ProcessTable {
  self(): Promise<ProcessIdentity>;
  /** Whether that process runs, as far as can be seen from here. */
  isRunning(identity: ProcessIdentity): Promise<boolean>;
  /** The name of its command, if it can be read. */
  commandOf(identity: ProcessIdentity): Promise<string | undefined>;
}

/** Of the machine itself; a constant of the Linux kernel. */
const HOST_NAMESPACE = 'pid:[4026531836]';

/** The processes of this machine as /proc shows them; where there is none, as `kill` does. */
export const nodeProcessTable: ProcessTable = processTableAt('/proc');

/**
 * - Another boot id: the machine was started anew, and the process is gone. (Or it runs on another machine: stores are
 *   not for folders that machines share.)
 * - A process of a container, seen from the machine: looked for everywhere by its start time and its inner number.
 * - A process of the machine, seen from a container: out of sight, so taken to run until the machine starts anew.
 * - A process of another container: out of sight, so taken to be gone. A container that was killed is started anew with
 *   another namespace, and its device must not stay locked out; two containers must not be given the same folder.
 *
 * `root` is where /proc is mounted.
 */
export function processTableAt(root: string): ProcessTable {
  const self = (): Promise<ProcessIdentity> => describeSelf(root);
  return {
    self,
    isRunning: async (identity) => {
      const { bootId, pidNamespace } = await self();
      if (isOther(identity.bootId, bootId)) return false;
      if (!isOther(identity.pidNamespace, pidNamespace)) return isRunningHere(root, identity);
      return pidNamespace === HOST_NAMESPACE
        ? isInAnyContainer(root, identity)
        : identity.pidNamespace === HOST_NAMESPACE;
    },
    commandOf: async (identity) => {
      if (isOther(identity.pidNamespace, (await self()).pidNamespace)) return undefined;
      return (await readStat(root, identity.pid))?.command;
    },
  };
}

async function describeSelf(root: string): Promise<ProcessIdentity> {
  const [bootId, pidNamespace, stat] = await Promise.all([
    readFile(join(root, 'sys/kernel/random/boot_id'), 'utf8').then((text) => text.trim(), nothing),
    readlink(join(root, 'self/ns/pid')).catch(nothing),
    readStat(root, process.pid),
  ]);
  return {
    pid: process.pid,
    ...(stat === undefined ? {} : { startTicks: stat.startTicks }),
    ...(bootId === undefined ? {} : { bootId }),
    ...(pidNamespace === undefined ? {} : { pidNamespace }),
  };
}

/** Both are known, and they differ. */
function isOther(a: string | undefined, b: string | undefined): boolean {
  return a !== undefined && b !== undefined && a !== b;
}

async function isRunningHere(root: string, { pid, startTicks }: ProcessIdentity): Promise<boolean> {
  const stat = await readStat(root, pid);
  if (stat === undefined) return isNumberInUse(pid);
  return stat.isRunning && (startTicks === undefined || stat.startTicks === startTicks);
}

/** Where there is no /proc, or it hides the processes of others. */
function isNumberInUse(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function isInAnyContainer(root: string, { pid, startTicks }: ProcessIdentity): Promise<boolean> {
  for (const name of await readdir(root).catch(() => [])) {
    const stat = /^\d+$/.test(name) ? await readStat(root, Number(name)) : undefined;
    const isSame = stat?.isRunning === true && stat.startTicks === startTicks;
    if (isSame && (await innerPidOf(root, name)) === pid) return true;
  }
  return false;
}

/** `NSpid:\t4711\t12\t1`: the number in each namespace, the innermost last. */
async function innerPidOf(root: string, name: string): Promise<number | undefined> {
  const status = await readFile(join(root, name, 'status'), 'utf8').catch(nothing);
  const numbers = /^NSpid:\s+(.*)$/m.exec(status ?? '')?.[1];
  return numbers === undefined ? undefined : Number(numbers.trim().split(/\s+/).at(-1));
}

interface ProcessStat {
  readonly command: string;
  /** Not a zombie, which is dead and only waits for its parent to hear of it. */
  readonly isRunning: boolean;
  readonly startTicks: number;
}

/** `4711 (my (odd) name) S 1 4711 …`: the command may hold anything, so the last parenthesis counts. */
async function readStat(root: string, pid: number): Promise<ProcessStat | undefined> {
  const text = await readFile(join(root, String(pid), 'stat'), 'latin1').catch(nothing);
  const [, command, rest] = /^\d+ \((.*)\) (.*)$/s.exec(text ?? '') ?? [];
  if (command === undefined || rest === undefined) return undefined;
  const fields = rest.trim().split(' ');
  return { command, isRunning: !/^[ZXx]$/.test(fields[0] ?? ''), startTicks: Number(fields[19]) };
}

function nothing(): undefined {
  return undefined;
}
