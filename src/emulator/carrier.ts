import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { presentedChain } from './listener.js';

/** What a protocol travels on: TLS, or a WebSocket over it. */
export interface Carrier {
  readonly stream: Duplex;
  /** DER of the client's certificates, leaf first. */
  readonly certificateChain: () => readonly Uint8Array[];
  /** The connection's number, where it has one already. */
  readonly number?: number;
}

export function overTls(socket: TLSSocket): Carrier {
  socket.setNoDelay(true);
  return { stream: socket, certificateChain: () => presentedChain(socket) };
}

/** The first byte of a protocol header of AMQP, and of an HTTP request (`GET`). No MQTT packet begins with either. */
const AMQP_LETTER = 0x41;
const HTTP_LETTER = 0x47;

/** Which protocol a client speaks that may speak any of them. */
export function protocolOfFirst(chunk: Uint8Array): 'amqp' | 'http' | 'mqtt' {
  if (chunk[0] === AMQP_LETTER) return 'amqp';
  return chunk[0] === HTTP_LETTER ? 'http' : 'mqtt';
}
