import type { Duplex } from 'node:stream';
import type { CancelSignal } from '../core/cancel-signal.js';
import { openTlsSocket, type TlsSocketOptions } from './socket.js';

/** What AMQP travels on. */
export interface AmqpCarrier {
  readonly name: 'amqp' | 'amqp-ws';
  /** Where hubs and DPS listen for it. */
  readonly defaultPort: number;
  /** Opens a stream to the service, whose server has proved its name. The stream belongs to the caller. */
  open(options: TlsSocketOptions, signal: CancelSignal): Promise<Duplex>;
}

/** AMQP over TLS, nothing in between. */
export const amqpTlsCarrier: AmqpCarrier = { name: 'amqp', defaultPort: 5671, open: openTlsSocket };
