/** The provisioning service over HTTPS: register, operation status, registration status lookup. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { Duplex } from 'node:stream';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { decodeBase64, decodePercent, encodeBase64 } from '../core/bytes.js';
import type { EmulatorContext } from './context.js';
import { faultReply, type RenderedReply, readScript } from './dps-faults.js';
import type { FaultPoint } from './fault.js';
import type { TakenFault } from './faults.js';
import { type Listening, listen, presentedChain } from './listener.js';
import { type Caller, MAX_BODY_BYTES, type ProvisioningScope } from './service.js';
import { refuse, type ServiceReply } from './service-reply.js';
import type { TpmBlobDamage } from './tpm-activation.js';
import { findPresentedTpm, type PresentedTpm } from './tpm-presented.js';
import type { TraceNote } from './trace.js';
import type { PresentedCredential } from './verify.js';
import { makeGuid } from './world.js';

/** Where the HTTPS listener listens. */
export interface HttpsEndpointOptions {
  readonly tls: TlsOptions;
  readonly host: string | undefined;
  readonly port: number;
  /** `host:port` for `Location` headers, known once it listens. */
  publicName(): string;
  /** Takes requests for a WebSocket. */
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void;
}

/** @throws {ConfigurationError} when the port cannot be had. */
export function listenHttps(context: EmulatorContext, options: HttpsEndpointOptions): Promise<Listening> {
  const server = createServer({
    ...options.tls,
    headersTimeout: 30_000,
    requestTimeout: 60_000,
    // Longer than the pause between polls, so that a client's connection lives through a registration.
    keepAliveTimeout: 60_000,
  });
  const connections = new WeakMap<object, number>();
  server.on('secureConnection', (socket: TLSSocket) => connections.set(socket, context.nextConnection()));
  server.on('request', (request: IncomingMessage, response: ServerResponse) => {
    const exchange = new Exchange(context, options, request, response, connections.get(request.socket) ?? 0);
    void exchange.run();
  });
  server.on('upgrade', (request, socket, head) => options.upgrade(request, socket, head));
  server.on('clientError', (_error, socket) => socket.destroy());
  const noteTrouble = (detail: string): void =>
    context.note({
      service: 'none',
      protocol: 'https',
      event: 'violation',
      connection: context.nextConnection(),
      detail,
    });
  server.on('tlsClientError', (error) => noteTrouble(`TLS handshake: ${error.message}`));
  return listen(server, options.host, options.port, 'ports.https', (error) =>
    noteTrouble(`a connection could not be taken: ${error.message}`),
  );
}

/** What a path and method ask for. */
type Route =
  | { readonly kind: 'register' | 'lookup'; readonly idScope: string; readonly registrationId: string }
  | {
      readonly kind: 'status';
      readonly idScope: string;
      readonly registrationId: string;
      readonly operationId: string;
    };

const REGISTER_PATH = /^\/([^/]+)\/registrations\/([^/]+)\/register$/i;
const STATUS_PATH = /^\/([^/]+)\/registrations\/([^/]+)\/operations\/([^/]+)$/i;
const LOOKUP_PATH = /^\/([^/]+)\/registrations\/([^/]+)$/i;

class Exchange {
  readonly #context: EmulatorContext;
  readonly #options: HttpsEndpointOptions;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  /** A request that is given up no longer knows its socket. */
  readonly #socket: TLSSocket;
  readonly #connection: number;
  #subject: Pick<TraceNote, 'idScope' | 'device'> = {};

  constructor(
    context: EmulatorContext,
    options: HttpsEndpointOptions,
    request: IncomingMessage,
    response: ServerResponse,
    connection: number,
  ) {
    this.#context = context;
    this.#options = options;
    this.#request = request;
    this.#response = response;
    this.#socket = request.socket as TLSSocket;
    this.#connection = connection;
    response.on('error', () => {});
    request.on('error', () => {});
  }

