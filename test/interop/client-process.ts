import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';
import { onTestFinished } from 'vitest';
import { temporaryFolder } from '../cli/temporary-folder.js';
import type { Commands, Reply, Reports, Request } from './microsoft-client.js';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const PROGRAM = fileURLToPath(new URL('microsoft-client.ts', import.meta.url));

interface Pending {
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
}

/** A process with Microsoft's clients in it. */
export class ClientProcess {
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, Pending>();
  readonly #reports = new Map<string, unknown[]>();
  readonly #listeners = new Map<string, Pending[]>();
  #lastCall = 0;
  #errorText = '';
  #isOver = false;

  private constructor(child: ChildProcess) {
    this.#child = child;
    child.on('message', (reply: Reply) => this.#receive(reply));
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errorText += text;
    });
    child.once('close', () => this.#closed());
  }

  /**
   * Starts a process that ends with the test.
   *
   * @param trustedCaPem given, the whole process trusts it: the provisioning packages have no option for it.
   */
  static async start(trustedCaPem?: string): Promise<ClientProcess> {
    const code = await compile();
    // Nothing of this process's environment: it may bring a CA file of its own, or a proxy.
    const env: Record<string, string> = { PATH: process.env.PATH ?? '' };
    if (trustedCaPem !== undefined) {
      env.NODE_EXTRA_CA_CERTS = join(temporaryFolder(), 'ca.pem');
      writeFileSync(env.NODE_EXTRA_CA_CERTS, trustedCaPem);
    }
    const child = spawn(process.execPath, ['--input-type=module', '--eval', code], {
      cwd: PROJECT,
      env,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    const ended = once(child, 'close');
    onTestFinished(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    return new ClientProcess(child);
  }

  /** Rejects with what the command rejected with, or with name `ProcessEnded` and its last words when it died. */
  call<K extends keyof Commands>(
    command: K,
    ...[argument]: Parameters<Commands[K]>
  ): Promise<Awaited<ReturnType<Commands[K]>>> {
    this.#lastCall += 1;
    const request: Request = { id: this.#lastCall, command, argument };
    return new Promise((resolve, reject) => {
      if (this.#isOver) return reject(this.#endedError());
      this.#calls.set(request.id, { resolve, reject });
      // A process that is just ending says so by closing.
      this.#child.send(request, () => {});
    });
  }

  /** The next report of this kind that was not taken yet, now or later. */
  next<K extends keyof Reports>(name: K): Promise<Reports[K]> {
    const waiting = this.#reports.get(name) ?? [];
    if (waiting.length > 0) return Promise.resolve(waiting.shift() as Reports[K]);
    return new Promise((resolve, reject) => {
      if (this.#isOver) return reject(this.#endedError());
      this.#listeners.set(name, [...(this.#listeners.get(name) ?? []), { resolve, reject }]);
    });
  }

  /** Reports of this kind that nobody took. */
  untaken(name: keyof Reports): readonly unknown[] {
    return this.#reports.get(name) ?? [];
  }

  #receive(reply: Reply): void {
    if ('report' in reply) {
      const listener = this.#listeners.get(reply.report)?.shift();
      if (listener === undefined) {
        this.#reports.set(reply.report, [...this.untaken(reply.report), reply.data]);
      } else {
        listener.resolve(reply.data as never);
      }
      return;
    }
    const call = this.#calls.get(reply.id);
    this.#calls.delete(reply.id);
    if ('error' in reply) call?.reject(Object.assign(new Error(reply.error.message), reply.error));
    else call?.resolve(reply.result as never);
  }

  #closed(): void {
    this.#isOver = true;
    const error = this.#endedError();
    for (const { reject } of [...this.#calls.values(), ...[...this.#listeners.values()].flat()]) reject(error);
  }

  #endedError(): Error {
    return Object.assign(new Error(this.#errorText), { name: 'ProcessEnded' });
  }
}

let compiled: Promise<string> | undefined;

/** Only this project's own file is compiled; the packages are loaded by the process as they are installed. */
function compile(): Promise<string> {
  compiled ??= build({
    entryPoints: [PROGRAM],
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    // What it reads beside itself is where its source is.
    define: { 'import.meta.url': JSON.stringify(pathToFileURL(PROGRAM).href) },
    write: false,
  }).then(({ outputFiles: [file] }) => file?.text ?? '');
  return compiled;
}
