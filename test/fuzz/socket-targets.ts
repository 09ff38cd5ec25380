import type { Socket } from 'node:net';
import type { DpsTransport } from '../../src/core/transport.js';
import { httpsDpsTransport } from '../../src/transports/https.js';
import { mqttDpsTransport } from '../../src/transports/mqtt.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { publishPacket, readPublish } from '../fakes/mqtt-bytes.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { type GarblingPeer, hangUp, type Play, playing } from './garbling-peer.js';
import { jsonBytes } from './json-mutations.js';
import { mutateBytes, mutateText } from './mutations.js';
import { ensure, settledOrCode } from './properties.js';
import { DPS_ANSWERS, randomRetryAfter } from './service-corpus.js';

const NEVER: AbortSignal = new AbortController().signal;

/** The device's transports, down to their sockets, against a server that garbles what it says. */
export function socketTargets(peer: GarblingPeer): readonly FuzzTarget[] {
  const options = { ca: peer.ca, clock: new ManualClock(), randomUuid: () => 'request-1' };
  return [
    {
      name: 'mqtt bytes',
      run: (random) => converse(random, peer, mqttDpsTransport(options), playing(mqttPlay(random))),
    },
    {
      name: 'https bytes',
      run: (random) => converse(random, peer, httpsDpsTransport(options), playing(httpsPlay(random))),
    },
  ];
}

/** Opens, asks once or twice, and closes. */
export async function converse(
  random: FuzzRandom,
  peer: GarblingPeer,
  transport: DpsTransport,
  serve: GarblingPeer['serve'],
): Promise<string> {
  peer.serve = serve;
  const parameters = { endpoint: peer.endpoint, idScope: '0ne00111111', registrationId: 'dev-1' };
  const credential = { kind: 'sas', token: 'SharedAccessSignature sr=x&sig=y&se=1' } as const;
  const opened = await settledOrCode(transport.open({ ...parameters, credential }, NEVER));
  if ('code' in opened) {
    await peer.abandoned();
    return `open ${opened.code}`;
  }
  const connection = opened.value;
  const answers: string[] = [];
  for (let exchanges = random.between(1, 2); exchanges > 0; exchanges -= 1) {
    const answer = await settledOrCode(connection.exchange({ kind: 'register', body: Buffer.from('{}') }, NEVER));
    if ('value' in answer)
      ensure(answer.value.kind === 'reply', 'what comes without asking for a challenge is a reply');
    answers.push('code' in answer ? answer.code : 'reply');
  }
  await connection.close();
  await peer.abandoned();
  return answers.at(-1) ?? 'nothing';
}

const CONNACK = Buffer.from('20020000', 'hex');
const SUBACK = Buffer.from('9003000101', 'hex');
const [CONNECT_TYPE, PUBLISH_TYPE, SUBSCRIBE_TYPE] = [1, 3, 8];

/** Answers each packet of the client, somewhere along the way with garbage, and then hangs up. */
function mqttPlay(random: FuzzRandom): Play {
  const stages = ['CONNACK', 'SUBACK', 'PUBACK', 'reply', 'reply', 'reply', 'none'] as const;
  const garbled = random.note('garbled', random.pick(stages));
  const say = (socket: Socket, stage: (typeof stages)[number], packet: Uint8Array): void => {
    socket.write(stage === garbled ? random.note(stage, mutateBytes(random, packet)) : packet);
    // Whatever the client makes of it, it is not kept waiting.
    if (stage === garbled || random.chance(0.02)) hangUp(random, socket);
  };
  return (socket, received) => {
    let rest = received;
    for (let end = packetEnd(rest); end !== undefined; end = packetEnd(rest)) {
      const packet = rest.subarray(0, end);
      rest = rest.subarray(end);
      if (socket.writableEnded) continue;
      const type = (packet[0] ?? 0) >> 4;
      if (type === CONNECT_TYPE) say(socket, 'CONNACK', CONNACK);
      if (type === SUBSCRIBE_TYPE) say(socket, 'SUBACK', SUBACK);
      if (type !== PUBLISH_TYPE) continue;
      const { packetId } = readPublish(packet);
      say(socket, 'PUBACK', Uint8Array.of(0x40, 0x02, packetId >> 8, packetId & 0xff));
      if (!socket.writableEnded) for (const reply of randomReplies(random)) say(socket, 'reply', reply);
      if (!socket.writableEnded && garbled !== 'none') hangUp(random, socket);
    }
    return rest;
  };
}

/** The reply, and before or after it replies to nobody and replies that come twice. */
function randomReplies(random: FuzzRandom): Buffer[] {
  const [status, body] = random.pick(DPS_ANSWERS);
  const payload = Buffer.from(jsonBytes(random, body));
  const delay = random.chance(0.5)
    ? ''
    : `&retry-after=${encodeURIComponent(Buffer.from(randomRetryAfter(random)).toString())}`;
  const topic = `$dps/registrations/res/${status}/?$rid=request-1${delay}`;
  const stray = (): string =>
    random.pick([topic.replace('request-1', 'request-0'), '$dps/other', mutateText(random, topic).slice(0, 2_000)]);
  const topics = [
    ...(random.chance(0.3) ? [stray()] : []),
    topic,
    ...(random.chance(0.2) ? [topic] : []),
    ...(random.chance(0.2) ? [stray()] : []),
  ];
  random.note('topics', topics);
  return topics.map((each, index) => publishPacket({ topic: each, packetId: index + 1, payload }));
}

/** Where the first packet ends; undefined while it is not there as a whole. */
function packetEnd(bytes: Buffer): number | undefined {
  let length = 0;
  for (let index = 1; index < Math.min(bytes.length, 5); index += 1) {
    const digit = bytes[index] ?? 0;
    length += (digit & 0x7f) * 128 ** (index - 1);
    if (digit >= 0x80) continue;
    const end = index + 1 + length;
    return end <= bytes.length ? end : undefined;
  }
  return undefined;
}

/** Answers each request, as it should be or garbled, and hangs up unless the answer was in order. */
function httpsPlay(random: FuzzRandom): Play {
  return (socket, received) => {
    if (socket.writableEnded) return Buffer.alloc(0);
    const headEnd = received.indexOf('\r\n\r\n');
    const length = Number(/content-length: (\d+)/i.exec(received.toString('latin1'))?.[1] ?? 0);
    if (headEnd < 0 || received.length < headEnd + 4 + length) return received;
    const isInOrder = random.chance(0.2);
    const response = randomResponse(random);
    socket.write(random.note('response', isInOrder ? response : mutateBytes(random, response)));
    if (!isInOrder || random.chance(0.1)) hangUp(random, socket);
    return Buffer.alloc(0);
  };
}

function randomResponse(random: FuzzRandom): Uint8Array {
  const [status, valid] = random.pick(DPS_ANSWERS);
  const body = Buffer.from(jsonBytes(random, valid));
  const isChunked = random.chance(0.3);
  const head = [
    `HTTP/1.1 ${status} ${random.pick(['OK', 'Accepted', ''])}`,
    'Date: Fri, 21 Nov 2025 10:00:00 GMT',
    'Content-Type: application/json; charset=utf-8',
    ...(random.chance(0.5)
      ? [`Retry-After: ${random.pick(['0', '3', '-1', 'soon', 'Fri, 21 Nov 2025 10:00:05 GMT'])}`]
      : []),
    isChunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${body.length}`,
    '',
    '',
  ].join('\r\n');
  const content = isChunked
    ? [Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n0\r\n\r\n')]
    : [body];
  return Buffer.concat([Buffer.from(head), ...content]);
}
