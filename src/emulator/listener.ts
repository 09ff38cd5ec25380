import { constants } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import type { TLSSocket, TlsOptions } from 'node:tls';
import { ConfigurationError } from '../errors.js';

export interface ServerIdentity {
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
}

/** The suites that both services leave switched on: ECDHE with AES, in GCM or CBC-SHA2. */
const CIPHERS = [
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-SHA384',
  'ECDHE-ECDSA-AES128-SHA256',
  'ECDHE-RSA-AES256-SHA384',
  'ECDHE-RSA-AES128-SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_AES_128_GCM_SHA256',
].join(':');

export function makeTlsOptions(identity: ServerIdentity, maxVersion: 'TLSv1.2' | 'TLSv1.3'): TlsOptions {
  return {
    key: identity.privateKeyPem,
    cert: identity.certificateChainPem,
    minVersion: 'TLSv1.2',
    maxVersion,
    ciphers: CIPHERS,
    requestCert: true,
    // As the services do: devices without a certificate, or with a self-signed one, are no business of TLS. Who they
    // are is decided at MQTT CONNECT, or with each HTTPS request.
    rejectUnauthorized: false,
    // Empty rather than absent: no built-in roots to load, and no list of acceptable authorities in the handshake,
    // by which some clients would choose not to send their certificate.
    ca: [],
    // A resumed session would have lost the device's chain.
    secureOptions: constants.SSL_OP_NO_TICKET,
    handshakeTimeout: 30_000,
  };
}

/** The device's certificates from the handshake, DER, leaf first. */
export function presentedChain(socket: TLSSocket): readonly Uint8Array[] {
  const chain: Uint8Array[] = [];
  let certificate = socket.getPeerCertificate(true);
  // A self-signed certificate is its own issuer: the same object again ends the walk.
  const seen = new Set<string>();
  while (certificate?.raw !== undefined && !seen.has(certificate.fingerprint256)) {
    seen.add(certificate.fingerprint256);
    chain.push(certificate.raw);
    certificate = certificate.issuerCertificate;
  }
  return chain;
}

/** A server that listens. */
export interface Listening {
  readonly port: number;
  /** Ends every connection and stops listening. */
  close(): Promise<void>;
}

/** Free ports that are tried until one is free on both loopback addresses. */
const MAX_ATTEMPTS = 20;

/**
 * Listens on `host`, or without one on both loopback addresses, so that `localhost` works whichever it means to a client.
 *
 * @param port 0 takes a free one.
 * @param option the configuration's name for the port.
 * @param onTrouble is told what goes wrong afterwards, such as a connection that could not be taken.
 * @throws {ConfigurationError} when the port or host cannot be had.
 */
export async function listen(
  server: Server,
  host: string | undefined,
  port: number,
  option: string,
  onTrouble: (error: Error) => void,
): Promise<Listening> {
  const sockets = trackSockets(server);
  const close = async (others: readonly Server[]): Promise<void> => {
    const closed = [server, ...others].map((each) => closeServer(each));
    const gone = [...sockets].map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    for (const socket of sockets) socket.destroy();
    await Promise.all([...closed, ...gone]);
  };
  const open = (others: readonly Server[]): Listening => {
    // Without a listener, an error of a server would end the process.
    for (const each of [server, ...others]) each.on('error', onTrouble);
    return { port: portOf(server), close: () => close(others) };
  };
  if (host !== undefined) {
    await bind(server, host, port, option);
    return open([]);
  }
  for (let attempt = 1; ; attempt += 1) {
    await bind(server, '127.0.0.1', port, option);
    const twin = createServer((socket) => server.emit('connection', socket));
    const outcome = await bindIpv6(twin, portOf(server));
    if (outcome === 'bound') return open([twin]);
    if (outcome === 'no IPv6') return open([]);
    await closeServer(server);
    if (port !== 0 || attempt === MAX_ATTEMPTS) throw portError(option, '::1', port, 'EADDRINUSE');
  }
}

/** Both layers: a connection is over when its TLS socket has said so, too. */
function trackSockets(server: Server): ReadonlySet<Socket> {
  const sockets = new Set<Socket>();
  const track = (socket: Socket): void => {
    sockets.add(socket);
    // Errors before and during the handshake have no other listener on this socket.
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
  };
  server.on('connection', track);
  server.on('secureConnection', track);
  return sockets;
}

async function bind(server: Server, host: string, port: number, option: string): Promise<void> {
  try {
    server.listen({ host, port });
    await once(server, 'listening');
  } catch (cause) {
    throw portError(option, host, port, (cause as NodeJS.ErrnoException).code ?? 'unknown', cause);
  }
}

async function bindIpv6(server: Server, port: number): Promise<'bound' | 'taken' | 'no IPv6'> {
  try {
    server.listen({ host: '::1', port, ipv6Only: true });
    await once(server, 'listening');
    return 'bound';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EADDRINUSE' ? 'taken' : 'no IPv6';
  }
}

async function closeServer(server: Server): Promise<void> {
  if (!server.listening) return;
  await new Promise<void>((resolve) => server.close(() => resolve()));
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

/** What stands in the way of an address rather than of its port. */
const ADDRESS_ERRORS = ['EADDRNOTAVAIL', 'ENOTFOUND', 'EAI_AGAIN', 'EINVAL', 'EAFNOSUPPORT'];

function portError(option: string, host: string, port: number, code: string, cause?: unknown): ConfigurationError {
  const isAddress = ADDRESS_ERRORS.includes(code);
  const advice = isAddress
    ? 'Give an address of this machine, or none for the loopback addresses.'
    : `Choose another port, or 0 for a free one.${code === 'EACCES' ? ' Low ports need privileges.' : ''}`;
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `${isAddress ? 'host' : option}: cannot listen on ${host} port ${port} (${code}). ${advice}`,
    option: isAddress ? 'host' : option,
    cause,
  });
}
