import type { LookupFunction } from 'node:net';
import type { Clock } from '../core/clock.js';
import { hostNameProblem, splitHostPort } from '../core/identifiers.js';
import type { DpsOpenParameters } from '../core/transport.js';
import { ConfigurationError } from '../errors.js';
import { checkedTlsCredential } from '../hsm-answers.js';
import type { ProxyRule } from '../net/proxy-choice.js';
import type { TlsSocketOptions } from '../net/socket.js';

/** What every transport needs from outside to reach DPS. */
export interface DpsTransportOptions {
  /** Roots to trust INSTEAD of the built-in ones, as PEM. */
  readonly ca?: string | readonly string[] | undefined;
  /** Told to the service, e.g. `dps-device/1.0.0`. */
  readonly userAgent?: string | undefined;
  readonly clock: Clock;
  /** Makes the id of a request; never the same twice. */
  readonly randomUuid: () => string;
  /** One bound over name look-up, TCP, proxy and TLS, and one over a WebSocket's handshake. Default 60,000. */
  readonly connectTimeoutMs?: number | undefined;
  /** Bounds the wait for the service's welcome after that, CONNACK or AMQP's OPEN. Default: `connectTimeoutMs`, or 30,000. */
  readonly welcomeTimeoutMs?: number | undefined;
  /** The name to ask for (SNI) and to find in the server's certificate. Default: the endpoint's host. */
  readonly servername?: string | undefined;
  /** Instead of `dns.lookup`; called with `all: true`. */
  readonly lookup?: LookupFunction | undefined;
  /** Which proxy to go by. Default: none. */
  readonly proxyFor?: ProxyRule | undefined;
}

/**
 * Where DPS is, how to get there, and what goes into the TLS handshake: the device's certificate. Every other kind of
 * credential goes above it.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` when the endpoint is not `host` or `host:port`.
 * @throws {HsmError} `ERR_DPS_HSM_OPERATION` when an HSM gave something else than certificate chain and key as texts.
 */
export function dpsSocketOptions(
  options: DpsTransportOptions,
  { endpoint, credential }: DpsOpenParameters,
  defaultPort: number,
): TlsSocketOptions {
  const { clock, ca, servername, lookup, proxyFor, connectTimeoutMs } = options;
  const { host, port } = dpsHostPort(endpoint, defaultPort);
  const client = credential.kind === 'x509' ? checkedTlsCredential(credential.tls) : undefined;
  return { host, port, client, clock, ca, servername, lookup, proxyFor, connectTimeoutMs };
}

/** For the protocols over which DPS does not offer it. */
export function lookupUnsupported(): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNSUPPORTED',
    option: 'transport',
    message: 'DPS answers registration status look-ups over HTTPS only; use the https transport for them.',
  });
}

function dpsHostPort(endpoint: string, defaultPort: number): { readonly host: string; readonly port: number } {
  const split = splitHostPort(endpoint, defaultPort);
  if (split !== undefined) return split;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    option: 'endpoint',
    message: `The DPS endpoint cannot be used. ${hostNameProblem(endpoint) ?? 'Give host or host:port.'}`,
  });
}
