import { encodeUtf8 } from './bytes.js';
import { isJsonObject } from './json-body.js';
import type { JsonObject, JsonValue } from './twin.js';

/** Why the hub would refuse a patch, and for which key. */
export interface ReportedPatchProblem {
  /** Where, e.g. `reported.net.ports[2]`. */
  readonly path: string;
  /** What is wrong and what would be right. Never the value itself. */
  readonly problem: string;
}

/** Limits of the hub's twin documents: hub-protocol, section 2.5. */
const MAX_SECTION_BYTES = 32 * 1024;
const MAX_STRING_BYTES = 4 * 1024;
const MAX_KEY_BYTES = 1024;
const MAX_OBJECT_LEVELS = 10;
const MIN_INTEGER = -4503599627370496;
const MAX_INTEGER = 4503599627370495;
/** From here on JSON text has an exponent, and the hub reads a floating-point number. */
const FIRST_EXPONENT_NUMBER = 1e21;
/** The hub sets no limit for arrays in arrays; this one ends a walk through a structure that contains itself. */
const MAX_ARRAY_LEVELS = 100;
/** Far more than a section holds. Without it a structure that has one part in many places is walked for hours. */
const MAX_VALUES = 100_000;
const NUMBER_BYTES = 8;
const BOOLEAN_BYTES = 4;

/** Looks for what the hub would answer with status 400, or for what JSON cannot carry; undefined when all is well. */
export function reportedPatchProblem(patch: JsonObject): ReportedPatchProblem | undefined {
  if (!isPlainObject(patch)) return { path: 'reported', problem: 'it must be a plain object' };
  const problem = objectProblem(patch, 'reported', 0, { values: 0 });
  if (problem !== undefined) return problem;
  const bytes = countedBytes(patch);
  if (bytes <= MAX_SECTION_BYTES) return undefined;
  return { path: 'reported', problem: `${bytes} bytes of keys and values; the hub allows ${MAX_SECTION_BYTES}` };
}

/** How far a walk has come. */
interface Walk {
  values: number;
}

function objectProblem(object: JsonObject, path: string, level: number, walk: Walk): ReportedPatchProblem | undefined {
  if (level > MAX_OBJECT_LEVELS) return { path, problem: `objects may be nested ${MAX_OBJECT_LEVELS} levels deep` };
  for (const [key, value] of Object.entries(object)) {
    const inner = `${path}.${shorten(key)}`;
    const problem = keyProblem(key);
    if (problem !== undefined) return { path: inner, problem };
    const within = valueProblem(value, inner, level, 0, walk);
    if (within !== undefined) return within;
  }
  return undefined;
}

function keyProblem(key: string): string | undefined {
  if (key.startsWith('$')) return 'keys that start with $ belong to the hub and must not be reported';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what the hub forbids
  if (/[\u0000-\u001f\u007f-\u009f.$ ]/.test(key)) return 'a key must not contain a dot, $, space or control character';
  if (encodeUtf8(key).length > MAX_KEY_BYTES) return `a key may have ${MAX_KEY_BYTES} bytes of UTF-8`;
  return undefined;
}

function valueProblem(
  value: unknown,
  path: string,
  level: number,
  arrayLevel: number,
  walk: Walk,
): ReportedPatchProblem | undefined {
  walk.values += 1;
  if (walk.values > MAX_VALUES) return { path, problem: `more than ${MAX_VALUES} values` };
  if (Array.isArray(value)) return arrayProblem(value, path, level, arrayLevel + 1, walk);
  if (isPlainObject(value)) return objectProblem(value, path, level + 1, walk);
  const problem = scalarProblem(value);
  return problem === undefined ? undefined : { path, problem };
}

function arrayProblem(
  items: readonly unknown[],
  path: string,
  level: number,
  arrayLevel: number,
  walk: Walk,
): ReportedPatchProblem | undefined {
  if (arrayLevel > MAX_ARRAY_LEVELS) return { path, problem: 'arrays are nested too deeply' };
  for (const [index, item] of items.entries()) {
    const problem = valueProblem(item, `${path}[${index}]`, level, arrayLevel, walk);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function scalarProblem(value: unknown): string | undefined {
  switch (typeof value) {
    case 'boolean':
      return undefined;
    case 'string':
      return encodeUtf8(value).length <= MAX_STRING_BYTES
        ? undefined
        : `a string may have ${MAX_STRING_BYTES} bytes of UTF-8`;
    case 'number':
      return numberProblem(value);
    default:
      return value === null ? undefined : 'only boolean, number, string, object, array and null can be reported';
  }
}

function numberProblem(value: number): string | undefined {
  // JSON writes these as null, and null deletes the property.
  if (!Number.isFinite(value)) return 'NaN and Infinity cannot be reported';
  if (!Number.isInteger(value) || Math.abs(value) >= FIRST_EXPONENT_NUMBER) return undefined;
  return value >= MIN_INTEGER && value <= MAX_INTEGER
    ? undefined
    : `an integer must be within ${MIN_INTEGER} and ${MAX_INTEGER}; report a larger one as a string`;
}

/** A class instance, a Date or a Map would turn into something else on its way through JSON. */
function isPlainObject(value: unknown): value is JsonObject {
  if (!isJsonObject(value as JsonValue)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/** The hub's own arithmetic: control characters are free, and so is what null deletes. */
function countedBytes(value: JsonValue): number {
  if (value === null) return 0;
  if (typeof value === 'boolean') return BOOLEAN_BYTES;
  if (typeof value === 'number') return NUMBER_BYTES;
  if (typeof value === 'string') return textBytes(value);
  if (!isJsonObject(value)) return value.reduce((sum: number, item: JsonValue) => sum + countedBytes(item), 0);
  return Object.entries(value).reduce(
    (sum, [key, inner]) => (inner === null ? sum : sum + textBytes(key) + countedBytes(inner)),
    0,
  );
}

function textBytes(text: string): number {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters do not count
  return encodeUtf8(text.replace(/[\u0000-\u001f\u007f-\u009f]/g, '')).length;
}

function shorten(key: string): string {
  return key.length <= 40 ? key : `${key.slice(0, 40)}…`;
}
