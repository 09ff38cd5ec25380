import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** None outlives the tests, also when they are broken off. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** A swtpm of our own: its own folder for state and sockets. A new one is a new TPM. */
export class Swtpm {
  /** Name of the link to it. */
  readonly uri: string;
  readonly folder: string;
  /** Of the data channel; the control channel is one above. Undefined where Unix sockets are used. */
  readonly port: number | undefined;
  readonly #flags: string;
  #process: ChildProcess | undefined;

  private constructor(folder: string, port: number | undefined, flags: string) {
    this.folder = folder;
    this.port = port;
    this.#flags = flags;
    this.uri = port === undefined ? `tpm2:swtpm:path=${this.socketPath}` : `tpm2:swtpm:host=127.0.0.1,port=${port}`;
  }

  static async start({
    tcp = false,
    flags = 'not-need-init,startup-clear',
  }: {
    readonly tcp?: boolean;
    readonly flags?: string;
  } = {}): Promise<Swtpm> {
    const folder = mkdtempSync(join(tmpdir(), 'dps-device-swtpm-'));
    for (let tries = 0; ; tries += 1) {
      const swtpm = new Swtpm(folder, tcp ? await freePortPair() : undefined, flags);
      try {
        await swtpm.powerOn();
        return swtpm;
      } catch (error) {
        // Somebody else may have taken the ports meanwhile.
        if (!tcp || tries === 10) throw error;
      }
    }
  }

  get socketPath(): string {
    return join(this.folder, 'tpm.sock');
  }

  /** Cuts the power: no Shutdown, no warning. */
  async powerOff(): Promise<void> {
    const child = this.#process;
    this.#process = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  async powerOn(): Promise<void> {
    const channel = (type: string, offset: number): string =>
      this.port === undefined
        ? `type=unixio,path=${offset === 0 ? this.socketPath : join(this.folder, 'ctrl.sock')}`
        : `type=${type},port=${this.port + offset},bindaddr=127.0.0.1`;
    const arguments_ = ['socket', '--tpm2', '--tpmstate', `dir=${this.folder}`, '--server', channel('tcp', 0)];
    arguments_.push('--ctrl', channel('tcp', 1), '--flags', this.#flags, '--log', `file=${join(this.folder, 'log')}`);
    // A worker that is killed has no exit to do anything at: the kernel ends what it leaves behind.
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', 'swtpm', ...arguments_], { stdio: 'ignore' });
    this.#process = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    const failed = new Promise<never>((_, reject) => {
      child.once('error', reject);
      child.once('exit', (code) => reject(new Error(`swtpm ended with ${code}`)));
    });
    failed.catch(() => undefined);
    await Promise.race([failed, this.#listening(() => child.exitCode === null)]);
  }

  async powerCycle(): Promise<void> {
    await this.powerOff();
    await this.powerOn();
  }

  /** Stops it from answering, without closing anything. */
  pause(): void {
    this.#process?.kill('SIGSTOP');
  }

  resume(): void {
    this.#process?.kill('SIGCONT');
  }

  /** For ever. */
  async stop(): Promise<void> {
    await this.powerOff();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #listening(isAlive: () => boolean): Promise<void> {
    while (isAlive()) {
      const socket = this.port === undefined ? connect(this.socketPath) : connect(this.port, '127.0.0.1');
      const isThere = await new Promise<boolean>((resolve) => {
        socket.once('connect', () => resolve(true));
        socket.once('error', () => resolve(false));
      });
      socket.destroy();
      if (isThere) return;
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

/** A port that is free, and so is the one above. */
export async function freePortPair(): Promise<number> {
  for (;;) {
    const first = await listen(0);
    const port = (first.address() as { port: number }).port;
    const second = port < 65535 ? await listen(port + 1).catch(() => undefined) : undefined;
    await closed(first);
    if (second === undefined) continue;
    await closed(second);
    return port;
  }
}

function listen(port: number): Promise<ReturnType<typeof createServer>> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}

function closed(server: ReturnType<typeof createServer>): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()));
}
