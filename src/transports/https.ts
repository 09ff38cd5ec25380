import {
  Agent,
  type ClientRequestArgs,
  type IncomingMessage,
  type OutgoingHttpHeaders,
  request as sendRequest,
} from 'node:http';
import type { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { encodeUriComponentStrict } from '../core/bytes.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { DPS_API_VERSION } from '../core/messages.js';
import { readTpmChallenge } from '../core/tpm-challenge.js';
import type {
  DpsChallenge,
  DpsConnection,
  DpsCredential,
  DpsOpenParameters,
  DpsReply,
  DpsRequest,
  DpsTransport,
} from '../core/transport.js';
import { type DpsError, ProtocolError } from '../errors.js';
import { abortable, eitherSignal } from '../net/abortable.js';
import { type FailurePoint, peerName, sessionClosed, transportErrorFrom } from '../net/connection-errors.js';
import { openTlsSocket, type TlsSocketOptions } from '../net/socket.js';
import { type DpsTransportOptions, dpsSocketOptions } from './dps-endpoint.js';

/**
 * DPS over HTTPS, port 443: X.509 in the handshake, a SAS token in each request, or a TPM that answers a challenge.
 *
 * @see Azure REST API, Device Provisioning Service, Runtime Registration
 */
export function httpsDpsTransport(options: DpsTransportOptions): DpsTransport {
  return {
    name: 'https',
    open: async (parameters, signal) => {
      const connection = new HttpsDpsConnection(options, parameters);
      await connection.connect(signal);
      return connection;
    },
  };
}

const DPS_HTTPS_PORT = 443;

/** DPS's largest reply is a registration state with an issued certificate chain, some ten kilobytes. */
export const MAX_REPLY_BODY_BYTES: number = 1024 * 1024;

/** One keep-alive socket, replaced for a new exchange when the service has closed it since the one before. */
class HttpsDpsConnection implements DpsConnection {
  readonly #options: DpsTransportOptions;
  readonly #parameters: DpsOpenParameters;
  readonly #target: TlsSocketOptions;
  readonly #agent: OneSocketAgent = new OneSocketAgent();
  readonly #closing: AbortController = new AbortController();

  constructor(options: DpsTransportOptions, parameters: DpsOpenParameters) {
    this.#options = options;
    this.#parameters = parameters;
    this.#target = dpsSocketOptions(options, parameters, DPS_HTTPS_PORT);
  }

  /** Opens the socket that the next exchange will use. */
  async connect(signal: CancelSignal): Promise<void> {
    const socket = await openTlsSocket(this.#target, signal);
    if (signal.aborted) socket.destroy();
    else this.#agent.hold(socket);
  }

  async exchange(request: DpsRequest, signal: CancelSignal): Promise<DpsReply | DpsChallenge> {
    const either = eitherSignal(signal, this.#closing.signal);
    if (!this.#agent.isConnected) await this.connect(either);
    const reply = await this.#send(request, either);
    const authenticationKey = isOpeningMove(this.#parameters.credential) ? readTpmChallenge(reply) : undefined;
    return authenticationKey === undefined ? reply : { kind: 'challenge', authenticationKey };
  }

  async close(): Promise<void> {
    this.#closing.abort(sessionClosed(this.#here.peer));
    await this.#agent.close();
  }

  #send(request: DpsRequest, signal: CancelSignal): Promise<DpsReply> {
    const { method, path, body } = requestLineOf(request, this.#parameters);
    return abortable<DpsReply>(signal, (resolve, reject) => {
      let isComplete = false;
      const fail = (error: Error): void => reject(exchangeErrorFrom(error, this.#here));
      const outgoing = sendRequest({
        agent: this.#agent,
        method,
        path,
        setHost: false,
      });
      // Not as an option: NODE_DEBUG=http prints those, and the token among them.
      for (const [name, value] of Object.entries(this.#headersFor(body))) outgoing.setHeader(name, value ?? '');
      outgoing.on('error', fail);
      outgoing.once('response', (incoming) => {
        incoming.on('error', fail);
        const complete = (reply: DpsReply): void => {
          isComplete = true;
          resolve(reply);
        };
        collectReply(incoming, complete, reject);
      });
      // Unasked for; without a listener Node drops the connection and says nothing.
      outgoing.once('upgrade', (_incoming, socket) => {
        socket.destroy();
        reject(switchRefused(this.#here.peer));
      });
      outgoing.end(body);
      // Destroying the request destroys its socket with it.
      return () => {
        if (!isComplete) outgoing.destroy();
      };
    });
  }

  #headersFor(body: Uint8Array | undefined): OutgoingHttpHeaders {
    const { userAgent, randomUuid } = this.#options;
    const token = tokenOf(this.#parameters.credential);
    const { peer } = this.#here;
    return {
      Host: this.#target.port === DPS_HTTPS_PORT ? peer.slice(0, peer.lastIndexOf(':')) : peer,
      Accept: 'application/json',
      ...(userAgent === undefined ? {} : { 'User-Agent': userAgent.replace(/[^ -~]+/gu, encodeUriComponentStrict) }),
      'Request-Id': randomUuid(),
      ...(token === undefined ? {} : { Authorization: token }),
      ...(body === undefined
        ? {}
        : { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': body.length }),
    };
  }

  get #here(): FailurePoint {
    const { host, port, clock } = this.#target;
    return { phase: 'request', peer: peerName(host, port), clock };
  }
}

/**
 * Node's keep-alive agent, for its bookkeeping of an idle socket alone: it is given sockets and never opens one, so that
 * every attempt to connect can be cancelled.
 */
class OneSocketAgent extends Agent {
  #socket: TLSSocket | undefined;
  #isUsed = false;

  constructor() {
    super({ keepAlive: true, maxSockets: 1, maxFreeSockets: 1 });
  }

  get isConnected(): boolean {
    return this.#socket?.writable === true;
  }

  hold(socket: TLSSocket): void {
    this.#socket = socket;
    this.#isUsed = false;
  }

  override createConnection(
    _options: ClientRequestArgs,
    callback?: (error: Error | null, stream: Duplex) => void,
  ): Duplex | undefined {
    if (this.#socket !== undefined && !this.#isUsed) {
      this.#isUsed = true;
      return this.#socket;
    }
    // The idle socket was closed between the look at it and its use.
    callback?.(new Error('the idle connection has been closed'), undefined as never);
    return undefined;
  }

  async close(): Promise<void> {
    this.destroy();
    const socket = this.#socket;
    if (socket === undefined || socket.closed) return;
    await new Promise<void>((resolve) => {
      socket.once('close', () => resolve());
      socket.destroy();
    });
  }
}

interface RequestLine {
  readonly method: 'PUT' | 'GET' | 'POST';
  readonly path: string;
  readonly body?: Uint8Array;
}

function requestLineOf(request: DpsRequest, parameters: DpsOpenParameters): RequestLine {
  const { idScope, registrationId } = parameters;
  const registration = `/${encodeUriComponentStrict(idScope)}/registrations/${encodeUriComponentStrict(registrationId)}`;
  const query = `?api-version=${DPS_API_VERSION}`;
  switch (request.kind) {
    case 'register':
      return { method: 'PUT', path: `${registration}/register${query}`, body: request.body };
    case 'operationStatus':
      return {
        method: 'GET',
        path: `${registration}/operations/${encodeUriComponentStrict(request.operationId)}${query}`,
      };
    case 'statusLookup':
      return { method: 'POST', path: `${registration}${query}`, body: request.body };
  }
}

/** A TPM without a token asks to be challenged. */
function isOpeningMove(credential: DpsCredential): boolean {
  return credential.kind === 'tpm' && credential.token === undefined;
}

function tokenOf(credential: DpsCredential): string | undefined {
  return credential.kind === 'x509' ? undefined : credential.token;
}

function collectReply(
  incoming: IncomingMessage,
  resolve: (reply: DpsReply) => void,
  reject: (reason: unknown) => void,
): void {
  const chunks: Buffer[] = [];
  let bodyBytes = 0;
  incoming.on('data', (chunk: Buffer) => {
    bodyBytes += chunk.length;
    if (bodyBytes > MAX_REPLY_BODY_BYTES) reject(tooLong(incoming.statusCode));
    else chunks.push(chunk);
  });
  incoming.once('end', () => resolve(replyOf(incoming, new Uint8Array(Buffer.concat(chunks)))));
}

function replyOf(incoming: IncomingMessage, body: Uint8Array): DpsReply {
  const { 'retry-after': retryAfter, date } = incoming.headers;
  return {
    kind: 'reply',
    status: incoming.statusCode ?? 0,
    body,
    ...(retryAfter === undefined ? {} : { retryAfter }),
    ...(date === undefined ? {} : { date }),
  };
}

function tooLong(status: number | undefined): ProtocolError {
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_BODY',
    message: `The reply with status ${status} is longer than ${MAX_REPLY_BODY_BYTES} bytes, which no reply of DPS is. Check for a proxy or a captive portal in between.`,
    expected: `a body of at most ${MAX_REPLY_BODY_BYTES} bytes`,
    got: 'a longer one',
    status,
  });
}

function switchRefused(peer: string): ProtocolError {
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_STATUS',
    message: `${peer} answered with 101 Switching Protocols, which was not asked for. Check for a proxy in between.`,
    expected: 'an answer to the request',
    got: '101 Switching Protocols',
    status: 101,
  });
}

/** Node's HTTP parser marks its errors with HPE_. They are not kept as `cause`: they carry the raw bytes of the reply. */
function exchangeErrorFrom(error: Error, at: FailurePoint): DpsError {
  const code = String((error as { code?: unknown }).code);
  if (!code.startsWith('HPE_')) return transportErrorFrom(error, at);
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_BODY',
    message: `${at.peer} answered with something that is not HTTP/1.1 (${code}). Check the endpoint's port, and for a proxy in between.`,
    expected: 'an HTTP/1.1 response',
    got: code,
  });
}
