import type { DpsTransport } from '../../src/core/transport.js';
import { amqpWebSocketCarrier } from '../../src/net/amqp-websocket.js';
import type { ProxyAddress } from '../../src/net/proxy-choice.js';
import { webSocketCarrier } from '../../src/net/websocket.js';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import { httpsDpsTransport } from '../../src/transports/https.js';
import { mqttDpsTransport } from '../../src/transports/mqtt.js';
import type { Scene } from '../contracts/transport-bench.js';
import { answeringChallenges } from '../fakes/answering-challenges.js';
import { playDps as playAmqp, playSaslTpm } from '../fakes/dps-over-amqp.js';
import { playDps as playMqtt } from '../fakes/dps-over-mqtt.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { WebSocketWire } from '../fakes/websocket-wire.js';
import type { Wire } from '../fakes/wire-peer.js';
import { randomFrame } from './amqp-mutations.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { type Garble, type GarblingPeer, scripted } from './garbling-peer.js';
import { jsonBytes } from './json-mutations.js';
import { mutateBytes } from './mutations.js';
import { DPS_ANSWERS } from './service-corpus.js';
import { converse } from './socket-targets.js';

/** AMQP, and what goes over WebSocket, down to the sockets, against a server that garbles what it says. */
export function carrierTargets(peer: GarblingPeer): readonly FuzzTarget[] {
  const options = { ca: peer.ca, clock: new ManualClock(), randomUuid: () => 'request-1' };
  const [mqttWs, amqpWs] = [
    { ...options, carrier: webSocketCarrier },
    { ...options, carrier: amqpWebSocketCarrier },
  ];
  const key = Uint8Array.of(1, 2, 3);
  const tpm = { kind: 'tpm', endorsementKey: key, storageRootKey: key } as const;
  return [
    target(peer, 'amqp bytes', amqpDpsTransport(options), garbleFrames, playAmqp),
    target(peer, 'amqp tpm bytes', answeringChallenges(amqpDpsTransport(options), tpm), garbleFrames, (wire, scene) =>
      playAmqp(wire, scene, playSaslTpm),
    ),
    target(peer, 'mqtt-ws bytes', mqttDpsTransport(mqttWs), garbleMessages, async (wire, scene) => {
      const webSocket = new WebSocketWire(wire);
      await webSocket.accept('mqtt');
      await playMqtt(webSocket, scene);
    }),
    target(peer, 'amqp-ws bytes', amqpDpsTransport(amqpWs), garbleMessages, async (wire, scene) => {
      const webSocket = new WebSocketWire(wire);
      await webSocket.accept('AMQPWSB10');
      await playAmqp(webSocket, scene);
    }),
  ];
}

/** The way by a proxy that garbles what it says. */
export function proxyTargets(peer: GarblingPeer): readonly FuzzTarget[] {
  return (['http', 'socks5'] as const).map((kind) => {
    const proxy: ProxyAddress = {
      kind,
      host: '127.0.0.1',
      port: peer.port,
      username: 'device',
      password: 'open-barley',
    };
    const options = { clock: new ManualClock(), randomUuid: () => 'request-1', proxyFor: () => proxy };
    return target(peer, `${kind} proxy bytes`, httpsDpsTransport(options), garbleBytes, PROXIES[kind]);
  });
}

type Script = (wire: Wire, scene: Scene) => Promise<void>;

function target(
  peer: GarblingPeer,
  name: string,
  transport: DpsTransport,
  garble: (random: FuzzRandom) => Garble,
  script: Script,
): FuzzTarget {
  return {
    name,
    run: (random) => {
      const scene = sceneOf(random);
      return converse(
        random,
        peer,
        transport,
        scripted(random, garble(random), (wire) => script(wire, scene)),
      );
    },
  };
}

const PROXIES: Readonly<Record<ProxyAddress['kind'], Script>> = {
  http: async (wire) => {
    await wire.readHttpRequest();
    await wire.write('HTTP/1.1 200 Connection established\r\n');
    await wire.write('Via: 1.1 proxy\r\n\r\n');
    await sayNonsense(wire);
  },
  socks5: async (wire) => {
    await wire.readBytes(4);
    await wire.write(Uint8Array.of(5, 2));
    await wire.readBytes(3 + 'device'.length + 'open-barley'.length);
    await wire.write(Uint8Array.of(1, 0));
    await wire.readBytes(10);
    await wire.write(Uint8Array.of(5, 0, 0, 1, 127, 0, 0, 1, 1, 0xbb));
    await sayNonsense(wire);
  },
};

/** Where TLS should come from. Sooner or later it is the message after which the peer hangs up. */
async function sayNonsense(wire: Wire): Promise<void> {
  await wire.readBytes(1);
  for (;;) await wire.write('220 mail.example ESMTP\r\n');
}

function sceneOf(random: FuzzRandom): Scene {
  const isJumbled = random.chance(0.3);
  return {
    isJumbled,
    reach: async () => {},
    answer: () => {
      const [status, valid] = random.pick(DPS_ANSWERS);
      const body = Buffer.from(jsonBytes(random, valid)).toString('utf8');
      return { status, body, ...(random.chance(0.5) ? { retryAfter: random.pick(['0', '3', '4000000000']) } : {}) };
    },
  };
}

function garbleBytes(random: FuzzRandom): Garble {
  return (message) => mutateBytes(random, message);
}

/** Other bytes, or frames that nobody expects, before, after, or instead. */
function garbleFrames(random: FuzzRandom): Garble {
  return (message) => {
    if (random.chance(0.4)) return mutateBytes(random, message);
    const frames = Array.from({ length: random.between(1, 3) }, () => randomFrame(random));
    const said = random.pick([[message, ...frames], [...frames, message], frames]);
    return Buffer.concat(said);
  };
}

/** The same within and around the messages of a WebSocket. */
function garbleMessages(random: FuzzRandom): Garble {
  return (message) => {
    if (random.chance(0.5)) return mutateBytes(random, message);
    const payload = random.chance(0.5) ? randomFrame(random) : random.bytes(random.below(130));
    const said = random.pick([[message], [message, message], []]);
    return Buffer.concat([...said, webSocketFrame(random, payload), ...said.slice(1)]);
  };
}

/** RFC 6455, section 5.2, with any flags and opcode, masked or not, and a length that may not be true. */
function webSocketFrame(random: FuzzRandom, payload: Uint8Array): Buffer {
  const flags = random.pick([0x80, 0x80, 0x00, 0xc0, 0x70]);
  const opcode = random.pick([0x0, 0x1, 0x2, 0x2, 0x3, 0x8, 0x9, 0xa, 0xf]);
  const { length } = payload;
  const sizes = [
    Buffer.of(Math.min(length, 125)),
    Buffer.of(126, length >> 8, length & 0xff),
    Buffer.of(127, 0, 0, 0, 0, 0, 0, length >> 8, length & 0xff),
    Buffer.of(127, 0x7f, 0, 0, 0, 0, 0, 0, length & 0xff),
    Buffer.of(0x80 | Math.min(length, 125)),
  ];
  return Buffer.concat([Buffer.of(flags | opcode), random.pick(sizes), payload]);
}
