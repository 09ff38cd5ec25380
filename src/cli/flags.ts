import { excerptOf } from '../core/json-body.js';
import { nearestName } from '../nearest-name.js';
import { UsageError } from './cli-errors.js';
import { type CommandSpec, credentialName, environmentName, type OptionSpec } from './option-spec.js';

/**
 * Takes a command's arguments apart: `--name value`, `--name=value`, and `--name` alone for a switch.
 * Whatever is not understood is named only up to `=`: what follows could be a secret.
 *
 * @throws {UsageError} for an unknown or repeated flag, a missing or superfluous value, and any other argument.
 */
export function parseFlags(args: readonly string[], spec: CommandSpec): ReadonlyMap<string, string | true> {
  const given = new Map<string, string | true>();
  for (let index = 0; index < args.length; index += 1) {
    const argument = args[index] ?? '';
    const { name, value } = splitFlag(argument, index, spec);
    const option = findOption(name, spec);
    if (given.has(name)) throw new UsageError(`--${name} is given twice. Give it once.`);
    if (option.kind === 'switch') {
      if (value !== undefined)
        throw new UsageError(`--${name} takes no value. Write --${name} alone, or leave it out.`);
      given.set(name, true);
    } else if (value !== undefined) {
      given.set(name, value);
    } else {
      index += 1;
      given.set(name, takeValue(option, args[index]));
    }
  }
  return given;
}

/** Names under which people know secrets. */
const SECRET_NAMES =
  /^(?:(?:primary|secondary|device|symmetric|secondary-symmetric|group|secondary-group|cert|private|shared-access|access)-)?key$|^(?:sas|sas-token|token|secret|connection-string|(?:[a-z-]+-)?(?:password|passphrase|auth))$/;

/** Whether an option of this name would hold a secret itself, rather than the name of its file. */
export function isSecretName(name: string): boolean {
  return SECRET_NAMES.test(name);
}

function splitFlag(argument: string, index: number, spec: CommandSpec): { name: string; value?: string } {
  if (!argument.startsWith('--') || argument === '--') {
    const shown = /^-[A-Za-z]/.test(argument)
      ? `The short flag ${argument.slice(0, 2)}`
      : `Argument ${index + 1} after ${spec.command}`;
    throw new UsageError(
      `${shown} is not understood: there are only flags of the form --name VALUE. Arguments are not repeated here, they could be secrets.`,
    );
  }
  const equals = argument.indexOf('=');
  if (equals < 0) return { name: argument.slice(2) };
  return { name: argument.slice(2, equals), value: argument.slice(equals + 1) };
}

function findOption(name: string, spec: CommandSpec): OptionSpec {
  const option = spec.options.find((candidate) => candidate.name === name);
  if (option !== undefined) return option;
  const advice = Object.hasOwn(spec.advice ?? {}, name) ? spec.advice?.[name] : undefined;
  if (advice !== undefined) throw new UsageError(`There is no flag --${name}. ${advice}`);
  if (isSecretName(name) && spec.secrets.length > 0) throw new UsageError(explainSecretFlag(name, spec));
  const nearest = nearestName(
    name,
    spec.options.map((candidate) => candidate.name),
  );
  const hint = nearest === undefined ? '' : ` Did you mean --${nearest}?`;
  throw new UsageError(`There is no flag --${excerptOf(name, 60)}.${hint}`);
}

/** The value has been in the process list by now; it is not going to be in the log as well. */
function explainSecretFlag(name: string, spec: CommandSpec): string {
  const why = `There is no flag --${name}: every user of the machine can read a command line.`;
  if (spec.secrets.some((secret) => secret.name === name)) {
    return `${why} Use --${name}-file FILE (- for standard input), ${environmentName(name)} in the environment, or the systemd credential ${credentialName(name)}.`;
  }
  const flags = spec.secrets.map((secret) => `--${secret.name}-file`);
  return `${why} Name a file with the secret by one of ${flags.join(', ')} (- for standard input); --help tells the other ways.`;
}

function takeValue(option: OptionSpec, next: string | undefined): string {
  if (next !== undefined && !next.startsWith('--')) return next;
  const values = typeof option.kind === 'object' ? ` (${option.kind.join(', ')})` : '';
  const followed = next === undefined ? '' : ` A value that begins with -- goes as --${option.name}=VALUE.`;
  throw new UsageError(
    `--${option.name} needs a value${values}: --${option.name} ${option.placeholder ?? 'VALUE'}.${followed}`,
  );
}
