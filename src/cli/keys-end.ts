import type { ExitStatus } from './exit-codes.js';

/** How a command of `keys` ends whose result is printed, though not all is well. */
export class EndedWith {
  readonly result: object | string;
  readonly exitStatus: ExitStatus;

  constructor(result: object | string, exitStatus: ExitStatus) {
    this.result = result;
    this.exitStatus = exitStatus;
  }
}
