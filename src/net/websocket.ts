import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import type { WebSocket } from 'ws';
import type { CancelSignal } from '../core/cancel-signal.js';
import { ProtocolError, TransportError } from '../errors.js';
import { abortable } from './abortable.js';
import { connectTimedOut, type FailurePoint, peerName, transportErrorFrom } from './connection-errors.js';
import type { MqttCarrier } from './mqtt-carrier.js';
import { DEFAULT_CONNECT_TIMEOUT_MS, openTlsSocket, type TlsSocketOptions } from './socket.js';
import { WebSocketStream } from './websocket-stream.js';

/** What DPS and hubs serve MQTT and AMQP at; Microsoft's clients for Node, Python and C ask for it. */
export const WEBSOCKET_PATH = '/$iothub/websocket';

const DEFAULT_PORT = 443;

/** A message carries any number of packets; DPS and hubs send 256 KB at most. */
const MAX_MESSAGE_BYTES = 2 * 1024 * 1024;

/** MQTT over WebSocket (RFC 6455), for networks that let port 443 out only. */
export const webSocketCarrier: MqttCarrier = {
  name: 'mqtt-ws',
  defaultPort: DEFAULT_PORT,
  path: WEBSOCKET_PATH,
  open: (options, signal) => openWebSocket({ ...options, subprotocol: 'mqtt' }, signal),
};

export interface WebSocketOptions extends TlsSocketOptions {
  /** The one that is asked for, and must be granted: `mqtt`, or `AMQPWSB10`. */
  readonly subprotocol: string;
  /** Default `WEBSOCKET_PATH`. */
  readonly path?: string | undefined;
}

/**
 * Opens a WebSocket over TLS, as a stream of bytes. `connectTimeoutMs` bounds the way to TLS, and then the handshake of
 * WebSocket.
 *
 * @throws what `openTlsSocket` throws, and:
 * @throws {TransportError} `ERR_DPS_WEBSOCKET_REFUSED` for any answer but the one that was asked for,
 *   `ERR_DPS_CONNECTION_LOST`, `ERR_DPS_CONNECT_TIMEOUT`.
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_BODY` when the peer does not speak HTTP.
 */
export async function openWebSocket(options: WebSocketOptions, signal: CancelSignal): Promise<Duplex> {
  const socket = await openTlsSocket(options, signal);
  // A file of its own: most devices never need it.
  const { WebSocket: Engine } = await import('ws').catch((error: unknown) => {
    socket.destroy();
    throw error;
  });
  if (signal.aborted) socket.destroy();
  return abortable<Duplex>(signal, (resolve, reject) => {
    let isHandedOver = false;
    const timeoutMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    const here = pointOf(options);
    const stopTimer = options.clock.after(timeoutMs, () => reject(connectTimedOut(here, timeoutMs)));
    const webSocket = startHandshake(Engine, options, socket);
    webSocket.on('error', (error) => reject(handshakeErrorFrom(error, here)));
    webSocket.once('unexpected-response', (_request, { statusCode = 0 }) => reject(refusalOf(statusCode, here)));
    webSocket.once('open', () => {
      isHandedOver = true;
      resolve(new WebSocketStream(webSocket, socket, here.peer));
    });
    return () => {
      stopTimer();
      if (isHandedOver) return;
      webSocket.terminate();
      socket.destroy();
    };
  });
}

function startHandshake(Engine: typeof WebSocket, options: WebSocketOptions, socket: TLSSocket): WebSocket {
  const { host, port, subprotocol, path = WEBSOCKET_PATH } = options;
  const peer = peerName(host, port);
  // The host goes in a header of its own: no URL can hold 10.0.0.256, which is a name.
  return new Engine(`wss://localhost${path}`, subprotocol, {
    headers: { Host: port === DEFAULT_PORT ? peer.slice(0, peer.lastIndexOf(':')) : peer },
    createConnection: () => socket,
    perMessageDeflate: false,
    followRedirects: false,
    maxPayload: MAX_MESSAGE_BYTES,
  });
}

function pointOf({ host, port, clock }: WebSocketOptions): FailurePoint {
  return { phase: 'websocket', peer: peerName(host, port), clock };
}

const LOOK_BETWEEN =
  'Check the endpoint, and for a proxy or captive portal in between that does not let WebSocket pass.';

function refusalOf(status: number, at: FailurePoint): TransportError {
  const isPassing = status === 408 || status === 429 || status >= 500;
  const advice = isPassing ? 'Try again later.' : LOOK_BETWEEN;
  return refused(`HTTP status ${status} instead of 101`, advice, isPassing, at);
}

function refused(said: string, advice: string, retryable: boolean, { phase, peer }: FailurePoint): TransportError {
  return new TransportError({
    code: 'ERR_DPS_WEBSOCKET_REFUSED',
    message: `${peer} did not open a WebSocket (${said}). ${advice}`,
    phase,
    peer,
    retryable,
  });
}

/** Node's HTTP parser marks its errors with HPE_; what the library itself finds wrong in the answer has no code. */
function handshakeErrorFrom(error: Error, at: FailurePoint): Error {
  const { code } = error as { readonly code?: unknown };
  if (typeof code !== 'string') return refused(error.message, LOOK_BETWEEN, false, at);
  if (!code.startsWith('HPE_')) return transportErrorFrom(error, at);
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_BODY',
    message: `${at.peer} answered with something that is not HTTP/1.1 (${code}). ${LOOK_BETWEEN}`,
    expected: 'an HTTP/1.1 response',
    got: code,
  });
}
