import type { CommandLog } from './command-log.js';
import type { Hint } from './endpoint-hint.js';
import type { Interruption } from './interruption.js';
import type { CliIo } from './io.js';
import type { OptionNames } from './option-names.js';
import type { CommandSpec } from './option-spec.js';

/** What a command is run with. */
export interface CommandContext {
  readonly io: CliIo;
  readonly log: CommandLog;
  readonly interruption: Interruption;
  /** What to type to start the program again: `dps-device`, `node dist/dps-device.mjs`. */
  readonly program: string;
  /** For the command to fill in as it comes to know things. */
  readonly failureContext: FailureContext;
}

/** What helps to understand a failure, should there be one. */
export interface FailureContext {
  /** Lines by their labels, e.g. where the identity came from. */
  lines: Readonly<Record<string, string>>;
  /** What the options of the library are called here. */
  optionNames: OptionNames;
  hint?: Hint;
}

export interface Command {
  readonly spec: CommandSpec;
  /** What `--help` among `args` is about, where the command has commands of its own. Default: `spec`. */
  specFor?(args: readonly string[]): CommandSpec;
  /** Settles with the exit status, or fails with what the status is made from. */
  run(args: readonly string[], context: CommandContext): Promise<number>;
}
