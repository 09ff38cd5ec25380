import { dirname, join } from 'node:path';
import type { Emulator, EmulatorConfig, EmulatorOptions, IndividualEnrollment } from '../emulator/index.js';
import { ConfigurationError } from '../errors.js';
import { quoteForShell } from '../shell-word.js';
import { OutputError, UsageError } from './cli-errors.js';
import type { Command, CommandContext } from './command.js';
import type { CommandLog } from './command-log.js';
import { DEMO_CONFIG, prepareDemo, writeDeviceConfigs } from './emulator-demo.js';
import { EMULATOR_SPEC } from './emulator-spec.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
import { type Options, readOptions } from './options.js';
import { checkTarget, writeFileWhole } from './output-file.js';
import { type InputSource, readJsonObjectInput } from './text-file.js';

type EmulatorDoor = Pick<typeof import('../emulator/index.js'), 'startEmulator' | 'makeSelfSigned'>;

const EVERYBODY = 0o644;

/** `dps-device emulator`. `load` brings in the emulator, when it is about to be started. */
export function emulatorCommand(load: () => Promise<EmulatorDoor> = () => import('../emulator/index.js')): Command {
  return { spec: EMULATOR_SPEC, run: (args, context) => runEmulator(args, context, load) };
}

async function runEmulator(
  args: readonly string[],
  context: CommandContext,
  load: () => Promise<EmulatorDoor>,
): Promise<number> {
  const { io, log, interruption } = context;
  const options = await readOptions(args, EMULATOR_SPEC, io, interruption.signal);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const demo = options.input('demo');
  const caFile = options.input('ca-file');
  if (demo !== undefined && options.text('config') !== undefined) {
    throw new UsageError('--demo brings a configuration of its own: give either --demo or --config.');
  }
  if (caFile !== undefined) await checkTarget(caFile);
  const door = await load();
  if (demo !== undefined) await prepareDemo(demo, door.makeSelfSigned);
  const { config, baseDirectory } = await readConfig(options, context);
  const emulator = await door
    .startEmulator(config, {
      baseDirectory,
      log: (line) => logLine(log, line),
      ...(log.isJson && { onTrace: (entry) => log.entry({ type: 'trace', ...entry }, '') }),
    })
    .catch((error: unknown) => {
      throw nameFlag(error, options);
    });
  try {
    await announce(emulator, config, { demo, caFile }, context);
    await aborted(interruption.signal);
    logLine(log, `stopping: ${interruption.by ?? 'asked to'}`);
  } finally {
    await emulator.close();
  }
  return EXIT.ok;
}

interface LoadedConfig extends Required<Pick<EmulatorOptions, 'baseDirectory'>> {
  readonly config: EmulatorConfig;
}

const PORTS = ['mqtt', 'amqp', 'https'] as const;

/** Flags win over the file. What it says is for the emulator to judge. */
async function readConfig(options: Options, { io, interruption }: CommandContext): Promise<LoadedConfig> {
  const demo = options.input('demo');
  const source = demo === undefined ? options.input('config') : { ...demo, path: join(demo.path, DEMO_CONFIG) };
  const config: EmulatorConfig = source === undefined ? {} : await readJsonObjectInput(source, io, interruption.signal);
  const host = options.text('host');
  const given = PORTS.map((name) => [name, options.number(`${name}-port`)] as const);
  const ports = Object.fromEntries(given.filter(([, port]) => port !== undefined));
  return {
    baseDirectory: source === undefined || source.path === '-' ? '.' : dirname(source.path),
    config: {
      ...config,
      ...(host === undefined ? {} : { host }),
      ...(Object.keys(ports).length === 0 ? {} : { ports: { ...config.ports, ...ports } }),
    },
  };
}

