import { ProtocolError } from '../errors.js';
import { describeMember, isJsonObject, memberOf, readJsonObject } from './json-body.js';

/** Twin documents: what they look like, how a merge patch changes them. The `$version` rule is in `twin-sync.ts`. */
export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: JsonValue;
}

export interface TwinSection {
  readonly version: number;
  /** The properties without `$version` and other `$` members. */
  readonly properties: JsonObject;
}

export interface Twin {
  readonly desired: TwinSection;
  readonly reported: TwinSection;
}

/** One change of the desired properties. */
export interface DesiredChange {
  readonly version: number;
  /** Merge patch: null deletes a key. After a lost push it is the difference to what was known before. */
  readonly patch: JsonObject;
  /** The whole desired section after the change. */
  readonly desired: TwinSection;
}

/** A push of desired properties as the hub sent it. */
export interface DesiredPush {
  readonly version: number;
  readonly patch: JsonObject;
}

/**
 * Reads the answer to a twin GET.
 *
 * Shape: `{"desired":{…,"$version":4},"reported":{…,"$version":9}}`, UTF-8. A null member counts as absent.
 *
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_TWIN` when it is not such a document.
 */
export function parseTwin(body: Uint8Array): Twin {
  const document = parseObject(body, 'twin');
  return { desired: readSection(document, 'desired'), reported: readSection(document, 'reported') };
}

/**
 * Reads a push of desired properties. `topicVersion` is the version that its topic carried, if any.
 *
 * Shape: `{"fan":null,"led":{"on":true},"$version":5}`; nulls are kept, they delete.
 *
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_TWIN` when it is not such a patch, or body and topic disagree.
 */
export function parseDesiredPatch(body: Uint8Array, topicVersion?: number): DesiredPush {
  const document = parseObject(body, 'desired properties');
  const version = memberOf(document, '$version') ?? topicVersion;
  if (!isVersion(version))
    throw malformed('desired properties', 'a $version number', describeMember(document, '$version'));
  if (topicVersion !== undefined && topicVersion !== version) {
    throw malformed('desired properties', `$version ${topicVersion} as in the topic`, `$version ${version}`);
  }
  return { version, patch: withoutSystemMembers(document) };
}

/**
 * Applies a merge patch: objects merge key by key, null deletes, everything else replaces, arrays too.
 * Neither argument is changed.
 *
 * @see RFC 7386
 */
export function mergePatch(target: JsonObject, patch: JsonObject): JsonObject {
  // A Map and Object.fromEntries make own members even of `__proto__`; assignment would not.
  const merged = new Map(Object.entries(target));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) {
      merged.delete(key);
    } else if (isJsonObject(value)) {
      const old = merged.get(key);
      merged.set(key, mergePatch(isJsonObject(old) ? old : {}, value));
    } else {
      merged.set(key, value);
    }
  }
  return Object.fromEntries(merged);
}

/** The merge patch that turns `from` into `to`; empty when they are equal. Null members of `to` count as absent. */
export function diffPatch(from: JsonObject, to: JsonObject): JsonObject {
  const before = new Map(Object.entries(from));
  const patch: [string, JsonValue][] = [];
  for (const [key, value] of Object.entries(to)) {
    if (value === null) continue;
    const old = before.get(key);
    before.delete(key);
    if (isJsonObject(old) && isJsonObject(value)) {
      const inner = diffPatch(old, value);
      if (Object.keys(inner).length > 0) patch.push([key, inner]);
    } else if (!isSameJson(old, value)) {
      patch.push([key, value]);
    }
  }
  for (const key of before.keys()) patch.push([key, null]);
  return Object.fromEntries(patch);
}

function isSameJson(a: JsonValue | undefined, b: JsonValue | undefined): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b)) {
    return a.length === b.length && a.every((item, index) => isSameJson(item, b[index]));
  }
  if (!isJsonObject(a) || !isJsonObject(b)) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && isSameJson(a[key], b[key]))
  );
}

function readSection(document: JsonObject, name: 'desired' | 'reported'): TwinSection {
  const section = memberOf(document, name);
  if (!isJsonObject(section)) throw malformed('twin', `an object in "${name}"`, describeMember(document, name));
  const version = memberOf(section, '$version');
  if (!isVersion(version))
    throw malformed('twin', `a $version number in "${name}"`, describeMember(section, '$version'));
  return { version, properties: mergePatch({}, withoutSystemMembers(section)) };
}

function withoutSystemMembers(section: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(section).filter(([key]) => !key.startsWith('$')));
}

function isVersion(value: JsonValue | undefined): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function parseObject(body: Uint8Array, what: string): JsonObject {
  const json = readJsonObject(body);
  if (json.kind === 'object') return json.value;
  throw malformed(what, 'a JSON object', json.kind === 'empty' ? 'an empty body' : json.got);
}

/** Says what kind of thing arrived, never its content: twins hold the application's own settings. */
function malformed(what: string, expected: string, got: string): ProtocolError {
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_TWIN',
    message: `The hub sent malformed ${what}: expected ${expected}, got ${got}. Check that the assigned host is an Azure IoT hub.`,
    expected,
    got,
  });
}
