import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import type { IssuedCertificate } from '../../src/emulator/pki.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { makeFleet } from './fleet-certificates.js';
import { askHttps, type HttpsReply } from './https-probe.js';
import { DEVICE_KEY, dpsToken, GROUP_KEY } from './tokens.js';

const SCOPE = '0ne00111111';
const EXPIRY = Math.floor(Date.UTC(2026, 10, 21) / 1000) + 86_400;
const TOKEN = dpsToken(SCOPE, 'dev-1', DEVICE_KEY, EXPIRY);

let clock: ManualClock;
let emulator: Emulator;
let leaf: IssuedCertificate;

beforeAll(async () => {
  clock = new ManualClock();
  const nowMs = clock.wallMs();
  const fleet = await makeFleet(nowMs);
  leaf = fleet.leaf;
  emulator = await startEmulator(
    {
      idScope: SCOPE,
      hubs: [{ name: 'hub-a', hostName: 'hub-a.test' }],
      enrollments: [{ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } }],
      enrollmentGroups: [
        {
          enrollmentGroupId: 'certs',
          attestation: { x509: { signingCertificates: { primary: { certificate: fleet.authority.certificatePem } } } },
        },
      ],
    },
    { clock },
  );
});

afterAll(() => emulator.close());

beforeEach(() => {
  emulator.faults.clear();
  emulator.trace.clear();
});

const ask = (method: string, path: string, options: Parameters<typeof askHttps>[4] = {}): Promise<HttpsReply> =>
  askHttps(emulator.endpoints.dps.https, emulator.caPem, method, path, options);

const json = (token: string | undefined, body?: string) => ({
  headers: {
    'Content-Type': 'application/json; charset=utf-8',
    'Content-Encoding': 'utf-8',
    ...(token !== undefined && { Authorization: token }),
    ...(body !== undefined && { 'Content-Length': Buffer.byteLength(body) }),
  },
  ...(body !== undefined && { body }),
});

const path = (tail: string, id = 'dev-1', scope = SCOPE): string => `/${scope}/registrations/${id}${tail}`;
const register = (token: string | undefined = TOKEN, more: object = {}): Promise<HttpsReply> =>
  ask('PUT', path('/register?api-version=2019-03-31'), { ...json(token, '{"registrationId":"dev-1"}'), ...more });
const operationId = (reply: HttpsReply): string => (reply.json as { operationId: string }).operationId;

describe('register and poll', () => {
  it('goes from 202 to 200, with the headers of the recorded service', async () => {
    const started = await register();
    expect(started.status).toBe(202);
    expect(started.headers).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'retry-after': '3',
      'transfer-encoding': 'chunked',
      'strict-transport-security': 'max-age=31536000; includeSubDomains',
      'x-ms-request-id': expect.stringMatching(/^[0-9a-f-]{36}$/),
      location: `https://${emulator.endpoints.dps.https}/${SCOPE}/registrations/dev-1/register`,
      date: expect.any(String),
    });
    expect(started.headers).not.toHaveProperty('x-ms-error-code');
    expect(started.json).toEqual({
      operationId: expect.stringMatching(/^\d\.[0-9a-f]{16}\.[0-9a-f-]{36}$/),
      status: 'assigning',
    });
    // A body on a GET is tolerated: one of Microsoft's clients sends one.
    const done = await ask(
      'GET',
      path(`/operations/${operationId(started)}?api-version=2019-03-31`),
      json(TOKEN, '{}'),
    );
    expect(done.status).toBe(200);
    expect(done.headers).not.toHaveProperty('retry-after');
    expect(done.json).toMatchObject({
      status: 'assigned',
      registrationState: { registrationId: 'dev-1', assignedHub: 'hub-a.test', deviceId: 'dev-1', status: 'assigned' },
    });
  });

  it('takes client certificates', async () => {
    const shown = { cert: leaf.chainPem, key: leaf.privateKeyPem };
    const started = await ask('PUT', path('/register?api-version=2021-06-01', 'x-1'), {
      ...json(undefined, '{}'),
      ...shown,
    });
    expect(started.status).toBe(202);
    const done = await ask('GET', path(`/operations/${operationId(started)}?api-version=2021-06-01`, 'x-1'), shown);
    expect(done.json).toMatchObject({ registrationState: { x509: { enrollmentGroupId: 'certs' } } });
    const short = { cert: leaf.certificatePem, key: leaf.privateKeyPem };
    const refused = await ask('PUT', path('/register?api-version=2021-06-01', 'x-1'), {
      ...json(undefined, '{}'),
      ...short,
    });
    expect(refused).toMatchObject({ status: 401, json: { errorCode: 401002, message: 'CA certificate not found' } });
  });

  it('still says 202 when the result is there at once', async () => {
    emulator.faults.add({ at: 'dps.register', action: { kind: 'assignImmediately' }, times: 1 });
    expect(await register()).toMatchObject({ status: 202, json: { status: 'assigned' } });
  });

  it('looks the registration up by POST', async () => {
    await register();
    const reply = await ask('POST', path('?api-version=2019-03-31'), json(TOKEN, '{"registrationId":"dev-1"}'));
    expect(reply).toMatchObject({ status: 200, json: { registrationId: 'dev-1', status: 'assigned' } });
    expect(reply.json).not.toHaveProperty('operationId');
  });
});

