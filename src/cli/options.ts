import { dirname, resolve } from 'node:path';
import { excerptOf } from '../core/json-body.js';
import { ConfigurationError } from '../errors.js';
import { nearestName } from '../nearest-name.js';
import { isPathLike } from '../path-like.js';
import { UsageError } from './cli-errors.js';
import { isSecretName, parseFlags } from './flags.js';
import type { CliIo } from './io.js';
import { type CommandSpec, configKey, environmentName, type OptionSpec, parseSwitch } from './option-spec.js';
import { type InputSource, readJsonObjectInput } from './text-file.js';

/** Where a value came from; earlier layers win. */
export type OptionLayer = 'flag' | 'environment' | 'config';

interface Given {
  readonly layer: OptionLayer;
  /** As the user knows it: `--id-scope`, `DPS_ID_SCOPE`, `/etc/dps.json: idScope`. */
  readonly label: string;
  readonly kind: OptionSpec['kind'];
  readonly value: string | number | boolean;
}

/** What a command was told, each value checked. */
export class Options {
  readonly #given: ReadonlyMap<string, Given>;

  constructor(given: ReadonlyMap<string, Given>) {
    this.#given = given;
  }

  text(name: string): string | undefined {
    const value = this.#given.get(name)?.value;
    return typeof value === 'string' ? value : undefined;
  }

  number(name: string): number | undefined {
    const value = this.#given.get(name)?.value;
    return typeof value === 'number' ? value : undefined;
  }

  isOn(name: string): boolean {
    return this.#given.get(name)?.value === true;
  }

  layer(name: string): OptionLayer | undefined {
    return this.#given.get(name)?.layer;
  }

  /** The option in the user's own spelling. */
  label(name: string): string {
    return this.#given.get(name)?.label ?? `--${name}`;
  }

  /** As `label`, with the file that the option names: `--ca-file ca.pem`, `DPS_CA_FILE=ca.pem`, `dps.json: caFile /etc/ca.pem`. */
  place(name: string): string {
    const label = this.label(name);
    const { kind, layer, value } = this.#given.get(name) ?? {};
    if (typeof value !== 'string' || (kind !== 'input' && kind !== 'path')) return label;
    if (value === '-') return `${label} (standard input)`;
    if (!isPathLike(value)) return label;
    return layer === 'environment' ? `${label}=${value}` : `${label} ${value}`;
  }

  /** A file to read, with the label for messages about it. */
  input(name: string): InputSource | undefined {
    const path = this.text(name);
    return path === undefined ? undefined : { path, option: this.label(name) };
  }

