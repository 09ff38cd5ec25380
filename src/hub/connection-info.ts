import { inspect } from 'node:util';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { HubConnectionInfo, HubOpenParameters, MqttClientOptions } from '../core/hub.js';
import { hubMqttConnect } from '../core/wire/hub-mqtt.js';
import type { MqttCarrier } from '../net/mqtt-carrier.js';
import { waitWithin } from './bounded-wait.js';
import { type CredentialSources, exportHubKey, type HubCredential, makeHubCredential } from './credentials.js';
import { splitHubHost } from './hub-connection.js';
import { checkSignal } from './session-arguments.js';

export interface ConnectionInfoOptions extends CredentialSources {
  readonly keepaliveSeconds: number;
  readonly carrier: MqttCarrier;
  readonly ca?: string | readonly string[] | undefined;
  readonly servername?: string | undefined;
  readonly userAgent?: string | undefined;
  readonly modelId?: string | undefined;
}

/** Connection info for applications that bring their own client. Opens nothing; credentials are made on each call. */
export function hubConnectionInfo(parameters: HubOpenParameters, options: ConnectionInfoOptions): HubConnectionInfo {
  return {
    async mqttOptions(signal?: CancelSignal): Promise<MqttClientOptions> {
      checkSignal(signal, 'mqttOptions()');
      const credential = await waitWithin({ doing: 'making hub credentials', signal }, (within) =>
        makeHubCredential(parameters, options, within),
      );
      return withHiddenSecrets({ ...plainOptions(parameters, options), ...secretsOf(credential) });
    },
    async connectionString(signal?: CancelSignal): Promise<string> {
      checkSignal(signal, 'connectionString()');
      const { hostName, deviceId, hsm, slot } = parameters;
      const device = `HostName=${hostName};DeviceId=${deviceId}`;
      if (hsm.kind === 'x509') return `${device};x509=true`;
      const key = await waitWithin({ doing: 'exporting the device key', signal }, (within) =>
        exportHubKey(hsm, slot, within),
      );
      return `${device};SharedAccessKey=${key}`;
    },
  };
}

function plainOptions(parameters: HubOpenParameters, options: ConnectionInfoOptions): MqttClientOptions {
  const { ca, userAgent, modelId, keepaliveSeconds, carrier } = options;
  const { host, port } = splitHubHost(parameters.hostName, carrier.defaultPort);
  return {
    ...(carrier.path === undefined ? { protocol: 'mqtts' } : { protocol: 'wss', path: carrier.path }),
    host,
    port,
    // An address is no server name (RFC 6066, section 3); empty text keeps Node from sending it.
    servername: options.servername ?? (isAddress(host) ? '' : host),
    protocolVersion: 4,
    clean: false,
    keepalive: keepaliveSeconds,
    ...hubMqttConnect({ hostName: parameters.hostName, deviceId: parameters.deviceId, userAgent, modelId }),
    ...(ca === undefined ? {} : { ca }),
    minVersion: 'TLSv1.2',
  };
}

function isAddress(host: string): boolean {
  return host.includes(':') || /^\d+(\.\d+){3}$/.test(host);
}

function secretsOf(
  credential: HubCredential,
): Pick<MqttClientOptions, 'password' | 'passwordExpiresAtSeconds' | 'cert' | 'key' | 'passphrase'> {
  if (credential.kind === 'sas') {
    return { password: credential.token, passwordExpiresAtSeconds: credential.expirySeconds };
  }
  const { certificateChainPem, privateKeyPem, passphrase } = credential.tls;
  return { cert: certificateChainPem, key: privateKeyPem, ...(passphrase === undefined ? {} : { passphrase }) };
}

const SECRET_MEMBERS = ['password', 'key', 'passphrase'] as const;

/** A client needs the secrets as ordinary members; `console.log` does not. */
function withHiddenSecrets(options: MqttClientOptions): MqttClientOptions {
  const shown: Record<string, unknown> = { ...options };
  for (const name of SECRET_MEMBERS) if (name in shown) shown[name] = '[hidden]';
  return Object.defineProperty(options, inspect.custom, { value: () => shown, enumerable: false });
}
