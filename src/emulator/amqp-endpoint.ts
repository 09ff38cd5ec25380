import { createServer, type TlsOptions } from 'node:tls';
import type { EventContext, Receiver, Sender } from 'rhea';
import { type AmqpAddress, parseAddress } from './amqp-address.js';
import { AmqpConnection, type AmqpHandler } from './amqp-connection.js';
import type { SaslIdentity, TpmOpening } from './amqp-sasl.js';
import { type Carrier, overTls } from './carrier.js';
import type { EmulatorContext } from './context.js';
import { DpsAmqpSession } from './dps-amqp.js';
import type { TakenFault } from './faults.js';
import type { Hub } from './hub.js';
import { HubAmqpDoor } from './hub-amqp.js';
import { type Listening, listen } from './listener.js';

/** Links that a client may have attached at a time. */
const MAX_LINKS = 32;

/** Where an AMQP listener listens. */
export interface AmqpEndpointOptions {
  readonly tls: TlsOptions;
  readonly host: string | undefined;
  readonly port: number;
}

/** Opens AMQP listeners. Each takes the clients of both services: the addresses of their links say who is meant. */
export class AmqpEndpoint {
  readonly #context: EmulatorContext;

  constructor(context: EmulatorContext) {
    this.#context = context;
  }

  /** @throws {ConfigurationError} when the port cannot be had. */
  listen(options: AmqpEndpointOptions): Promise<Listening> {
    const server = createServer(options.tls);
    server.on('secureConnection', (socket) => this.take(overTls(socket)));
    server.on('tlsClientError', (error) => this.#noteTrouble(`TLS handshake: ${error.message}`));
    return listen(server, options.host, options.port, 'ports.amqp', (error) =>
      this.#noteTrouble(`a connection could not be taken: ${error.message}`),
    );
  }

  /** Speaks AMQP on a connection that is there; `hub` listens where it came in. */
  take(carrier: Carrier, hub?: Hub): void {
    new AmqpConnection(this.#context, carrier, (connection) => new LinkRouter(connection, this.#context, hub));
  }

  #noteTrouble(detail: string): void {
    const connection = this.#context.nextConnection();
    this.#context.note({ service: 'none', protocol: 'amqp', event: 'violation', connection, detail });
  }
}

/** One connection's links, handed to the service that their addresses name. */
class LinkRouter implements AmqpHandler {
  readonly #connection: AmqpConnection;
  readonly #dps: DpsAmqpSession;
  readonly #hub: HubAmqpDoor;
  readonly #links = new Map<object, AmqpAddress['kind']>();

  constructor(connection: AmqpConnection, context: EmulatorContext, hub: Hub | undefined) {
    this.#connection = connection;
    this.#dps = new DpsAmqpSession(connection, context);
    this.#hub = new HubAmqpDoor(connection, context, hub);
  }

  wrapKey(opening: TpmOpening, storageRootKey: Uint8Array, fault: TakenFault | undefined): Uint8Array | undefined {
    return this.#dps.wrapKey(opening, storageRootKey, fault);
  }

  admit(identity: SaslIdentity): boolean {
    return this.#dps.admit(identity);
  }

  attached(context: EventContext): void {
    const link = linkOf(context);
    const text = String((link.is_sender() ? link.source : link.target)?.address ?? '');
    const address = parseAddress(text);
    if (this.#links.size >= MAX_LINKS) {
      this.#connection.violate(`more than ${MAX_LINKS} links`);
      return;
    }
    if (address === undefined) {
      this.#connection.note({ event: 'refused', status: 404, topic: text, detail: 'there is nothing at this address' });
      link.close({ condition: 'amqp:not-found', description: 'There is nothing at this address.' });
      return;
    }
    this.#links.set(link, address.kind);
    // What was asked for is granted: without a terminus in the answer the link would count as refused.
    link.set_source({ address: text });
    link.set_target({ address: text });
    if (address.kind === 'dps') this.#dps.attached(link, address);
    else if (address.kind === 'cbs') this.#hub.attachedCbs(link);
    else this.#hub.attached(link, address);
  }

  detached(context: EventContext): void {
    const link = linkOf(context);
    const kind = this.#links.get(link);
    this.#links.delete(link);
    if (kind === 'dps') this.#dps.detached(link);
    else if (kind !== undefined) this.#hub.detached(link);
  }

  message(context: EventContext): void {
    const kind = context.receiver && this.#links.get(context.receiver);
    if (kind === 'dps') this.#dps.message(context);
    else if (kind !== undefined) this.#hub.message(context);
  }

  sendable(): void {
    this.#hub.sendable();
  }

  settled(context: EventContext, outcome: Parameters<AmqpHandler['settled']>[1]): void {
    this.#hub.settled(context, outcome);
  }

  closed(): void {
    this.#hub.closed();
  }
}

function linkOf({ receiver, sender }: EventContext): Receiver | Sender {
  const link = receiver ?? sender;
  if (link === undefined) throw new Error('an event of a link came without one');
  return link;
}
