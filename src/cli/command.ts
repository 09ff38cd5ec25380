import type { CommandLog } from './command-log.js';
import type { Interruption } from './interruption.js';
import type { CliIo } from './io.js';
import type { CommandSpec } from './option-spec.js';

/** What a command is run with. */
export interface CommandContext {
  readonly io: CliIo;
  readonly log: CommandLog;
  readonly interruption: Interruption;
  /** Lines that place a failure, should there be one, e.g. where the identity came from. */
  readonly failureContext: Record<string, string>;
}

export interface Command {
  readonly spec: CommandSpec;
  /** Settles with the exit status, or fails with what the status is made from. */
  run(args: readonly string[], context: CommandContext): Promise<number>;
}
