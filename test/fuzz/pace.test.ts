import { describe, expect, it } from 'vitest';
import type { HubTransport } from '../../src/core/hub.js';
import type { DpsReply, DpsTransport } from '../../src/core/transport.js';
import { ProgressLog } from '../../src/progress-log.js';
import { provisionWith } from '../../src/provision.js';
import { ManualClock } from '../fakes/manual-clock.js';

const EIGHT_SECONDS_MS = 8_000;

/** A device against a service that answers the same at once, for ever. Gives the times of its requests. */
async function requestTimesMs(reply: DpsReply, random: () => number): Promise<number[]> {
  const clock = new ManualClock();
  const timesMs: number[] = [];
  const dps: DpsTransport = {
    name: 'fake',
    open: async () => ({
      exchange: async () => {
        timesMs.push(clock.monotonicMs());
        return reply;
      },
      close: async () => {},
    }),
  };
  const work = provisionWith(
    {
      idScope: '0ne00111111',
      endpoint: 'dps.example',
      hsm: { kind: 'symmetricKey', registrationId: async () => 'dev-1', sign: async () => new Uint8Array(32) },
      dps,
      hub: { name: 'unused' } as HubTransport,
      clock,
      random,
      deadlineMs: 60_000,
      connectTimeoutMs: 20_000,
      requestTimeoutMs: 10_000,
      hubTimeoutMs: 50_000,
      tokenLifeSeconds: 3_600,
    },
    new ProgressLog(),
  );
  let isOver = false;
  const settled = work.then(
    () => 'done',
    (error: Error) => error.name,
  );
  void settled.then(() => {
    isOver = true;
  });
  for (let round = 0; !isOver && round < 10_000; round += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!isOver) clock.advanceToNext();
  }
  expect(await settled).toMatch(/^(ServiceError|DeadlineError)$/);
  return timesMs;
}

const reply = (status: number, body: string, retryAfter?: string): DpsReply => ({
  kind: 'reply',
  status,
  body: new TextEncoder().encode(body),
  ...(retryAfter === undefined ? {} : { retryAfter }),
});

describe('however a service drives a device on, it sends at most ten requests in any eight seconds', () => {
  it.each([
    ['429 with Retry-After 0', reply(429, '{"errorCode":429001}', '0')],
    ['429 with a date long past', reply(429, '', 'Sun, 06 Nov 1994 08:49:37 GMT')],
    ['429 without a word', reply(429, '')],
    ['503 with Retry-After 0', reply(503, '', '0')],
    ['409 with Retry-After 0', reply(409, '{}', '0')],
    ['assigning with Retry-After 0', reply(202, '{"operationId":"op","status":"assigning"}', '0')],
    ['assigning with a negative Retry-After', reply(202, '{"operationId":"op","status":"assigning"}', '-10')],
  ])('%s', async (_name, answer) => {
    for (const random of [() => 0, () => 0.999_999]) {
      const timesMs = await requestTimesMs(answer, random);
      expect(timesMs.length).toBeGreaterThan(1);
      for (const [index, fromMs] of timesMs.entries()) {
        const within = timesMs.slice(index).filter((atMs) => atMs < fromMs + EIGHT_SECONDS_MS);
        expect(within.length).toBeLessThanOrEqual(10);
      }
    }
  });
});
