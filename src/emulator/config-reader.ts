import { ConfigurationError } from '../errors.js';
import { isJsonObject, type JsonObject } from './json.js';

/** Reads a value found at `path` (`scopes[0].hubs[1].name`) or throws a `ConfigurationError` that names the path. */
export type Read<T> = (value: unknown, path: string) => T;

/** An object of the configuration whose keys are all known. */
export interface Section {
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
}

/**
 * Opens an object that may only have the `known` keys. `name` is what it is called where its path is empty.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` when it is no object, `ERR_DPS_CONFIG_UNKNOWN_OPTION` with the
 * nearest known key on any other key.
 */
export function openSection(value: unknown, path: string, known: readonly string[], name: string = path): Section {
  const values = readJsonObject(value, path === '' ? name : path);
  for (const key of Object.keys(values)) {
    if (known.includes(key)) continue;
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
      message: `${joinPath(path, key)} is not a known key. ${suggestKey(key, known)}`,
      option: joinPath(path, key),
    });
  }
  return { path, values };
}

/** The value of `key`; null counts as absent, as the services' own tools write it. */
export function optional<T>(section: Section, key: string, read: Read<T>): T | undefined {
  const value = section.values[key];
  return value === undefined || value === null ? undefined : read(value, joinPath(section.path, key));
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_MISSING_OPTION` when the key is absent. */
export function required<T>(section: Section, key: string, read: Read<T>): T {
  const value = optional(section, key, read);
  if (value !== undefined) return value;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_MISSING_OPTION',
    message: `${joinPath(section.path, key)} is missing.`,
    option: joinPath(section.path, key),
  });
}

export const readText: Read<string> = (value, path) => {
  if (typeof value === 'string' && value !== '') return value;
  throw wrongOption(path, 'must be a text that is not empty');
};

export const readFlag: Read<boolean> = (value, path) => {
  if (typeof value === 'boolean') return value;
  throw wrongOption(path, 'must be true or false');
};

export const readFunction: Read<unknown> = (value, path) => {
  if (typeof value === 'function') return value;
  throw wrongOption(path, `must be a function, not ${describeKind(value)}`);
};

export const readJsonObject: Read<JsonObject> = (value, path) => {
  if (isJsonObject(value)) return value;
  throw wrongOption(path, `must be an object, not ${describeKind(value)}`);
};

export function readInteger(smallest: number, largest: number): Read<number> {
  return (value, path) => {
    if (typeof value === 'number' && Number.isInteger(value) && value >= smallest && value <= largest) return value;
    throw wrongOption(path, `must be a whole number from ${smallest} to ${largest}`);
  };
}

export function readChoice<const T extends string>(choices: readonly T[]): Read<T> {
  return (value, path) => {
    const choice = choices.find((candidate) => candidate === value);
    if (choice !== undefined) return choice;
    throw wrongOption(path, `must be one of ${choices.map((candidate) => `"${candidate}"`).join(', ')}`);
  };
}

export function readList<T>(read: Read<T>): Read<readonly T[]> {
  return (value, path) => {
    if (Array.isArray(value)) return value.map((item, index) => read(item, `${path}[${index}]`));
    throw wrongOption(path, 'must be a list');
  };
}

export function wrongOption(path: string, what: string): ConfigurationError {
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message: `${path} ${what}.`, option: path });
}

export function unsupportedOption(path: string, what: string): ConfigurationError {
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_UNSUPPORTED', message: `${path}: ${what}`, option: path });
}

export function joinPath(path: string, key: string): string {
  return path === '' ? key : `${path}.${key}`;
}

/** In words, for messages. */
export function describeKind(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  if (Array.isArray(value)) return 'a list';
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function suggestKey(key: string, known: readonly string[]): string {
  const ranked = known
    .map((candidate) => ({ candidate, distance: editDistance(key.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.distance - b.distance);
  const nearest = ranked[0];
  if (nearest === undefined) return 'No keys are known here.';
  const isNear = nearest.distance <= Math.max(2, Math.ceil(key.length / 3));
  return isNear ? `Did you mean "${nearest.candidate}"?` : `Known are: ${known.join(', ')}.`;
}

/** Levenshtein distance, bounded by the length of configuration keys. */
function editDistance(a: string, b: string): number {
  let previous = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const substitution = (previous[column - 1] ?? 0) + (a[row - 1] === b[column - 1] ? 0 : 1);
      current.push(Math.min(substitution, (previous[column] ?? 0) + 1, (current[column - 1] ?? 0) + 1));
    }
    previous = current;
  }
  return previous[b.length] ?? 0;
}
