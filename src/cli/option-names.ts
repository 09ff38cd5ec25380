import { ConfigurationError } from '../errors.js';
import { UsageError } from './cli-errors.js';
import type { CommandSpec } from './option-spec.js';
import type { Options } from './options.js';
import type { GivenSecrets } from './secrets.js';

/** How the user of a command knows an option of the library. */
export interface OptionName {
  /** Where it was given, if it was: `DPS_SYMMETRIC_KEY`, `--ca-file`. */
  readonly label: string | undefined;
  /** The same with the file, where there is one: `--ca-file ca.pem`. */
  readonly place: string | undefined;
  /** How to give it: `--ca-file FILE`. */
  readonly usage: string;
  /** Given on the command line. */
  readonly isFlag: boolean;
  /** The library has what stands in the file, not the value that was given; if that is at fault, it says `….file`. */
  readonly isContent: boolean;
}

/** By the path of the option among those of `provision()`: `ca`, `hsm.passphrase`. */
export type OptionNames = ReadonlyMap<string, OptionName>;

/** An option of the library that several stand for goes by the one that was given, or else by the first. */
export function findOptionNames(spec: CommandSpec, options: Options, secrets: GivenSecrets): OptionNames {
  const names = new Map<string, OptionName>();
  const add = (libraryNames: readonly string[] = [], name: OptionName): void => {
    for (const libraryName of libraryNames) {
      if (name.label !== undefined || !names.has(libraryName)) names.set(libraryName, name);
    }
  };
  for (const { name, kind, placeholder = 'VALUE', standsFor } of spec.options) {
    const isGiven = options.layer(name) !== undefined;
    const value = typeof kind === 'object' ? kind.join('|') : placeholder;
    add(standsFor, {
      label: isGiven ? options.label(name) : undefined,
      place: isGiven ? options.place(name) : undefined,
      usage: kind === 'switch' ? `--${name}` : `--${name} ${value}`,
      isFlag: options.layer(name) === 'flag',
      isContent: kind === 'input',
    });
  }
  for (const { name, standsFor = [] } of spec.secrets) {
    const { label, place } = secrets.get(name) ?? {};
    const isFlag = options.layer(`${name}-file`) === 'flag';
    for (const libraryName of standsFor) {
      // What has another name as text, `hsm.keyPem`, is `hsm.key` as a path.
      const isContent = !standsFor.includes(`${libraryName}Pem`);
      add([libraryName], { label, place, usage: `--${name}-file FILE`, isFlag, isContent });
    }
  }
  return names;
}

/** How messages of the library name an option (see `hsm/hsm-options.ts`). */
const MENTION = /(\{ file: … \} as )?\b[Oo]ption ([A-Za-z]+(?:\.[A-Za-z]+)?)(\.file)?(?![\w/]|\.\w)/g;

/** A message of the library with the user's own names of options in it. */
export function respell(message: string, names: OptionNames): string {
  return message.replace(MENTION, (mention, isWanted?: string, path = '', file?: string) => {
    const name = names.get(path);
    if (name === undefined) return mention;
    if (isWanted !== undefined) return name.usage;
    // What was given as the path is at fault there, and may be a secret.
    return (file === undefined ? name.place : name.label) ?? name.usage;
  });
}

/** The `option` of an error in the user's own spelling. */
export function respellOption(option: string, names: OptionNames): string {
  const name = names.get(option.replace(/\.file$/, ''));
  return name === undefined ? option : (name.label ?? name.usage.replace(/ .*/, ''));
}

/**
 * What the library has against the value of a flag is an error in the use of the command line, as if it had been found
 * here, before anything was opened. All else stays as it is.
 */
export function blameFlag<E>(error: E, names: OptionNames): E | UsageError {
  if (!(error instanceof ConfigurationError) || !isAboutValue(error)) return error;
  const { option = '', message } = error;
  const { isFlag, isContent } = names.get(option.replace(/\.file$/, '')) ?? { isFlag: false, isContent: false };
  if (!isFlag || (isContent && !option.endsWith('.file'))) return error;
  return new UsageError(respell(message, names), { cause: error });
}

/** What this machine lacks for a value that is right has a cause. */
function isAboutValue({ code, cause }: ConfigurationError): boolean {
  return code === 'ERR_DPS_CONFIG_OPTION' || (code === 'ERR_DPS_CONFIG_UNSUPPORTED' && cause === undefined);
}
