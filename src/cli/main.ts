import { nearestName } from '../nearest-name.js';
import { PACKAGE_VERSION } from '../version.js';
import { loadApart } from './apart.js';
import { UsageError } from './cli-errors.js';
import type { Command, FailureContext } from './command.js';
import { CommandLog } from './command-log.js';
import { EXIT, type ExitStatus, exitStatusOf } from './exit-codes.js';
import type { FailureReport } from './failure-report.js';
import { checkOutput, flush, handOver } from './hand-over.js';
import { commandHelp, exitStatusHelp } from './help.js';
import { listenForInterruption } from './interruption.js';
import type { CliIo } from './io.js';
import { blameFlag } from './option-names.js';
import { parseSwitch } from './option-spec.js';
import { explainShortage } from './shortage.js';

/** A command by name; its code is loaded when it is asked for. */
export interface CommandDoor {
  readonly summary: string;
  load(): Promise<Command>;
}

export type CommandDoors = Readonly<Record<string, CommandDoor>>;

const COMMANDS: CommandDoors = {
  provision: {
    summary: 'takes the device from its ID scope and identity to its hub and initial twin',
    load: async () => (await import('./provision.js')).provisionCommand(),
  },
  run: {
    summary: 'keeps the device provisioned until it is told to end',
    load: async () => (await import('./run.js')).runCommand(),
  },
  status: {
    summary: 'shows what the device remembers of its place',
    load: async () => (await import('./record-commands.js')).statusCommand(),
  },
  forget: {
    summary: 'drops what the device remembers',
    load: async () => (await import('./record-commands.js')).forgetCommand(),
  },
  identity: {
    summary: 'prints what an operator needs to enroll this device',
    load: async () => (await import('./identity-command.js')).identityCommand(),
  },
  doctor: {
    summary: 'looks for what would keep the device from being provisioned',
    load: async () => (await import('./doctor.js')).doctorCommand(),
  },
  keys: {
    summary: 'makes, keeps and rolls keys in a sealed key store',
    load: async () => (await import('./keys.js')).keysCommand(),
  },
  emulator: {
    summary: 'runs DPS and IoT hubs on this machine, offline',
    load: async () => (await loadApart(() => import('./emulator.js'), 'the emulator')).emulatorCommand(),
  },
};

/**
 * The command line: runs the command that `argv` (without the program's own name) asks for. Never fails.
 *
 * @param program what to type to start it again, for messages.
 * @returns the exit status.
 */
export async function main(
  argv: readonly string[],
  io: CliIo,
  commands: CommandDoors = COMMANDS,
  program = 'dps-device',
): Promise<number> {
  const log = new CommandLog(io.stderr, argv.includes('--json-log') || parseSwitch(io.env.DPS_JSON_LOG ?? '') === true);
  const interruption = listenForInterruption(io);
  const failureContext: FailureContext = { lines: {}, optionNames: new Map() };
  const [name = '', ...args] = argv;
  let helpOf = Object.hasOwn(commands, name) ? ` ${name}` : '';
  try {
    const text = await textAskedFor(argv, commands);
    if (text === undefined) {
      const command = await findCommand(name, commands).load();
      helpOf = ` ${(command.specFor?.(args) ?? command.spec).command}`;
      const status = await command.run(args, { io, log, interruption, program, failureContext });
      if (io.stdout.failure?.code !== 'EPIPE') checkOutput(io);
      return status;
    }
    await tellText(text, io, interruption.signal);
    return EXIT.ok;
  } catch (thrown) {
    const error = blameFlag(thrown, failureContext.optionNames);
    const status = exitStatusOf(error, interruption.by);
    const report = await reportOn(error, status, failureContext);
    const more = error instanceof UsageError ? `\nTry: ${program}${helpOf} --help` : '';
    log.failure(report.event, `${report.text}${more}`);
    return status;
  } finally {
    await flush(log.flushed(), io);
    interruption.release();
  }
}

/** Where nothing more can be loaded, which may be what went wrong, one line has to do. */
async function reportOn(error: unknown, exitStatus: ExitStatus, context: FailureContext): Promise<FailureReport> {
  try {
    const { describeFailure } = await import('./failure-report.js');
    return describeFailure(error, exitStatus, context);
  } catch {
    const message = explainShortage(error) ?? 'it failed, and what would tell more cannot be loaded';
    return { text: `error: ${message} (exit status ${exitStatus})`, event: { type: 'error', message, exitStatus } };
  }
}

/** Help and version, which load nothing but text. */
async function textAskedFor(
  [first = '', ...args]: readonly string[],
  commands: CommandDoors,
): Promise<string | undefined> {
  if (first === '--version') return `${PACKAGE_VERSION}\n`;
  if (first === '--help' || first === '-h') return generalHelp(commands);
  if (!args.some((argument) => argument === '--help' || argument === '-h')) return undefined;
  const command = await findCommand(first, commands).load();
  return commandHelp(command.specFor?.(args) ?? command.spec);
}

function findCommand(name: string, commands: CommandDoors): CommandDoor {
  const door = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (door !== undefined) return door;
  const names = Object.keys(commands);
  if (name === '') throw new UsageError(`Say what to do: dps-device <command>, which is one of ${names.join(', ')}.`);
  if (name.startsWith('-')) throw unknownFlag(name);
  const nearest = nearestName(name, names);
  const hint = nearest === undefined ? `Commands are ${names.join(', ')}.` : `Did you mean ${nearest}?`;
  // What is no word may be a key.
  const shown = /^[a-z][a-z-]{0,19}$/i.test(name) ? `command ${JSON.stringify(name)}` : 'such command';
  throw new UsageError(`There is no ${shown}. ${hint}`);
}

function unknownFlag(argument: string): UsageError {
  const [flag = ''] = argument.split('=');
  const shown = flag.startsWith('--') ? flag.slice(0, 40) : flag.slice(0, 2);
  const nearest = nearestName(shown, ['--help', '--version']);
  const hint =
    nearest === undefined ? 'The command comes first: dps-device <command> [options].' : `Did you mean ${nearest}?`;
  return new UsageError(`There is no flag ${shown} before a command. ${hint}`);
}

function generalHelp(commands: CommandDoors): string {
  const rows = Object.entries(commands).map(([name, { summary }]) => `  ${name.padEnd(11)} ${summary}`);
  return `dps-device ${PACKAGE_VERSION}: device-side provisioning for Azure IoT Hub

Usage: dps-device <command> [options]

Commands:
${rows.join('\n')}

Options:
  -h, --help     print this text, or that of a command: dps-device <command> --help
  --version      print the version

${exitStatusHelp()}
`;
}

/** Who reads the help may stop when it has read enough. */
async function tellText(text: string, io: CliIo, signal: AbortSignal): Promise<void> {
  await handOver(text, io, { signal }).catch((error: unknown) => {
    if (io.stdout.failure?.code !== 'EPIPE') throw error;
  });
}
