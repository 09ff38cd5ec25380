import {
  amqpFrame,
  binary,
  described,
  FALSE,
  int,
  list,
  map,
  NULL,
  saslFrame,
  symbol,
  TRUE,
  text,
  ubyte,
  uint,
} from '../fakes/amqp-bytes.js';
import type { FuzzRandom } from './fuzz-random.js';
import { mutateBytes, randomText } from './mutations.js';

/** A frame of AMQP as it might be, some of its fields something else; now and then with bytes changed. */
export function randomFrame(random: FuzzRandom): Buffer {
  const [code, ...usual] = random.pick(FRAMES);
  const fields = usual.map((make) => (random.chance(0.2) ? randomValue(random, 2) : make(random)));
  const length = random.chance(0.2) ? random.below(fields.length + 1) : fields.length;
  const chosen = fields.slice(0, length);
  const frame = code >= 0x40 ? saslFrame(code, chosen) : amqpFrame(code, chosen, payloadFor(random, code));
  return Buffer.from(random.chance(0.15) ? mutateBytes(random, frame) : frame);
}

/** An encoded value of any type. */
export function randomValue(random: FuzzRandom, depth: number): Buffer {
  const inner = (): Buffer => (depth === 0 ? NULL : randomValue(random, depth - 1));
  const many = (): Buffer[] => Array.from({ length: random.below(4) }, inner);
  switch (random.below(depth === 0 ? 8 : 12)) {
    case 0:
      return NULL;
    case 1:
      return random.pick([TRUE, FALSE]);
    case 2:
      return uint(random.pick([0, 1, 2, 127, 0xffff, 0x7fffffff, 0xffffffff]));
    case 3:
      return int(random.pick([0, -1, 3, 0x7fffffff]));
    case 4:
      return text(random.pick(WORDS));
    case 5:
      return symbol(random.pick(WORDS));
    case 6:
      return binary(random.bytes(random.below(6)));
    case 7:
      return ubyte(random.below(256));
    case 8:
      return list(...many());
    case 9:
      return map(...many());
    case 10:
      return described(random.pick([0x1d, 0x24, 0x25, 0x28, 0x29, 0x73, 0x74, 0x75, 0x77, 0x99]), inner());
    default:
      // Any type code, and what may be too few bytes for it.
      return Buffer.concat([Buffer.of(random.below(256)), random.bytes(random.below(9))]);
  }
}

const WORDS: readonly string[] = [
  '',
  'a',
  'address',
  'retry-after',
  'Retry-After',
  'amqp:unauthorized-access',
  'com.microsoft:timeout',
  '__proto__',
  'constructor',
  'größer 😀',
  '\u001b[2J\u202eamqp:not-found',
  'long '.repeat(700),
  '{"errorCode":401002}',
];

type Make = (random: FuzzRandom) => Buffer;

const count: Make = (random) => uint(random.pick([0, 0, 1, 2, 100]));
const flag: Make = (random) => random.pick([TRUE, FALSE]);
const none: Make = () => NULL;
const name: Make = (random) => text(random.pick(WORDS));
const tag: Make = (random) => binary(random.bytes(random.below(3)));
const outcome: Make = (random) =>
  random.pick([described(0x24, list()), described(0x25, list(failure(random))), described(0x26, list()), NULL]);
const failure: Make = (random) =>
  described(
    0x1d,
    list(
      symbol(random.pick(WORDS)),
      text(random.pick([...WORDS, randomText(random, 20)])),
      map(symbol('retry-after'), randomValue(random, 1)),
    ),
  );
const terminus =
  (code: number): Make =>
  (random) =>
    described(code, list(text(random.pick(WORDS))));
const ushort: Make = (random) => Buffer.of(0x60, 0, random.pick([0, 0, 1, 255]));

/** Performatives with what their fields usually are: part 2, section 2.7; part 5, section 5.3.3. */
const FRAMES: readonly (readonly [code: number, ...fields: Make[]])[] = [
  [0x10, name, name, count, ushort, count],
  [0x11, ushort, count, count, count],
  [0x12, name, count, flag, none, none, terminus(0x28), terminus(0x29), none, none, count],
  [0x13, count, count, count, count, count, count, count],
  [0x14, count, count, tag, count, flag, flag],
  [0x15, flag, count, count, flag, outcome],
  [0x16, count, flag, failure],
  [0x17, failure],
  [0x18, failure],
  [0x40, (random) => symbol(random.pick(['PLAIN', 'TPM', '']))],
  [0x42, (random) => binary(random.bytes(random.below(8)))],
  [0x44, (random) => ubyte(random.below(6)), tag],
];

/** A message for a transfer, some of it garbled. */
function payloadFor(random: FuzzRandom, code: number): Uint8Array {
  if (code !== 0x14) return new Uint8Array(0);
  const correlationId = random.pick([text('request-1'), text('nobodys'), randomValue(random, 1)]);
  const sections = [
    described(0x73, list(NULL, NULL, NULL, NULL, NULL, correlationId)),
    described(0x74, map(text('retry-after'), randomValue(random, 1))),
    described(0x75, binary(Buffer.from('{"status":"assigning"}'))),
    described(0x77, randomValue(random, 2)),
  ];
  const message = Buffer.concat(sections.filter(() => random.chance(0.7)));
  return random.chance(0.3) ? mutateBytes(random, message) : message;
}