  /** Never rejects. */
  async run(): Promise<void> {
    try {
      const url = new URL(this.#request.url ?? '/', 'https://emulator');
      const body = await readBody(this.#request);
      this.#guard(() => this.#answer(url, body));
    } catch (error) {
      this.#violate(error);
    }
  }

  /** Also what a timer does must not take the process down. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#violate(error);
    }
  }

  #violate(error: unknown): void {
    this.#note('violation', { detail: error instanceof Error ? error.message : String(error) });
    this.#socket.destroy();
  }

  #answer(url: URL, body: Uint8Array): void {
    const { world, scopes } = this.#context;
    const route = findRoute(url.pathname, this.#request.method ?? '');
    if (typeof route === 'number') {
      this.#note('refused', { status: route, detail: `${this.#request.method} ${url.pathname}` });
      this.#refuse(refuse(world, route * 1000, route === 405 ? 'Method not allowed.' : 'Not found.', ''));
      return;
    }
    this.#subject = { idScope: route.idScope, device: route.registrationId };
    const agent = this.#request.headers['user-agent'];
    this.#note(route.kind, { detail: `api-version ${url.searchParams.get('api-version')} ${agent ?? ''}`.trimEnd() });
    const scope = scopes.get(route.idScope);
    if (scope === undefined) {
      // Which answer the real service gives is not known.
      this.#refuse(refuse(world, 404000, 'Not found.', `there is no ID scope "${route.idScope}" here`));
      return;
    }
    const tpm = route.kind === 'status' ? undefined : this.#findTpmWithoutToken(body);
    this.#step(tpm === undefined ? `dps.${route.kind}` : 'dps.challenge', (fault) => {
      const ask = (): ServiceReply =>
        tpm === undefined
          ? this.#ask(scope, route, url, body, fault)
          : this.#challenge(scope, route, url, tpm, fault?.find('tpmBlob')?.damage);
      this.#send(faultReply(world, fault, ask), route);
    });
  }

  /** A TPM without a token comes for the key to sign one with. */
  #findTpmWithoutToken(body: Uint8Array): PresentedTpm | undefined {
    const isProved = this.#credential().kind !== 'none';
    return isProved || body.length > MAX_BODY_BYTES ? undefined : findPresentedTpm(body);
  }

  #challenge(
    scope: ProvisioningScope,
    { registrationId }: Route,
    url: URL,
    tpm: PresentedTpm,
    damage: TpmBlobDamage | undefined,
  ): ServiceReply {
    const apiVersion = url.searchParams.get('api-version') ?? '';
    const challenge = scope.challenge({ registrationId, apiVersion }, tpm, damage);
    if ('status' in challenge) return challenge;
    this.#note('challenge', {});
    return {
      status: 401,
      // Not the shape of an error: that is how clients tell the two apart.
      body: {
        message: 'Authorization required, resend request using supplied key',
        authenticationKey: encodeBase64(challenge.blob),
        unencryptedAuthenticationKey: null,
        keyName: 'registration',
      },
    };
  }

