import { createServer, type TlsOptions } from 'node:tls';
import type { IConnectPacket } from 'mqtt-packet';
import { type Carrier, overTls } from './carrier.js';
import type { EmulatorContext } from './context.js';
import { type DpsConnections, openDpsSession } from './dps-mqtt.js';
import type { Hub } from './hub.js';
import { openHubSession } from './hub-mqtt.js';
import { type Listening, listen } from './listener.js';
import { MqttConnection, type TakeOver } from './mqtt-connection.js';
import { parseUserName } from './mqtt-names.js';

/** Where an MQTT listener listens. */
export interface MqttEndpointOptions {
  readonly tls: TlsOptions;
  readonly host: string | undefined;
  readonly port: number;
  /** The configuration's name for the port. */
  readonly option: string;
  /** Takes connections that begin as something else. */
  readonly takeOver?: TakeOver;
}

/**
 * Opens MQTT listeners that share one set of DPS connections. Every listener takes both services' user names: the CONNECT
 * says who is meant.
 */
export class MqttEndpoint {
  readonly #context: EmulatorContext;
  readonly #dpsConnections: DpsConnections = new Map();

  constructor(context: EmulatorContext) {
    this.#context = context;
  }

  /** @throws {ConfigurationError} when the port cannot be had. */
  listen(options: MqttEndpointOptions): Promise<Listening> {
    const server = createServer(options.tls);
    server.on('secureConnection', (socket) => this.take(overTls(socket), { takeOver: options.takeOver }));
    server.on('tlsClientError', (error) => this.#noteTrouble(`TLS handshake: ${error.message}`));
    return listen(server, options.host, options.port, options.option, (error) =>
      this.#noteTrouble(`a connection could not be taken: ${error.message}`),
    );
  }

  /** Speaks MQTT on a connection that is there; `hub` listens where it came in. */
  take(
    carrier: Carrier,
    { takeOver, hub }: { readonly takeOver?: TakeOver | undefined; readonly hub?: Hub | undefined },
  ): void {
    const onConnect = (connection: MqttConnection, packet: IConnectPacket): void => {
      const name = parseUserName(packet.username ?? '');
      if (name === undefined) connection.refuse(4, 'the user name is neither of DPS nor of a hub');
      else if (name.kind === 'dps') openDpsSession(connection, this.#context, packet, name, this.#dpsConnections);
      else openHubSession(connection, this.#context, packet, name, hub);
    };
    new MqttConnection(this.#context, carrier, onConnect, takeOver);
  }

  #noteTrouble(detail: string): void {
    const connection = this.#context.nextConnection();
    this.#context.note({ service: 'none', protocol: 'mqtt', event: 'violation', connection, detail });
  }
}
