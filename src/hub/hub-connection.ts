import type { LookupFunction } from 'node:net';
import type { TlsClientCredential } from '../core/attestation.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { splitHostPort } from '../core/identifiers.js';
import { ProtocolError } from '../errors.js';
import { type MqttCarrier, tlsCarrier } from '../net/mqtt-carrier.js';
import { type MqttConnection, type MqttDelivery, openMqtt } from '../net/mqtt-engine.js';
import type { ProxyRule } from '../net/proxy-choice.js';
import { clockText } from './credentials.js';

/** Everything an accepted MQTT connection to a hub needs. Holds a secret: never logged. */
export interface HubConnectRequest {
  readonly host: string;
  readonly port: number;
  readonly clientId: string;
  readonly username: string;
  readonly password?: string;
  readonly client?: TlsClientCredential;
  readonly keepaliveSeconds: number;
  readonly onMessage: (delivery: MqttDelivery) => void;
  /** What a CONNACK other than 0 may mean. */
  readonly describeRefusal: (returnCode: number) => string | undefined;
}

/** Opens such a connection. Closes what it opened when it fails or is aborted. */
export type OpenHubConnection = (request: HubConnectRequest, signal: CancelSignal) => Promise<MqttConnection>;

export interface HubDialOptions {
  readonly ca?: string | readonly string[] | undefined;
  readonly servername?: string | undefined;
  readonly lookup?: LookupFunction | undefined;
  readonly proxyFor?: ProxyRule | undefined;
  /** Default: TLS. */
  readonly carrier?: MqttCarrier | undefined;
  /** Bounds name look-up, TCP, proxy and TLS together, and a WebSocket's handshake. */
  readonly connectTimeoutMs: number;
  /** Bounds the wait for CONNACK after that. Default: `connectTimeoutMs`. */
  readonly welcomeTimeoutMs?: number | undefined;
  readonly clock: Clock;
}

/** The real thing: MQTT over its carrier over the network. */
export function hubDialer(options: HubDialOptions): OpenHubConnection {
  const { ca, servername, lookup, proxyFor, carrier = tlsCarrier, connectTimeoutMs, clock } = options;
  const { welcomeTimeoutMs: connackTimeoutMs = connectTimeoutMs } = options;
  return async (request, signal) => {
    const { host, port, client, ...connect } = request;
    const way = { servername, ca, connectTimeoutMs, clock, lookup, proxyFor };
    const socket = await carrier.open({ host, port, client, ...way }, signal);
    const peer = hubPeer(host, port);
    return openMqtt({ ...connect, socket, peer, clean: false, connackTimeoutMs, clock }, signal);
  };
}

/**
 * Host and port of an assigned hub.
 *
 * @throws {ProtocolError} `ERR_DPS_PROTOCOL_BODY`: the service assigned something that is no host.
 */
export function splitHubHost(hostName: string, defaultPort: number): { readonly host: string; readonly port: number } {
  const address = splitHostPort(hostName, defaultPort);
  if (address !== undefined) return address;
  const got = hostName.slice(0, 120);
  throw new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_BODY',
    message: `The assigned hub ${JSON.stringify(got)} is not a host name. Check the hubs linked to DPS, or a custom allocation webhook.`,
    expected: 'host name, or host:port',
    got,
  });
}

/** `host:port` for errors. */
export function hubPeer(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Sentences for the error: the hub gives one and the same answer for very different causes. */
export function refusalDescriber(
  deviceId: string,
  kind: 'sas' | 'x509',
  clock: Clock,
): (returnCode: number) => string | undefined {
  const proof =
    kind === 'sas'
      ? `the key is not the one the hub has for it; the token looks expired because the device's clock is wrong (it says ${clockText(clock)}); the hub does not accept keys at all`
      : 'the certificate is not the one, or not of the CA, that the hub has for it, or has expired';
  return (returnCode) => {
    switch (returnCode) {
      case 2:
      case 4:
      case 5:
        return `The hub answers like this in each of these cases, so check them all: ${proof}; the device ${deviceId} is disabled or deleted there; it was moved to another hub. When the clock is right, try once more, then ask DPS again.`;
      case 3:
        return 'The hub is busy; try again later.';
      default:
        return 'Check that the host is an Azure IoT hub.';
    }
  };
}
