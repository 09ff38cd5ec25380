import {
  decodeBase64,
  decodePercent,
  decodeUtf8,
  encodeBase64,
  encodeUriComponentStrict,
  encodeUtf8,
  equalBytes,
  toHex,
} from '../../src/core/bytes.js';
import {
  deviceIdProblem,
  hostNameProblem,
  idScopeProblem,
  registrationIdProblem,
  resolveDpsEndpoint,
  splitHostPort,
} from '../../src/core/identifiers.js';
import { encodeRegisterBody } from '../../src/core/messages.js';
import { reportedPatchProblem } from '../../src/core/reported-patch.js';
import type { JsonObject, JsonValue } from '../../src/core/twin.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { randomJson } from './json-mutations.js';
import { mutateBytes, mutateText, randomText } from './mutations.js';
import { ensure, requirePrintable, valueOrCode } from './properties.js';

const NAMES: readonly string[] = [
  'dev-1',
  'sensor_17.line:3-',
  '0ne00111111',
  'global.azure-devices-provisioning.net',
  'hub.example:8883',
  '[::1]:8883',
  '[fe80::1%eth0]',
  '[::ffff:127.0.0.1]:1',
  'usGovernment',
  "dev-1+%_#*?!(),:=@$'",
];

export const identifiers: FuzzTarget = {
  name: 'identifiers',
  run(random) {
    const valid = random.pick(NAMES);
    const text = random.note('text', random.chance(0.85) ? mutateText(random, valid) : valid);
    const problems = [registrationIdProblem, idScopeProblem, deviceIdProblem, hostNameProblem].map((check) =>
      check(text),
    );
    for (const problem of problems) if (problem !== undefined) requirePrintable(problem);
    const split = splitHostPort(text, 443);
    ensure((split === undefined) === (problems[3] !== undefined), 'a host that can be split has no problem');
    ensure(split === undefined || (split.port >= 1 && split.port <= 65_535), 'a port is one');
    resolveDpsEndpoint(text);
    return problems.every((problem) => problem !== undefined) ? 'refused' : 'accepted';
  },
};

const TEXTS: readonly string[] = [
  '',
  'abc',
  'Grüße aus dem Werk',
  '漢字かな',
  '👩‍🚀 🚀',
  '\uFEFFx',
  '\u0000',
  'a%20b%2Fc',
];

/** Against the host's own codecs. */
export const utf8: FuzzTarget = {
  name: 'utf-8',
  run(random) {
    const bytes = random.note('bytes', mutateBytes(random, new TextEncoder().encode(random.pick(TEXTS))));
    const ours = decodeUtf8(bytes);
    ensure(ours === hostDecode(bytes), 'it decodes as TextDecoder does');
    if (ours !== undefined) ensure(equalBytes(encodeUtf8(ours), bytes), 'it encodes back to the same bytes');
    const text = random.note('text', randomText(random, random.below(40)));
    ensure(equalBytes(encodeUtf8(text), new TextEncoder().encode(text)), 'it encodes as TextEncoder does');
    return ours === undefined ? 'malformed' : 'text';
  },
};

export const base64: FuzzTarget = {
  name: 'base64',
  run(random) {
    const bytes = random.note('bytes', random.bytes(random.below(80)));
    const encoded = encodeBase64(bytes);
    ensure(encoded === Buffer.from(bytes).toString('base64'), 'it encodes as Buffer does');
    const text = random.note('text', random.chance(0.5) ? encoded : mutateText(random, encoded));
    const decoded = decodeBase64(text);
    const isWellFormed = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text);
    ensure((decoded !== undefined) === isWellFormed, 'it takes padded Base64 and nothing else');
    if (decoded !== undefined) ensure(equalBytes(decoded, Buffer.from(text, 'base64')), 'it decodes as Buffer does');
    ensure(toHex(bytes) === Buffer.from(bytes).toString('hex'), 'hex is as Buffer writes it');
    return decoded === undefined ? 'malformed' : 'bytes';
  },
};

