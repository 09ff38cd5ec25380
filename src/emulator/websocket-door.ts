/** MQTT and AMQP over WebSocket: any path, the protocol by `Sec-WebSocket-Protocol`. */
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { createWebSocketStream, WebSocketServer } from 'ws';
import type { Carrier } from './carrier.js';
import type { EmulatorContext } from './context.js';
import type { Hub } from './hub.js';
import { presentedChain } from './listener.js';

/** Who goes on with an open WebSocket. */
export interface WebSocketServices {
  readonly mqtt: (carrier: Carrier) => void;
  /** `hub` listens where the connection came in, if one does. */
  readonly amqp: (carrier: Carrier, hub: Hub | undefined) => void;
}

const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;

export class WebSocketDoor {
  readonly #context: EmulatorContext;
  readonly #services: WebSocketServices;
  readonly #webSockets: WebSocketServer;
  /** For connections that are there already. */
  readonly #http: Server;
  readonly #hubs = new WeakMap<Duplex, Hub>();

  constructor(context: EmulatorContext, services: WebSocketServices) {
    this.#context = context;
    this.#services = services;
    this.#webSockets = new WebSocketServer({
      noServer: true,
      perMessageDeflate: false,
      maxPayload: MAX_MESSAGE_BYTES,
      // In the client's spelling: C writes MQTT.
      handleProtocols: (offered) => [...offered].find((name) => serviceOf(name) !== undefined) ?? false,
    });
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
    const service = offered.map(serviceOf).find((name) => name !== undefined);
    if (service === undefined) {
      this.#refuse(socket, `WebSocket offers ${offered.join(', ') || 'no protocol'}`);
      return;
    }
    this.#webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const stream = createWebSocketStream(webSocket);
      const carrier = { stream, certificateChain: () => presentedChain(socket as TLSSocket) };
      this.#services[service](carrier, this.#hubs.get(socket));
    });
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
