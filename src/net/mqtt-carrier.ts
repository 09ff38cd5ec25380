import type { Duplex } from 'node:stream';
import type { CancelSignal } from '../core/cancel-signal.js';
import { openTlsSocket, type TlsSocketOptions } from './socket.js';

/** What MQTT travels on. */
export interface MqttCarrier {
  readonly name: 'mqtt' | 'mqtt-ws';
  /** Where hubs and DPS listen for it. */
  readonly defaultPort: number;
  /** The URL's path, where there is one. */
  readonly path?: string;
  /** Opens a stream to the service, whose server has proved its name. The stream belongs to the caller. */
  open(options: TlsSocketOptions, signal: CancelSignal): Promise<Duplex>;
}

/** MQTT over TLS, nothing in between. */
export const tlsCarrier: MqttCarrier = { name: 'mqtt', defaultPort: 8883, open: openTlsSocket };
