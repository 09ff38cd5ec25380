import { EventEmitter } from 'node:events';
import type { Duplex } from 'node:stream';
import rhea, { type Connection, type ConnectionOptions, type EventContext, type Message } from 'rhea';
import type { AmqpSasl } from './amqp-engine.js';
import { guardConnection } from './amqp-guard.js';

/** What rhea is told to say. */
export interface RheaSettings {
  readonly socket: Duplex;
  /** The host that is meant, in OPEN. */
  readonly hostName: string;
  readonly containerId: string;
  readonly maxFrameBytes: number;
  readonly sasl?: AmqpSasl | undefined;
  /** Begins when the answer to a challenge is waited for, and ends when it is there. */
  readonly onRespond: (isPending: boolean) => void;
  /** rhea wants the connection ended. */
  readonly onEnd: () => void;
}

/** rhea's half of a connection: whole frames go in, and what it says goes to the socket. */
export interface RheaClient {
  readonly connection: Connection;
  /** A protocol header, or one whole frame. */
  push(unit: Buffer): void;
  /** Stops rhea's timers; nothing it says goes anywhere any more. */
  stop(): void;
}

/** Elements without a body cost nothing on the wire: 20 bytes could ask for billions of them. */
const MAX_EMPTY_ELEMENTS = 1024;

/** An AMQP 1.0 client that says its header and OPEN in the next tick, with everything off that it would decide by itself. */
export function createRheaClient(settings: RheaSettings): RheaClient {
  const pipe = new RheaPipe(settings);
  const container = rhea.create_container({ id: settings.containerId });
  const connection = container.create_connection(optionsOf(settings, pipe));
  guardConnection(connection);
  // Where nobody listens, rhea tells the console.
  connection.on('disconnected', () => {});
  connection.connect();
  return {
    connection,
    push: (unit) => pipe.emit('data', unit),
    stop: () => pipe.stop(),
  };
}

/** A message with a body of bytes. */
export function dataMessage(body: Uint8Array, properties: Readonly<Record<string, unknown>>): Message {
  return { ...properties, body: rhea.message.data_section(Buffer.from(body)) } as unknown as Message;
}

/** The bytes of a message's data sections; those of its text where it has text; else none. */
export function bodyBytesOf({ message }: EventContext): Uint8Array {
  const body: unknown = message?.body;
  if (typeof body === 'string') return new Uint8Array(Buffer.from(body));
  const { content } = Object(body) as { readonly content?: unknown };
  const parts = Array.isArray(content) ? content : [content];
  return new Uint8Array(Buffer.concat(parts.filter((part): part is Uint8Array => part instanceof Uint8Array)));
}

function optionsOf(settings: RheaSettings, pipe: RheaPipe): ConnectionOptions {
  const { hostName, maxFrameBytes, sasl } = settings;
  const options = {
    id: 'dps-device',
    hostname: hostName,
    reconnect: false,
    max_frame_size: maxFrameBytes,
    connection_details: () => ({
      connect: (_port: number, _host: string, _options: object, connected: () => void) => pipe.open(connected),
    }),
    ...(sasl === undefined
      ? {}
      : {
          sasl_init_hostname: sasl.hostName,
          sasl_mechanisms: { [sasl.mechanism]: mechanismOf(sasl, settings.onRespond) },
        }),
  };
  return options as unknown as ConnectionOptions;
}

type Answer = (error: unknown, response?: Buffer) => void;

function mechanismOf(sasl: AmqpSasl, onRespond: (isPending: boolean) => void): object {
  return {
    start: (answer: Answer) => answer(undefined, Buffer.from(sasl.initialResponse)),
    step: (challenge: Uint8Array | null, answer: Answer) => {
      onRespond(true);
      sasl.respond(new Uint8Array(challenge ?? [])).then(
        (response) => {
          onRespond(false);
          answer(undefined, Buffer.from(response));
        },
        // Whoever refused to answer has ended the connection, and says why.
        () => {},
      );
    },
  };
}

/** What rhea takes for a socket: it is fed with whole frames, because it would wait for ever for some that come in one piece. */
class RheaPipe extends EventEmitter {
  readonly #settings: RheaSettings;
  #isStopped = false;

  constructor(settings: RheaSettings) {
    super();
    this.#settings = settings;
  }

  open(connected: () => void): this {
    process.nextTick(() => {
      if (!this.#isStopped) connected();
    });
    return this;
  }

  write(bytes: Uint8Array): void {
    const { socket } = this.#settings;
    if (this.#isStopped || socket.destroyed) return;
    // rhea writes each frame apart; what it says in one go shall leave in one piece.
    socket.cork();
    socket.write(bytes);
    process.nextTick(() => socket.uncork());
  }

  end(): void {
    if (!this.#isStopped) this.#settings.onEnd();
  }

  stop(): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.emit('end');
  }

  get_id_string(): string {
    return 'peer';
  }
}

interface RheaReader {
  read_array_items(count: number, type: { readonly width: number }): unknown[];
}

const reader = (rhea.types as unknown as { readonly Reader: { readonly prototype: RheaReader } }).Reader.prototype;
const readArrayItems = reader.read_array_items;
reader.read_array_items = function (this: RheaReader, count, type) {
  if (type.width === 0 && count > MAX_EMPTY_ELEMENTS) throw new Error(`an array of ${count} empty elements`);
  return readArrayItems.call(this, count, type);
};
