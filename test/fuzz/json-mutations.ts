import type { JsonObject, JsonValue } from '../../src/core/twin.js';
import type { FuzzRandom } from './fuzz-random.js';
import { mutateBytes, randomText } from './mutations.js';

/** Bytes that were JSON of `valid`: members of the wrong type, nulls, strangers, too deep, broken, or as they should be. */
export function jsonBytes(random: FuzzRandom, valid: JsonObject): Uint8Array {
  const changes = random.pick([0, 1, 1, 2, 3]);
  let value: JsonValue = valid;
  for (let index = 0; index < changes; index += 1) value = changeJson(random, value, 3);
  const bytes = new TextEncoder().encode(textOf(random, value));
  return random.chance(0.4) ? mutateBytes(random, bytes) : bytes;
}

/** Any JSON value, of little depth unless it is to be deep. */
export function randomJson(random: FuzzRandom, depth: number): JsonValue {
  switch (random.below(depth > 0 ? 10 : 8)) {
    case 0:
      return null;
    case 1:
      return random.chance(0.5);
    case 2:
      return random.pick(NUMBERS);
    case 3:
      return randomText(random, random.below(20));
    case 4:
      return random.pick(TEXTS);
    case 5:
      return random.bits();
    case 6:
      return [];
    case 7:
      return {};
    case 8:
      return Array.from({ length: random.below(4) }, () => randomJson(random, depth - 1));
    default:
      return Object.fromEntries(
        Array.from({ length: random.below(4) }, () => [randomKey(random), randomJson(random, depth - 1)]),
      );
  }
}

const NUMBERS: readonly number[] = [
  0,
  -0,
  -1,
  1,
  1.5,
  0.1,
  2 ** 31,
  2 ** 32,
  2 ** 53 - 1,
  2 ** 53,
  -(2 ** 53),
  1e21,
  1e308,
  -1e-308,
  5e-324,
  4503599627370496,
];

const TEXTS: readonly string[] = [
  '',
  ' ',
  '.',
  '..',
  '0',
  'null',
  'assigned',
  'Assigning',
  'unassigned',
  'failed',
  'DISABLED',
  'blacklisted',
  'hub.example',
  'hub.example:8883',
  '[::1]:8883',
  'https://hub.example/',
  '\u0000',
  '\u202e',
  '\ud800',
  '../../etc',
  '__proto__',
  '%00',
  '+/#',
  'é'.repeat(200),
];

const KEYS: readonly string[] = [
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  'length',
  '$version',
  '$metadata',
  'status',
  'operationId',
  'registrationState',
  'assignedHub',
  'deviceId',
  'errorCode',
  'message',
  'tpm',
  'authenticationKey',
  'payload',
  'desired',
  'reported',
  '',
  'a.b',
];

function randomKey(random: FuzzRandom): string {
  return random.chance(0.7) ? random.pick(KEYS) : randomText(random, random.below(6));
}

/** One change somewhere in the value. Copies on the way. */
function changeJson(random: FuzzRandom, value: JsonValue, depth: number): JsonValue {
  const isContainer = typeof value === 'object' && value !== null;
  if (!isContainer || depth === 0 || random.chance(0.1)) return replacement(random, value);
  if (Array.isArray(value)) {
    const items = [...(value as readonly JsonValue[])];
    const at = random.below(items.length + 1);
    items.splice(at, 1, changeJson(random, items[at] ?? null, depth - 1));
    return items;
  }
  const members = Object.entries(value);
  const at = random.below(members.length + 1);
  const [key, inner] = members[at] ?? [randomKey(random), randomJson(random, 1)];
  if (random.chance(0.2)) members.splice(at, 1);
  else if (random.chance(0.15)) members.splice(at, 1, [randomKey(random), inner]);
  else members.splice(at, 1, [key, changeJson(random, inner, depth - 1)]);
  return Object.fromEntries(members);
}

function replacement(random: FuzzRandom, value: JsonValue): JsonValue {
  if (!random.chance(0.1)) return randomJson(random, 2);
  let nested = value;
  for (let levels = random.pick([5, 12, 60, 63, 64, 65, 120, 500]); levels > 0; levels -= 1) {
    nested = random.chance(0.5) ? [nested] : { a: nested };
  }
  return nested;
}

/** JSON text, sometimes with what `JSON.stringify` never writes: white space, a mark in front, members twice. */
function textOf(random: FuzzRandom, value: JsonValue): string {
  const text = JSON.stringify(value, undefined, random.chance(0.1) ? 2 : undefined);
  const opening = text.indexOf('{');
  const doubled =
    random.chance(0.1) && opening >= 0
      ? `${text.slice(0, opening + 1)}${JSON.stringify(randomKey(random))}:${JSON.stringify(randomJson(random, 1))},${text.slice(opening + 1)}`
      : text;
  const prefix = random.chance(0.05) ? random.pick(['\uFEFF', ' ', '\n\t', '\uFEFF\uFEFF', ")]}',\n"]) : '';
  return prefix + doubled;
}
