import { lookup } from 'node:dns';
import type { PeerCertificate, TLSSocket } from 'node:tls';
import type { TlsClientCredential } from '../core/attestation.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { abortable } from '../net/abortable.js';
import { connectTimedOut, type FailurePoint, peerName, transportErrorFrom } from '../net/connection-errors.js';
import type { ProxyRule } from '../net/proxy-choice.js';
import { openTlsSocket } from '../net/socket.js';
import type { Network, ServerFacts, Service } from './network-check.js';

export interface LiveNetworkOptions {
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
  readonly ca: string | undefined;
  readonly client: TlsClientCredential | undefined;
  /** Which proxy to go by. */
  readonly proxyFor: ProxyRule | undefined;
}

/** The network as it is, seen with the trust and the identity of the device. */
export function liveNetwork(options: LiveNetworkOptions): Network {
  return {
    resolve: (host, signal, wayTo) => resolveHost({ peer: host, wayTo }, options, signal),
    connect: async (service, signal) => {
      const { host, port } = service;
      const socket = await openTlsSocket({ host, port, ...options }, signal);
      try {
        // Before anything is asked: a server that speaks something else closes, and its certificate is gone with the socket.
        const server = describeServer(socket);
        const dateMs = service.transport === 'https' ? await askDate(socket, service, options, signal) : undefined;
        return { ...server, dateMs };
      } finally {
        socket.destroy();
      }
    },
  };
}

function resolveHost(
  at: Pick<FailurePoint, 'peer' | 'wayTo'>,
  { clock, connectTimeoutMs }: LiveNetworkOptions,
  signal: CancelSignal,
): Promise<readonly string[]> {
  const here: FailurePoint = { ...at, phase: 'resolve', clock };
  return abortable(signal, (resolve, reject) => {
    const stopTimer = clock.after(connectTimeoutMs, () => reject(connectTimedOut(here, connectTimeoutMs)));
    lookup(at.peer, { all: true }, (error, addresses) => {
      if (error !== null) reject(transportErrorFrom(error, here));
      else resolve(addresses.map(({ address }) => address));
    });
    return stopTimer;
  });
}

function describeServer(socket: TLSSocket): Omit<ServerFacts, 'dateMs'> {
  const certificate = socket.getPeerCertificate(true);
  let last = certificate;
  // The root names itself as its issuer.
  while (last.issuerCertificate !== undefined && last.issuerCertificate !== last) last = last.issuerCertificate;
  return {
    tlsVersion: socket.getProtocol() ?? 'TLS',
    subject: nameIn(certificate.subject),
    authority: nameIn(last.issuer),
    validToMs: Date.parse(certificate.valid_to),
  };
}

function nameIn(name: PeerCertificate['subject'] | undefined): string {
  const known: Readonly<Record<string, string | readonly string[] | undefined>> = { ...name };
  return String(known.CN ?? known.O ?? 'without a name');
}

/** Of a head of a reply. */
const MAX_HEAD_BYTES = 16_384;

/** The `Date` of whatever the server replies. That it does not reply is no fault: nobody asked it for that. */
function askDate(
  socket: TLSSocket,
  { host, port }: Service,
  { clock, connectTimeoutMs }: LiveNetworkOptions,
  signal: CancelSignal,
): Promise<number | undefined> {
  return abortable(signal, (resolve) => {
    let head = '';
    const stopTimer = clock.after(connectTimeoutMs, () => resolve(undefined));
    socket.setEncoding('latin1').on('data', (text: string) => {
      head += text;
      if (head.includes('\r\n\r\n') || head.length > MAX_HEAD_BYTES) resolve(readDate(head));
    });
    socket.on('close', () => resolve(readDate(head)));
    socket.write(`HEAD / HTTP/1.1\r\nHost: ${peerName(host, port)}\r\nConnection: close\r\n\r\n`);
    return stopTimer;
  });
}

function readDate(head: string): number | undefined {
  const [, text = ''] = /^date: *(.+?) *\r?$/im.exec(head) ?? [];
  const dateMs = Date.parse(text);
  return Number.isNaN(dateMs) ? undefined : dateMs;
}
