import type { ProcessIdentity, ProcessTable } from '../../src/durable/process-table.js';

/** A machine whose processes live and die as a test says. */
export class FakeProcesses {
  readonly #running: Set<number> = new Set();
  #lastPid = 100;

  /** Starts a process, and shows the machine as it sees it. */
  start(): ProcessTable & { readonly pid: number } {
    this.#lastPid += 1;
    const pid = this.#lastPid;
    this.#running.add(pid);
    const self: ProcessIdentity = { pid, startTicks: pid * 10, bootId: 'boot-1', pidNamespace: 'pid:[1]' };
    return {
      pid,
      self: async () => self,
      isRunning: async (identity) => this.#running.has(identity.pid),
      commandOf: async (identity) => (this.#running.has(identity.pid) ? 'device' : undefined),
    };
  }

  kill(pid: number): void {
    this.#running.delete(pid);
  }
}
