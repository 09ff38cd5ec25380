import { interpretReply } from '../../src/core/messages.js';
import { type AmqpPropertyList, dpsAmqpRefusal, dpsAmqpReply } from '../../src/core/wire/dps-amqp.js';
import { SASL_TPM_START, type SaslTpmProgress, stepSaslTpm } from '../../src/core/wire/sasl-tpm.js';
import { AmqpFrameCutter } from '../../src/net/amqp-frames.js';
import { randomFrame } from './amqp-mutations.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { jsonBytes, randomJson } from './json-mutations.js';
import { mutateBytes, randomText } from './mutations.js';
import { ensure, valueOrCode } from './properties.js';
import { DPS_ANSWERS, REFUSED, randomRetryAfter } from './service-corpus.js';

const WALL_MS = Date.UTC(2026, 10, 21);
const STORAGE_ROOT_KEY = Uint8Array.of(1, 2, 3);
const MAX_CHALLENGES = 40;

export const saslTpm: FuzzTarget = {
  name: 'sasl tpm',
  run(random) {
    let progress: SaslTpmProgress = SASL_TPM_START;
    const blob: Uint8Array[] = [];
    let presentations = 0;
    for (let sequence = 0; sequence < MAX_CHALLENGES; sequence += 1) {
      const challenge = random.note('challenge', randomChallenge(random, progress));
      const stepped = valueOrCode(() => stepSaslTpm(progress, challenge, STORAGE_ROOT_KEY));
      if ('code' in stepped) {
        ensure(stepped.code === 'ERR_DPS_PROTOCOL_AMQP', `the code is of AMQP, not ${stepped.code}`);
        return stepped.code;
      }
      if (challenge.length > 1) blob.push(challenge.subarray(1));
      const step = stepped.value;
      if (step.kind === 'blob') {
        ensure(Buffer.concat(blob).equals(step.blob), 'the blob is what came in the segments');
        return 'blob';
      }
      ensure(step.response[0] === 0, 'a response begins with its control byte');
      if (step.response.length > 1) presentations += 1;
      ensure(presentations <= 1, 'the storage root key is sent once');
      ({ progress } = step);
    }
    return 'goes on';
  },
};

export const amqpReply: FuzzTarget = {
  name: 'dps amqp reply',
  run(random) {
    const [, body] = random.pick(DPS_ANSWERS.filter(([status]) => status < 300));
    const properties = random.note('properties', randomProperties(random));
    const reply = dpsAmqpReply(properties, random.note('body', jsonBytes(random, body)));
    ensure(reply.status === (reply.retryAfter === undefined ? 200 : 202), 'a delay means 202');
    ensure(reply.retryAfter === undefined || typeof reply.retryAfter === 'string', 'retry-after is text');
    return interpretReply(reply, random.pick(['register', 'operationStatus']), WALL_MS).kind;
  },
};

const CONDITIONS: readonly string[] = [
  'sasl:auth',
  'sasl:sys-temp',
  'amqp:unauthorized-access',
  'amqp:not-found',
  'amqp:internal-error',
  'com.microsoft:timeout',
  'com.microsoft:device-container-throttled',
  'constructor',
  '__proto__',
  'no condition given',
];

export const amqpRefusal: FuzzTarget = {
  name: 'dps amqp refusal',
  run(random) {
    const condition = random.note('condition', random.chance(0.9) ? random.pick(CONDITIONS) : randomText(random, 12));
    const description = random.note('description', Buffer.from(jsonBytes(random, REFUSED)).toString('utf8'));
    const info = random.note('info', randomProperties(random));
    const reply = dpsAmqpRefusal({ condition, description, info });
    ensure(
      Number.isInteger(reply.status) && reply.status >= 400 && reply.status <= 599,
      `a refusal has a status of one, not ${reply.status}`,
    );
    const { kind } = interpretReply(reply, 'register', WALL_MS);
    ensure(kind === 'serviceError' || kind === 'unexpected', `a refusal is no success, but ${kind}`);
    return kind;
  },
};

const MAX_FRAME_BYTES = 4096;

export const amqpFrames: FuzzTarget = {
  name: 'amqp frames',
  run(random) {
    const frames = Array.from({ length: random.between(1, 4) }, () => randomFrame(random));
    const header = Buffer.from('AMQP\0\u0001\0\0', 'latin1');
    const valid = Buffer.concat([...(random.chance(0.5) ? [header] : []), ...frames]);
    const stream = random.note('stream', Buffer.from(random.chance(0.5) ? valid : mutateBytes(random, valid)));
    const whole = cutInto(stream, stream.length + 1);
    const pieces = cutInto(stream, random.pick([1, 3, 8, 50]));
    ensure(whole.problem === pieces.problem, `in pieces it is as right or wrong: ${pieces.problem}`);
    ensure(Buffer.concat(whole.units).equals(Buffer.concat(pieces.units)), 'in pieces it gives the same frames');
    ensure(stream.indexOf(Buffer.concat(whole.units)) === 0, 'the frames are what came');
    for (const { length } of whole.units)
      ensure(length >= 8 && length <= MAX_FRAME_BYTES, `a frame of ${length} bytes`);
    return whole.problem === undefined ? 'frames' : 'problem';
  },
};

/** The parsers of what an AMQP service sends. */
export const AMQP_TARGETS: readonly FuzzTarget[] = [saslTpm, amqpReply, amqpRefusal, amqpFrames];

function cutInto(stream: Buffer, size: number): { readonly units: readonly Buffer[]; readonly problem?: string } {
  const cutter = new AmqpFrameCutter(MAX_FRAME_BYTES);
  const units: Buffer[] = [];
  for (let start = 0; start < stream.length; start += size) {
    const cut = cutter.cut(stream.subarray(start, start + size));
    units.push(...cut.units);
    if (cut.problem !== undefined) return { units, problem: cut.problem };
  }
  return { units };
}

/** What should come next, more often than not. */
function randomChallenge(random: FuzzRandom, { parts }: SaslTpmProgress): Uint8Array {
  const isFirst = parts.length === 0 && random.chance(0.5);
  const control = 0x80 | (random.chance(0.4) ? 0x40 : 0) | (parts.length & 3);
  const segment = Uint8Array.of(control, ...random.bytes(random.pick([1, 20, 470])));
  const right = isFirst ? Uint8Array.of(0) : segment;
  return random.chance(0.8) ? right : mutateBytes(random, right);
}

/** What a codec may make of a map. */
function randomProperties(random: FuzzRandom): AmqpPropertyList {
  const names = ['retry-after', 'Retry-After', 'RETRY-AFTER', 'retry_after', 'iotdps-status', '__proto__', ''];
  const value = (): unknown =>
    random.pick<() => unknown>([
      () => random.below(400),
      () => randomRetryAfter(random),
      () => random.pick([null, undefined, Number.NaN, -1, 1e300, true, new Date(0), Symbol.iterator]),
      () => random.bytes(3),
      () => randomJson(random, 2),
    ])();
  return Object.fromEntries(Array.from({ length: random.below(3) }, () => [random.pick(names), value()]));
}
