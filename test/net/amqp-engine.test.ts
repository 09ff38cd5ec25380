import { connect as connectTls, type TLSSocket } from 'node:tls';
import { describe, expect, it } from 'vitest';
import type { AmqpRefusal } from '../../src/core/wire/dps-amqp.js';
import {
  type AmqpConnection,
  type AmqpOpenOptions,
  MAX_AMQP_MESSAGE_BYTES,
  openAmqp,
} from '../../src/net/amqp-engine.js';
import {
  AMQP_HEADER,
  amqpFrame,
  binary,
  described,
  dispositionFrame,
  FALSE,
  list,
  NULL,
  readFrame,
  SASL_HEADER,
  saslFrame,
  symbol,
  TRUE,
  text,
  uint,
} from '../fakes/amqp-bytes.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import {
  attachBack,
  begin,
  credit,
  detach,
  errorOf,
  PERFORMATIVE,
  type PlayedLink,
  readAttaches,
  readTransfer,
  replyTransfer,
  saslOutcome,
} from '../fakes/dps-over-amqp.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startTlsPeer, type Wire } from '../fakes/wire-peer.js';

const never = new AbortController().signal;
const LINKS = { address: '0ne/registrations/dev-1', properties: { 'com.microsoft:api-version': '2021-06-01' } };
const REQUEST = { correlationId: 'c-1', applicationProperties: { kind: 'test' }, body: Buffer.from('{}') };
const ACCEPTED = described(0x24, list());
const REPLY = { status: 202, body: 'for us', retryAfter: '3' };

interface Bench {
  readonly wire: Wire;
  readonly clock: ManualClock;
  readonly socket: TLSSocket;
  readonly opening: Promise<AmqpConnection | AmqpRefusal>;
}

async function bench(overrides: Partial<AmqpOpenOptions> = {}, signal: AbortSignal = never): Promise<Bench> {
  const { authority, server } = await benchCertificates();
  const peer = await startTlsPeer(server, async () => {});
  const clock = new ManualClock();
  const socket = connectTls({
    port: peer.port,
    host: '127.0.0.1',
    servername: 'localhost',
    ca: authority.certificatePem,
  });
  await new Promise((resolve) => socket.once('secureConnect', resolve));
  const options = { socket, peer: peer.endpoint, hostName: 'dps.example', containerId: 'c', clock, ...overrides };
  const opening = openAmqp(options, signal);
  opening.catch(() => {});
  return { wire: await peer.wire(0), clock, socket, opening };
}

/** The peer's OPEN, with more fields after the container's name. */
async function acceptOpen(wire: Wire, ...more: readonly Uint8Array[]): Promise<readonly unknown[]> {
  expect(await wire.readBytes(8)).toEqual(AMQP_HEADER);
  const { fields } = await readFrame(wire);
  await wire.write(Buffer.concat([AMQP_HEADER, amqpFrame(PERFORMATIVE.open, [text('server'), ...more])]));
  return fields;
}

interface Attached extends Bench {
  readonly connection: AmqpConnection;
  readonly links: readonly PlayedLink[];
}

async function attachedBench(): Promise<Attached> {
  const bare = await bench();
  await acceptOpen(bare.wire);
  const connection = (await bare.opening) as AmqpConnection;
  const attaching = connection.attach(LINKS, never);
  const links = await readAttaches(bare.wire);
  await bare.wire.write(Buffer.concat([begin(), ...links.map(attachBack), credit(links)]));
  expect(await attaching).toBeUndefined();
  return { ...bare, connection, links };
}

const plain = (respond: (challenge: Uint8Array) => Promise<Uint8Array> = async () => new Uint8Array()) => ({
  mechanism: 'PLAIN',
  hostName: 'sasl.example',
  initialResponse: Buffer.from('\0user\0password'),
  respond,
});

/** Reads the client's SASL header and offers this. */
async function offer(wire: Wire, mechanism = 'PLAIN'): Promise<void> {
  expect(await wire.readBytes(8)).toEqual(SASL_HEADER);
  await wire.write(Buffer.concat([SASL_HEADER, saslFrame(0x40, [symbol(mechanism)])]));
}

