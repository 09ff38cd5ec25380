import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { DpsConnection, DpsCredential } from '../../src/core/transport.js';
import { ProtocolError } from '../../src/errors.js';
import { httpsDpsTransport, MAX_REPLY_BODY_BYTES } from '../../src/transports/https.js';
import { describeDpsTransport } from '../contracts/dps-transport.js';
import type { Scene } from '../contracts/transport-bench.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startTlsPeer, type Wire, type WirePeer } from '../fakes/wire-peer.js';

const never = new AbortController().signal;
const REGISTER = { kind: 'register', body: Buffer.from('{}') } as const;
const POLL = { kind: 'operationStatus', operationId: '5.71cf' } as const;
const STRAY = 'HTTP/1.1 500 Stray\r\nContent-Length: 5\r\n\r\nstray';
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}';

async function playDps(wire: Wire, scene: Scene): Promise<void> {
  for (;;) {
    const request = await wire.readHttpRequest();
    await scene.reach('head');
    const { status, body, retryAfter } = scene.answer(request.startsWith('PUT ') ? 'register' : 'operationStatus');
    const delay = retryAfter === undefined ? '' : `Retry-After: ${retryAfter}\r\n`;
    await wire.write(`HTTP/1.1 ${status} Whatever\r\n${delay}Transfer-Encoding: chunked\r\n\r\n`);
    await scene.reach('body');
    await wire.write(`${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n`);
    await scene.reach('end');
    await wire.write(`0\r\n\r\n${scene.isJumbled ? STRAY : ''}`);
    if (scene.isJumbled) await wire.write(STRAY);
  }
}

interface Bench {
  readonly connection: DpsConnection;
  readonly peer: WirePeer;
}

/** A connection to a server that answers each request with the next of `replies`. */
async function connectedBench(
  replies: readonly string[],
  credential: DpsCredential = { kind: 'sas', token: 'token' },
): Promise<Bench> {
  const { authority, server } = await benchCertificates();
  const left = [...replies];
  const peer = await startTlsPeer(server, async (wire) => {
    for (;;) {
      await wire.readHttpRequest();
      const reply = left.shift() ?? OK;
      await wire.write(reply);
      if (/^connection: close/im.test(reply)) wire.end();
    }
  });
  const transport = httpsDpsTransport({
    ca: authority.certificatePem,
    clock: new ManualClock(),
    randomUuid: () => 'r',
  });
  const identity = { idScope: '0ne00111111', registrationId: 'dev-1' };
  const connection = await transport.open({ endpoint: peer.endpoint, ...identity, credential }, never);
  return { connection, peer };
}

const TPM: DpsCredential = { kind: 'tpm', endorsementKey: Uint8Array.of(1), storageRootKey: Uint8Array.of(2) };
const CHALLENGE_BODY =
  '{"message":"Authorization required, resend request using supplied key","authenticationKey":"3q2+7w==",' +
  '"unencryptedAuthenticationKey":null,"keyName":"registration"}';
const CHALLENGE = `HTTP/1.1 401 Unauthorized\r\nContent-Length: ${CHALLENGE_BODY.length}\r\n\r\n${CHALLENGE_BODY}`;

