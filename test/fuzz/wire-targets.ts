import { deviceIdProblem, hostNameProblem } from '../../src/core/identifiers.js';
import {
  type InterpretedLookup,
  type InterpretedReply,
  interpretReply,
  interpretStatusLookup,
} from '../../src/core/messages.js';
import { MAX_RETRY_AFTER_MS, parseRetryAfter, pollDelayMs, throttleDelayMs } from '../../src/core/retry.js';
import { readTpmChallenge } from '../../src/core/tpm-challenge.js';
import { diffPatch, mergePatch, parseDesiredPatch, parseTwin } from '../../src/core/twin.js';
import { parseResponseTopic } from '../../src/core/wire/dps-mqtt.js';
import { hubErrorFrom } from '../../src/core/wire/hub-error.js';
import { parseHubTopic } from '../../src/core/wire/hub-mqtt.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { jsonBytes } from './json-mutations.js';
import { mutateText } from './mutations.js';
import { codeOf, ensure, valueOrCode } from './properties.js';
import {
  CHALLENGE,
  DESIRED_PATCH,
  REFUSED,
  randomLookupReply,
  randomReply,
  randomRetryAfter,
  TWIN,
} from './service-corpus.js';

/** Device clocks: right, never set, and impossible. */
const WALLS_MS: readonly number[] = [
  Date.UTC(2026, 10, 21),
  Date.UTC(2026, 10, 21, 12, 34, 56, 789),
  0,
  -1,
  8.64e15,
  8.64e15 + 1,
  Number.NaN,
  Number.POSITIVE_INFINITY,
];

export const dpsReply: FuzzTarget = {
  name: 'dps reply',
  run(random) {
    const reply = random.note('reply', randomReply(random));
    const request = random.note('request', random.pick(['register', 'operationStatus'] as const));
    return judgeMeaning(interpretReply(reply, request, random.pick(WALLS_MS)));
  },
};

export const statusLookup: FuzzTarget = {
  name: 'status lookup',
  run(random) {
    const reply = random.note('reply', randomLookupReply(random));
    return judgeMeaning(interpretStatusLookup(reply, random.pick(WALLS_MS)));
  },
};

export const tpmChallenge: FuzzTarget = {
  name: 'tpm challenge',
  run(random) {
    const body = random.note('body', jsonBytes(random, random.pick([CHALLENGE, REFUSED])));
    const blob = readTpmChallenge({ status: random.chance(0.9) ? 401 : 200, body });
    ensure(blob === undefined || blob.length > 0, 'a blob is not empty');
    return blob === undefined ? 'none' : 'blob';
  },
};

const RESPONSE_TOPICS: readonly string[] = [
  '$dps/registrations/res/202/?$rid=1&retry-after=3',
  '$dps/registrations/res/200/?$rid=2',
  '$dps/registrations/res/200/?retry-after=0&$rid=a%2Fb',
  '$dps/registrations/res/401/?$rid=1&$rid=2',
  '$dps/registrations/res/429/?$rid=1&retry-after=0&retry-after=9',
  '$dps/registrations/res/200/?$rid=2&$version=x&=&a',
];

export const responseTopic: FuzzTarget = {
  name: 'dps response topic',
  run(random) {
    const topic = randomTopic(random, RESPONSE_TOPICS);
    const parsed = valueOrCode(() => parseResponseTopic(topic));
    if ('code' in parsed) return requireCode(parsed.code, 'ERR_DPS_PROTOCOL_TOPIC');
    const { status, requestId, retryAfter } = parsed.value;
    ensure(Number.isInteger(status) && status >= 100 && status <= 999, 'the status has three digits');
    ensure(requestId !== '', 'there is a request id');
    ensure(retryAfter === undefined || typeof retryAfter === 'string', 'retry-after is text');
    return 'reply';
  },
};

const HUB_TOPICS: readonly string[] = [
  '$iothub/twin/res/200/?$rid=a1',
  '$iothub/twin/res/204/?$rid=a2&$version=10',
  '$iothub/twin/res/429/?$rid=a2&$rid=a3',
  '$iothub/twin/PATCH/properties/desired/?$version=5',
  '$iothub/twin/PATCH/properties/desired/',
  '$iothub/methods/POST/reboot/?$rid=1',
  '$iothub/methods/POST/re%20boot/?$rid=1f&x=y',
  'devices/dev-1/messages/devicebound/%24.to=%2Fdevices%2Fdev-1%2Fmessages%2Fdevicebound&%24.mid=m1&color=red&bare&empty=',
  'devices/dev-1/messages/devicebound/__proto__=1&constructor&%24.ct=a%2Fb',
  '$iothub/unknown/topic',
];

export const hubTopic: FuzzTarget = {
  name: 'hub topic',
  run(random) {
    const topic = randomTopic(random, HUB_TOPICS);
    const parsed = valueOrCode(() => parseHubTopic(topic, 'dev-1'));
    if ('code' in parsed) return requireCode(parsed.code, 'ERR_DPS_PROTOCOL_TOPIC');
    const delivery = parsed.value;
    if (delivery.kind === 'twinResponse' || delivery.kind === 'method') {
      ensure(delivery.requestId !== '', 'there is a request id');
    }
    if (delivery.kind === 'cloudToDevice') {
      ensure(Object.getPrototypeOf(delivery.bag.properties) === Object.prototype, 'properties cannot set a prototype');
    }
    if (delivery.kind === 'twinResponse' || delivery.kind === 'desired') {
      ensure(delivery.version === undefined || Number.isSafeInteger(delivery.version), 'a version is a whole number');
    }
    return delivery.kind;
  },
};

