import { describe, expect, it } from 'vitest';
import type { DesiredChange, Twin } from '../../src/core/twin.js';
import { ServiceError, TransportError } from '../../src/errors.js';
import { hubConnectionLost, requestTimedOut } from '../../src/hub/hub-errors.js';
import { LastingSession, MAX_OPERATIONS } from '../../src/hub/lasting-session.js';
import { FakeHubSession, twinOf } from '../fakes/fake-hub-session.js';
import { CountingAbort, failureOf, HubBench } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';
import { turns } from '../fakes/run-world.js';

const LOST = hubConnectionLost('hub.example:8883', 'was cut');
const REFUSED = new TransportError({
  code: 'ERR_DPS_CONNECT',
  message: 'refused',
  phase: 'connect',
  peer: 'hub.example:8883',
  retryable: true,
});

interface Desk {
  readonly handle: LastingSession;
  readonly twins: Twin[];
  readonly strays: string[];
  closings: number;
}

function newDesk(): Desk {
  const twins: Twin[] = [];
  const strays: string[] = [];
  const desk: Desk = {
    twins,
    strays,
    closings: 0,
    handle: new LastingSession({
      onTwin: (twin) => void twins.push(twin),
      onClose: async () => {
        desk.closings += 1;
      },
      onStrayError: (error, origin) => void strays.push(`${origin}: ${error instanceof Error ? error.message : error}`),
    }),
  };
  return desk;
}

function online(desk: Desk, session: FakeHubSession = new FakeHubSession()): FakeHubSession {
  desk.handle.attach(session);
  return session;
}

/** How a promise stands: its code when it failed. */
function watch(work: Promise<unknown>): { state: string } {
  const seen = { state: 'pending' };
  work.then(
    () => {
      seen.state = 'done';
    },
    (error: { code?: string }) => {
      seen.state = String(error.code ?? error);
    },
  );
  return seen;
}

