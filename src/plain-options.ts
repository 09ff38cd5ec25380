import { wordsOf } from './core/thrown-words.js';
import { ConfigurationError } from './errors.js';

/**
 * Options are read once, into plain values, before they are checked: a getter or a proxy may throw, and may say something
 * else the next time, so that what was checked would not be what is used.
 */

/**
 * Does what may run code of whoever gave the option.
 *
 * @throws {ConfigurationError} that names the option, whatever that code throws.
 */
export function readingOption<T>(option: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof ConfigurationError) throw error;
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_OPTION',
      option,
      message: `Option ${option}: it could not be read; give plain values. Reading it failed: ${wordsOf(error)}`,
      cause: error,
    });
  }
}

/** A list of a few names, or of certificates; nobody has more of them. */
const MAX_ENTRIES = 10_000;

/** A list as plain one, holes and all; anything else as it is. */
export function plainList(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  const { length } = value;
  if (length > MAX_ENTRIES)
    throw new RangeError(`it is a list of ${length} entries, and ${MAX_ENTRIES} are the most that is taken`);
  return Array.from({ length }, (_, index) => value[index]);
}

/** An object's own members, and those of `names` wherever it has them from. */
export function plainMembers(object: object, names: readonly string[]): Record<string, unknown> {
  const plain: Record<string, unknown> = { ...object };
  for (const name of names) {
    if (Object.hasOwn(plain, name)) continue;
    const value = (object as Readonly<Record<string, unknown>>)[name];
    if (value !== undefined) plain[name] = value;
  }
  return plain;
}

/** A plain object of values, such as `{ file }`, copied; what has methods or a class is a part of its own, and kept. */
export function plainValues(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) return value;
  const plain = { ...value };
  return Object.values(plain).some((each) => typeof each === 'function') ? value : plain;
}
