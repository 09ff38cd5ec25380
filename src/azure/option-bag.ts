import { ConfigurationError } from '../errors.js';
import { nearestName } from '../nearest-name.js';

/**
 * Checks that `options` is an object with known members only.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` or `ERR_DPS_CONFIG_UNKNOWN_OPTION`.
 */
export function checkOptionNames(options: unknown, known: readonly string[], owner: string): void {
  if (typeof options !== 'object' || options === null) {
    throw optionError('options', `The options of ${owner} must be an object with any of ${known.join(', ')}.`);
  }
  const stranger = Object.keys(options).find((name) => !known.includes(name));
  if (stranger === undefined) return;
  const nearest = nearestName(stranger, known);
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    message: `Option ${JSON.stringify(stranger)} of ${owner} is unknown. ${nearest === undefined ? `Known are ${known.join(', ')}.` : `Did you mean ${nearest}?`}`,
    option: stranger,
  });
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` unless `value` is absent or a number above 0. */
export function checkPositive(option: string, value: unknown): void {
  if (value === undefined || (typeof value === 'number' && value > 0)) return;
  throw optionError(option, `Option ${option} must be a number above 0, not ${String(value)}.`);
}

export function optionError(option: string, message: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message,
    option,
    ...(cause === undefined ? {} : { cause }),
  });
}

export function unsupported(option: string, message: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNSUPPORTED',
    message,
    option,
    ...(cause === undefined ? {} : { cause }),
  });
}