describe('a handle that outlives its sessions', () => {
  it('knows hub, device and twin from the first session on, also between two', async () => {
    const { handle, twins } = newDesk();
    const early = { code: 'ERR_DPS_SESSION_CLOSED', message: expect.stringMatching(/await ready/), retryable: true };
    for (const ask of ['twin', 'hostName'] as const) expect(() => handle[ask]).toThrow(expect.objectContaining(early));
    expect(handle.isOnline).toBe(false);
    const session = new FakeHubSession(twinOf(3, { led: true }));
    handle.attach(session);
    expect([handle.hostName, handle.deviceId, handle.isOnline]).toEqual(['hub.example', 'dev-1', true]);
    session.change({ led: false });
    session.lose(LOST);
    await settle();
    expect(handle.isOnline).toBe(false);
    expect([handle.hostName, handle.twin]).toEqual(['hub.example', twinOf(4, { led: false })]);
    handle.attach(new FakeHubSession(twinOf(1, {}), 'other.example'));
    expect(handle.hostName).toBe('other.example');
    expect(twins.map(({ desired }) => desired.version)).toEqual([3, 4, 1]);
  });

  it('tells of the twin that its own reports made', async () => {
    const desk = newDesk();
    const session = online(desk);
    const reporting = desk.handle.report({ a: 1 });
    session.twin = { ...session.twin, reported: { version: 2, properties: { a: 1 } } };
    await reporting;
    expect(desk.twins.at(-1)?.reported).toEqual({ version: 2, properties: { a: 1 } });
  });

  it('carries listeners and handlers, added before the first connection, to every session', async () => {
    const desk = newDesk();
    const heard: string[] = [];
    desk.handle.onMethod('blink', (payload) => ({ status: 200, payload }));
    desk.handle.onMessage(() => void heard.push('message'));
    desk.handle.onDesiredChange(({ patch }) => void heard.push(JSON.stringify(patch)));
    for (let twin = twinOf(1, {}), round = 0; round < 3; twin = desk.handle.twin, round += 1) {
      const session = online(desk, new FakeHubSession(twin));
      expect(await session.call('blink', 7)).toEqual({ status: 200, payload: 7 });
      for (const listener of session.messageListeners) await listener({} as never);
      session.change({ n: 1 });
      session.change({ n: null });
      session.lose(LOST);
      await settle();
    }
    expect(heard).toEqual(Array(3).fill(['message', '{"n":1}', '{"n":null}']).flat());
  });

  it('takes listeners and handlers off for good, whichever session there is', async () => {
    const desk = newDesk();
    const first = online(desk);
    const offs = [
      desk.handle.onMethod('blink', () => ({ status: 200 })),
      desk.handle.onMessage(() => {}),
      desk.handle.onDesiredChange(() => desk.strays.push('heard')),
    ];
    first.lose(LOST);
    await settle();
    const second = online(desk);
    for (const off of offs) off();
    second.change({ a: 1 });
    const third = online(desk);
    for (const session of [second, third]) {
      expect([session.handlers.size, session.messageListeners.size]).toEqual([0, 0]);
    }
    expect(desk.strays).toEqual([]);
  });

  it('has one handler a method, wherever the second is asked for', () => {
    const desk = newDesk();
    const off = desk.handle.onMethod('blink', () => ({ status: 200 }));
    const again = (): unknown => desk.handle.onMethod('blink', () => ({ status: 201 }));
    expect(again).toThrow(/"blink" has a handler already/);
    const session = online(desk);
    expect(again).toThrow(/"blink" has a handler already/);
    off();
    again();
    // What was taken away once is not taken away again, now that the name is another's.
    off();
    expect(again).toThrow(/"blink" has a handler already/);
    expect(session.handlers.size).toBe(1);
    online(desk);
  });

  it('keeps no handler that the session did not take', () => {
    const desk = newDesk();
    const session = online(desk);
    session.handlers.set('blink', () => ({ status: 200 }));
    expect(() => desk.handle.onMethod('blink', () => ({ status: 200 }))).toThrow('taken');
    session.handlers.clear();
    desk.handle.onMethod('blink', () => ({ status: 200 }));
    expect(() => online(desk)).not.toThrow();
  });

  it('a listener that throws, or takes another away, leaves the rest in order', () => {
    const desk = newDesk();
    const heard: string[] = [];
    let off = (): void => {};
    desk.handle.onDesiredChange(() => {
      throw new Error('oops');
    });
    desk.handle.onDesiredChange(() => off());
    off = desk.handle.onDesiredChange(() => void heard.push('taken away'));
    desk.handle.onDesiredChange(() => void heard.push('last'));
    online(desk).change({ a: 1 });
    expect(heard).toEqual(['last']);
  });

  it('tells a failing listener to whoever takes stray errors', async () => {
    const desk = newDesk();
    desk.handle.onDesiredChange(() => Promise.reject(new Error('later')) as never);
    online(desk).change({ a: 1 });
    await settle();
    expect(desk.strays).toEqual(['desired listener: later']);
  });

  it('close() ends the run it belongs to', async () => {
    const desk = newDesk();
    online(desk);
    await desk.handle.close();
    expect(desk.closings).toBe(1);
  });
});

describe('what changed while there was no session', () => {
  const missed = async (before: Twin, after: Twin): Promise<DesiredChange[]> => {
    const desk = newDesk();
    const changes: DesiredChange[] = [];
    desk.handle.onDesiredChange((change) => void changes.push(change));
    const first = online(desk, new FakeHubSession(before));
    first.lose(LOST);
    await settle();
    online(desk, new FakeHubSession(after));
    return changes;
  };

  it('is one change, with what is gone as null', async () => {
    const before = twinOf(3, { led: true, net: { ssid: 'a', key: 1 }, old: 1 });
    const after = twinOf(9, { led: true, net: { ssid: 'b', key: 1 } });
    expect(await missed(before, after)).toEqual([
      { version: 9, patch: { net: { ssid: 'b' }, old: null }, desired: after.desired },
    ]);
  });

  it('is nothing when nothing changed, or for the first session', async () => {
    expect(await missed(twinOf(3, { led: true }), twinOf(3, { led: true }))).toEqual([]);
    const desk = newDesk();
    const heard: unknown[] = [];
    desk.handle.onDesiredChange((change) => void heard.push(change));
    online(desk, new FakeHubSession(twinOf(3, { led: true })));
    expect(heard).toEqual([]);
  });

  it('counts by what it is, also at a hub that numbers afresh', async () => {
    expect(await missed(twinOf(7, { led: true }), twinOf(1, { led: true }))).toEqual([]);
    expect(await missed(twinOf(2, { led: true }), twinOf(2, { led: false }))).toMatchObject([
      { version: 2, patch: { led: false } },
    ]);
  });

  it('late words of a session that was replaced are not heard', () => {
    const desk = newDesk();
    const heard: unknown[] = [];
    desk.handle.onDesiredChange((change) => void heard.push(change.patch));
    const first = online(desk);
    online(desk, new FakeHubSession(twinOf(1, {})));
    first.change({ late: true });
    expect(heard).toEqual([]);
    expect(desk.handle.twin.desired.properties).toEqual({});
  });
});

