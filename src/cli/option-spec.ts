import type { ExitStatus } from './exit-codes.js';

/**
 * What a command can be told. One name serves three spellings: `id-scope` is the flag `--id-scope`, the environment
 * variable `DPS_ID_SCOPE` and the key `idScope` of a configuration file.
 */
export interface OptionSpec {
  readonly name: string;
  /**
   * `switch` takes no value. `input` is a file to read, `-` for standard input; `path` is any other path. `seconds` is a
   * number above 0, decimals allowed. A list names the only values there are.
   */
  readonly kind: 'switch' | 'text' | 'input' | 'path' | 'seconds' | 'port' | readonly string[];
  /** Of seconds: the least and the most. Default: anything above 0. */
  readonly range?: readonly [least: number, most: number];
  /** Stands for the value in `--help`. */
  readonly placeholder?: string;
  readonly help: string;
  /** What is wrong with a text, if anything. */
  readonly problem?: (text: string) => string | undefined;
  /** The options of `provision()` that it becomes, as the library's errors name them: `ca`, `hsm.registrationId`. */
  readonly standsFor?: readonly string[];
}

/**
 * A secret never is a flag's value. `symmetric-key` is the file named by the option `symmetric-key-file`, the text in
 * the environment variable `DPS_SYMMETRIC_KEY`, or the systemd credential `dps-symmetric-key`.
 */
export interface SecretSpec {
  readonly name: string;
  readonly help: string;
  /** As in `OptionSpec`. */
  readonly standsFor?: readonly string[];
}

/** All that the command line of a command is read by. */
export interface CommandSpec {
  readonly command: string;
  readonly summary: string;
  readonly options: readonly OptionSpec[];
  readonly secrets: readonly SecretSpec[];
  /** Options of sibling commands, which a shared configuration and environment may have; passed over. */
  readonly alsoKnown?: readonly OptionSpec[];
  /** Flags only: neither the environment nor a configuration file holds options. */
  readonly flagsOnly?: boolean;
  /** The exit statuses that `--help` tells. Default: all. */
  readonly exitStatuses?: readonly ExitStatus[];
  /** What to say of flags that do not exist but are likely to be tried. */
  readonly advice?: Readonly<Record<string, string>>;
  /** Further sections of `--help`, as they are to be printed. */
  readonly notes: string;
}

export function environmentName(name: string): string {
  return `DPS_${name.toUpperCase().replaceAll('-', '_')}`;
}

/** How a switch is spelled in the environment; `undefined` for anything else. */
export function parseSwitch(text: string): boolean | undefined {
  if (/^(1|true|yes|on)$/i.test(text)) return true;
  return /^(0|false|no|off)$/i.test(text) ? false : undefined;
}

export function configKey(name: string): string {
  return name.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

export function credentialName(name: string): string {
  return `dps-${name}`;
}

/** The option that names the file of a secret. */
export function secretFileOption({ name, help }: SecretSpec): OptionSpec {
  return { name: `${name}-file`, kind: 'input', placeholder: 'FILE', help };
}
