/** rhea as the codec of AMQP 1.0 on the server's side: whole frames in, whole frames out, links and messages as events. */
import { EventEmitter } from 'node:events';
import rhea, { type Connection, type ConnectionOptions, type EventContext, type Message } from 'rhea';
import { MAX_FRAME_BYTES } from './amqp-frames.js';
import { guardConnection } from './amqp-guard.js';

/** Deliveries that a client may have under way in a session; also the credit that each of its senders is given. */
const SESSION_DELIVERIES = 128;

/** Elements without a body cost no bytes on the wire: a frame of 20 bytes could ask for billions of them. */
const MAX_EMPTY_ELEMENTS = 1024;

/** The property lists of a message, as far as the services here read them. */
export type AmqpProperties = Readonly<Record<string, unknown>>;

/** What goes on in a connection; `connection` stands for all links, sessions and rhea's own errors. */
export interface AmqpEvents {
  readonly write: (bytes: Uint8Array) => void;
  /** rhea is through with the connection: closed in order, or broken by what `reason` says. */
  readonly over: (reason: string | undefined) => void;
  readonly opened: (hostName: string) => void;
  readonly attached: (context: EventContext) => void;
  readonly message: (context: EventContext) => void;
  readonly detached: (context: EventContext) => void;
  /** A link of the server's has credit again. */
  readonly sendable: () => void;
  /** The client's last word on a message that was sent to it. */
  readonly settled: (context: EventContext, outcome: 'accepted' | 'released' | 'rejected' | 'modified') => void;
}

/** What rhea takes for a socket. */
class FramePipe extends EventEmitter {
  readonly #write: (bytes: Uint8Array) => void;
  readonly #end: () => void;

  constructor(write: (bytes: Uint8Array) => void, end: () => void) {
    super();
    this.#write = write;
    this.#end = end;
  }

  write(bytes: Uint8Array): void {
    this.#write(bytes);
  }

  end(): void {
    this.#end();
  }

  get_id_string(): string {
    return 'client';
  }
}

/** One connection, from the client's AMQP header on. */
export class AmqpServerCodec {
  readonly #pipe: FramePipe;
  #isEnded = false;

  constructor(containerId: string, events: AmqpEvents) {
    let reason: string | undefined;
    this.#pipe = new FramePipe(events.write, () => {
      if (!this.#isEnded) events.over(reason);
    });
    const container = rhea.create_container({ id: containerId });
    const connection = container.create_connection(SETTINGS as unknown as ConnectionOptions);
    guardConnection(connection);
    const fail = (error: unknown): void => {
      reason = error instanceof Error ? error.message : String((error as { error?: unknown })?.error ?? error);
    };
    for (const name of ['error', 'protocol_error']) connection.on(name, fail);
    // rhea says so on the console, and for a link throws, where nobody listens.
    for (const name of QUIET) connection.on(name, () => {});
    connection.on('connection_open', () => events.opened(String(connection.hostname ?? '')));
    for (const name of ['sender_open', 'receiver_open']) connection.on(name, events.attached);
    for (const name of ['sender_close', 'receiver_close']) connection.on(name, events.detached);
    connection.on('message', events.message);
    connection.on('sendable', events.sendable);
    for (const outcome of ['accepted', 'released', 'rejected', 'modified'] as const) {
      connection.on(outcome, (context: EventContext) => events.settled(context, outcome));
    }
    (connection as Connection & { accept(pipe: FramePipe): void }).accept(this.#pipe);
  }

  /** A protocol header or a whole frame. */
  push(unit: Uint8Array): void {
    if (!this.#isEnded) this.#pipe.emit('data', Buffer.from(unit));
  }

  /** The socket is gone: stops the timers that keep the connection alive. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#pipe.emit('end');
  }
}

const QUIET = [
  'connection_close',
  'connection_error',
  'disconnected',
  'session_close',
  'session_error',
  'sender_error',
  'receiver_error',
];

const SETTINGS = {
  disable_sasl: true,
  max_frame_size: MAX_FRAME_BYTES,
  session_buffer_size: SESSION_DELIVERIES,
  receiver_options: { autoaccept: false, credit_window: SESSION_DELIVERIES },
} as const;

interface Reader {
  read_array_items(count: number, type: { readonly width: number }): unknown[];
}

const reader = (rhea.types as unknown as { readonly Reader: { readonly prototype: Reader } }).Reader.prototype;
const readArrayItems = reader.read_array_items;
reader.read_array_items = function (this: Reader, count, type) {
  if (type.width === 0 && count > MAX_EMPTY_ELEMENTS) throw new Error(`an array of ${count} empty elements`);
  return readArrayItems.call(this, count, type);
};

/** The message's data sections as bytes, or its text, or nothing. */
export function bodyOf(message: Message): Uint8Array {
  const body = message.body as { readonly typecode?: number; readonly content?: unknown } | string | undefined | null;
  if (typeof body === 'string') return Buffer.from(body);
  if (body instanceof Uint8Array) return body;
  if (typeof body !== 'object' || body === null || body.typecode !== 0x75) return new Uint8Array();
  const sections = Array.isArray(body.content) ? body.content : [body.content];
  return Buffer.concat(sections.filter((section): section is Uint8Array => section instanceof Uint8Array));
}

/** A data section with these bytes. */
export function dataSection(bytes: Uint8Array): unknown {
  return rhea.message.data_section(Buffer.from(bytes));
}

/** A member of a property list, whatever the peer may have put there. */
export function propertyOf(properties: unknown, name: string): unknown {
  return typeof properties === 'object' && properties !== null && Object.hasOwn(properties, name)
    ? (properties as AmqpProperties)[name]
    : undefined;
}

/** The same, where only text counts. */
export function textOf(properties: unknown, name: string): string | undefined {
  const value = propertyOf(properties, name);
  return typeof value === 'string' ? value : undefined;
}

/** The message's body where it is a text, such as a token for `$cbs`. */
export function tokenOf(message: Message): string {
  return Buffer.from(bodyOf(message)).toString('utf8');
}

/** As an `int`: rhea would choose by value, and not every client takes what it chooses. */
export function intOf(value: number): unknown {
  return { toRheaTyped: () => rhea.types.wrap_int(value) };
}

/** A GUID's text as AMQP's own type, which rhea takes 16 bytes for. */
export function uuidOf(text: string): Buffer {
  return rhea.string_to_uuid(text);
}

/** The text of a GUID that came as AMQP's own type, or of a text. */
export function uuidText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  return value instanceof Uint8Array && value.length === 16 ? rhea.uuid_to_string(Buffer.from(value)) : undefined;
}
