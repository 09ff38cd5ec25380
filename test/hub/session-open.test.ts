import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CancelledError, DeadlineError, HsmError, TransportError } from '../../src/errors.js';
import { CountingAbort, failureOf, HUB, HubBench } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';
import { fakeSymmetricKeyHsm, fakeX509Hsm } from '../fakes/hub-identity.js';

const OPENING = [
  'CONNECT dev-1',
  'SUBSCRIBE $iothub/twin/res/# 0, $iothub/twin/PATCH/properties/desired/# 0',
  'PUBLISH 0 $iothub/twin/GET/?$rid=r1',
];

const lost = (): TransportError =>
  new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: 'broken',
    phase: 'established',
    peer: `${HUB}:8883`,
    retryable: true,
  });

describe('opening a session', () => {
  it('subscribes and asks for the twin without waiting in between', async () => {
    const bench = new HubBench();
    bench.broker.isSubacking = false;
    const opening = bench.open();
    await settle();
    expect(bench.takeLog()).toEqual(OPENING);
    bench.broker.connection.suback();
    const session = await opening;
    expect(session.twin.desired).toEqual({ version: 4, properties: {} });
    expect(session.twin.reported.version).toBe(9);
    expect([session.hostName, session.deviceId]).toEqual([HUB, 'dev-1']);
    await session.close();
  });

  it('connects as the hub expects', async () => {
    const bench = new HubBench({ userAgent: 'dps-device/0.1.0', modelId: 'dtmi:a;1' });
    const session = await bench.open();
    expect(bench.broker.requests[0]).toMatchObject({
      host: HUB,
      port: 8883,
      clientId: 'dev-1',
      username: `${HUB}/dev-1/?api-version=2021-04-12&model-id=dtmi%3Aa%3B1&DeviceClientType=dps-device%2F0.1.0`,
      password: expect.stringMatching(
        /^SharedAccessSignature sr=myhub\.azure-devices\.net%2Fdevices%2Fdev-1&sig=[^&]+&se=\d+$/,
      ),
      keepaliveSeconds: 240,
    });
    await session.close();
  });

  it('keeps an assigned port in user name and signature', async () => {
    const bench = new HubBench();
    const parameters = { ...bench.parameters, hostName: 'localhost:45915' };
    const session = await bench.transport.open(parameters, new AbortController().signal);
    const [request] = bench.broker.requests;
    expect([request?.host, request?.port]).toEqual(['localhost', 45915]);
    expect(request?.username).toMatch(/^localhost:45915\/dev-1\//);
    expect(request?.password).toMatch(/ sr=localhost%3A45915%2Fdevices%2Fdev-1&/);
    await session.close();
  });

  it('brings a certificate and no password for X.509, and never renews', async () => {
    const bench = new HubBench({ hsm: fakeX509Hsm() });
    const session = await bench.open();
    const [request] = bench.broker.requests;
    expect(request).not.toHaveProperty('password');
    expect(request?.client?.certificateChainPem).toBe('CHAIN');
    expect(bench.clock.pending).toBe(0);
    await session.close();
  });

  it('hands out what was pushed before the answer', async () => {
    const bench = new HubBench();
    bench.broker.lostGets = 1;
    const opening = bench.open();
    await settle();
    bench.broker.push(5, { fan: 1 });
    bench.broker.setDesired(4, { led: true });
    bench.broker.answerGet(bench.broker.connection, 'r1');
    expect((await opening).twin.desired).toEqual({ version: 5, properties: { led: true, fan: 1 } });
  });

  it('asks once more for a twin that does not come, then gives up', async () => {
    const bench = new HubBench({ requestTimeoutMs: 30_000 });
    bench.broker.lostGets = 2;
    const opening = bench.open();
    const failure = failureOf(opening);
    await settle();
    bench.clock.advance(30_000);
    await settle();
    expect(bench.takeLog().slice(2)).toEqual([
      'PUBLISH 0 $iothub/twin/GET/?$rid=r1',
      'PUBLISH 0 $iothub/twin/GET/?$rid=r2',
    ]);
    bench.clock.advance(30_000);
    expect(await failure).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT', phase: 'request', retryable: true });
    expect(bench.takeLog()).toEqual(['DISCONNECT']);
    expect(bench.clock.pending).toBe(0);
  });

  it('takes the answer to the second question', async () => {
    const bench = new HubBench();
    bench.broker.lostGets = 1;
    const opening = bench.open();
    await settle();
    bench.clock.advance(30_000);
    expect((await opening).twin.desired.version).toBe(4);
  });

  it('gives up when SUBSCRIBE is not answered', async () => {
    const bench = new HubBench();
    bench.broker.isSubacking = false;
    const failure = failureOf(bench.open());
    await settle();
    bench.clock.advance(30_000);
    expect(await failure).toMatchObject({
      code: 'ERR_DPS_REQUEST_TIMEOUT',
      message: expect.stringMatching(/SUBSCRIBE/),
    });
    expect([bench.clock.pending, bench.broker.connection.listeners]).toEqual([0, 0]);
  });

  it('fails with the hub’s refusal, and its tracking id', async () => {
    const bench = new HubBench();
    bench.broker.getErrors.push([429, '{"errorCode":429001,"trackingId":"t-1","message":"slow down"}']);
    expect(await failureOf(bench.open())).toMatchObject({
      code: 'ERR_DPS_SERVICE_THROTTLED',
      service: 'hub',
      errorCode: 429001,
      trackingId: 't-1',
      retryable: true,
    });
    expect(bench.takeLog().at(-1)).toBe('DISCONNECT');
  });

  it.each([
    ['no JSON', 'x'],
    ['no twin', '{}'],
  ])('fails typed when the twin is %s', async (_name, desired) => {
    const bench = new HubBench();
    bench.broker.desired = desired;
    expect(await failureOf(bench.open())).toMatchObject({ code: 'ERR_DPS_PROTOCOL_TWIN' });
    expect(bench.broker.connection.isOver).toBe(true);
  });

  it('fails with what the connect failed with', async () => {
    const bench = new HubBench();
    const refusal = lost();
    bench.broker.refusals.push(refusal);
    expect(await failureOf(bench.open())).toBe(refusal);
    expect(bench.clock.pending).toBe(0);
  });

  it('fails when the connection breaks before the twin is there', async () => {
    const bench = new HubBench();
    bench.broker.lostGets = 1;
    const failure = failureOf(bench.open());
    await settle();
    bench.broker.connection.lose(lost());
    expect(await failure).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
    expect(bench.clock.pending).toBe(0);
  });

  it('lists what a refusal may mean, without a secret', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const [request] = bench.broker.requests;
    for (const code of [2, 4, 5]) {
      const text = request?.describeRefusal(code) ?? '';
      for (const cause of ['key', 'clock', '2026-11-21T00:00:00.000Z', 'disabled', 'deleted', 'moved']) {
        expect(text).toContain(cause);
      }
      expect(text).not.toContain('sig=');
    }
    expect(request?.describeRefusal(3)).toMatch(/busy/);
    await session.close();
  });

  it('refuses to make a token by a clock that was never set', async () => {
    const bench = new HubBench();
    bench.clock.stepWall(-bench.clock.wallMs());
    expect(await failureOf(bench.open())).toMatchObject({
      code: 'ERR_DPS_CLOCK_IMPLAUSIBLE',
      retryable: true,
      message: expect.stringMatching(/1970-01-01T00:00:00\.000Z.*Set the clock/),
    });
    expect(bench.broker.requests).toEqual([]);
  });

  it('turns what a foreign HSM throws into an HsmError', async () => {
    const hsm = fakeSymmetricKeyHsm();
    hsm.failures.push(new Error('chip on fire'));
    expect(await failureOf(new HubBench({ hsm }).open())).toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      message: expect.stringMatching(/chip on fire/),
    });
  });

  it('hands the HSM’s own typed errors on as they are', async () => {
    const hsm = fakeSymmetricKeyHsm();
    const locked = new HsmError({ code: 'ERR_DPS_HSM_PASSPHRASE', message: 'locked', operation: 'load key' });
    hsm.failures.push(locked);
    expect(await failureOf(new HubBench({ hsm }).open())).toBe(locked);
  });

  it('refuses an assigned hub that is no host', async () => {
    const bench = new HubBench();
    const parameters = { ...bench.parameters, hostName: 'https://hub/' };
    const opening = bench.transport.open(parameters, new AbortController().signal);
    expect(await failureOf(opening)).toMatchObject({ code: 'ERR_DPS_PROTOCOL_BODY', got: 'https://hub/' });
  });

  it.each([0, 1178, 1.5, Number.NaN])('refuses a keep-alive of %d seconds', (keepaliveSeconds) => {
    expect(() => new HubBench({ keepaliveSeconds })).toThrow(/keepaliveSeconds/);
  });

  it('shows no secret when a session is printed', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    const shown = inspect([session, bench.transport], { depth: 10, showHidden: true });
    expect(shown).not.toContain('SharedAccess');
    await session.close();
  });
});

