import type { LiteralReply, Scene, Stages } from '../contracts/transport-bench.js';
import {
  AMQP_HEADER,
  type AmqpValue,
  amqpFrame,
  attachFrame,
  type ByteWire,
  binary,
  creditFrame,
  described,
  dispositionFrame,
  FALSE,
  type Frame,
  list,
  map,
  NULL,
  readFrame,
  SASL_HEADER,
  saslFrame,
  sectionOf,
  symbol,
  TRUE,
  text,
  transferFrame,
  ubyte,
  uint,
} from './amqp-bytes.js';

export const PERFORMATIVE = {
  open: 0x10,
  begin: 0x11,
  attach: 0x12,
  flow: 0x13,
  transfer: 0x14,
  disposition: 0x15,
  detach: 0x16,
  end: 0x17,
  close: 0x18,
} as const;

const STRAY: LiteralReply = { status: 200, body: 'stray' };

/** Before each thing that the server sends. */
export const AMQP_STAGES: Stages = {
  opening: ['mechanisms', 'outcome', 'OPEN'],
  exchange: ['ATTACH', 'disposition', 'reply'],
};

/** The same, with a TPM. */
export const AMQP_TPM_STAGES: Stages = {
  ...AMQP_STAGES,
  opening: ['mechanisms', 'challenge', 'key', 'rest of the key', 'outcome', 'OPEN'],
};

type SaslPlayer = (wire: ByteWire, scene: Scene) => Promise<void>;

/** Plays DPS until the client has gone. With a device certificate there is no SASL layer. */
export async function playDps(wire: ByteWire, scene: Scene, sasl: SaslPlayer = playSasl): Promise<void> {
  const header = await wire.readBytes(8);
  if (header.equals(SASL_HEADER)) await sasl(wire, scene);
  await wire.readBytes(header.equals(SASL_HEADER) ? 8 : 0);
  await readFrame(wire);
  await scene.reach('OPEN');
  await wire.write(Buffer.concat([AMQP_HEADER, open()]));
  const links = await readAttaches(wire);
  await scene.reach('ATTACH');
  await wire.write(Buffer.concat([begin(), ...links.map(attachBack), credit(links)]));
  let deliveryId = 0;
  const send = async (correlationId: string, reply: LiteralReply): Promise<void> => {
    await wire.write(replyTransfer(links, deliveryId, correlationId, reply));
    deliveryId += 1;
  };
  for (;;) {
    const { operation, correlationId, ...request } = await readTransfer(wire);
    const accept = (): Promise<void> => wire.write(dispositionFrame(request.deliveryId, described(0x24, list())));
    await scene.reach('disposition');
    const reply = scene.answer(operation === 'iotdps-register' ? 'register' : 'operationStatus');
    const isRefusal = reply.status >= 300;
    if (!isRefusal && !scene.isJumbled) await accept();
    await scene.reach('reply');
    if (isRefusal) {
      await wire.write(dispositionFrame(request.deliveryId, rejected(reply)));
      continue;
    }
    if (scene.isJumbled) await send('nobodys', STRAY);
    await send(correlationId, reply);
    if (scene.isJumbled) await send('nobodys', STRAY);
    if (scene.isJumbled) await accept();
  }
}

async function playSasl(wire: ByteWire, scene: Scene): Promise<void> {
  await scene.reach('mechanisms');
  // A single mechanism is a symbol of its own, not an array.
  await wire.write(Buffer.concat([SASL_HEADER, saslFrame(0x40, [symbol('PLAIN')])]));
  await readFrame(wire);
  await scene.reach('outcome');
  await wire.write(saslOutcome(0));
}

/** What the service puts into its challenge to a TPM: here no more than bytes. */
export const TPM_KEY: Buffer = Buffer.from('a key wrapped for a TPM, in two parts');

/** SASL TPM: the key in two segments, 80 and C1. */
export async function playSaslTpm(wire: ByteWire, scene: Scene): Promise<void> {
  await scene.reach('mechanisms');
  await wire.write(Buffer.concat([SASL_HEADER, saslFrame(0x40, [symbol('TPM')])]));
  const challenges: readonly [stage: string, challenge: Buffer][] = [
    ['challenge', Buffer.of(0)],
    ['key', Buffer.concat([Buffer.of(0x80), TPM_KEY.subarray(0, 20)])],
    ['rest of the key', Buffer.concat([Buffer.of(0xc1), TPM_KEY.subarray(20)])],
  ];
  for (const [stage, challenge] of challenges) {
    await readFrame(wire);
    await scene.reach(stage);
    await wire.write(saslFrame(0x42, [binary(challenge)]));
  }
  await readFrame(wire);
  await scene.reach('outcome');
  await wire.write(saslOutcome(0));
}

