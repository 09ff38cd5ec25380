import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { ProgressEvent } from '../../src/core/progress.js';
import type { Twin } from '../../src/core/twin.js';
import type { EmulatorConfig, EmulatorEndpoints, Fault, TraceEntry, TraceMatch } from '../../src/emulator/index.js';
import { eventWords } from '../fakes/event-words.js';

interface Reply {
  readonly id?: number;
  readonly result?: unknown;
  readonly error?: string;
  readonly event?: ProgressEvent;
  readonly atMs?: number;
  readonly closed?: string | null;
}

/** A process that is asked over IPC. */
class AskedProcess {
  readonly ended: Promise<number | null>;
  readonly #child: ChildProcess;
  readonly #calls = new Map<number, { resolve(result: unknown): void; reject(error: Error): void }>();
  #lastCall = 0;

  constructor(program: string) {
    // Nothing of this process's environment: it may bring a CA file of its own, or a proxy.
    this.#child = spawn(process.execPath, [fileURLToPath(new URL(program, import.meta.url))], {
      env: { PATH: process.env.PATH ?? '' },
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    this.#child.on('message', (reply: Reply) => this.receive(reply));
    this.ended = once(this.#child, 'close').then(([code]) => {
      for (const { reject } of this.#calls.values()) reject(new Error(`${program} ended with ${code}`));
      return code as number | null;
    });
  }

  kill(signal: 'SIGKILL' | 'SIGTERM'): Promise<number | null> {
    this.#child.kill(signal);
    return this.ended;
  }

  protected ask(message: object): Promise<unknown> {
    this.#lastCall += 1;
    const id = this.#lastCall;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#child.send({ id, ...message }, () => {});
    });
  }

  protected receive({ id, result, error }: Reply): void {
    if (id === undefined) return;
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error === undefined) call?.resolve(result);
    else call?.reject(new Error(error));
  }
}

/** The emulator, where it can be killed. */
export class EmulatorProcess extends AskedProcess {
  constructor() {
    super('emulator-process.mjs');
  }

  start(config: EmulatorConfig): Promise<{ idScope: string; ca: string; endpoints: EmulatorEndpoints }> {
    return this.ask({ method: 'start', args: [config] }) as never;
  }

  /** Writes down what it knows. */
  close(): Promise<void> {
    return this.ask({ method: 'close', args: [] }) as never;
  }

  /** An operator's action, by the name of the method. */
  operate(
    method: 'enroll' | 'updateEnrollment' | 'removeEnrollment' | 'enrollGroup',
    ...args: unknown[]
  ): Promise<never> {
    return this.ask({ target: 'emulator', method, args }) as never;
  }

  hub(of: string, method: string, ...args: unknown[]): Promise<never> {
    return this.ask({ target: 'hub', of, method, args }) as never;
  }

  count(match: TraceMatch): Promise<number> {
    return this.ask({ target: 'trace', method: 'count', args: [match] }) as never;
  }

  /** Now or later. */
  waitFor(match: TraceMatch): Promise<TraceEntry> {
    return this.ask({ target: 'trace', method: 'waitFor', args: [match] }) as never;
  }

  fault(fault: Fault): Promise<void> {
    return this.ask({ method: 'fault', args: [fault] }) as never;
  }

  clearFaults(): Promise<void> {
    return this.ask({ method: 'clearFaults', args: [] }) as never;
  }
}

export interface DeviceStart {
  readonly options: object;
  readonly speed: number;
  /** Default: the machine's. */
  readonly wallMs?: number;
  /** Every draw of chance. */
  readonly draw: number;
}

/** One device, from power to power cut. */
export class DeviceProcess extends AskedProcess {
  /** What it told, in words; polls and what became of the record are left out. */
  readonly told: string[] = [];
  /** Since the start, by the device's real clock. */
  onlineAfterMs: number | undefined;
  /** What `closed` settled with: undefined while it runs, null after `close()`. */
  closed: string | null | undefined;
  #waiting: { readonly isThere: () => boolean; readonly resolve: () => void }[] = [];

  constructor() {
    super('device-process.mjs');
  }

  start(start: DeviceStart): Promise<void> {
    return this.ask({ call: 'start', argument: start }) as never;
  }

  call(call: 'reprovision' | 'setWall' | 'telemetry' | 'close', argument: object = {}): Promise<void> {
    return this.ask({ call, argument }) as never;
  }

  twin(): Promise<Twin> {
    return this.ask({ call: 'twin' }) as never;
  }

  /** Until it has told this so many times since `from`, a length of `told`. */
  async until(words: string, times = 1, from = 0): Promise<void> {
    const isThere = (): boolean => this.told.slice(from).filter((each) => each.startsWith(words)).length >= times;
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ isThere, resolve });
      this.#look();
      void this.ended.then((code) => reject(new Error(`It ended with ${code} after: ${this.told.join(' | ')}`)));
    });
  }

  protected override receive(reply: Reply): void {
    super.receive(reply);
    const { event, atMs, closed } = reply;
    if (event !== undefined) {
      if (event.type === 'provisioned') this.onlineAfterMs ??= atMs;
      if (isTold(event)) this.told.push(eventWords(event));
    }
    if (closed !== undefined) this.closed = closed;
    this.#look();
  }

  #look(): void {
    this.#waiting = this.#waiting.filter(({ isThere, resolve }) => {
      if (isThere()) resolve();
      else return true;
      return false;
    });
  }
}

/** Polling, and the steps between a connection and its use, say nothing about where the device goes. */
function isTold(event: ProgressEvent): boolean {
  if (event.type === 'waiting') return event.reason !== 'poll' && event.reason !== 'budget';
  return !['record', 'polling', 'assigning', 'connected', 'twin', 'started', 'assigned'].includes(event.type);
}
