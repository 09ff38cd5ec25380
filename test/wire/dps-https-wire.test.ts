import { describe, expect, it } from 'vitest';
import type { DpsCredential } from '../../src/core/transport.js';
import { httpsDpsTransport } from '../../src/transports/https.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startTlsPeer } from '../fakes/wire-peer.js';

const never = new AbortController().signal;
const OPERATION_ID = '5.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550';
const REQUEST_ID = '11111111-2222-4333-8444-555555555555';
const TOKEN = 'SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fdev-1&sig=c&se=1&skn=registration';
const BODY = '{"registrationId":"dev-1"}';

/** Lines of an HTTP head, then the body. */
const http = (lines: readonly string[], body = ''): string => `${lines.join('\r\n')}\r\n\r\n${body}`;

// As recorded in Microsoft's documentation of registering over HTTPS.
const ASSIGNING_BODY = `{"operationId":"${OPERATION_ID}","status":"assigning"}`;
const ASSIGNING = http(
  [
    'HTTP/1.1 202 Accepted',
    'Date: Mon, 23 Nov 2026 10:00:00 GMT',
    'Content-Type: application/json; charset=utf-8',
    'Transfer-Encoding: chunked',
    'Location: https://global.azure-devices-provisioning.net/0ne00111111/registrations/dev-1/register',
    'Retry-After: 3',
    'x-ms-request-id: 40f2f8d9-4f3f-4b2b-bd36-4b1d1dd2b0a9',
    'Strict-Transport-Security: max-age=31536000; includeSubDomains',
  ],
  `5e\r\n${ASSIGNING_BODY}\r\n0\r\n\r\n`,
);
const ASSIGNED_BODY = '{"status":"assigned"}';
const ASSIGNED = http(['HTTP/1.1 200 OK', 'Content-Type: application/json', 'Content-Length: 21'], ASSIGNED_BODY);

async function connect(credential: DpsCredential, identity = { idScope: '0ne00111111', registrationId: 'dev-1' }) {
  const { authority, server } = await benchCertificates();
  const peer = await startTlsPeer(server, async () => {});
  const transport = httpsDpsTransport({
    ca: authority.certificatePem,
    userAgent: 'dps-device/0.1.0',
    clock: new ManualClock(),
    randomUuid: () => REQUEST_ID,
  });
  const connection = await transport.open({ endpoint: peer.endpoint, ...identity, credential }, never);
  return { connection, wire: await peer.wire(0), host: peer.endpoint };
}

describe('DPS over HTTPS, letter by letter', () => {
  it('registers and polls with a SAS token, over one connection', async () => {
    const { connection, wire, host } = await connect({ kind: 'sas', token: TOKEN });
    const registering = connection.exchange({ kind: 'register', body: Buffer.from(BODY) }, never);
    expect(await wire.readHttpRequest()).toBe(
      http(
        [
          'PUT /0ne00111111/registrations/dev-1/register?api-version=2021-06-01 HTTP/1.1',
          `Host: ${host}`,
          'Accept: application/json',
          'User-Agent: dps-device/0.1.0',
          `Request-Id: ${REQUEST_ID}`,
          `Authorization: ${TOKEN}`,
          'Content-Type: application/json; charset=utf-8',
          'Content-Length: 26',
          'Connection: keep-alive',
        ],
        BODY,
      ),
    );
    await wire.write(ASSIGNING);
    expect(await registering).toEqual({
      kind: 'reply',
      status: 202,
      retryAfter: '3',
      date: 'Mon, 23 Nov 2026 10:00:00 GMT',
      body: new Uint8Array(Buffer.from(ASSIGNING_BODY)),
    });

    const polling = connection.exchange({ kind: 'operationStatus', operationId: OPERATION_ID }, never);
    expect(await wire.readHttpRequest()).toBe(
      http([
        `GET /0ne00111111/registrations/dev-1/operations/${OPERATION_ID}?api-version=2021-06-01 HTTP/1.1`,
        `Host: ${host}`,
        'Accept: application/json',
        'User-Agent: dps-device/0.1.0',
        `Request-Id: ${REQUEST_ID}`,
        `Authorization: ${TOKEN}`,
        'Connection: keep-alive',
      ]),
    );
    await wire.write(ASSIGNED);
    expect(await polling).toEqual({ kind: 'reply', status: 200, body: new Uint8Array(Buffer.from(ASSIGNED_BODY)) });
    await connection.close();
    await wire.closed;
    expect(wire.unread).toHaveLength(0);
  });

  it('looks a registration up with POST, and sends no Authorization with a certificate', async () => {
    const { device } = await benchCertificates();
    const { connection, wire, host } = await connect({ kind: 'x509', tls: device });
    const lookup = connection.exchange({ kind: 'statusLookup', body: Buffer.from(BODY) }, never);
    expect(await wire.readHttpRequest()).toBe(
      http(
        [
          'POST /0ne00111111/registrations/dev-1?api-version=2021-06-01 HTTP/1.1',
          `Host: ${host}`,
          'Accept: application/json',
          'User-Agent: dps-device/0.1.0',
          `Request-Id: ${REQUEST_ID}`,
          'Content-Type: application/json; charset=utf-8',
          'Content-Length: 26',
          'Connection: keep-alive',
        ],
        BODY,
      ),
    );
    await wire.write(ASSIGNED);
    await lookup;
    await connection.close();
  });

  it('percent-encodes what goes into the path', async () => {
    const identity = { idScope: '0ne?#', registrationId: 'a:b' };
    const { connection, wire } = await connect({ kind: 'sas', token: TOKEN }, identity);
    const polling = connection.exchange({ kind: 'operationStatus', operationId: '../ü' }, never);
    expect((await wire.readHttpRequest()).split('\r\n')[0]).toBe(
      'GET /0ne%3F%23/registrations/a%3Ab/operations/..%2F%C3%BC?api-version=2021-06-01 HTTP/1.1',
    );
    await wire.write(ASSIGNED);
    await polling;
    await connection.close();
  });
});
