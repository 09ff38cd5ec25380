import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { unusedPort } from '../fakes/wire-peer.js';

export type ProxyProgram = 'tinyproxy' | 'squid' | 'microsocks' | 'danted';

/** Who gets in where a password is asked for. With what a URL does not hold as it is, where the program's own files can. */
export const PROXY_USERS: Readonly<Record<ProxyProgram, { readonly username: string; readonly password: string }>> = {
  tinyproxy: { username: 'device', password: 'Top-Secret1' },
  squid: { username: 'device', password: 'töp:secret@100%/' },
  microsocks: { username: 'devi ce', password: 'töp:secret@100%/' },
  // It knows the users of the system only.
  danted: { username: '', password: '' },
};

export interface RealProxyOptions {
  /** Whether it asks for user name and password. */
  readonly isOpen?: boolean;
  /** The only ports that it leads to; default: all. */
  readonly ports?: readonly number[];
  /** Default 127.0.0.1, a free port there. */
  readonly address?: { readonly host: string; readonly port: number };
  /** Where it runs. Default: here. */
  readonly start?: (command: string, args: readonly string[]) => ChildProcess;
}

/** None outlives the tests, also when they are broken off. */
const running = new Set<RealProxy>();
process.on('exit', () => {
  for (const proxy of running) proxy.abandon();
});

/** A proxy of Debian's, with a configuration and a log in a folder of its own. */
export class RealProxy {
  readonly program: ProxyProgram;
  readonly kind: 'http' | 'socks5';
  /** `host:port` */
  readonly address: string;
  readonly #folder: string;
  readonly #child: ChildProcess;
  #errorText = '';

