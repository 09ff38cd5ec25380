import type { LookupFunction } from 'node:net';
import type { Clock, Random } from '../core/clock.js';
import { ConfigurationError } from '../errors.js';
import { type MqttCarrier, tlsCarrier } from '../net/mqtt-carrier.js';
import type { ProxyRule } from '../net/proxy-choice.js';
import { TOKEN_LIFE_SECONDS } from './credentials.js';
import { hubDialer, type OpenHubConnection } from './hub-connection.js';
import type { StrayErrorSink } from './stray-error.js';

export interface MqttHubOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** Letters, digits and hyphens; unique within the session. */
  readonly newRequestId: () => string;
  /** Roots to trust instead of the built-in ones, as PEM. */
  readonly ca?: string | readonly string[];
  /** The name in the hub's certificate, when it is not the host. */
  readonly servername?: string;
  /** Instead of `dns.lookup`. */
  readonly lookup?: LookupFunction;
  /** Which proxy to go by. Default: none. */
  readonly proxyFor?: ProxyRule;
  /** What MQTT travels on. Default: TLS, port 8883. */
  readonly carrier?: MqttCarrier;
  /** Goes to the hub's logs. */
  readonly userAgent?: string;
  /** Plug and Play model id, `dtmi:…`. */
  readonly modelId?: string;
  /** Bounds name look-up, TCP, proxy and TLS together, and a WebSocket's handshake. Default 60,000. */
  readonly connectTimeoutMs?: number;
  /** Bounds the wait for CONNACK after that. Default: `connectTimeoutMs`, for a busy hub is slow to accept. */
  readonly welcomeTimeoutMs?: number;
  /** Bounds each request. Default 30,000. */
  readonly requestTimeoutMs?: number;
  /** Default 240; 1 to 1177. */
  readonly keepaliveSeconds?: number;
  /** Default 3600. */
  readonly tokenLifeSeconds?: number;
  /** Takes errors that no call waits for, such as those of listeners. Default: warnings of the process, ten a session. */
  readonly onStrayError?: StrayErrorSink;
  /** Instead of the carrier and MQTT.js. */
  readonly openConnection?: OpenHubConnection;
}

export const DEFAULT_HUB_CONNECT_TIMEOUT_MS = 60_000;
export const DEFAULT_HUB_REQUEST_TIMEOUT_MS = 30_000;
export const DEFAULT_HUB_KEEPALIVE_SECONDS = 240;
/** The hub gives up on a silent device after 29.45 minutes, which is one and a half times this. */
export const MAX_HUB_KEEPALIVE_SECONDS = 1177;
/** The options with every default filled in. */
export interface MqttHubSettings extends MqttHubOptions {
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly keepaliveSeconds: number;
  readonly tokenLifeSeconds: number;
  readonly carrier: MqttCarrier;
  readonly openConnection: OpenHubConnection;
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a keep-alive or token life out of range. */
export function settingsOf(options: MqttHubOptions): MqttHubSettings {
  const {
    connectTimeoutMs = DEFAULT_HUB_CONNECT_TIMEOUT_MS,
    requestTimeoutMs = DEFAULT_HUB_REQUEST_TIMEOUT_MS,
    keepaliveSeconds = DEFAULT_HUB_KEEPALIVE_SECONDS,
    tokenLifeSeconds = TOKEN_LIFE_SECONDS,
    carrier = tlsCarrier,
  } = options;
  requireWithin('keepaliveSeconds', keepaliveSeconds, MAX_HUB_KEEPALIVE_SECONDS);
  requireWithin('tokenLifeSeconds', tokenLifeSeconds, Number.MAX_SAFE_INTEGER);
  return {
    ...options,
    connectTimeoutMs,
    requestTimeoutMs,
    keepaliveSeconds,
    tokenLifeSeconds,
    carrier,
    openConnection: options.openConnection ?? hubDialer({ ...options, carrier, connectTimeoutMs }),
  };
}

function requireWithin(option: string, value: number, max: number): void {
  if (Number.isInteger(value) && value >= 1 && value <= max) return;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `${option} is ${value}; it must be a whole number from 1 to ${max}.`,
    option,
  });
}
