import type { LiteralReply, Scene } from '../contracts/dps-transport.js';
import {
  AMQP_HEADER,
  type AmqpValue,
  amqpFrame,
  type ByteWire,
  binary,
  described,
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

/** Before each thing that the server sends. */
export const AMQP_STAGES: readonly string[] = ['mechanisms', 'outcome', 'OPEN', 'ATTACH', 'disposition', 'reply'];

/** Plays DPS until the client has gone. With a device certificate there is no SASL layer. */
export async function playDps(wire: ByteWire, scene: Scene): Promise<void> {
  const header = await wire.readBytes(8);
  if (header.equals(SASL_HEADER)) await playSasl(wire, scene);
  await wire.readBytes(header.equals(SASL_HEADER) ? 8 : 0);
  await readFrame(wire);
  await scene.reach('OPEN');
  await wire.write(Buffer.concat([AMQP_HEADER, open()]));
  const links = await readAttaches(wire);
  await scene.reach('ATTACH');
  await wire.write(Buffer.concat([begin(), ...links.map(attachBack), credit(links)]));
  for (let deliveryId = 0; ; deliveryId += 1) {
    const request = await readTransfer(wire);
    await scene.reach('disposition');
    const { operation, correlationId } = request;
    const isRegister = operation === 'iotdps-register';
    const reply = scene.answer(isRegister ? 'register' : 'operationStatus');
    const isRefusal = reply.status >= 300;
    if (!isRefusal) await wire.write(disposition(request.deliveryId, described(0x24, list())));
    await scene.reach('reply');
    if (isRefusal) await wire.write(disposition(request.deliveryId, rejected(reply)));
    else await wire.write(replyTransfer(links, deliveryId, correlationId, reply));
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
  const terminus = (code: number): Buffer => described(code, list(text('address')));
  const count = isReceiver ? uint(0) : NULL;
  return amqpFrame(PERFORMATIVE.attach, [
    text(name),
    uint(handle),
    isReceiver ? FALSE : TRUE,
    NULL,
    NULL,
    terminus(0x28),
    terminus(0x29),
    NULL,
    NULL,
    count,
  ]);
}

/** FLOW with credit for the client's sender. */
export function credit(links: readonly PlayedLink[]): Buffer {
  const handle = links.find(({ isReceiver }) => !isReceiver)?.handle ?? 0;
  return amqpFrame(PERFORMATIVE.flow, [uint(0), uint(100), uint(0), uint(100), uint(handle), uint(0), uint(50)]);
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

export function disposition(deliveryId: number, outcome: Uint8Array): Buffer {
  return amqpFrame(PERFORMATIVE.disposition, [TRUE, uint(deliveryId), uint(deliveryId), TRUE, outcome]);
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
  const message = Buffer.concat([
    described(0x73, list(NULL, NULL, NULL, NULL, NULL, text(correlationId))),
    described(0x74, map(...delay)),
    described(0x75, binary(Buffer.from(body))),
  ]);
  const fields = [uint(handle), uint(deliveryId), binary(Buffer.of(deliveryId)), uint(0), FALSE];
  return amqpFrame(PERFORMATIVE.transfer, fields, message);
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
