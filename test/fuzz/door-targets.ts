import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { SoftwareTpm } from '../emulator/software-tpm.js';
import { DEVICE_KEY, dpsToken, hubToken } from '../emulator/tokens.js';
import {
  AMQP_HEADER,
  amqpFrame,
  binary,
  described,
  FALSE,
  list,
  map,
  NULL,
  SASL_HEADER,
  saslFrame,
  symbol,
  TRUE,
  text,
  uint,
} from '../fakes/amqp-bytes.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { randomFrame } from './amqp-mutations.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { mutateBytes } from './mutations.js';
import { ensure } from './properties.js';

const SCOPE = '0ne00111111';
const FAR_FUTURE = 4_000_000_000;
const TPM = new SoftwareTpm();

/** An emulator that hostile clients come to. */
export async function startDoor(): Promise<Emulator> {
  const emulator = await startEmulator({ idScope: SCOPE }, { clock: new ManualClock() });
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } });
  const { endorsementKey } = TPM.tpm;
  emulator.enroll({ registrationId: 'tpm-1', attestation: { type: 'tpm', tpm: { endorsementKey } } });
  const authentication = { type: 'sas', primaryKey: DEVICE_KEY, secondaryKey: DEVICE_KEY } as const;
  emulator.hub().addDevice({ deviceId: 'dev-1', authentication });
  return emulator;
}

/** The emulator's AMQP door, and clients that say anything on it: it lets go of each, and serves the next one. */
export function doorTargets(emulator: Emulator): readonly FuzzTarget[] {
  return [
    { name: 'emulator amqp door', run: (random) => visit(emulator, random, 'amqp') },
    { name: 'emulator amqp-ws door', run: (random) => visit(emulator, random, 'amqp-ws') },
  ];
}

async function visit(emulator: Emulator, random: FuzzRandom, protocol: 'amqp' | 'amqp-ws'): Promise<string> {
  emulator.trace.clear();
  const isHonest = random.chance(0.1);
  const { door, words } = random.pick(isHonest ? HONEST : [...HONEST, dpsByTpm])(emulator.hub().hostName);
  const { amqp, https } = emulator.endpoints.dps;
  const address = door === 'hub' ? emulator.hub().hostName : protocol === 'amqp' ? amqp : https;
  const client = await Visitor.enter(address, emulator.caPem);
  const said = isHonest ? words : garbled(random, words);
  client.say(protocol === 'amqp' ? said : asWebSocket(random, said, isHonest));
  if (isHonest) await emulator.trace.waitFor({ event: door === 'hub' ? 'telemetry' : 'reply' });
  await client.leave();
  const entries = emulator.trace.entries();
  const shown = JSON.stringify(entries);
  ensure(!shown.includes('SharedAccess') && !shown.includes(DEVICE_KEY), 'the trace shows no token and no key');
  return OUTCOMES.find((event) => entries.some((entry) => entry.event === event)) ?? 'close';
}

const OUTCOMES = ['telemetry', 'reply', 'violation', 'refused', 'challenge', 'connect'];

/** A connection to the emulator that reads whatever comes. */
class Visitor {
  readonly #socket: TLSSocket;

  private constructor(socket: TLSSocket) {
    this.#socket = socket;
    socket.on('error', () => {});
    socket.resume();
  }

  static async enter(address: string, ca: string): Promise<Visitor> {
    const [host, port] = address.split(':');
    const socket = connect({ host, port: Number(port), servername: 'localhost', ca });
    await once(socket, 'secureConnect');
    return new Visitor(socket);
  }