export const twin: FuzzTarget = {
  name: 'twin',
  run(random) {
    const body = random.note('body', jsonBytes(random, TWIN));
    const parsed = valueOrCode(() => parseTwin(body));
    if ('code' in parsed) return requireCode(parsed.code, 'ERR_DPS_PROTOCOL_TWIN');
    const { desired, reported } = parsed.value;
    for (const { version } of [desired, reported])
      ensure(Number.isSafeInteger(version) && version >= 0, 'a version counts');
    const patch = diffPatch(reported.properties, desired.properties);
    const merged = mergePatch(reported.properties, patch);
    const left = diffPatch(merged, desired.properties);
    ensure(JSON.stringify(left) === '{}', 'the difference, merged, leaves no difference');
    return 'twin';
  },
};

export const desiredPatch: FuzzTarget = {
  name: 'desired patch',
  run(random) {
    const body = random.note('body', jsonBytes(random, DESIRED_PATCH));
    const topicVersion = random.pick([undefined, 5, 5, 6, 0]);
    const parsed = valueOrCode(() => parseDesiredPatch(body, topicVersion));
    if ('code' in parsed) return requireCode(parsed.code, 'ERR_DPS_PROTOCOL_TWIN');
    ensure(Number.isSafeInteger(parsed.value.version) && parsed.value.version >= 0, 'a version counts');
    mergePatch({ led: { on: true }, fan: 1 }, parsed.value.patch);
    return 'patch';
  },
};

export const hubError: FuzzTarget = {
  name: 'hub error',
  run(random) {
    const body = random.note('body', jsonBytes(random, REFUSED));
    return codeOf(hubErrorFrom('the request', random.pick([300, 400, 401, 404, 412, 429, 500, 999]), body));
  },
};

export const retryAfter: FuzzTarget = {
  name: 'retry-after',
  run(random) {
    const value = random.note('value', randomRetryAfter(random));
    const date = random.note('date', random.chance(0.5) ? undefined : randomRetryAfter(random));
    const wallMs = random.note('wallMs', random.pick(WALLS_MS));
    const ms = parseRetryAfter(value, date, wallMs);
    ensure(ms === undefined || (Number.isSafeInteger(ms) && ms >= 0), `the delay ${ms} is a whole number of ms`);
    const poll = pollDelayMs(ms);
    ensure(poll >= 0 && poll <= MAX_RETRY_AFTER_MS, `the poll delay ${poll} is within the cap`);
    const throttle = throttleDelayMs(ms, random.between(1, 100), random.fraction());
    ensure(throttle >= 1_000 && throttle <= MAX_RETRY_AFTER_MS + 60_000, `the throttle delay ${throttle} is bounded`);
    return ms === undefined ? 'nothing to go by' : 'delay';
  },
};

/** The parsers of what services send. */
export const WIRE_TARGETS: readonly FuzzTarget[] = [
  dpsReply,
  statusLookup,
  tpmChallenge,
  responseTopic,
  hubTopic,
  twin,
  desiredPatch,
  hubError,
  retryAfter,
];

function judgeMeaning(meaning: InterpretedReply | InterpretedLookup): string {
  switch (meaning.kind) {
    case 'assigned':
    case 'found': {
      const { assignedHub, deviceId } = meaning.result;
      ensure(hostNameProblem(assignedHub) === undefined, 'the hub is a host name');
      ensure(deviceIdProblem(deviceId) === undefined, 'the device id is one');
      // By name: the payload is anybody's, and may have a member of whatever name itself.
      const shown = Object.keys(meaning.result);
      ensure(!shown.includes('tpm') && !shown.includes('raw'), 'the key blob stays hidden');
      return meaning.kind;
    }
    case 'assigning': {
      const { operationId, retryAfterMs } = meaning;
      ensure(operationId === undefined || /^[^\p{C}]{1,512}$/u.test(operationId), 'the operation id fits into a topic');
      ensure(retryAfterMs === undefined || (retryAfterMs >= 0 && Number.isFinite(retryAfterMs)), 'the delay is finite');
      return meaning.kind;
    }
    case 'none':
      return meaning.kind;
    case 'rejected':
    case 'serviceError':
    case 'unexpected':
      return `${meaning.kind} ${codeOf(meaning.error)}`;
  }
}

function requireCode(code: string, expected: string): string {
  ensure(code === expected, `the code is ${expected}, not ${code}`);
  return code;
}

/** Half of the time the part that tells the kind of topic stays, or no mutation would get far. */
function randomTopic(random: FuzzRandom, valid: readonly string[]): string {
  const topic = random.pick(valid);
  const kept = random.chance(0.5) ? topic.lastIndexOf('/') + 1 : 0;
  const mutated = topic.slice(0, kept) + mutateText(random, topic.slice(kept));
  return random.note('topic', random.chance(0.9) ? mutated : topic);
}