describe('what is sent', () => {
  it('waits for the first session, and for the next, in order', async () => {
    const desk = newDesk();
    const early = desk.handle.sendTelemetry({ body: { n: 1 } });
    const session = online(desk);
    await early;
    session.lose(LOST);
    await settle();
    const waiting = [desk.handle.sendTelemetry({ body: { n: 2 } }), desk.handle.report({ n: 3 })];
    await settle();
    const next = online(desk);
    await Promise.all(waiting);
    const json = '{"contentType":"application/json","contentEncoding":"utf-8"}';
    expect(session.taken).toEqual([`telemetry {"n":1} ${json}`]);
    expect(next.taken).toEqual([`telemetry {"n":2} ${json}`, 'report {"n":3}']);
  });

  it('is taken as it is at the call, and with the properties it has then', async () => {
    const desk = newDesk();
    const message = { body: { n: 1 }, properties: { unit: 'C' } };
    const bytes = { body: Uint8Array.of(0x61) };
    const patch = { n: 1 };
    const sent = [desk.handle.sendTelemetry(message), desk.handle.sendTelemetry(bytes), desk.handle.report(patch)];
    message.body.n = 2;
    message.properties.unit = 'F';
    bytes.body[0] = 0x62;
    patch.n = 2;
    const session = online(desk);
    await Promise.all(sent);
    expect(session.taken).toEqual([
      'telemetry {"n":1} {"contentType":"application/json","contentEncoding":"utf-8","properties":{"unit":"C"}}',
      'telemetry a',
      'report {"n":1}',
    ]);
  });

  it('is sent again when the connection was lost under it, before what came later', async () => {
    const desk = newDesk();
    const first = online(desk);
    first.isAnswering = false;
    const one = desk.handle.report({ n: 1 });
    const two = desk.handle.sendTelemetry({ body: new Uint8Array() });
    await settle();
    // The application writes again before anything of the loss is known to it.
    first.lose(LOST);
    const three = desk.handle.report({ n: 2 });
    await settle();
    const second = online(desk);
    await Promise.all([one, two, three]);
    expect(first.taken).toEqual([]);
    expect(second.taken).toEqual(['report {"n":1}', 'telemetry ', 'report {"n":2}']);
  });

  it('keeps its place also when its failure is known late: what was written last stays last', async () => {
    const desk = newDesk();
    const first = online(desk);
    Object.assign(first, { isAnswering: false, failsLate: true });
    const one = desk.handle.report({ n: 1 });
    await turns(1);
    first.lose(LOST);
    await Promise.resolve();
    expect(desk.handle.isOnline).toBe(false);
    const two = desk.handle.report({ n: 2 });
    await turns();
    const second = online(desk);
    await Promise.all([one, two]);
    expect(second.taken).toEqual(['report {"n":1}', 'report {"n":2}']);
  });

  it.each([
    ['was cut', LOST],
    ['could not renew its token', REFUSED],
    ['was given up by its twin', requestTimedOut('hub.example:8883', 'the twin', 30_000, '')],
    ['ended by an error that is not ours', new Error('odd')],
  ])('is sent again when the session %s', async (_, error) => {
    const desk = newDesk();
    const first = online(desk);
    first.isAnswering = false;
    const sent = desk.handle.sendTelemetry({ body: new Uint8Array([0x61]) });
    await settle();
    first.lose(error);
    await settle();
    const second = online(desk);
    await sent;
    expect(second.taken).toEqual(['telemetry a']);
  });

  it('is sent again in the same session when only its connection was replaced, but not for ever', async () => {
    const desk = newDesk();
    const session = online(desk);
    session.isAnswering = false;
    const sent = desk.handle.sendTelemetry({ body: new Uint8Array([0x61]) });
    await settle();
    session.renew(LOST);
    await turns();
    expect(session.underWay).toBe(1);
    session.answer();
    await sent;
    session.isAnswering = true;
    session.failures.push(LOST, LOST, LOST);
    expect(await failureOf(desk.handle.sendTelemetry({ body: new Uint8Array() }))).toBe(LOST);
  });

  it('fails with what the hub says of it, or when the hub does not answer in a session that lives', async () => {
    const desk = newDesk();
    const session = online(desk);
    const silence = requestTimedOut('hub.example:8883', 'telemetry', 30_000, '');
    const throttled = new ServiceError({
      code: 'ERR_DPS_SERVICE_THROTTLED',
      message: 'x',
      status: 429,
      service: 'hub',
    });
    session.failures.push(silence, throttled);
    expect(await failureOf(desk.handle.sendTelemetry({ body: {} }))).toBe(silence);
    expect(await failureOf(desk.handle.report({ a: 1 }))).toBe(throttled);
    expect(session.taken).toEqual([]);
  });

  it('is judged at once, also while there is no session', async () => {
    const { handle } = newDesk();
    const wrong: [() => Promise<unknown>, RegExp][] = [
      [() => handle.sendTelemetry({ body: 10n as never }), /JSON cannot carry it/],
      [() => handle.sendTelemetry({ body: new Uint8Array(300_000) }), /262144/],
      [() => handle.sendTelemetry(undefined as never), /sendTelemetry\(\) takes a message/],
      [() => handle.sendTelemetry({ body: 1 }, 5 as never), /AbortSignal/],
      [() => handle.report([] as never), /report\(\) takes an object/],
      [() => handle.report({ 'a.b': 1 }), /a key must not contain/],
      [() => handle.report({ a: 1 }, {} as never), /AbortSignal/],
    ];
    for (const [send, says] of wrong) {
      expect(await failureOf(send())).toMatchObject({
        name: 'ConfigurationError',
        message: expect.stringMatching(says),
      });
    }
    expect(() => handle.onMethod('', () => ({ status: 200 }))).toThrow(/name of a direct method/);
    expect(() => handle.onMessage(undefined as never)).toThrow(/function as listener/);
    expect(() => handle.onDesiredChange({} as never)).toThrow(/function as listener/);
  });

  it('can be taken back while it waits, and while it is under way; no listener stays', async () => {
    const desk = newDesk();
    const aborts = [new CountingAbort(), new CountingAbort(), new CountingAbort()];
    const reason = new Error('enough');
    const [waiting, underWay, early] = aborts as [CountingAbort, CountingAbort, CountingAbort];
    early.abort(reason);
    const outcomes = [
      watch(desk.handle.sendTelemetry({ body: 1 }, early.signal)),
      watch(desk.handle.sendTelemetry({ body: 2 }, waiting.signal)),
    ];
    await settle();
    expect(outcomes.map(({ state }) => state)).toEqual(['ERR_DPS_CANCELLED', 'pending']);
    waiting.abort(reason);
    await settle();
    expect(outcomes[1]?.state).toBe('ERR_DPS_CANCELLED');
    const session = online(desk);
    session.isAnswering = false;
    const last = watch(desk.handle.sendTelemetry({ body: 3 }, underWay.signal));
    await settle();
    expect(session.underWay).toBe(1);
    underWay.abort(reason);
    await settle();
    expect(last.state).toBe('ERR_DPS_CANCELLED');
    expect(session.taken).toEqual([]);
    expect(aborts.map(({ listeners }) => listeners)).toEqual([0, 0, 0]);
  });

  it('is refused beyond so many that wait; those that were under way before still go', async () => {
    const desk = newDesk();
    const first = online(desk);
    first.isAnswering = false;
    const underWay = Array.from({ length: 3 }, () => desk.handle.sendTelemetry({ body: new Uint8Array([0x61]) }));
    await settle();
    first.lose(LOST);
    await settle();
    const waiting = Array.from({ length: MAX_OPERATIONS - 3 }, (_, n) => desk.handle.report({ n }));
    await settle();
    const error = await failureOf(desk.handle.sendTelemetry({ body: 1 }));
    expect(error).toMatchObject({ code: 'ERR_DPS_BACKLOG', retryable: true, peer: 'hub.example' });
    expect(error.message).toContain('1000 operations wait');
    const second = online(desk);
    await Promise.all([...underWay, ...waiting]);
    expect(second.taken).toHaveLength(MAX_OPERATIONS);
    expect(second.taken.slice(0, 4)).toEqual(['telemetry a', 'telemetry a', 'telemetry a', 'report {"n":0}']);
    await desk.handle.sendTelemetry({ body: 1 });
  });

  it('fails when the run ends, waiting or not, and ever after', async () => {
    const desk = newDesk();
    const abort = new CountingAbort();
    const waiting = watch(desk.handle.sendTelemetry({ body: 1 }, abort.signal));
    await settle();
    const cause = new Error('the end');
    desk.handle.end(cause);
    await settle();
    expect(waiting.state).toBe('ERR_DPS_SESSION_CLOSED');
    expect(await failureOf(desk.handle.report({ a: 1 }))).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED', cause });
    expect(await desk.handle.closed).toBe(cause);
    expect(abort.listeners).toBe(0);
    const late = online(desk);
    expect([desk.handle.isOnline, late.changeListeners.size]).toEqual([false, 0]);
  });
});