export const percent: FuzzTarget = {
  name: 'percent encoding',
  run(random) {
    const text = random.note('text', randomText(random, random.below(40)));
    const encoded = encodeUriComponentStrict(text);
    ensure(/^(?:[A-Za-z0-9\-._~]|%[0-9A-F]{2})*$/.test(encoded), 'only unreserved characters stay');
    ensure(decodePercent(encoded) === Buffer.from(text).toString(), 'it decodes back');
    return decodePercent(mutateText(random, encoded)) === undefined ? 'malformed' : 'text';
  },
};

/** What an application may hand over, JSON or not. */
export const reportedPatch: FuzzTarget = {
  name: 'reported patch',
  run(random) {
    const value = random.chance(0.01) ? { many: double(60) } : random.note('patch', anyValue(random, 6));
    const patch = value as JsonObject;
    const found = reportedPatchProblem(patch);
    if (found === undefined) {
      ensure(typeof JSON.stringify(patch) === 'string', 'a patch without a problem is JSON');
      return 'accepted';
    }
    ensure(found.path.startsWith('reported'), 'the path starts at the section');
    ensure(found.problem !== '', 'there is a reason');
    return 'refused';
  },
};

export const registerBody: FuzzTarget = {
  name: 'register body',
  run(random) {
    const payload = random.note('payload', anyValue(random, 4)) as JsonValue;
    const made = valueOrCode(() => encodeRegisterBody({ registrationId: 'dev-1', payload }));
    if ('code' in made) {
      ensure(made.code === 'ERR_DPS_CONFIG_OPTION', `the code is for an option, not ${made.code}`);
      return made.code;
    }
    ensure(typeof JSON.parse(new TextDecoder().decode(made.value)) === 'object', 'the body is JSON');
    return 'body';
  },
};

/** The parsers and checks of what people and applications write. */
export const TEXT_TARGETS: readonly FuzzTarget[] = [identifiers, utf8, base64, percent, reportedPatch, registerBody];

function hostDecode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** A value as JavaScript has them: what JSON cannot carry, what contains itself, what nests for ever. */
function anyValue(random: FuzzRandom, depth: number): unknown {
  if (depth === 0 || random.chance(0.5)) return random.chance(0.85) ? randomJson(random, 2) : oddValue(random);
  if (random.chance(0.3)) return Array.from({ length: random.below(4) }, () => anyValue(random, depth - 1));
  const members = Array.from({ length: random.between(1, 4) }, () => {
    const key = random.chance(0.8)
      ? random.pick(['a', 'b', 'net', 'port-1', '$x', 'a.b', '__proto__', 'ü'])
      : randomText(random, 4);
    return [key, anyValue(random, depth - 1)] as const;
  });
  const value: Record<string, unknown> = Object.fromEntries(members);
  if (random.chance(0.05)) value.self = value;
  return value;
}

function oddValue(random: FuzzRandom): unknown {
  return random.pick<() => unknown>([
    () => undefined,
    () => Number.NaN,
    () => Number.NEGATIVE_INFINITY,
    () => 10n,
    () => Symbol('s'),
    () => () => 1,
    () => new Date(0),
    () => new Date(Number.NaN),
    () => new Map([['a', 1]]),
    () => new Uint8Array(4),
    () => Object.create(null),
    () => Object.create({ inherited: 1 }),
    () => new Array(5),
    () => ({ toJSON: 1 }),
    () => 'x'.repeat(5_000),
    () => double(random.pick([3, 12])),
    () => nest(random.pick([9, 10, 11, 99, 101, 5_000]), random.chance(0.5)),
    () => Object.fromEntries(Array.from({ length: 300 }, (_, index) => [`k${index}`, 'v'.repeat(150)])),
  ])();
}

/** One part in many places: of `levels` arrays two to the power of `levels` when they are written out. */
function double(levels: number): unknown {
  let value: unknown = null;
  for (let level = 0; level < levels; level += 1) value = [value, value];
  return value;
}

function nest(levels: number, isArray: boolean): unknown {
  let value: unknown = 1;
  for (let level = 0; level < levels; level += 1) value = isArray ? [value] : { a: value };
  return value;
}