  #ask(
    scope: ProvisioningScope,
    route: Route,
    url: URL,
    body: Uint8Array,
    fault: TakenFault | undefined,
  ): ServiceReply {
    const caller: Caller = {
      registrationId: route.registrationId,
      apiVersion: url.searchParams.get('api-version') ?? '',
      credential: this.#credential(),
      takesChallenge: true,
    };
    const contentType = this.#request.headers['content-type'];
    if (body.length > 0 && contentType !== undefined && !/^application\/json\b/i.test(contentType)) {
      return refuse(this.#context.world, 415000, 'Unsupported media type.', `the content type is ${contentType}`);
    }
    if (route.kind === 'status') return scope.operationStatus(caller, route.operationId);
    if (route.kind === 'lookup') return scope.lookup(caller, body);
    const reply = scope.register(caller, body, readScript(fault));
    // Two of Microsoft's clients take nothing but 202 here, also when the result is in the body already.
    return reply.status === 200 ? { ...reply, status: 202 } : reply;
  }

  #credential(): PresentedCredential {
    const token = this.#request.headers.authorization;
    if (token !== undefined) return { kind: 'sas', token, presentedAtMs: this.#context.world.wallMs() };
    const chain = presentedChain(this.#socket);
    return chain.length === 0 ? { kind: 'none' } : { kind: 'x509', chain };
  }

  #step(point: FaultPoint, perform: (fault: TakenFault | undefined) => void): void {
    const fault = this.#context.faults.take(point, { protocol: 'https', ...this.#subject });
    if (fault === undefined) {
      perform(undefined);
      return;
    }
    this.#note('fault', { detail: `${point}: ${fault.kinds}` });
    const wait = fault.find('wait');
    if (wait === undefined) {
      this.#stepWithFault(fault, perform);
      return;
    }
    const cancel = this.#context.clock.after(wait.ms, () => this.#guard(() => this.#stepWithFault(fault, perform)));
    this.#response.once('close', cancel);
  }

  #stepWithFault(fault: TakenFault, perform: (fault: TakenFault) => void): void {
    const socket = this.#socket;
    const cut = fault.find('cut');
    const raw = fault.find('raw');
    if (cut !== undefined && cut.when !== 'after') {
      socket.destroy();
      return;
    }
    if (cut !== undefined) this.#response.once('finish', () => socket.destroySoon());
    if (raw !== undefined) socket.end(decodeBase64(raw.base64) ?? new Uint8Array());
    else if (fault.find('silent') === undefined) perform(fault);
  }

  #refuse(reply: ServiceReply): void {
    this.#send(faultReply(this.#context.world, undefined, () => reply));
  }

  #send(reply: RenderedReply, route?: Route): void {
    if (reply.reason) this.#note('refused', { status: reply.status, detail: reply.reason });
    this.#note('reply', { status: reply.status });
    const response = this.#response;
    response.statusCode = reply.status;
    response.setHeader('Content-Type', 'application/json; charset=utf-8');
    response.setHeader('x-ms-request-id', reply.trackingId ?? makeGuid(this.#context.world));
    response.setHeader('Strict-Transport-Security', 'max-age=31536000; includeSubDomains');
    if (reply.errorCode !== undefined) response.setHeader('x-ms-error-code', reply.errorCode.toString());
    if (reply.retryAfter !== undefined) response.setHeader('Retry-After', reply.retryAfter);
    if (route?.kind === 'register' && reply.status === 202) response.setHeader('Location', this.#locationOf(route));
    for (const [name, value] of Object.entries(reply.headers)) response.setHeader(name, value);
    // Written in two steps, the reply is chunked, as the real one is.
    response.write(reply.body);
    response.end();
  }

  #locationOf(route: Route): string {
    const path = [route.idScope, 'registrations', route.registrationId, 'register'].map(encodeURIComponent).join('/');
    return `https://${this.#options.publicName()}/${path}`;
  }

  #note(event: TraceNote['event'], more: Partial<Pick<TraceNote, 'status' | 'detail'>>): void {
    this.#context.note({
      service: 'dps',
      protocol: 'https',
      event,
      connection: this.#connection,
      ...this.#subject,
      ...more,
    });
  }
}

/** The route, or the status that says why there is none. */
function findRoute(pathname: string, method: string): Route | 404 | 405 {
  const register = REGISTER_PATH.exec(pathname);
  const status = STATUS_PATH.exec(pathname);
  const lookup = LOOKUP_PATH.exec(pathname);
  const [, ...segments] = register ?? status ?? lookup ?? [];
  const decoded = segments.map((segment) => decodePercent(segment));
  const [idScope, registrationId, operationId] = decoded;
  if (idScope === undefined || registrationId === undefined || decoded.includes(undefined)) return 404;
  if (register !== null) return method === 'PUT' ? { kind: 'register', idScope, registrationId } : 405;
  if (lookup !== null) return method === 'POST' ? { kind: 'lookup', idScope, registrationId } : 405;
  return method === 'GET' ? { kind: 'status', idScope, registrationId, operationId: operationId ?? '' } : 405;
}

/** The whole body; of one that is too large, just enough to be refused for its size. */
async function readBody(request: IncomingMessage): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Uint8Array>) {
    length += chunk.length;
    if (length > 10 * MAX_BODY_BYTES) throw new Error('The body is far too large.');
    if (length <= MAX_BODY_BYTES + chunk.length) chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