describe('the end', () => {
  it('takes everything off the session, and settles closed once', async () => {
    const desk = newDesk();
    desk.handle.onMethod('blink', () => ({ status: 200 }));
    desk.handle.onMessage(() => {});
    const session = online(desk);
    desk.handle.end(undefined);
    desk.handle.end(new Error('too late'));
    expect(await desk.handle.closed).toBeUndefined();
    expect([session.handlers.size, session.messageListeners.size]).toEqual([0, 0]);
    const heard: unknown[] = [];
    desk.handle.onDesiredChange((change) => void heard.push(change));
    desk.handle.onMethod('other', () => ({ status: 200 }));
    session.change({ a: 1 });
    expect(heard).toEqual([]);
  });

  it('of a session whose closed fails is an end like any other', async () => {
    const desk = newDesk();
    const session = new FakeHubSession();
    Object.defineProperty(session, 'closed', { value: Promise.reject(new Error('odd')) });
    online(desk, session);
    await settle();
    expect(desk.handle.isOnline).toBe(false);
  });
});

describe('with sessions over MQTT', () => {
  it('telemetry that waits for a token renewal goes to the next session when the renewal fails', async () => {
    const bench = new HubBench({ tokenLifeSeconds: 3_600 });
    const desk = newDesk();
    desk.handle.attach(await bench.open());
    bench.broker.refusals.push(REFUSED);
    bench.broker.isClosing = false;
    for (let minute = 0; minute < 48; minute += 1) {
      bench.clock.advance(60_000);
      await settle();
    }
    // The old connection is closing, the new one not there yet.
    const sent = desk.handle.sendTelemetry({ body: { n: 1 } });
    await settle();
    bench.broker.finishClosing();
    await settle();
    expect(desk.handle.isOnline).toBe(false);
    bench.takeLog();
    desk.handle.attach(await bench.open());
    await sent;
    expect(bench.takeLog().filter((line) => line.startsWith('PUBLISH 1'))).toHaveLength(1);
  });

  it('asking whether a session is over sends nothing', async () => {
    const bench = new HubBench();
    const desk = newDesk();
    desk.handle.attach(await bench.open());
    bench.broker.patchErrors.push([429, '{"errorCode":429001}']);
    bench.takeLog();
    expect(await failureOf(desk.handle.report({ a: 1 }))).toMatchObject({ name: 'ServiceError', status: 429 });
    expect(bench.takeLog()).toHaveLength(1);
  });
});
