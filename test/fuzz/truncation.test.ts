import { describe, expect, it } from 'vitest';
import { interpretReply, interpretStatusLookup } from '../../src/core/messages.js';
import { readTpmChallenge } from '../../src/core/tpm-challenge.js';
import { parseDesiredPatch, parseTwin } from '../../src/core/twin.js';
import { parseResponseTopic } from '../../src/core/wire/dps-mqtt.js';
import { hubErrorFrom } from '../../src/core/wire/hub-error.js';
import { parseHubTopic } from '../../src/core/wire/hub-mqtt.js';
import { codeOf, valueOrCode } from './properties.js';
import { ASSIGNED, ASSIGNING, CHALLENGE, DESIRED_PATCH, FAILED, REFUSED, TWIN } from './service-corpus.js';

const WALL_MS = Date.UTC(2026, 10, 21);

/** Every beginning of `bytes`, the empty one first, the whole left out. */
function* beginnings<T extends { slice(start: number, end: number): T; readonly length: number }>(
  whole: T,
): Generator<T> {
  for (let end = 0; end < whole.length; end += 1) yield whole.slice(0, end);
}

const bytesOf = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

describe('cut off after any byte', () => {
  it.each([
    ['assigning', 202, ASSIGNING],
    ['assigned', 200, ASSIGNED],
    ['failed', 200, FAILED],
  ])('a reply that says %s is unexpected', (_name, status, body) => {
    for (const cut of beginnings(bytesOf(body))) {
      for (const request of ['register', 'operationStatus'] as const) {
        const meaning = interpretReply({ kind: 'reply', status, body: cut }, request, WALL_MS);
        expect(meaning.kind).toBe('unexpected');
      }
      expect(interpretStatusLookup({ kind: 'reply', status, body: cut }, WALL_MS).kind).toBe('unexpected');
    }
  });

  it('a refusal stays a refusal, or is unexpected', () => {
    for (const cut of beginnings(bytesOf(REFUSED))) {
      const meaning = interpretReply({ kind: 'reply', status: 401, body: cut }, 'register', WALL_MS);
      expect(['serviceError', 'unexpected']).toContain(meaning.kind);
      expect(codeOf(hubErrorFrom('the request', 401, cut))).toBe('ERR_DPS_SERVICE_UNAUTHORIZED');
    }
  });

  it('a challenge is none', () => {
    for (const body of beginnings(bytesOf(CHALLENGE))) expect(readTpmChallenge({ status: 401, body })).toBeUndefined();
  });

  it('a twin and a patch are refused', () => {
    for (const cut of beginnings(bytesOf(TWIN))) {
      expect(valueOrCode(() => parseTwin(cut))).toEqual({ code: 'ERR_DPS_PROTOCOL_TWIN' });
    }
    for (const cut of beginnings(bytesOf(DESIRED_PATCH))) {
      expect(valueOrCode(() => parseDesiredPatch(cut, 5))).toEqual({ code: 'ERR_DPS_PROTOCOL_TWIN' });
    }
  });

  it.each([
    '$dps/registrations/res/202/?$rid=request-1&retry-after=3',
    '$dps/registrations/res/429/?retry-after=0&$rid=a%2Fb',
  ])('the topic %s is refused, or has another request id or delay', (topic) => {
    for (const cut of beginnings(topic)) {
      const parsed = valueOrCode(() => parseResponseTopic(cut));
      if ('code' in parsed) expect(parsed.code).toBe('ERR_DPS_PROTOCOL_TOPIC');
      else expect(parsed.value).not.toEqual(parseResponseTopic(topic));
    }
  });

  it.each([
    '$iothub/twin/res/204/?$rid=a2&$version=10',
    '$iothub/twin/PATCH/properties/desired/?$version=5',
    '$iothub/methods/POST/reboot/?$rid=1',
    'devices/dev-1/messages/devicebound/%24.mid=m%2F1&color=red&bare',
  ])('the topic %s is refused, unknown, or another one', (topic) => {
    for (const cut of beginnings(topic)) {
      const parsed = valueOrCode(() => parseHubTopic(cut, 'dev-1'));
      if ('code' in parsed) expect(parsed.code).toBe('ERR_DPS_PROTOCOL_TOPIC');
      else expect(parsed.value).not.toEqual(parseHubTopic(topic, 'dev-1'));
    }
  });
});
