/** MQTT and AMQP over WebSocket: any path, the protocol by `Sec-WebSocket-Protocol`. */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { Carrier } from './carrier.js';
import type { EmulatorContext } from './context.js';
import type { Hub } from './hub.js';
import { presentedChain } from './listener.js';
import { switchingProtocols, WebSocketServerStream } from './websocket-server-stream.js';

/** Who goes on with an open WebSocket. */
export interface WebSocketServices {
  /** `hub` listens where the connection came in, if one does. */
  readonly mqtt: (carrier: Carrier, hub: Hub | undefined) => void;
  readonly amqp: (carrier: Carrier, hub: Hub | undefined) => void;
}

export class WebSocketDoor {
  readonly #context: EmulatorContext;
  readonly #services: WebSocketServices;
  /** For connections that are there already. */
  readonly #http: Server;
  readonly #hubs = new WeakMap<Duplex, Hub>();

  constructor(context: EmulatorContext, services: WebSocketServices) {
    this.#context = context;
    this.#services = services;
    this.#http = createServer((_request, response) => response.writeHead(426).end());
    this.#http.on('upgrade', (request, socket, head) => this.take(request, socket, head));
    this.#http.on('clientError', (_error, socket) => socket.destroy());
  }

  /** An HTTP request that comes in on a connection for something else. */
  takeConnection(socket: Duplex, hub: Hub | undefined): void {
    if (hub !== undefined) this.#hubs.set(socket, hub);
    this.#http.emit('connection', socket);
    socket.resume();
  }

  /** A request to upgrade. */
  take(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const offered = (request.headers['sec-websocket-protocol'] ?? '').split(',').map((name) => name.trim());
    // Answered in the client's spelling: C writes MQTT.
    const subprotocol = offered.find((name) => serviceOf(name) !== undefined) ?? '';
    const service = serviceOf(subprotocol);
    const answer = switchingProtocols(request.headers['sec-websocket-key'], subprotocol);
    if (service === undefined || answer === undefined) {
      this.#refuse(socket, `WebSocket offers ${offered.join(', ') || 'no protocol'}`);
      return;
    }
    socket.write(answer);
    const stream = new WebSocketServerStream(socket, head);
    const carrier = { stream, certificateChain: () => presentedChain(socket as TLSSocket) };
    this.#services[service](carrier, this.#hubs.get(socket));
  }

  #refuse(socket: Duplex, detail: string): void {
    const connection = this.#context.nextConnection();
    this.#context.note({ service: 'none', protocol: 'https', event: 'violation', connection, detail });
    socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n', () => socket.destroy());
  }
}

function serviceOf(name: string): keyof WebSocketServices | undefined {
  switch (name.toLowerCase()) {
    case 'mqtt':
      return 'mqtt';
    case 'amqpwsb10':
      return 'amqp';
    default:
      return undefined;
  }
}