  /** What to throw when something is missing: the command line is to blame, unless a configuration file was given. */
  missing(name: string, message: string): UsageError | ConfigurationError {
    if (!this.#given.has('config')) return new UsageError(message);
    return new ConfigurationError({ code: 'ERR_DPS_CONFIG_MISSING_OPTION', message, option: name });
  }
}

/**
 * Reads the options of a command from its flags, then the environment, then the file that `config` names.
 * Paths in that file start at its own folder.
 *
 * @param onGiven gets what flags and environment say before the file is read, which may take as long as a pipe likes.
 * @throws {UsageError} for anything wrong with the flags.
 * @throws {ConfigurationError} for anything wrong with the environment or the configuration file.
 */
export async function readOptions(
  args: readonly string[],
  spec: CommandSpec,
  io: CliIo,
  signal: AbortSignal,
  onGiven: (options: Options) => void = () => undefined,
): Promise<Options> {
  const given = new Map<string, Given>();
  addFlags(given, args, spec);
  if (spec.flagsOnly !== true) addEnvironment(given, io.env, spec);
  onGiven(new Options(given));
  if (spec.flagsOnly !== true) {
    const config = new Options(given).input('config');
    if (config !== undefined) await addConfigFile(given, config, spec, io, signal);
  }
  checkStandardInput(given, spec);
  return new Options(given);
}

function addFlags(given: Map<string, Given>, args: readonly string[], spec: CommandSpec): void {
  const flags = parseFlags(args, spec);
  for (const option of spec.options) {
    const raw = flags.get(option.name);
    if (raw === undefined) continue;
    const label = `--${option.name}`;
    const read = readValue(raw, option);
    if ('problem' in read) throw new UsageError(`${label}: ${read.problem}`);
    given.set(option.name, { layer: 'flag', label, kind: option.kind, value: read.value });
  }
}

function addEnvironment(
  given: Map<string, Given>,
  env: Readonly<Record<string, string | undefined>>,
  spec: CommandSpec,
): void {
  checkEnvironmentNames(env, spec);
  for (const option of spec.options) {
    const label = environmentName(option.name);
    const raw = env[label];
    if (raw === undefined || raw === '') continue;
    const read = readValue(option.kind === 'switch' ? parseSwitch(raw) : raw, option);
    if ('problem' in read) throw configError('ERR_DPS_CONFIG_OPTION', label, `${label}: ${read.problem}`);
    if (given.has(option.name)) continue;
    given.set(option.name, { layer: 'environment', label, kind: option.kind, value: read.value });
  }
}

/** Other software may have variables of this prefix; one that is nearly ours is a slip that would go unnoticed. */
function checkEnvironmentNames(env: Readonly<Record<string, string | undefined>>, spec: CommandSpec): void {
  const known = [...spec.options, ...(spec.alsoKnown ?? []), ...spec.secrets].map(({ name }) => environmentName(name));
  for (const name of Object.keys(env)) {
    if (!name.startsWith('DPS_') || known.includes(name)) continue;
    const nearest = nearestName(
      name.slice(4),
      known.map((candidate) => candidate.slice(4)),
    );
    if (nearest === undefined) continue;
    const message = `The environment variable ${name} is unknown. Did you mean DPS_${nearest}?`;
    throw configError('ERR_DPS_CONFIG_UNKNOWN_OPTION', name, message);
  }
}

async function addConfigFile(
  given: Map<string, Given>,
  source: InputSource,
  spec: CommandSpec,
  io: CliIo,
  signal: AbortSignal,
): Promise<void> {
  const document = await readJsonObjectInput(source, io, signal);
  const file = source.path === '-' ? 'standard input' : source.path;
  const options = new Map(
    spec.options.filter(({ name }) => name !== 'config').map((option) => [configKey(option.name), option]),
  );
  const baseDirectory = source.path === '-' ? '.' : dirname(source.path);
  for (const [key, raw] of Object.entries(document)) {
    const option = options.get(key);
    const label = `${file}: ${key}`;
    if (option === undefined && spec.alsoKnown?.some(({ name }) => configKey(name) === key)) continue;
    if (option === undefined) throw unknownKey(key, file, [...options.keys()]);
    const read = readValue(raw, option);
    if ('problem' in read) throw configError('ERR_DPS_CONFIG_OPTION', key, `${label}: ${read.problem}`);
    const value = isPath(option) && read.value !== '-' ? pathFrom(baseDirectory, String(read.value)) : read.value;
    if (!given.has(option.name)) given.set(option.name, { layer: 'config', label, kind: option.kind, value });
  }
}

/** Beside a configuration from standard input: as it is, for there may be no working directory that it could start at. */
function pathFrom(baseDirectory: string, path: string): string {
  return baseDirectory === '.' ? path : resolve(baseDirectory, path);
}

/** What every configuration of the emulator has one of; the one of `emulator --demo` lies beside those for devices. */
const EMULATOR_KEYS: readonly string[] = ['enrollmentGroups', 'enrollments', 'hubs', 'retryAfterSeconds', 'scopes'];

function unknownKey(key: string, file: string, known: readonly string[]): ConfigurationError {
  const shown = excerptOf(key, 60);
  const nearest = nearestName(key, known);
  const kebab = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const advice = isSecretName(kebab)
    ? 'Secrets do not go into the configuration: write the secret into a file of its own and name that file by one of the keys that end in File.'
    : EMULATOR_KEYS.includes(key)
      ? "It belongs to the emulator's configuration. Give the device's: emulator --demo makes some, such as x509.json."
      : nearest === undefined
        ? `Known are ${known.join(', ')}.`
        : `Did you mean ${nearest}?`;
  const message = `${file}: the key ${JSON.stringify(shown)} is unknown. ${advice}`;
  return configError('ERR_DPS_CONFIG_UNKNOWN_OPTION', shown, message);
}

function isPath({ kind }: OptionSpec): boolean {
  return kind === 'input' || kind === 'path';
}

type ReadValue = { readonly value: string | number | boolean } | { readonly problem: string };

/** Judges a value: text from flags and environment, JSON from the file. The value itself is not repeated. */
function readValue(raw: unknown, option: OptionSpec): ReadValue {
  const { kind } = option;
  if (kind === 'switch') return typeof raw === 'boolean' ? { value: raw } : { problem: 'it must be true or false.' };
  if (kind === 'seconds') return readSeconds(raw, option);
  if (kind === 'port') return readNumber(raw, isPort, 'it must be a port from 0 to 65535; 0 takes any that is free.');
  if (typeof raw !== 'string') return { problem: 'it must be a text.' };
  if (raw === '') return { problem: 'it is empty.' };
  if (raw.includes('\0')) return { problem: 'it has a NUL character in it.' };
  if (typeof kind === 'object' && !kind.includes(raw)) return { problem: explainChoice(raw, kind) };
  const problem = option.problem?.(raw);
  return problem === undefined ? { value: raw } : { problem };
}

function readNumber(raw: unknown, isFit: (value: number) => boolean, problem: string): ReadValue {
  const value = typeof raw === 'string' && /^\d+(\.\d+)?$/.test(raw) ? Number(raw) : raw;
  return typeof value === 'number' && isFit(value) ? { value } : { problem };
}

function readSeconds(raw: unknown, { range }: OptionSpec): ReadValue {
  if (range === undefined) return readNumber(raw, isPositive, 'it must be a number of seconds above 0.');
  const [least, most] = range;
  const isWithin = (value: number): boolean => value >= least && value <= most;
  return readNumber(raw, isWithin, `it must be a number of seconds from ${least} to ${most}.`);
}

function isPositive(value: number): boolean {
  return value > 0 && Number.isFinite(value);
}

function isPort(value: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= 65_535;
}

function explainChoice(raw: string, choices: readonly string[]): string {
  const nearest = nearestName(raw, choices);
  const allowed = choices.length === 1 ? `it can only be ${choices[0]}.` : `it must be one of ${choices.join(', ')}.`;
  return nearest === undefined || choices.length === 1 ? allowed : `${allowed} Did you mean ${nearest}?`;
}

function checkStandardInput(given: ReadonlyMap<string, Given>, spec: CommandSpec): void {
  const takers = spec.options
    .filter(({ kind }) => kind === 'input')
    .map(({ name }) => given.get(name))
    .filter((option): option is Given => option?.value === '-');
  if (takers.length < 2) return;
  const message = `Standard input can be read once, but ${takers.map(({ label }) => label).join(' and ')} ask for it.`;
  throw takers.some(({ layer }) => layer === 'flag')
    ? new UsageError(message)
    : configError('ERR_DPS_CONFIG_OPTION', 'config', message);
}

function configError(
  code: 'ERR_DPS_CONFIG_OPTION' | 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
  option: string,
  message: string,
): ConfigurationError {
  return new ConfigurationError({ code, message, option });
}