describe('what is refused', () => {
  it('has the error body, its code and its tracking id in the headers', async () => {
    const reply = await register(dpsToken(SCOPE, 'dev-1', GROUP_KEY, EXPIRY));
    expect(reply.status).toBe(401);
    const { trackingId, ...body } = reply.json as { trackingId: string };
    expect(body).toEqual({
      errorCode: 401002,
      message: 'Unauthorized',
      timestampUtc: expect.stringMatching(/\.\d{7}Z$/),
    });
    expect(reply.headers).toMatchObject({ 'x-ms-error-code': '401002', 'x-ms-request-id': trackingId });
    expect(reply.headers).not.toHaveProperty('location');
  });

  it.each<[string, () => Promise<HttpsReply>, number]>([
    ['no credential', () => ask('PUT', path('/register?api-version=2019-03-31'), json(undefined, '{}')), 401],
    [
      'an unknown scope',
      () => ask('PUT', path('/register?api-version=2019-03-31', 'dev-1', '0neX'), json(TOKEN, '{}')),
      404,
    ],
    ['no api-version', () => ask('PUT', path('/register'), json(TOKEN, '{}')), 400],
    ['an unknown operation', () => ask('GET', path('/operations/nonsense?api-version=2019-03-31'), json(TOKEN)), 404],
    ['an unknown path', () => ask('GET', '/'), 404],
    ['a broken percent code', () => ask('GET', '/%zz/registrations/a/operations/b', json(TOKEN)), 404],
    ['another method', () => ask('POST', path('/register?api-version=2019-03-31'), json(TOKEN, '{}')), 405],
    ['a GET for the lookup', () => ask('GET', path('?api-version=2019-03-31'), json(TOKEN)), 405],
    [
      'another content type',
      () =>
        ask('PUT', path('/register?api-version=2019-03-31'), {
          headers: { Authorization: TOKEN, 'Content-Type': 'text/xml' },
          body: '<x/>',
        }),
      415,
    ],
    ['a body that is no JSON', () => ask('PUT', path('/register?api-version=2019-03-31'), json(TOKEN, '{')), 400],
    [
      'a body of more than 96 KB',
      () => ask('PUT', path('/register?api-version=2019-03-31'), json(TOKEN, `{"payload":"${'x'.repeat(200_000)}"}`)),
      400,
    ],
  ])('%s', async (_what, request, status) => {
    const reply = await request();
    expect(reply.status).toBe(status);
    expect(reply.json).toMatchObject({ errorCode: expect.any(Number), trackingId: reply.headers['x-ms-request-id'] });
    expect(Math.floor((reply.json as { errorCode: number }).errorCode / 1000)).toBe(status);
  });

  it('breaks the line on a body without end', async () => {
    await expect(
      ask('PUT', path('/register?api-version=2019-03-31'), json(TOKEN, 'x'.repeat(1_100_000))),
    ).rejects.toThrow();
  });
});

describe('fault switches', () => {
  it('answer with any status, body and headers', async () => {
    emulator.faults.add({
      at: 'dps.register',
      action: { kind: 'respond', status: 503, retryAfter: 'Sat, 21 Nov 2026 00:00:09 GMT' },
      times: 1,
    });
    const busy = await register();
    expect(busy).toMatchObject({ status: 503, json: { errorCode: 503001 } });
    expect(busy.headers['retry-after']).toBe('Sat, 21 Nov 2026 00:00:09 GMT');
    emulator.faults.add({
      at: 'dps.register',
      action: {
        kind: 'respond',
        status: 200,
        text: '<html>',
        headers: { 'Content-Type': 'text/html', 'X-Proxy': 'yes' },
      },
      times: 1,
    });
    const page = await register();
    expect(page).toMatchObject({ status: 200, text: '<html>' });
    expect(page.headers).toMatchObject({ 'content-type': 'text/html', 'x-proxy': 'yes' });
  });

  it('cut the line, before the answer or after it', async () => {
    emulator.faults.add({ at: 'dps.register', action: { kind: 'cut' }, times: 1 });
    await expect(register()).rejects.toThrow();
    emulator.faults.add({ at: 'dps.register', action: { kind: 'cut', when: 'after' }, times: 1 });
    expect((await register()).status).toBe(202);
    emulator.faults.add({
      at: 'dps.register',
      action: { kind: 'raw', base64: Buffer.from('HTTP/1.1 nonsense\r\n').toString('base64') },
      times: 1,
    });
    await expect(register()).rejects.toThrow();
  });

  it('delay the answer', async () => {
    emulator.faults.add({ at: 'dps.status', action: { kind: 'wait', ms: 5000 }, times: 1 });
    const started = await register();
    const polled = ask('GET', path(`/operations/${operationId(started)}?api-version=2019-03-31`), json(TOKEN));
    await emulator.trace.waitFor({ event: 'fault' });
    expect(emulator.trace.count({ event: 'reply' })).toBe(1);
    clock.advance(5000);
    expect((await polled).status).toBe(200);
  });

  it('that fail when their time comes end the connection, not the process', async () => {
    const action = [
      { kind: 'wait', ms: 5000 },
      { kind: 'respond', body: 1n as never },
    ] as const;
    emulator.faults.add({ at: 'dps.register', action, times: 1 });
    const asked = register();
    const outcome = expect(asked).rejects.toThrow();
    await emulator.trace.waitFor({ event: 'fault' });
    expect(() => clock.advance(5000)).not.toThrow();
    await outcome;
    expect(emulator.trace.entries({ event: 'violation' })[0]?.detail).toContain('BigInt');
  });

  it('stay silent until the client gives up', async () => {
    emulator.faults.add({ at: 'dps.register', action: { kind: 'silent' }, times: 1 });
    const asked = register(TOKEN, { agent: false });
    asked.catch(() => {});
    await emulator.trace.waitFor({ event: 'fault' });
    expect(emulator.trace.count({ event: 'reply' })).toBe(0);
    // The emulator's own end, in afterAll, ends this request too.
  });
});
