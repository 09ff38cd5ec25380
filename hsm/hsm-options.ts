import { ConfigurationError, type DpsErrorCode } from '../src/errors.js';
import { nearestName } from '../src/nearest-name.js';
import { kindOf } from '../src/value-kind.js';

/**
 * What the providers read their options with. A message, and an error's `option`, names an option by its path among those
 * of `provision()`: `option hsm.key`, or `{ file: … } as option hsm.key` where a file is asked for. The command line, whose
 * options have other names, finds these places and puts its own there.
 */

/** Where a secret comes from: its text, or the file that holds it. */
export type SecretSource = string | { readonly file: string };

/** The options as a bag to look into, whatever the caller handed over. */
export type OptionBag = Readonly<Record<string, unknown>>;

/**
 * @param unsaid names that are taken, too, and not worth telling who mistyped another: those for tests.
 * @throws {ConfigurationError} when `options` is no object, or has a name that is in neither list.
 */
export function checkOptionNames(
  options: unknown,
  known: readonly string[],
  taker: string,
  unsaid: readonly string[] = [],
): OptionBag {
  if (typeof options !== 'object' || options === null) {
    const message = `Option hsm must be an object: ${taker} takes ${known.join(', ')}.`;
    throw new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message, option: 'hsm' });
  }
  for (const name of Object.keys(options)) {
    if (known.includes(name) || unsaid.includes(name)) continue;
    const nearest = nearestName(name, known) ?? lengthened(name, known);
    const advice = nearest === undefined ? `Known are ${known.join(', ')}.` : `Did you mean hsm.${nearest}?`;
    const message = `Option ${JSON.stringify(`hsm.${name}`)} is unknown to ${taker}. ${advice}`;
    throw optionError('ERR_DPS_CONFIG_UNKNOWN_OPTION', name, message);
  }
  return options as OptionBag;
}

/** `dir` for `directory`. */
function lengthened(given: string, known: readonly string[]): string | undefined {
  return given.length < 3 ? undefined : known.find((name) => name.startsWith(given));
}

/** @throws {ConfigurationError} when the option is given and is no text, or empty. */
export function optionalText(options: OptionBag, option: string): string | undefined {
  const value = options[option];
  if (value === undefined) return undefined;
  if (typeof value === 'string' && value !== '') return value;
  const given = value === '' ? 'it is empty' : `not ${kindOf(value)}`;
  throw optionError('ERR_DPS_CONFIG_OPTION', option, `Option hsm.${option} must be a text; ${given}.`);
}

/** @throws {ConfigurationError} when the option is absent, no text, or empty. */
export function requiredText(options: OptionBag, option: string, what: string): string {
  const value = optionalText(options, option);
  if (value !== undefined) return value;
  throw optionError('ERR_DPS_CONFIG_MISSING_OPTION', option, `Option hsm.${option} is missing: give ${what}.`);
}

/**
 * The path of a file, such as `example`, as opposed to what should be in it: PEM text given as a path would end up in
 * error messages.
 *
 * @throws {ConfigurationError} as `optionalText` does, or when the text is no path.
 */
export function optionalPath(options: OptionBag, option: string, example: string): string | undefined {
  const value = options[option];
  if (typeof value === 'object' && value !== null && 'file' in value) {
    const message = `Option hsm.${option} must be the path itself, e.g. '${example}', not an object with it.`;
    throw optionError('ERR_DPS_CONFIG_OPTION', option, message);
  }
  const path = optionalText(options, option);
  if (path === undefined || !looksLikeContent(path)) return path;
  const message = `Option hsm.${option} must be the path of a file, but holds what belongs into the file. It is not shown here.`;
  throw optionError('ERR_DPS_CONFIG_OPTION', option, message);
}

/** @throws {ConfigurationError} when the option is given and is neither a text nor `{ file: path }`. */
export function optionalSecret(options: OptionBag, option: string): SecretSource | undefined {
  const value = options[option];
  if (value === undefined || typeof value === 'string') return value;
  if (typeof value === 'object' && value !== null && 'file' in value) {
    const name = `${option}.file`;
    const file = optionalPath({ [name]: value.file }, name, 'device.key');
    if (file !== undefined) return { file };
  }
  const message = `Option hsm.${option} must be a text or { file: path }, not ${kindOf(value)}.`;
  throw optionError('ERR_DPS_CONFIG_OPTION', option, message);
}

/** `option` by its name among those of the provider. */
export function optionError(code: DpsErrorCode, option: string, message: string): ConfigurationError {
  return new ConfigurationError({ code, message, option: `hsm.${option}` });
}

/** PEM, a connection string, or padded Base64 of a key's length; a path with line breaks is not worth having either. */
function looksLikeContent(text: string): boolean {
  return (
    /[\r\n\0]|-----BEGIN|SharedAccessKey=/.test(text) || (text.length >= 24 && /^[A-Za-z0-9+/]+={1,2}$/.test(text))
  );
}