  private constructor(program: ProxyProgram, address: string, folder: string, child: ChildProcess) {
    this.program = program;
    this.kind = program === 'tinyproxy' || program === 'squid' ? 'http' : 'socks5';
    this.address = address;
    this.#folder = folder;
    this.#child = child;
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errorText += text;
    });
    running.add(this);
  }

  static async start(program: ProxyProgram, options: RealProxyOptions = {}): Promise<RealProxy> {
    for (let tries = 0; ; tries += 1) {
      const { host, port } = options.address ?? { host: '127.0.0.1', port: await unusedPort() };
      const folder = mkdtempSync(join(tmpdir(), 'dps-device-proxy-'));
      const [command, args] = commandOf({ ...options, program, host, port, folder });
      if (options.start === undefined) giveToOthers(folder);
      const child = (options.start ?? startHere)(command, args);
      const proxy = new RealProxy(program, `${host}:${port}`, folder, child);
      try {
        await proxy.#listening(host, port, options.start !== undefined);
        return proxy;
      } catch (error) {
        await proxy.stop();
        // Somebody else may have taken the port meanwhile.
        if (options.address !== undefined || tries === 10) throw error;
      }
    }
  }

  /** As a device is told it; without arguments with the right user and password where one is asked for. */
  url(
    credentials: { readonly username: string; readonly password: string } | 'none' = PROXY_USERS[this.program],
  ): string {
    const scheme = this.kind === 'http' ? 'http' : 'socks5';
    if (credentials === 'none' || credentials.username === '') return `${scheme}://${this.address}`;
    const [user, password] = [credentials.username, credentials.password].map(encodeURIComponent);
    return `${scheme}://${user}:${password}@${this.address}`;
  }

  /** What it was asked to lead to, `host:port`, by its own log. Squid writes when a connection ends, microsocks only who got through. */
  targets(): string[] {
    return [...this.log().matchAll(TARGETS[this.program])].map(([, host = '', port]) =>
      port === undefined ? host : `${host}:${port}`,
    );
  }

  log(): string {
    return [
      ...readdirSync(this.#folder)
        .filter((name) => name.endsWith('.log'))
        .sort(),
    ]
      .map((name) => readFileSync(join(this.#folder, name), 'utf8'))
      .join('')
      .concat(this.#errorText);
  }

  async stop(): Promise<void> {
    if (this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null) {
      const gone = once(this.#child, 'exit');
      // What others take for an end in good order, Squid takes for one after a while.
      this.#child.kill(this.program === 'squid' ? 'SIGINT' : 'SIGTERM');
      await gone;
    }
    this.abandon();
  }

  /** All that can be done where nothing can be waited for. */
  abandon(): void {
    running.delete(this);
    if (this.#child.exitCode === null && this.#child.signalCode === null) this.#child.kill('SIGKILL');
    // Squid leaves its shared memory when it is killed.
    const name = shortNameOf(this.#folder);
    if (this.program === 'squid')
      for (const file of readdirSync('/dev/shm').filter((each) => each.startsWith(`${name}-`)))
        rmSync(join('/dev/shm', file), { force: true });
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Elsewhere its port cannot be tried from here: there it has said so. */
  async #listening(host: string, port: number, isElsewhere: boolean): Promise<void> {
    let failure: Error | undefined;
    this.#child.once('error', (error) => {
      failure = new Error(`${this.program} cannot be started (${error.message}): npm run rig`);
    });
    this.#child.once('exit', (code) => {
      failure ??= new Error(`${this.program} ended with ${code}: ${this.log()}`);
    });
    while (failure === undefined) {
      if (isElsewhere ? READY[this.program].test(this.log()) : await accepts(host, port)) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    throw failure;
  }
}

const TARGETS: Readonly<Record<ProxyProgram, RegExp>> = {
  tinyproxy: /: CONNECT (\S+) HTTP\//g,
  squid: / CONNECT (\S+) /g,
  microsocks: /connected to (\S+):(\d+)$/gm,
  danted: /tcp\/connect [[\]]: .* (\S+)\.(\d+)$/gm,
};

/** What they say when they listen. Microsocks says nothing. */
const READY: Readonly<Record<ProxyProgram, RegExp>> = {
  tinyproxy: /Starting main loop|Accepting connections/,
  squid: /Accepting HTTP Socket connections/,
  microsocks: /^/,
  danted: / running/,
};

interface Setting extends RealProxyOptions {
  readonly program: ProxyProgram;
  readonly host: string;
  readonly port: number;
  readonly folder: string;
}

function commandOf(setting: Setting): [string, string[]] {
  const { program, host, port, folder, isOpen = false } = setting;
  const { username, password } = PROXY_USERS[program];
  const file = (name: string, lines: readonly string[]): string => {
    writeFileSync(join(folder, name), `${lines.join('\n')}\n`);
    return join(folder, name);
  };
  switch (program) {
    case 'tinyproxy':
      return ['tinyproxy', ['-d', '-c', file('conf', tinyproxyConfiguration(setting))]];
    case 'squid':
      if (!isOpen) file('passwords', [`${username}:${hashOf(password)}`]);
      return ['squid', ['-N', '-n', shortNameOf(folder), '-f', file('conf', squidConfiguration(setting))]];
    case 'danted':
      // One process for connections is enough; its pid file would be the system's.
      return ['danted', ['-N', '1', '-p', join(folder, 'pid'), '-f', file('conf', dantedConfiguration(setting))]];
    case 'microsocks':
      return ['microsocks', ['-i', host, '-p', String(port), ...(isOpen ? [] : ['-u', username, '-P', password])]];
  }
}

function tinyproxyConfiguration({ host, port, folder, isOpen, ports = [] }: Setting): string[] {
  const { username, password } = PROXY_USERS.tinyproxy;
  return [
    `Listen ${host}`,
    `Port ${port}`,
    `LogFile "${join(folder, 'tinyproxy.log')}"`,
    'LogLevel Info',
    ...(isOpen === true ? [] : [`BasicAuth ${username} ${password}`]),
    ...ports.map((each) => `ConnectPort ${each}`),
  ];
}

function squidConfiguration({ host, port, folder, isOpen, ports }: Setting): string[] {
  return [
    ...(isOpen === true
      ? []
      : [
          `auth_param basic program /usr/lib/squid/basic_ncsa_auth ${join(folder, 'passwords')}`,
          'auth_param basic children 1 startup=1',
          'acl known proxy_auth REQUIRED',
        ]),
    ...(ports === undefined ? [] : [`acl allowed port ${ports.join(' ')}`, 'http_access deny !allowed']),
    ...(isOpen === true ? ['http_access allow all'] : ['http_access allow known', 'http_access deny all']),
    `http_port ${host}:${port}`,
    `access_log stdio:${join(folder, 'access.log')}`,
    `cache_log ${join(folder, 'cache.log')}`,
    `coredump_dir ${folder}`,
    'pid_filename none',
    'cache deny all',
    'pinger_enable off',
    'shutdown_lifetime 0 seconds',
  ];
}

function dantedConfiguration({ host, port, ports }: Setting): string[] {
  const rule = (verdict: string, to: string): string =>
    `socks ${verdict} { from: 0.0.0.0/0 to: 0.0.0.0/0 ${to}\n log: connect }`;
  return [
    'logoutput: stderr',
    `internal: ${host} port = ${port}`,
    'external: lo',
    'clientmethod: none',
    'socksmethod: none',
    'client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }',
    ...(ports === undefined ? [rule('pass', '')] : ports.map((each) => rule('pass', `port = ${each}`))),
    rule('block', ''),
  ];
}

/** As `htpasswd` makes them. */
function hashOf(password: string): string {
  return execFileSync('openssl', ['passwd', '-apr1', '-stdin'], { input: password, encoding: 'utf8' }).trim();
}

/** Of letters and digits only. */
function shortNameOf(folder: string): string {
  return basename(folder).replaceAll(/[^A-Za-z0-9]/g, '');
}

const NOBODY = 65_534;

/** Squid will not run as root. */
function giveToOthers(folder: string): void {
  if (process.getuid?.() !== 0) return;
  for (const name of ['.', ...readdirSync(folder)]) chownSync(join(folder, name), NOBODY, NOBODY);
  chmodSync(folder, 0o700);
}

/** The kernel ends it when this process ends, however it does. */
function startHere(command: string, args: readonly string[]): ChildProcess {
  return spawn('setpriv', ['--pdeathsig', 'TERM', command, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { PATH: `${process.env.PATH}:/usr/sbin:/sbin` },
    ...(process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {}),
  });
}

async function accepts(host: string, port: number): Promise<boolean> {
  const socket = connect(port, host);
  const isThere = await new Promise<boolean>((resolve) => {
    socket.once('connect', () => resolve(true));
    socket.once('error', () => resolve(false));
  });
  socket.destroy();
  return isThere;
}