describe('httpsDpsTransport', () => {
  describeDpsTransport({
    create: httpsDpsTransport,
    stages: { opening: [], exchange: ['head', 'body', 'end'] },
    play: playDps,
  });

  it('goes by the name of https', () => {
    expect(httpsDpsTransport({ clock: new ManualClock(), randomUuid: () => 'r' }).name).toBe('https');
  });

  it('hands on Retry-After and Date as they came', async () => {
    const date = 'Wed, 21 Oct 2026 07:28:00 GMT';
    const { connection } = await connectedBench([
      `HTTP/1.1 429 Too Many Requests\r\nretry-after: Wed, 21 Oct 2026 07:28:30 GMT\r\nDATE: ${date}\r\nContent-Length: 0\r\n\r\n`,
    ]);
    expect(await connection.exchange(REGISTER, never)).toEqual({
      kind: 'reply',
      status: 429,
      body: new Uint8Array(0),
      retryAfter: 'Wed, 21 Oct 2026 07:28:30 GMT',
      date,
    });
    await connection.close();
  });

  it('opens a new connection for a new exchange when the server closed the one before', async () => {
    const closing = 'HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}';
    const { connection, peer } = await connectedBench([closing]);
    expect(await connection.exchange(REGISTER, never)).toMatchObject({ status: 202 });
    expect(await connection.exchange(POLL, never)).toMatchObject({ status: 200 });
    expect(peer.wires).toHaveLength(2);
    await connection.close();
    await Promise.all(peer.wires.map((wire) => wire.closed));
  });

  it('opens a new one also when it was closed while idle', async () => {
    const { connection, peer } = await connectedBench([OK]);
    await connection.exchange(REGISTER, never);
    const wire = await peer.wire(0);
    wire.end();
    await wire.closed;
    expect(await connection.exchange(POLL, never)).toMatchObject({ status: 200 });
    expect(peer.wires).toHaveLength(2);
    await connection.close();
  });

  it('reads a reply that ends with the connection', async () => {
    const { connection } = await connectedBench(['HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n{"a":1}']);
    expect(await connection.exchange(POLL, never)).toMatchObject({ body: new Uint8Array(Buffer.from('{"a":1}')) });
    await connection.close();
  });

  it('does not follow redirects', async () => {
    const { connection, peer } = await connectedBench([
      'HTTP/1.1 307 Temporary Redirect\r\nLocation: https://login.example/\r\nContent-Length: 0\r\n\r\n',
    ]);
    expect(await connection.exchange(REGISTER, never)).toMatchObject({ kind: 'reply', status: 307 });
    expect(peer.wires).toHaveLength(1);
    await connection.close();
  });

  it('refuses a reply without end', async () => {
    const head = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
    const size = MAX_REPLY_BODY_BYTES + 1;
    const { connection, peer } = await connectedBench([`${head}${size.toString(16)}\r\n${' '.repeat(size)}`]);
    const exchange = connection.exchange(POLL, never);
    await expect(exchange).rejects.toBeInstanceOf(ProtocolError);
    await expect(exchange).rejects.toMatchObject({ code: 'ERR_DPS_PROTOCOL_BODY', status: 200 });
    await (await peer.wire(0)).closed;
    await connection.close();
  });

  it('takes the longest reply that is allowed', async () => {
    const body = ' '.repeat(MAX_REPLY_BODY_BYTES);
    const { connection } = await connectedBench([`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`]);
    const reply = await connection.exchange(POLL, never);
    expect(reply).toMatchObject({ status: 200 });
    await connection.close();
  });

  it('refuses a switch of protocols', async () => {
    const { connection } = await connectedBench([
      'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n',
    ]);
    await expect(connection.exchange(POLL, never)).rejects.toMatchObject({
      code: 'ERR_DPS_PROTOCOL_STATUS',
      status: 101,
    });
    await connection.close();
  });

  it('keeps the bytes of a broken reply out of the error', async () => {
    const { connection } = await connectedBench(['HTTP/1.1 200 OK\r\nsecret line without a colon\r\n\r\n']);
    const error = await connection.exchange(POLL, never).catch((thrown) => thrown);
    expect(error).toBeInstanceOf(ProtocolError);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROTOCOL_BODY', got: expect.stringMatching(/^HPE_/) });
    expect(inspect(error, { depth: 9 })).not.toContain(Buffer.from('secret').toString('hex').slice(0, 6));
    expect(error).not.toHaveProperty('cause');
    await connection.close();
  });

  it('recognises the challenge to a TPM, and only to its opening move', async () => {
    const opening = await connectedBench([CHALLENGE], TPM);
    expect(await opening.connection.exchange(REGISTER, never)).toEqual({
      kind: 'challenge',
      authenticationKey: Uint8Array.of(0xde, 0xad, 0xbe, 0xef),
    });
    await opening.connection.close();
    for (const credential of [{ ...TPM, token: 'token' }, { kind: 'sas', token: 'token' } as const]) {
      const { connection } = await connectedBench([CHALLENGE], credential);
      expect(await connection.exchange(REGISTER, never)).toMatchObject({ kind: 'reply', status: 401 });
      await connection.close();
    }
  });

  it('hands a TPM any other refusal on', async () => {
    const body = '{"errorCode":401002,"trackingId":"b3990321","message":"Unauthorized"}';
    const refusal = `HTTP/1.1 401 Unauthorized\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const { connection } = await connectedBench([refusal], TPM);
    expect(await connection.exchange(REGISTER, never)).toMatchObject({ kind: 'reply', status: 401 });
    await connection.close();
  });
});
