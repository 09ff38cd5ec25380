import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface NetworkPlan {
  /** Addresses beside those of loopback, with their prefix lengths. */
  readonly addresses: readonly string[];
  /** As in /etc/hosts: the addresses of names. */
  readonly names: Readonly<Record<string, readonly string[]>>;
  /** Rules of nftables for what comes in, such as `tcp dport 8883 drop`. */
  readonly rules?: readonly string[];
}

export interface Finished {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where Debian has the programs of the network, whoever's PATH it is. */
const ENVIRONMENT = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` };

/** The kernel ends what is started so when this process ends, however it does. */
const WITH_US = ['setpriv', '--pdeathsig', 'KILL'];

/**
 * A network of its own: no way leads out of it, and nothing that is done in it is seen outside (namespaces of users,
 * network and mounts, the last one for names). Takes no root where the kernel lets everyone make them.
 *
 * Where it cannot be made, `start` fails and says what is missing: no test is passed over for that.
 */
export class OwnNetwork {
  /** Goes with it. */
  readonly folder: string;
  readonly #holder: ChildProcess;
  readonly #running = new Set<ChildProcess>();

  private constructor(folder: string, holder: ChildProcess) {
    this.folder = folder;
    this.#holder = holder;
  }

  static async start(plan: NetworkPlan): Promise<OwnNetwork> {
    const folder = mkdtempSync(join(tmpdir(), 'dps-device-network-'));
    const setUp = join(folder, 'set-up');
    writeFileSync(join(folder, 'hosts'), hostsOf(plan.names));
    writeFileSync(join(folder, 'rules'), rulesetOf(plan.rules ?? []));
    writeFileSync(setUp, scriptOf(folder, plan.addresses));
    const holder = spawn('unshare', ['-r', '-n', '-m', '--', ...WITH_US, 'sh', '-e', setUp], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: ENVIRONMENT,
    });
    const network = new OwnNetwork(folder, holder);
    try {
      await whenReady(holder);
      return network;
    } catch (error) {
      await network.stop();
      throw error;
    }
  }

  /** Starts a program in it. Of the environment it gets what is given, and where programs are. */
  spawn(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    const where = ['-t', String(this.#holder.pid), '-U', '-n', '-m', '--preserve-credentials'];
    const child = spawn('nsenter', [...where, '--', ...WITH_US, command, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...ENVIRONMENT, ...env },
    });
    this.#running.add(child);
    child.once('close', () => this.#running.delete(child));
    return child;
  }

  /** Runs a program in it to its end. */
  async run(command: string, args: readonly string[], env?: Readonly<Record<string, string>>): Promise<Finished> {
    const child = this.spawn(command, args, env);
    const [stdout, stderr] = [textOf(child.stdout), textOf(child.stderr)];
    const [code] = await once(child, 'close');
    return { code, stdout: stdout(), stderr: stderr() };
  }

  async stop(): Promise<void> {
    for (const child of [...this.#running, this.#holder]) {
      if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) continue;
      const gone = once(child, 'close');
      child.kill('SIGKILL');
      await gone;
    }
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** All that a stream has said so far. */
export function textOf(stream: NodeJS.ReadableStream | null): () => string {
  let text = '';
  stream?.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  return () => text;
}

async function whenReady(holder: ChildProcess): Promise<void> {
  const [stdout, stderr] = [textOf(holder.stdout), textOf(holder.stderr)];
  await new Promise<void>((resolve, reject) => {
    holder.stdout?.on('data', () => stdout().includes('ready\n') && resolve());
    holder.once('error', (error) => reject(cannotBeMade(error.message)));
    holder.once('close', (code) => reject(cannotBeMade(`status ${code}: ${stderr().trim()}`)));
  });
}

function cannotBeMade(reason: string): Error {
  return new Error(
    `This machine lets the tests make no network of their own (${reason}). They need unshare, nsenter and setpriv ` +
      '(util-linux), ip (iproute2), nft (nftables): npm run rig; and root, or a kernel that lets everyone make user ' +
      'namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns; ' +
      'in a container: CAP_SYS_ADMIN and CAP_NET_ADMIN, or a seccomp profile that allows unshare).',
  );
}

function scriptOf(folder: string, addresses: readonly string[]): string {
  return [
    'ip link set lo up',
    ...addresses.map((address) => `ip address add ${address} dev lo${address.includes(':') ? ' nodad' : ''}`),
    `mount --bind ${folder}/hosts /etc/hosts`,
    `nft -f ${folder}/rules`,
    'echo ready',
    'exec sleep infinity',
    '',
  ].join('\n');
}

function hostsOf(names: NetworkPlan['names']): string {
  const lines = Object.entries(names).flatMap(([name, addresses]) => addresses.map((address) => `${address} ${name}`));
  return ['127.0.0.1 localhost', '::1 localhost', ...lines, ''].join('\n');
}

function rulesetOf(rules: readonly string[]): string {
  return ['table inet filter {', 'chain input {', 'type filter hook input priority 0', ...rules, '}', '}', ''].join(
    '\n',
  );
}