describe('openAmqp', () => {
  it('says header and OPEN at once where there is no SASL layer', async () => {
    const { wire, opening } = await bench();
    const [containerId, hostName, maxFrameBytes] = await acceptOpen(wire);
    expect([containerId, hostName, maxFrameBytes]).toEqual(['c', 'dps.example', 65536]);
    await ((await opening) as AmqpConnection).close();
  });

  it('goes through the SASL layer, and takes what comes in one piece with its outcome', async () => {
    const { wire, opening } = await bench({ sasl: plain() });
    await offer(wire);
    const init = await readFrame(wire);
    expect(init.code).toBe(0x41);
    expect(init.fields).toEqual(['PLAIN', Buffer.from('\0user\0password'), 'sasl.example']);
    await wire.write(Buffer.concat([saslOutcome(0), AMQP_HEADER, amqpFrame(PERFORMATIVE.open, [text('server')])]));
    await ((await opening) as AmqpConnection).close();
  });

  it.each([
    [1, 'sasl:auth'],
    [2, 'sasl:sys'],
    [3, 'sasl:sys-perm'],
    [4, 'sasl:sys-temp'],
    [9, 'sasl:auth'],
  ])('hands outcome %i on as %s', async (code, condition) => {
    const { wire, opening, clock } = await bench({ sasl: plain() });
    await offer(wire);
    await readFrame(wire);
    await wire.write(saslOutcome(code));
    expect(await opening).toEqual({ condition, description: '', info: {} });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it('waits as long as the answer to a challenge takes, and counts the peer’s silence only', async () => {
    let answer: (response: Uint8Array) => void = () => {};
    const asked: Uint8Array[] = [];
    const sasl = plain((challenge) => {
      asked.push(challenge);
      return new Promise((resolve) => {
        answer = resolve;
      });
    });
    const { wire, opening, clock } = await bench({ sasl });
    await offer(wire);
    await readFrame(wire);
    expect(clock.pending).toBe(1);
    await wire.write(saslFrame(0x42, [binary(Buffer.of(1, 2, 3))]));
    while (asked.length === 0) await new Promise((resolve) => setImmediate(resolve));
    expect(asked).toEqual([Uint8Array.of(1, 2, 3)]);
    expect(clock.pending).toBe(0);
    answer(Uint8Array.of(4));
    expect((await readFrame(wire)).fields).toEqual([Buffer.of(4)]);
    expect(clock.pending).toBe(1);
    clock.advance(30_000);
    await expect(opening).rejects.toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'amqp-open' });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it('ends with the reason for which a challenge was not answered', async () => {
    const { wire, opening } = await bench({ sasl: plain(() => Promise.reject(new Error('no TPM'))) });
    await offer(wire);
    await readFrame(wire);
    await wire.write(saslFrame(0x42, [binary(Buffer.of(1))]));
    await expect(opening).rejects.toThrow('no TPM');
    await wire.closed;
  });

  it('says so when its mechanism is not offered', async () => {
    const { wire, opening } = await bench({ sasl: plain() });
    await offer(wire, 'EXTERNAL');
    await expect(opening).rejects.toMatchObject({ code: 'ERR_DPS_PROTOCOL_AMQP', got: 'no SASL mechanism PLAIN' });
  });

  it.each([
    ['the header of another protocol', Buffer.from('414d515002010000', 'hex')],
    ['an older version', Buffer.from('414d515000000901', 'hex')],
    ['HTTP', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')],
    ['MQTT', Buffer.from('20020000200200002002000020020000', 'hex')],
    ['a frame that is larger than announced', Buffer.concat([AMQP_HEADER, Buffer.from('0001000102000000', 'hex')])],
    ['a SASL layer that nobody asked for', SASL_HEADER],
    [
      'a frame before OPEN',
      Buffer.concat([AMQP_HEADER, amqpFrame(PERFORMATIVE.flow, [uint(0), uint(0), uint(0), uint(0)])]),
    ],
    [
      'OPEN twice',
      Buffer.concat([
        AMQP_HEADER,
        amqpFrame(PERFORMATIVE.open, [text('a')]),
        amqpFrame(PERFORMATIVE.open, [text('b')]),
      ]),
    ],
    ['an array that would fill the memory', Buffer.concat([AMQP_HEADER, hugeArray()])],
  ])('ends for %s', async (_what, bytes) => {
    const { wire, opening, clock } = await bench();
    await wire.write(bytes);
    const end = opening.then((opened) => (opened as AmqpConnection).closed);
    const error = await end.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROTOCOL_AMQP', retryable: false });
    await wire.closed;
    expect(clock.pending).toBe(0);
  });

  it('is not open with a peer that closes at once, whatever it says', async () => {
    const { wire, opening } = await bench();
    const error = errorOf('amqp:connection:forced', 'maintenance');
    await acceptOpenAndClose(wire, error);
    const end = await opening.then((opened) => (opened as AmqpConnection).closed).catch((reason: unknown) => reason);
    expect(end).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', retryable: true });
  });

  it('gives up on a peer that keeps silent, and on a caller’s word', async () => {
    const silent = await bench({ openTimeoutMs: 500 });
    silent.clock.advance(500);
    await expect(silent.opening).rejects.toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT' });
    const caller = new AbortController();
    const cancelled = await bench({}, caller.signal);
    caller.abort('enough');
    await expect(cancelled.opening).rejects.toBe('enough');
    await cancelled.wire.closed;
    expect(cancelled.clock.pending).toBe(0);
  });

  it('keeps alive as often as the peer asks, and not more', async () => {
    const { wire, opening, clock } = await bench();
    await acceptOpen(wire, NULL, NULL, NULL, uint(60_000));
    const connection = (await opening) as AmqpConnection;
    expect(clock.pending).toBe(1);
    for (const _ of [1, 2]) {
      clock.advance(30_000);
      expect(await wire.readBytes(8)).toEqual(Buffer.from('0000000802000000', 'hex'));
    }
    await connection.close();
    expect(clock.pending).toBe(0);
  });
});

describe('AmqpConnection', () => {
  it('attaches a receiver, then a sender, at the address, with the properties', async () => {
    const { links, connection } = await attachedBench();
    const [receiver, sender] = links;
    expect([receiver?.isReceiver, sender?.isReceiver]).toEqual([true, false]);
    const terminusOf = (link: PlayedLink | undefined, index: number): unknown =>
      (link?.attach.fields[index] as { value: readonly unknown[] } | undefined)?.value[0];
    expect([terminusOf(receiver, 5), terminusOf(sender, 6)]).toEqual([LINKS.address, LINKS.address]);
    for (const link of links) expect(link.attach.fields[13]).toEqual(['com.microsoft:api-version', '2021-06-01']);
    await connection.close();
  });

  it('takes a refusal of a link as an answer', async () => {
    const { wire, opening } = await bench();
    await acceptOpen(wire);
    const connection = (await opening) as AmqpConnection;
    const attaching = connection.attach(LINKS, never);
    const links = await readAttaches(wire);
    const [first] = links;
    if (first === undefined) throw new Error('no link');
    const refusal = detach(first, 'amqp:unauthorized-access', '{"errorCode":401002}');
    await wire.write(Buffer.concat([begin(), ...links.map(attachBack), refusal]));
    expect(await attaching).toMatchObject({
      condition: 'amqp:unauthorized-access',
      description: '{"errorCode":401002}',
    });
    expect(await connection.closed).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
  });

  it('takes the end of a link, of the session or of the connection as the answer to a request', async () => {
    const error = errorOf('amqp:internal-error', 'oops');
    for (const [code, fields] of [
      [PERFORMATIVE.detach, [uint(0), TRUE, error]],
      [PERFORMATIVE.end, [error]],
      [PERFORMATIVE.close, [error]],
    ] as const) {
      const { connection, wire } = await attachedBench();
      const requesting = connection.request(REQUEST, never);
      await readTransfer(wire);
      await wire.write(amqpFrame(code, fields));
      expect(await requesting).toMatchObject({ condition: 'amqp:internal-error', description: 'oops' });
      expect(await connection.closed).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
    }
  });

  it('matches replies by their correlation id, also before the request is settled', async () => {
    const { connection, wire, links } = await attachedBench();
    const requesting = connection.request(REQUEST, never);
    const { deliveryId } = await readTransfer(wire);
    await wire.write(
      Buffer.concat([
        replyTransfer(links, 0, 'somebody-else', { ...REPLY, body: 'not for us' }),
        replyTransfer(links, 1, 'c-1', REPLY),
        dispositionFrame(deliveryId, ACCEPTED),
      ]),
    );
    const reply = await requesting;
    expect(reply).toMatchObject({ applicationProperties: { 'retry-after': 3 } });
    expect(Buffer.from((reply as { body: Uint8Array }).body).toString()).toBe('for us');
    await connection.close();
  });

  it('takes a reply that comes together with the end of the connection', async () => {
    const { connection, wire, links } = await attachedBench();
    const requesting = connection.request(REQUEST, never);
    await readTransfer(wire);
    wire.end(Buffer.concat([replyTransfer(links, 0, 'c-1', REPLY), amqpFrame(PERFORMATIVE.close, [])]));
    expect(await requesting).toMatchObject({ body: new Uint8Array(Buffer.from('for us')) });
    expect(await connection.closed).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
  });

  it('puts a reply together that comes in several frames', async () => {
    const { connection, wire, links } = await attachedBench();
    const requesting = connection.request(REQUEST, never);
    await readTransfer(wire);
    const handle = links.find(({ isReceiver }) => isReceiver)?.handle ?? 0;
    const message = Buffer.concat([
      described(0x73, list(NULL, NULL, NULL, NULL, NULL, text('c-1'))),
      described(0x75, binary(Buffer.from('two '))),
      described(0x75, binary(Buffer.from('parts'))),
    ]);
    const fields = (more: Uint8Array): Uint8Array[] => [
      uint(handle),
      uint(0),
      binary(Buffer.of(0)),
      uint(0),
      FALSE,
      more,
    ];
    await wire.write(amqpFrame(PERFORMATIVE.transfer, fields(TRUE), message.subarray(0, 20)));
    await wire.write(amqpFrame(PERFORMATIVE.transfer, fields(FALSE), message.subarray(20)));
    expect(await requesting).toMatchObject({ body: new Uint8Array(Buffer.from('two parts')) });
    await connection.close();
  });

  it('ends with a reply that has no end', async () => {
    const { connection, wire, links, clock } = await attachedBench();
    const requesting = connection.request(REQUEST, never);
    requesting.catch(() => {});
    await readTransfer(wire);
    const handle = links.find(({ isReceiver }) => isReceiver)?.handle ?? 0;
    const piece = amqpFrame(
      PERFORMATIVE.transfer,
      [uint(handle), uint(0), binary(Buffer.of(0)), uint(0), FALSE, TRUE],
      Buffer.alloc(60_000),
    );
    const pieces = Math.ceil(MAX_AMQP_MESSAGE_BYTES / 60_000) + 1;
    await wire.write(Buffer.concat(Array.from({ length: pieces }, () => piece)));
    await expect(requesting).rejects.toMatchObject({
      code: 'ERR_DPS_PROTOCOL_AMQP',
      got: `a message of more than ${MAX_AMQP_MESSAGE_BYTES} bytes`,
    });
    expect(clock.pending).toBe(0);
  });

  it('says CLOSE, and is closed also when the peer does not take it', async () => {
    const { connection, wire, clock } = await attachedBench();
    const closing = connection.close();
    for (let code = 0; code !== PERFORMATIVE.close; ) ({ code } = await readFrame(wire));
    await closing;
    expect(await connection.closed).toBeUndefined();
    await expect(connection.request(REQUEST, never)).rejects.toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED' });
    expect(clock.pending).toBe(0);
  });
});

async function acceptOpenAndClose(wire: Wire, error: Uint8Array): Promise<void> {
  await wire.readBytes(8);
  await readFrame(wire);
  const frames = [amqpFrame(PERFORMATIVE.open, [text('server')]), amqpFrame(PERFORMATIVE.close, [error])];
  await wire.write(Buffer.concat([AMQP_HEADER, ...frames]));
}

/** OPEN whose field is an array of four billion nulls. */
function hugeArray(): Buffer {
  const body = Buffer.from('005310d00000000e00000001f000000006ffffffff40', 'hex');
  return Buffer.concat([Buffer.of(0, 0, 0, body.length + 8, 2, 0, 0, 0), body]);
}