export function saslOutcome(code: number): Buffer {
  return saslFrame(0x44, [ubyte(code)]);
}

export function open(): Buffer {
  return amqpFrame(PERFORMATIVE.open, [text('server')]);
}

export function begin(): Buffer {
  return amqpFrame(PERFORMATIVE.begin, [Buffer.of(0x60, 0, 0), uint(0), uint(100), uint(100)]);
}

/** A link that the client has attached. */
export interface PlayedLink {
  readonly name: string;
  readonly handle: number;
  readonly isReceiver: boolean;
  readonly attach: Frame;
}

/** BEGIN, and the ATTACH of both links; the FLOW that may follow is read past later. */
export async function readAttaches(wire: ByteWire): Promise<readonly PlayedLink[]> {
  const links: PlayedLink[] = [];
  while (links.length < 2) {
    const frame = await readFrame(wire);
    if (frame.code !== PERFORMATIVE.attach) continue;
    const [name, handle, role] = frame.fields;
    links.push({ name: String(name), handle: Number(handle), isReceiver: role === true, attach: frame });
  }
  return links;
}

/** The answer to an ATTACH, from the other end of the link, with the same terminus. */
export function attachBack({ name, handle, isReceiver }: PlayedLink): Buffer {
  const role = isReceiver ? FALSE : TRUE;
  return attachFrame({ name, handle, role, address: 'address' }, isReceiver ? uint(0) : NULL);
}

/** FLOW with credit for the client's sender. */
export function credit(links: readonly PlayedLink[]): Buffer {
  const handle = links.find(({ isReceiver }) => !isReceiver)?.handle ?? 0;
  return creditFrame(handle, 50);
}

/** DETACH of a link, with an error. */
export function detach({ handle }: PlayedLink, condition: string, description: string): Buffer {
  return amqpFrame(PERFORMATIVE.detach, [uint(handle), TRUE, errorOf(condition, description)]);
}

export interface PlayedRequest {
  readonly deliveryId: number;
  readonly operation: AmqpValue | undefined;
  readonly correlationId: string;
  readonly applicationProperties: Readonly<Record<string, AmqpValue>>;
  readonly body: Buffer;
}

/** The next message of the client. */
export async function readTransfer(wire: ByteWire): Promise<PlayedRequest> {
  for (;;) {
    const { code, fields, payload } = await readFrame(wire);
    if (code !== PERFORMATIVE.transfer) continue;
    const applicationProperties = asRecord(sectionOf(payload, 0x74));
    const properties = (sectionOf(payload, 0x73) ?? []) as readonly AmqpValue[];
    return {
      deliveryId: Number(fields[1]),
      operation: applicationProperties['iotdps-operation-type'],
      correlationId: String(properties[5]),
      applicationProperties,
      body: sectionOf(payload, 0x75) as Buffer,
    };
  }
}

/** A reply message on the client's receiver. */
export function replyTransfer(
  links: readonly PlayedLink[],
  deliveryId: number,
  correlationId: string,
  { body, retryAfter }: LiteralReply,
): Buffer {
  const handle = links.find(({ isReceiver }) => isReceiver)?.handle ?? 0;
  const delay = retryAfter === undefined ? [] : [text('retry-after'), uint(Number(retryAfter))];
  return transferFrame(
    handle,
    deliveryId,
    described(0x73, list(NULL, NULL, NULL, NULL, NULL, text(correlationId))),
    described(0x74, map(...delay)),
    described(0x75, binary(Buffer.from(body))),
  );
}

function rejected({ status, body, retryAfter }: LiteralReply): Buffer {
  const info = retryAfter === undefined ? NULL : map(symbol('Retry-After'), text(retryAfter));
  const condition = status === 503 ? 'com.microsoft:timeout' : 'amqp:internal-error';
  return described(0x25, list(errorOf(condition, body, info)));
}

export function errorOf(condition: string, description: string, info: Uint8Array = NULL): Buffer {
  return described(0x1d, list(symbol(condition), text(description), info));
}

function asRecord(items: AmqpValue | undefined): Readonly<Record<string, AmqpValue>> {
  const flat = (items ?? []) as readonly AmqpValue[];
  const pairs = flat.flatMap((key, index) =>
    index % 2 === 0 ? [[String(key), flat[index + 1] ?? null] as const] : [],
  );
  return Object.fromEntries(pairs);
}