describe('cancelling an open', () => {
  it.each<[string, (bench: HubBench) => void]>([
    ['before it began', () => {}],
    [
      'while it connects',
      (bench) => {
        bench.broker.isAccepting = false;
      },
    ],
    [
      'while it subscribes',
      (bench) => {
        bench.broker.isSubacking = false;
      },
    ],
    [
      'while it waits for the twin',
      (bench) => {
        bench.broker.lostGets = 5;
      },
    ],
  ])('%s leaves nothing behind', async (moment, arrange) => {
    const bench = new HubBench();
    arrange(bench);
    const abort = new CountingAbort();
    const reason = new Error('enough');
    if (moment === 'before it began') abort.abort(reason);
    const failure = failureOf(bench.open(abort.signal));
    await settle();
    abort.abort(reason);
    const error = await failure;
    expect(error).toBeInstanceOf(CancelledError);
    expect(error.cause).toBe(reason);
    await settle();
    expect([bench.clock.pending, abort.listeners]).toEqual([0, 0]);
    expect(bench.broker.connections.every(({ isOver, listeners }) => isOver && listeners === 0)).toBe(true);
  });

  it('while the HSM signs does not wait for the HSM', async () => {
    const hsm = { ...fakeSymmetricKeyHsm(), sign: () => new Promise<Uint8Array>(() => {}) };
    const bench = new HubBench({ hsm });
    const abort = new CountingAbort();
    const failure = failureOf(bench.open(abort.signal));
    await settle();
    abort.abort();
    expect(await failure).toBeInstanceOf(CancelledError);
    expect(abort.listeners).toBe(0);
  });

  it('closes a connection that comes too late', async () => {
    const bench = new HubBench();
    let hand: () => void = () => {};
    const late = new HubBench({
      openConnection: async (request, signal) => {
        await new Promise<void>((resolve) => {
          hand = resolve;
        });
        return bench.broker.open(request, signal);
      },
    });
    const abort = new AbortController();
    const failure = failureOf(late.open(abort.signal));
    await settle();
    abort.abort();
    await settle();
    hand();
    await failure;
    expect(bench.broker.connection.isOver).toBe(true);
  });

  it('lets a deadline stay a deadline', async () => {
    const bench = new HubBench();
    bench.broker.isAccepting = false;
    const abort = new AbortController();
    const failure = failureOf(bench.open(abort.signal));
    await settle();
    const deadline = new DeadlineError({ state: 'opening', deadlineMs: 5 });
    abort.abort(deadline);
    expect(await failure).toBe(deadline);
  });
});

