import { decodeUtf8 } from './bytes.js';
import type { JsonObject, JsonValue } from './twin.js';

/**
 * Bytes from the network as a JSON object, or words for what they are instead. Those words go into errors and logs, so
 * they never show any part of what could be a reply of the service: a reply may hold a key blob.
 */

/** Far more than any reply nests; a bomb would bring down whoever walks the value afterwards. */
export const MAX_JSON_DEPTH: number = 64;

export type JsonBody =
  | { readonly kind: 'object'; readonly value: JsonObject }
  | { readonly kind: 'empty' }
  /** Begins like JSON, but is not an object that could be read. `got` completes "instead there was …". */
  | { readonly kind: 'damaged'; readonly got: string }
  /** Nothing that the service would send: a page of whatever stands in between. */
  | { readonly kind: 'foreign'; readonly got: string };

/** Never throws. A byte order mark in front is skipped. */
export function readJsonObject(body: Uint8Array): JsonBody {
  const decoded = decodeUtf8(body);
  if (decoded === undefined) return unreadable(body, `${body.length} bytes that are not UTF-8 text`);
  const text = decoded.startsWith('\uFEFF') ? decoded.slice(1) : decoded;
  if (text.trim() === '') return { kind: 'empty' };
  if (nestsTooDeep(text)) return unreadable(body, `JSON nested more than ${MAX_JSON_DEPTH} levels deep`);
  const value = parseJson(text);
  if (value === undefined) {
    const broken = unreadable(body, `${body.length} bytes of JSON that break off or are malformed`);
    return broken.kind === 'damaged' ? broken : { kind: 'foreign', got: `text that begins "${excerptOf(text)}"` };
  }
  return isJsonObject(value) ? { kind: 'object', value } : { kind: 'damaged', got: describeJson(value) };
}

/** Arrays and null are no objects here. */
export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** An own member, so that nothing comes from a prototype; null counts as absent, as the service means it. */
export function memberOf(object: JsonObject, name: string): JsonValue | undefined {
  return Object.hasOwn(object, name) ? (object[name] ?? undefined) : undefined;
}

/** A member if it is text, else `undefined`. */
export function textMember(object: JsonObject, name: string): string | undefined {
  const value = memberOf(object, name);
  return typeof value === 'string' ? value : undefined;
}

/** A member if it is an object, else `undefined`. */
export function objectMember(object: JsonObject, name: string): JsonObject | undefined {
  const value = memberOf(object, name);
  return isJsonObject(value) ? value : undefined;
}

/** What kind of value a member is, for an error: `nothing`, `a JSON number`; never the value itself. */
export function describeMember(object: JsonObject, name: string): string {
  const value = Object.hasOwn(object, name) ? object[name] : undefined;
  return value === undefined ? 'nothing' : describeJson(value);
}

const EXCERPT_CHARACTERS = 120;

/**
 * The beginning of a foreign text, fit for a terminal and a log: control, format and line characters become single
 * spaces, runs that could be a key, a signature or a key blob are left out, and a text that speaks of tokens or keys is
 * not shown at all. Whatever a peer says goes through here on its way into an error.
 */
export function excerptOf(text: string, maxCharacters: number = EXCERPT_CHARACTERS): string {
  if (SPEAKS_OF_SECRETS.test(text)) return '[left out: it may hold a secret]';
  const shown = text
    .replace(RUN, (run) => (looksRandom(run) ? '[…]' : run))
    .replace(/[\p{C}\p{Z}]+/gu, ' ')
    .trim();
  if (shown.length <= maxCharacters) return shown;
  return `${shown.slice(0, maxCharacters).replace(/[\uD800-\uDBFF]$/, '')}…`;
}

/** Whether `excerptOf` would leave something out. */
export function mayHoldSecret(text: string): boolean {
  return SPEAKS_OF_SECRETS.test(text) || (text.match(RUN)?.some(looksRandom) ?? false);
}

/** A member that is text and is there to be read by people, as `excerptOf` shows it. */
export function shownMember(object: JsonObject, name: string, maxCharacters?: number): string | undefined {
  const text = textMember(object, name);
  return text === undefined ? undefined : excerptOf(text, maxCharacters);
}

const SPEAKS_OF_SECRETS = /SharedAccess|authenticationKey|PRIVATE KEY|passphrase/i;

/** Letters of Base64, hex or a token, plain or as URLs, HTML and JSON escape them. */
const RUN = /(?:[\w+/=\\-]|%[\da-f]{2}|&(?:#|%23)?\w{1,8};){20,}/gi;

/** Tracking ids are of this kind too: 36 characters at most, and one letter case. */
function looksRandom(run: string): boolean {
  if (run.length >= 40) return true;
  return run
    .split(/[-_]/)
    .some((part) => part.length >= 20 && /[a-z].*[a-z]/.test(part) && /[A-Z].*[A-Z]/.test(part) && /\d/.test(part));
}

function describeJson(value: JsonValue): string {
  if (value === null) return 'JSON null';
  if (Array.isArray(value)) return 'a JSON array';
  return typeof value === 'object' ? 'a JSON object' : `a JSON ${typeof value}`;
}

function unreadable(body: Uint8Array, got: string): { readonly kind: 'damaged' | 'foreign'; readonly got: string } {
  const first = body.find((byte) => !WHITE_SPACE_AND_MARK.has(byte));
  return { kind: first === OPENING_BRACE || first === OPENING_BRACKET ? 'damaged' : 'foreign', got };
}

const OPENING_BRACE = 0x7b;
const OPENING_BRACKET = 0x5b;
const WHITE_SPACE_AND_MARK: ReadonlySet<number> = new Set([0x09, 0x0a, 0x0d, 0x20, 0xef, 0xbb, 0xbf]);

/** Engines differ: some parse any depth, some run out of stack. Text that is no JSON may be judged wrongly; it fails either way. */
function nestsTooDeep(text: string): boolean {
  let depth = 0;
  let isInString = false;
  for (let index = 0; index < text.length; index += 1) {
    const unit = text.charCodeAt(index);
    if (unit === 0x22) isInString = !isInString;
    else if (isInString && unit === 0x5c) index += 1;
    else if (isInString) continue;
    else if (unit === OPENING_BRACE || unit === OPENING_BRACKET) depth += 1;
    else if (unit === 0x7d || unit === 0x5d) depth -= 1;
    if (depth > MAX_JSON_DEPTH) return true;
  }
  return false;
}

function parseJson(text: string): JsonValue | undefined {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return undefined;
  }
}