  say(words: readonly Uint8Array[]): void {
    for (const word of words) if (this.#socket.writable) this.#socket.write(word);
  }

  /** Settles when the emulator has let go as well. */
  async leave(): Promise<void> {
    if (this.#socket.closed) return;
    const closed = new Promise((resolve) => this.#socket.once('close', resolve));
    this.#socket.end();
    await closed;
  }
}

/** Somewhere in it is something else. */
function garbled(random: FuzzRandom, words: readonly Uint8Array[]): readonly Uint8Array[] {
  const at = random.note('at', random.below(words.length));
  const word = words[at] ?? Buffer.of();
  const frames = Array.from({ length: random.between(1, 3) }, () => randomFrame(random));
  const said = random.pick([[mutateBytes(random, word)], [...frames, word], [word, ...frames], frames, []]);
  random.note('said', Buffer.concat(said));
  return [...words.slice(0, at), ...said, ...(random.chance(0.8) ? words.slice(at + 1) : [])];
}

/** What a device says, without waiting for answers, and which service it is for. */
type Conversation = (hostName: string) => { readonly door: 'dps' | 'hub'; readonly words: readonly Uint8Array[] };

const dpsByKey: Conversation = () => {
  const user = `${SCOPE}/registrations/dev-1`;
  const token = dpsToken(SCOPE, 'dev-1', DEVICE_KEY, FAR_FUTURE);
  const response = binary(Buffer.from(`\0${user}\0${token}`));
  const sasl = [SASL_HEADER, saslFrame(0x41, [symbol('PLAIN'), response, text('localhost')])];
  return { door: 'dps', words: [...sasl, ...opening('localhost'), ...links(user), request('iotdps-register')] };
};

const dpsByTpm: Conversation = () => {
  const init = Buffer.concat([Buffer.from(`\0${SCOPE}\0tpm-1\0`), TPM.endorsementKey]);
  const storageRootKey = Buffer.concat([Buffer.of(0), TPM.storageRootKey]);
  const responses = [storageRootKey, Buffer.of(0), Buffer.from('\0SharedAccessSignature sr=x')];
  const words = [
    SASL_HEADER,
    saslFrame(0x41, [symbol('TPM'), binary(init), text('localhost')]),
    ...responses.map((response) => saslFrame(0x43, [binary(response)])),
    ...opening('localhost'),
    ...links(`${SCOPE}/registrations/tpm-1`),
  ];
  return { door: 'dps', words };
};

const hubByToken: Conversation = (hostName) => {
  const token = hubToken(hostName, 'dev-1', DEVICE_KEY, FAR_FUTURE);
  const resource = encodeURIComponent(`${hostName}/devices/dev-1`);
  const words = ['operation', 'put-token', 'type', 'servicebus.windows.net:sastoken', 'name', resource];
  const about = (id: string): Buffer => described(0x73, list(text(id), NULL, NULL, NULL, NULL, text(id)));
  return {
    door: 'hub',
    words: [
      ...opening(hostName),
      ...links('$cbs'),
      transfer(1, 0, about('m-0'), described(0x74, map(...words.map(text))), described(0x77, text(token))),
      ...links('/devices/dev-1/twin', 2),
      transfer(
        3,
        1,
        described(0x72, map(symbol('operation'), text('GET'))),
        about('t-1'),
        described(0x75, binary(Buffer.of(0x20))),
      ),
      ...links('/devices/dev-1/messages/devicebound', 4),
      ...links('/devices/dev-1/messages/events', 6),
      transfer(7, 2, described(0x75, binary(Buffer.from('{"t":21}')))),
    ],
  };
};

const HONEST: readonly Conversation[] = [dpsByKey, hubByToken];

function opening(hostName: string): Uint8Array[] {
  return [
    AMQP_HEADER,
    amqpFrame(0x10, [text('visitor'), text(hostName)]),
    amqpFrame(0x11, [NULL, uint(0), uint(100), uint(100)]),
  ];
}

/** A receiver with credit, and a sender. */
function links(address: string, firstHandle = 0): Uint8Array[] {
  return [...[TRUE, FALSE].map((role, index) => attach(address, firstHandle + index, role)), flow(firstHandle)];
}

function attach(address: string, handle: number, role: Uint8Array): Uint8Array {
  const terminus = (code: number): Buffer => described(code, list(text(address)));
  const properties = map(symbol('com.microsoft:api-version'), text('2021-06-01'));
  const fields = [text(`link-${handle}`), uint(handle), role, NULL, NULL, terminus(0x28), terminus(0x29), NULL, NULL];
  return amqpFrame(0x12, [...fields, role === TRUE ? NULL : uint(0), NULL, NULL, NULL, properties]);
}

function flow(handle: number): Uint8Array {
  return amqpFrame(0x13, [uint(0), uint(100), uint(0), uint(100), uint(handle), uint(0), uint(10)]);
}

function request(operation: string): Uint8Array {
  return transfer(
    1,
    0,
    described(0x73, list(NULL, NULL, NULL, NULL, NULL, text('c-1'))),
    described(0x74, map(text('iotdps-operation-type'), text(operation))),
    described(0x75, binary(Buffer.from('{"registrationId":"dev-1"}'))),
  );
}

function transfer(handle: number, deliveryId: number, ...sections: readonly Uint8Array[]): Uint8Array {
  const fields = [uint(handle), uint(deliveryId), binary(Buffer.of(deliveryId)), uint(0), FALSE];
  return amqpFrame(0x14, fields, Buffer.concat(sections));
}

/** The request to upgrade, and masked frames (RFC 6455, section 5.2), some of them garbled. */
function asWebSocket(random: FuzzRandom, words: readonly Uint8Array[], isHonest: boolean): readonly Uint8Array[] {
  const upgrade = Buffer.from(
    'GET /$iothub/websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: AMQPWSB10\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
  );
  const isGarbled = (): boolean => !isHonest && random.chance(0.1);
  return [upgrade, ...words.map(maskedFrame)].map((word) => (isGarbled() ? mutateBytes(random, word) : word));
}

function maskedFrame(payload: Uint8Array): Buffer {
  const { length } = payload;
  const size = length < 126 ? [0x80 | length] : [0xfe, (length >> 8) & 0xff, length & 0xff];
  return Buffer.concat([Buffer.of(0x82, ...size, 0, 0, 0, 0), payload]);
}