describe('the end of a session', () => {
  it('by close() says DISCONNECT and frees everything', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.takeLog();
    await Promise.all([session.close(), session.close()]);
    expect(await session.closed).toBeUndefined();
    await session.close();
    expect(bench.takeLog()).toEqual(['DISCONNECT']);
    expect(bench.clock.pending).toBe(0);
  });

  it('by close() is over when the connection is', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isClosing = false;
    let isClosed = false;
    const closing = session.close().then(() => {
      isClosed = true;
    });
    await settle();
    expect(isClosed).toBe(false);
    bench.broker.finishClosing();
    await closing;
  });

  it('by close() ends what is under way and refuses what comes after', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isPubacking = false;
    bench.broker.lostPatches = 1;
    const sending = failureOf(session.sendTelemetry({ body: 1 }));
    const reporting = failureOf(session.report({ a: 1 }));
    const queued = failureOf(session.report({ a: 2 }));
    await session.close();
    for (const failure of [
      sending,
      reporting,
      queued,
      failureOf(session.report({})),
      failureOf(session.sendTelemetry({ body: 1 })),
    ]) {
      expect(await failure).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED', retryable: false });
    }
    expect([bench.clock.pending, bench.broker.connection.listeners]).toEqual([0, 0]);
  });

  it('by a lost connection tells why, to whoever waits', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    bench.broker.isPubacking = false;
    bench.broker.lostPatches = 1;
    const sending = failureOf(session.sendTelemetry({ body: 1 }));
    const reporting = failureOf(session.report({ a: 1 }));
    const reason = lost();
    bench.broker.connection.lose(reason);
    expect(await session.closed).toBe(reason);
    expect(await sending).toBe(reason);
    expect(await reporting).toBe(reason);
    expect(await failureOf(session.report({}))).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED', cause: reason });
    expect(bench.clock.pending).toBe(0);
    await session.close();
    expect(await session.closed).toBe(reason);
  });

  it('takes listeners without a complaint afterwards', async () => {
    const bench = new HubBench();
    const session = await bench.open();
    await session.close();
    bench.takeLog();
    session.onDesiredChange(() => {})();
    session.onMessage(() => {})();
    session.onMethod('m', () => ({ status: 200 }))();
    await settle();
    expect(bench.takeLog()).toEqual([]);
    expect(bench.clock.pending).toBe(0);
  });
});
