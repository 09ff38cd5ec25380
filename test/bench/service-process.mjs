import { fork } from 'node:child_process';
import { once } from 'node:events';

/** A child process whose functions are called over IPC; it ends with `close()` or with this process. */
export class ServiceProcess {
  #child;
  #waiting = new Map();
  #lastId = 0;

  constructor(file, env) {
    this.#child = fork(file, { env });
    this.#child.on('message', ({ id, result }) => {
      this.#waiting.get(id)?.resolve(result);
      this.#waiting.delete(id);
    });
    this.#child.on('exit', (code) => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`${file} ended with status ${code}.`));
    });
  }

  call(name, parameters = {}) {
    this.#lastId += 1;
    const id = this.#lastId;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#child.send({ id, call: name, ...parameters }, (error) => {
        if (error !== null) reject(error);
      });
    });
  }

  async close() {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill();
    await once(this.#child, 'exit');
  }
}
