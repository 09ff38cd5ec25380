import { encodeUtf8 } from '../core/bytes.js';
import { isJsonObject, type JsonObject, type JsonValue, mergePatch, replacementPatch } from './json.js';

/** The limits that IoT Hub documents for twins. */
export const TWIN_LIMITS: {
  readonly sectionBytes: number;
  readonly tagsBytes: number;
  readonly stringBytes: number;
  readonly keyBytes: number;
  readonly levels: number;
  readonly smallestInteger: number;
  readonly largestInteger: number;
} = {
  sectionBytes: 32 * 1024,
  tagsBytes: 8 * 1024,
  stringBytes: 4 * 1024,
  keyBytes: 1024,
  levels: 10,
  smallestInteger: -4_503_599_627_370_496,
  largestInteger: 4_503_599_627_370_495,
};

/** One section of a twin: what it says, and how often it was written. */
export interface VersionedSection {
  /** 1 for a new twin; one more for every accepted write, also for one that changes nothing. */
  readonly version: number;
  readonly properties: JsonObject;
}

export interface TwinDocument {
  readonly tags: JsonObject;
  readonly desired: VersionedSection;
  readonly reported: VersionedSection;
}

/** What a twin says, without the counters. */
export interface TwinContent {
  readonly tags: JsonObject;
  readonly desired: JsonObject;
  readonly reported: JsonObject;
}

/** A write that was applied (`pushed` is what a subscribed device is told), or the reason why it was not. */
export type SectionWrite =
  | { readonly section: VersionedSection; readonly pushed: JsonObject }
  | { readonly problem: string };

export function makeTwin(content: TwinContent): TwinDocument {
  return {
    tags: content.tags,
    desired: { version: 1, properties: content.desired },
    reported: { version: 1, properties: content.reported },
  };
}

/** Applies a merge patch; the result must keep the limits. */
export function patchSection(section: VersionedSection, patch: JsonValue | undefined): SectionWrite {
  if (!isJsonObject(patch)) return { problem: 'The patch is not a JSON object.' };
  const problem = propertiesProblem(patch);
  if (problem !== undefined) return { problem };
  return write(section, mergePatch(section.properties, patch), patch);
}

/** Replaces the whole section, as the service side may do with desired properties. */
export function replaceSection(section: VersionedSection, properties: JsonValue | undefined): SectionWrite {
  if (!isJsonObject(properties)) return { problem: 'The properties are not a JSON object.' };
  const problem = propertiesProblem(properties);
  if (problem !== undefined) return { problem };
  const withoutNulls = mergePatch({}, properties);
  return write(section, withoutNulls, replacementPatch(section.properties, withoutNulls));
}

/** What is wrong with properties as content of a section, or `undefined`. */
export function propertiesProblem(
  properties: JsonObject,
  maxBytes: number = TWIN_LIMITS.sectionBytes,
): string | undefined {
  const problem = objectProblem(properties, '', 0);
  if (problem !== undefined) return problem;
  const bytes = sizeOf(properties);
  return bytes > maxBytes ? `The properties have ${bytes} bytes; ${maxBytes} is the most.` : undefined;
}

/** The body of a GET answer: no tags, no metadata, no wrapper. */
export function deviceView(twin: TwinDocument): JsonObject {
  return { desired: withVersion(twin.desired), reported: withVersion(twin.reported) };
}

function withVersion(section: VersionedSection): JsonObject {
  return Object.fromEntries([...Object.entries(section.properties), ['$version', section.version]]);
}

function write(section: VersionedSection, properties: JsonObject, pushed: JsonObject): SectionWrite {
  const bytes = sizeOf(properties);
  if (bytes > TWIN_LIMITS.sectionBytes) {
    return { problem: `The section would have ${bytes} bytes; ${TWIN_LIMITS.sectionBytes} is the most.` };
  }
  return { section: { version: section.version + 1, properties }, pushed };
}

function objectProblem(object: JsonObject, path: string, level: number): string | undefined {
  if (level > TWIN_LIMITS.levels) return `${path} is nested deeper than ${TWIN_LIMITS.levels} levels.`;
  for (const [key, value] of Object.entries(object)) {
    const problem = keyProblem(key, path) ?? valueProblem(value, `${path}/${key}`, level);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function keyProblem(key: string, path: string): string | undefined {
  if (key === '') return `A key under ${path || '/'} is empty.`;
  if (encodeUtf8(key).length > TWIN_LIMITS.keyBytes) {
    return `A key under ${path || '/'} is longer than ${TWIN_LIMITS.keyBytes} bytes.`;
  }
  return /[\p{Cc}.$ ]/u.test(key)
    ? `The key ${JSON.stringify(key)} has a control character, '.', '$' or a space.`
    : undefined;
}

function valueProblem(value: JsonValue, path: string, level: number): string | undefined {
  if (typeof value === 'string') {
    const bytes = encodeUtf8(value).length;
    return bytes > TWIN_LIMITS.stringBytes
      ? `${path} has ${bytes} bytes; a string may have ${TWIN_LIMITS.stringBytes}.`
      : undefined;
  }
  if (typeof value === 'number') return numberProblem(value, path);
  if (isJsonObject(value)) return objectProblem(value, path, level + 1);
  if (Array.isArray(value)) return arrayProblem(value, path, level);
  return undefined;
}

function arrayProblem(values: readonly JsonValue[], path: string, level: number): string | undefined {
  if (level > TWIN_LIMITS.levels) return `${path} is nested deeper than ${TWIN_LIMITS.levels} levels.`;
  for (const [index, value] of values.entries()) {
    // An array is no level of its own for objects, but arrays in arrays must end somewhere too.
    const problem = valueProblem(value, `${path}/${index}`, Array.isArray(value) ? level + 1 : level);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function numberProblem(value: number, path: string): string | undefined {
  if (!Number.isInteger(value)) return undefined;
  const fits = value >= TWIN_LIMITS.smallestInteger && value <= TWIN_LIMITS.largestInteger;
  return fits ? undefined : `${path} is an integer out of range.`;
}

/** The documented arithmetic: keys and strings by their UTF-8 without control characters, number 8, boolean 4. */
function sizeOf(value: JsonValue): number {
  if (typeof value === 'string') return encodeUtf8(value.replace(/\p{Cc}/gu, '')).length;
  if (typeof value === 'number') return 8;
  if (typeof value === 'boolean') return 4;
  if (value === null) return 0;
  if (Array.isArray(value)) return value.reduce<number>((sum, item: JsonValue) => sum + sizeOf(item), 0);
  return Object.entries(value).reduce((sum, [key, item]) => sum + sizeOf(key) + sizeOf(item), 0);
}
