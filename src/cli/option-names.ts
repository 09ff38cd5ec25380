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
    });
  }
  for (const { name, standsFor } of spec.secrets) {
    const { label, place } = secrets.get(name) ?? {};
    add(standsFor, { label, place, usage: `--${name}-file FILE` });
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
