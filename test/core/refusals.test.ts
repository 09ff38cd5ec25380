import { describe, expect, it } from 'vitest';
import { interpretReply } from '../../src/core/messages.js';

const PAGE = '<!DOCTYPE html><html><body><h1>Sign in to the guest network</h1></body></html>';

function refusalOf(status: number, body: string) {
  const reply = { kind: 'reply', status, body: new TextEncoder().encode(body) } as const;
  const interpreted = interpretReply(reply, 'register', 0);
  if (interpreted.kind !== 'serviceError') throw new Error(`it is ${interpreted.kind}`);
  return interpreted.error;
}

describe('what stands in front of DPS', () => {
  it.each([
    [408, /did not arrive in the time allowed .*Try again/],
    [425, /before the connection was trusted .*Try again/],
    [511, /Network Authentication Required.*captive portal/],
  ])('may say %d, in a page of its own; trying again may help', (status, words) => {
    for (const body of ['', '{}', PAGE]) {
      const error = refusalOf(status, body);
      expect(error).toMatchObject({ code: 'ERR_DPS_SERVICE_UNAVAILABLE', status, retryable: true });
      expect(error.message).toMatch(words);
    }
  });
});
