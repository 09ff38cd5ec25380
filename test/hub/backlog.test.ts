import { describe, expect, it } from 'vitest';
import { LastingSession, MAX_OPERATIONS, MAX_SENT_BYTES, MAX_WAITING_BYTES } from '../../src/hub/lasting-session.js';
import { FakeHubSession } from '../fakes/fake-hub-session.js';
import { CountingAbort, failureOf } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';

const BODY_BYTES = 256 * 1024;
const BODIES = MAX_WAITING_BYTES / BODY_BYTES;

function newHandle(): LastingSession {
  return new LastingSession({ onTwin: () => {}, onClose: async () => {} });
}

/** So many of the largest bodies as just fit. */
function fill(handle: LastingSession, count: number = BODIES): Promise<void>[] {
  return Array.from({ length: count }, () => handle.sendTelemetry({ body: new Uint8Array(BODY_BYTES) }));
}

describe('what waits for the hub', () => {
  it('is bounded by its bytes, too, and says so', async () => {
    const handle = newHandle();
    const waiting = fill(handle);
    const error = await failureOf(handle.sendTelemetry({ body: new Uint8Array(1) }));
    expect(error).toMatchObject({ name: 'TransportError', code: 'ERR_DPS_BACKLOG', retryable: true, peer: 'the hub' });
    expect(error.message).toBe(
      '8388608 bytes in 32 operations (of 8388608) wait for the hub already. Await what sendTelemetry() and report() return before the next, or drop data while the device is offline.',
    );
    const session = new FakeHubSession();
    handle.attach(session);
    await Promise.all(waiting);
    expect(session.taken).toHaveLength(BODIES);
    await handle.sendTelemetry({ body: 1 });
  });

  it('counts JSON, properties and other texts, and reports', async () => {
    for (const send of [
      (handle: LastingSession) => handle.sendTelemetry({ body: 'ab' }),
      (handle: LastingSession) => handle.sendTelemetry({ body: new Uint8Array(0), properties: { ab: 'c' } }),
      (handle: LastingSession) => handle.sendTelemetry({ body: new Uint8Array(0), messageId: 'abc' }),
      (handle: LastingSession) => handle.report({ a: 1 }),
    ]) {
      const handle = newHandle();
      const waiting = fill(handle);
      expect(await failureOf(send(handle))).toMatchObject({ code: 'ERR_DPS_BACKLOG' });
      handle.end(undefined);
      await Promise.allSettled(waiting);
    }
  });

  it('has room again for what a cancelled operation held', async () => {
    const handle = newHandle();
    const abort = new CountingAbort();
    const first = handle.sendTelemetry({ body: new Uint8Array(BODY_BYTES) }, abort.signal);
    const others = fill(handle, BODIES - 1);
    abort.abort();
    await expect(first).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    const last = handle.sendTelemetry({ body: new Uint8Array(1) });
    const session = new FakeHubSession();
    await settle();
    handle.attach(session);
    await Promise.all([...others, last]);
  });
});

describe('what is on its way to the hub', () => {
  const busy = (): { readonly handle: LastingSession; readonly session: FakeHubSession } => {
    const handle = newHandle();
    const session = Object.assign(new FakeHubSession(), { isAnswering: false });
    handle.attach(session);
    return { handle, session };
  };

  it('is bounded by its bytes, and says so', async () => {
    const { handle, session } = busy();
    const sent = fill(handle, MAX_SENT_BYTES / BODY_BYTES);
    const error = await failureOf(handle.sendTelemetry({ body: new Uint8Array(1) }));
    expect(error).toMatchObject({ name: 'TransportError', code: 'ERR_DPS_BACKLOG', retryable: true });
    expect(error.message).toBe(
      '33554432 bytes in 128 operations (of 33554432) are on their way to hub.example already. Await what sendTelemetry() and report() return before the next, or drop data while the device is busy.',
    );
    session.answer();
    await Promise.all(sent);
    session.isAnswering = true;
    await handle.sendTelemetry({ body: new Uint8Array(BODY_BYTES) });
  });

  it('is bounded by its number, whether it succeeds or not', async () => {
    const { handle, session } = busy();
    const sent = Array.from({ length: MAX_OPERATIONS }, () => handle.sendTelemetry({ body: 1 }));
    expect(await failureOf(handle.report({ a: 1 }))).toMatchObject({
      code: 'ERR_DPS_BACKLOG',
      message: expect.stringMatching(/^1000 operations are on their way to hub\.example already\. Await what /),
    });
    session.renew(new Error('refused'));
    await Promise.allSettled(sent);
    session.isAnswering = true;
    await handle.report({ a: 1 });
  });

  it('waits when the connection is lost, however much it is, and leaves no room for more', async () => {
    const { handle, session } = busy();
    const sent = fill(handle, 2 * BODIES);
    await settle();
    session.lose(new Error('cut'));
    await settle();
    expect(await failureOf(handle.sendTelemetry({ body: new Uint8Array(1) }))).toMatchObject({
      message: expect.stringMatching(/^16777216 bytes in 64 operations \(of 8388608\) wait for hub\.example already/),
    });
    const next = new FakeHubSession();
    handle.attach(next);
    await Promise.all(sent);
    expect(next.taken).toHaveLength(2 * BODIES);
  });
});
