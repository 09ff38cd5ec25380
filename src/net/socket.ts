import { createPrivateKey, X509Certificate } from 'node:crypto';
import { isIP, type LookupFunction, Socket } from 'node:net';
import {
  checkServerIdentity,
  connect as connectTls,
  createSecureContext,
  type SecureContext,
  type TLSSocket,
} from 'node:tls';
import type { TlsClientCredential } from '../core/attestation.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { ConfigurationError, HsmError, type TransportPhase } from '../errors.js';
import { abortable } from './abortable.js';
import {
  connectionLost,
  connectTimedOut,
  type FailurePoint,
  peerName,
  transportErrorFrom,
} from './connection-errors.js';
import { openTunnel } from './proxy.js';
import type { ProxyAddress, ProxyRule, ProxyTarget } from './proxy-choice.js';

export interface TlsSocketOptions {
  /** Host name or IP address. */
  readonly host: string;
  readonly port: number;
  /** The name to ask for (SNI) and to find in the server's certificate. Default: `host`. */
  readonly servername?: string | undefined;
  /** Roots to trust INSTEAD of the built-in ones, as PEM. */
  readonly ca?: string | readonly string[] | undefined;
  /** The device's own certificate and key. */
  readonly client?: TlsClientCredential | undefined;
  /** One bound over name look-up, TCP, proxy and TLS. Default 60,000. */
  readonly connectTimeoutMs?: number | undefined;
  readonly clock: Clock;
  /** Instead of `dns.lookup`; called with `all: true`. */
  readonly lookup?: LookupFunction | undefined;
  /** Which proxy to go by. Default: none. */
  readonly proxyFor?: ProxyRule | undefined;
}

export const DEFAULT_CONNECT_TIMEOUT_MS = 60_000;

/**
 * Opens a TLS connection (1.2 or later) whose server has proved its name.
 *
 * The socket arrives with an `error` listener that does nothing, so that an error before its first use cannot end the
 * process; `destroyed` and `errored` then tell. It belongs to the caller.
 *
 * @throws {TransportError} with the phase it got to: `ERR_DPS_DNS`, `ERR_DPS_CONNECT`, `ERR_DPS_CONNECT_TIMEOUT`,
 *   `ERR_DPS_PROXY_AUTH`, `ERR_DPS_PROXY_REFUSED`, `ERR_DPS_PROXY_PROTOCOL`, `ERR_DPS_TLS_UNTRUSTED`, `ERR_DPS_TLS_HANDSHAKE`, `ERR_DPS_TLS_CLIENT_REFUSED`.
 * @throws {ClockError} when the certificate's dates fail by a clock that cannot be right.
 * @throws {HsmError} when the device's certificate or key cannot be used.
 * @throws {ConfigurationError} when `ca` holds no certificate.
 */
export function openTlsSocket(options: TlsSocketOptions, signal: CancelSignal): Promise<TLSSocket> {
  return abortable<TLSSocket>(signal, (resolve, reject) => {
    const attempt = new TlsAttempt(options, resolve, reject);
    return () => attempt.release();
  });
}

/** Node 20 gives an address 250 ms before it tries the next one, which a slow link needs for one round trip; 18 does not try. */
const ADDRESS_ATTEMPT_TIMEOUT_MS = 2500;

/** One connection on its way: name, TCP, proxy if there is one, TLS. */
class TlsAttempt {
  readonly #options: TlsSocketOptions;
  readonly #resolve: (socket: TLSSocket) => void;
  readonly #reject: (reason: unknown) => void;
  readonly #proxy: ProxyAddress | undefined;
  readonly #tcp: Socket;
  readonly #stopTimer: () => void;
  #tls: TLSSocket | undefined;
  #secureContext: SecureContext | undefined;
  #phase: TransportPhase;
  #isOver = false;
  #isHandedOver = false;

