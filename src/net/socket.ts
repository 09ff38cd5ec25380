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
import { connectTimedOut, type FailurePoint, peerName, transportErrorFrom } from './connection-errors.js';

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
  /** One bound over name look-up, TCP and TLS. Default 60,000. */
  readonly connectTimeoutMs?: number | undefined;
  readonly clock: Clock;
  /** Instead of `dns.lookup`; called with `all: true`. */
  readonly lookup?: LookupFunction | undefined;
}

export const DEFAULT_CONNECT_TIMEOUT_MS = 60_000;

/**
 * Opens a TLS connection (1.2 or later) whose server has proved its name.
 *
 * The socket arrives with an `error` listener that does nothing, so that an error before its first use cannot end the
 * process; `destroyed` and `errored` then tell. It belongs to the caller.
 *
 * @throws {TransportError} with the phase it got to: `ERR_DPS_DNS`, `ERR_DPS_CONNECT`, `ERR_DPS_CONNECT_TIMEOUT`,
 *   `ERR_DPS_TLS_UNTRUSTED`, `ERR_DPS_TLS_HANDSHAKE`, `ERR_DPS_TLS_CLIENT_REFUSED`.
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

/** One connection on its way: name, TCP, TLS. */
class TlsAttempt {
  readonly #options: TlsSocketOptions;
  readonly #resolve: (socket: TLSSocket) => void;
  readonly #reject: (reason: unknown) => void;
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
    this.#phase = isIP(options.host) === 0 ? 'resolve' : 'connect';
    this.#tcp = this.#openTcp();
    const timeoutMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
    this.#stopTimer = options.clock.after(timeoutMs, () => this.#reject(connectTimedOut(this.#here(), timeoutMs)));
  }

  /** Leaves no timer behind, and no socket either unless it was handed over. */
  release(): void {
    this.#isOver = true;
    this.#stopTimer();
    if (this.#isHandedOver) return;
    this.#tls?.destroy();
    this.#tcp.destroy();
  }

  #openTcp(): Socket {
    const { host, port, lookup } = this.#options;
    const tcp = new Socket();
    tcp.setNoDelay(true);
    tcp.on('error', (error) => this.#fail(error));
    tcp.once('connect', () => this.#startTls());
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
    return { phase: this.#phase, peer: peerName(host, port), clock, hasOwnRoots: ca !== undefined };
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