/** The emulator speaks of its configuration, where nobody finds what a flag gave. What this machine does not allow has a cause. */
function nameFlag(error: unknown, options: Options): unknown {
  if (!(error instanceof ConfigurationError)) return error;
  const { code, message, option = '', cause } = error;
  const flag = option.replace(/^ports\.(\w+)$/, '$1-port');
  if (options.layer(flag) === undefined) return error;
  const label = options.label(flag);
  const words = message.replace(option, label);
  return cause === undefined
    ? new UsageError(words)
    : new ConfigurationError({ code, message: words, option: label, cause });
}

interface Files {
  readonly demo: InputSource | undefined;
  readonly caFile: InputSource | undefined;
}

/** Says that everything listens: files first, so that whoever reads the line finds them. */
async function announce(
  emulator: Emulator,
  config: EmulatorConfig,
  { demo, caFile }: Files,
  { io, log, interruption, program }: CommandContext,
): Promise<void> {
  const { idScope, idScopes, endpoints, caPem } = emulator;
  if (caFile !== undefined) await writeFileWhole(caFile, caPem, EVERYBODY);
  const configurations = demo === undefined ? [] : await writeDeviceConfigs(demo, emulator);
  const line = {
    ready: true,
    pid: process.pid,
    idScope,
    idScopes,
    endpoints,
    caPem,
    ...(caFile === undefined ? {} : { caFile: caFile.path }),
    ...(demo === undefined ? {} : { demo: { folder: demo.path, configurations } }),
  };
  await handOver(`${JSON.stringify(line)}\n`, io, interruption).catch(unlessReaderLeft);
  const { mqtt, amqp, https } = endpoints.dps;
  logLine(
    log,
    `DPS listens at ${mqtt} (MQTT), ${amqp} (AMQP) and ${https} (HTTPS, MQTT and AMQP over WebSocket), ID scope ${idScope}`,
  );
  for (const hub of endpoints.hubs) {
    logLine(log, `hub ${hub.name} listens at ${hub.mqtt} (MQTT and AMQP, also over WebSocket)`);
  }
  for (const path of configurations) {
    logLine(log, `a device to try: ${program} provision --config ${quoteForShell(path)}`);
  }
  for (const name of namesWithMadeKeys(config)) {
    logLine(
      log,
      `careful: the keys of ${name} were made here, and are shown nowhere: no device can have them. Give a "primaryKey" in its "symmetricKey": openssl rand -base64 32 makes one`,
    );
  }
  const { host } = config;
  if (host !== undefined && !/^(localhost|127\.\d+\.\d+\.\d+|::1|\[::1\])$/.test(host)) {
    logLine(log, `careful: it listens on ${host}, where other machines may reach it`);
  }
}

/** Enrollments whose keys end with the process; a state file has them in it. */
function namesWithMadeKeys(config: EmulatorConfig): string[] {
  if ((config.stateFile ?? undefined) !== undefined) return [];
  return (config.scopes ?? [config]).flatMap(({ enrollments, enrollmentGroups }) => [
    ...(enrollments ?? []).filter(hasMadeKeys).map(({ registrationId }) => registrationId),
    ...(enrollmentGroups ?? []).filter(hasMadeKeys).map(({ enrollmentGroupId }) => enrollmentGroupId),
  ]);
}

/** Either key will do for a device. */
function hasMadeKeys({ attestation: { type, symmetricKey } }: Pick<IndividualEnrollment, 'attestation'>): boolean {
  const isSymmetric = type === 'symmetricKey' || (symmetricKey ?? undefined) !== undefined;
  return isSymmetric && !symmetricKey?.primaryKey && !symmetricKey?.secondaryKey;
}

/** A reader that goes away has seen enough; devices may still be coming. */
function unlessReaderLeft(error: unknown): void {
  const { cause } = error as { readonly cause?: { readonly code?: unknown } };
  if (!(error instanceof OutputError) || cause?.code !== 'EPIPE') throw error;
}

function logLine(log: CommandLog, line: string): void {
  log.entry({ type: 'log', line }, line);
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