  constructor(options: TlsSocketOptions, resolve: (socket: TLSSocket) => void, reject: (reason: unknown) => void) {
    this.#options = options;
    this.#resolve = resolve;
    this.#reject = reject;
    this.#proxy = options.proxyFor?.({ host: options.host, port: options.port });
    this.#phase = isIP(this.#hop.host) === 0 ? 'resolve' : 'connect';
    const timeoutMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    // First, for a clock of the application's own may throw: there is no socket yet.
    this.#stopTimer = options.clock.after(timeoutMs, () => this.#reject(connectTimedOut(this.#here(), timeoutMs)));
    try {
      this.#tcp = this.#openTcp();
    } catch (error) {
      // Nobody has this attempt to release it: the timer would keep the process alive.
      this.#stopTimer();
      throw error;
    }
  }

  /** Leaves no timer behind, and no socket either unless it was handed over. */
  release(): void {
    this.#isOver = true;
    this.#stopTimer();
    if (this.#isHandedOver) return;
    this.#tls?.destroy();
    this.#tcp.destroy();
  }

  /** What the TCP connection goes to. */
  get #hop(): ProxyTarget {
    return this.#proxy ?? this.#options;
  }

  #openTcp(): Socket {
    const { host, port } = this.#hop;
    const { lookup } = this.#options;
    const tcp = new Socket();
    tcp.setNoDelay(true);
    tcp.on('error', (error) => this.#fail(error));
    tcp.once('connect', () => this.#onConnect());
    if (this.#phase === 'connect') this.#prepareSoon();
    else tcp.once('lookup', (error) => this.#onLookup(error));
    return tcp.connect({
      host,
      port,
      autoSelectFamily: true,
      autoSelectFamilyAttemptTimeout: ADDRESS_ATTEMPT_TIMEOUT_MS,
      ...(lookup === undefined ? {} : { lookup }),
    });
  }

  #onLookup(error: Error | null): void {
    if (error !== null && error !== undefined) return;
    this.#phase = 'connect';
    this.#prepareSoon();
  }

  /** The first TLS context of a process costs some 17 ms of CPU: spent while the TCP handshake is on its way. */
  #prepareSoon(): void {
    setImmediate(() => this.#prepare());
  }

  #prepare(): SecureContext | undefined {
    if (this.#isOver) return undefined;
    try {
      this.#secureContext ??= secureContextOf(this.#options);
    } catch (error) {
      this.#reject(error);
    }
    return this.#secureContext;
  }

  #onConnect(): void {
    const { host, port } = this.#options;
    const proxy = this.#proxy;
    if (proxy === undefined) {
      this.#startTls();
      return;
    }
    this.#phase = 'proxy';
    const onClose = (): void => this.#reject(connectionLost(this.#here()));
    this.#tcp.once('close', onClose);
    const onOpen = (): void => {
      this.#tcp.off('close', onClose);
      this.#startTls();
    };
    openTunnel(this.#tcp, proxy, { host, port }, onOpen, this.#reject);
  }

  #startTls(): void {
    this.#phase = 'tls';
    const secureContext = this.#prepare();
    if (this.#isOver || secureContext === undefined) return;
    // Neither SNI nor a certificate knows the dot that ends an absolute name.
    const identity = (this.#options.servername ?? this.#options.host).replace(/\.$/, '');
    const tls = connectTls({
      socket: this.#tcp,
      secureContext,
      // Explicit, so that NODE_TLS_REJECT_UNAUTHORIZED in the environment does not reach here.
      rejectUnauthorized: true,
      checkServerIdentity: (_host, certificate) => checkServerIdentity(identity, certificate),
      // SNI takes names only (RFC 6066, section 3).
      ...(isIP(identity) === 0 ? { servername: identity } : {}),
    });
    this.#tls = tls;
    tls.on('error', (error) => this.#fail(error));
    tls.once('secureConnect', () => this.#handOver(tls));
  }

  #handOver(tls: TLSSocket): void {
    if (this.#isOver) return;
    this.#isHandedOver = true;
    this.#resolve(tls);
  }

  #fail(error: Error): void {
    if (!this.#isOver) this.#reject(transportErrorFrom(error, this.#here()));
  }

  #here(): FailurePoint {
    const { host, port, clock, ca } = this.#options;
    const common = { phase: this.#phase, clock, hasOwnRoots: ca !== undefined };
    const target = peerName(host, port);
    if (this.#proxy === undefined || this.#phase === 'tls') return { ...common, peer: target };
    return { ...common, peer: peerName(this.#proxy.host, this.#proxy.port), wayTo: target };
  }
}

function secureContextOf(options: TlsSocketOptions): SecureContext {
  const { ca, client } = options;
  const roots = ca === undefined ? {} : { ca: checkedRoots(ca) };
  if (client === undefined) return createSecureContext({ minVersion: 'TLSv1.2', ...roots });
  try {
    return createSecureContext({
      minVersion: 'TLSv1.2',
      ...roots,
      cert: client.certificateChainPem,
      key: client.privateKeyPem,
      ...(client.passphrase === undefined ? {} : { passphrase: client.passphrase }),
    });
  } catch (error) {
    throw credentialErrorFrom(error, client);
  }
}

/** OpenSSL skips what it cannot read in `ca`, and the connection then fails for a reason that names no culprit. */
function checkedRoots(ca: string | readonly string[]): string[] {
  const roots = typeof ca === 'string' ? [ca] : [...ca];
  if (roots.length > 0 && roots.every(isCertificatePem)) return roots;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    option: 'ca',
    message: 'Option ca holds no readable certificate. Give one or more root certificates as PEM.',
  });
}

function isCertificatePem(pem: string): boolean {
  try {
    return new X509Certificate(pem).raw.length > 0;
  } catch {
    return false;
  }
}

/** Never keeps OpenSSL's error as `cause`: what it read was a private key. */
function credentialErrorFrom(error: unknown, client: TlsClientCredential): HsmError {
  const operation = 'use TLS client credential';
  if (!isCertificatePem(client.certificateChainPem)) {
    return new HsmError({
      code: 'ERR_DPS_HSM_CERTIFICATE_INVALID',
      message: 'The device certificate is not readable as PEM. Give the leaf first, then its intermediates.',
      operation,
    });
  }
  const problem = keyProblemOf(client);
  if (problem !== undefined) return new HsmError({ ...problem, operation });
  const reason = (error as { code?: unknown }).code;
  return new HsmError({
    code: reason === 'ERR_OSSL_X509_KEY_VALUES_MISMATCH' ? 'ERR_DPS_HSM_KEY_MISMATCH' : 'ERR_DPS_HSM_KEY_INVALID',
    message: `The device certificate and its private key cannot be used together (${typeof reason === 'string' ? reason : 'no reason given'}). Check that the key belongs to the certificate.`,
    operation,
  });
}

function keyProblemOf(
  client: TlsClientCredential,
): { code: 'ERR_DPS_HSM_KEY_INVALID' | 'ERR_DPS_HSM_PASSPHRASE'; message: string } | undefined {
  const isEncrypted = /^-----BEGIN ENCRYPTED PRIVATE KEY-----|^Proc-Type: 4,ENCRYPTED/m.test(client.privateKeyPem);
  try {
    createPrivateKey({ key: client.privateKeyPem, passphrase: client.passphrase ?? '' });
    return undefined;
  } catch {
    if (!isEncrypted) {
      return { code: 'ERR_DPS_HSM_KEY_INVALID', message: 'The private key of the device is not readable as PEM.' };
    }
    const fault =
      client.passphrase === undefined
        ? 'needs a passphrase and none was given'
        : 'does not open with the passphrase given';
    return { code: 'ERR_DPS_HSM_PASSPHRASE', message: `The private key of the device ${fault}.` };
  }
}
