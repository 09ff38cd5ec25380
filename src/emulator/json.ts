import { decodeUtf8 } from '../core/bytes.js';

/** JSON as both services exchange it. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Reads strict UTF-8 JSON; `undefined` when it is neither. */
export function parseJson(bytes: Uint8Array): JsonValue | undefined {
  const text = decodeUtf8(bytes);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}

/** JSON merge patch (RFC 7396) of one object by another: null deletes, objects merge, everything else replaces. */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  // A Map and Object.fromEntries, because assigning the key `__proto__` would change the prototype instead.
  const merged = new Map<string, JsonValue>(Object.entries(target));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else if (isJsonObject(value)) merged.set(key, mergePatch(objectOrEmpty(merged.get(key)), value));
    else merged.set(key, value);
  }
  return Object.fromEntries(merged);
}

/** The patch that turns `from` into `to`: the whole of `to`, with null for every key that only `from` has. */
export function replacementPatch(from: JsonObject, to: JsonObject): JsonObject {
  const patch = new Map<string, JsonValue>();
  for (const [key, value] of Object.entries(to)) {
    const before = ownValue(from, key);
    patch.set(key, isJsonObject(value) && isJsonObject(before) ? replacementPatch(before, value) : value);
  }
  for (const key of Object.keys(from)) {
    if (!Object.hasOwn(to, key)) patch.set(key, null);
  }
  return Object.fromEntries(patch);
}

function objectOrEmpty(value: JsonValue | undefined): JsonObject {
  return isJsonObject(value) ? value : {};
}

function ownValue(object: JsonObject, key: string): JsonValue | undefined {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}
