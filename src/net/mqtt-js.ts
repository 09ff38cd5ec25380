import type { Duplex } from 'node:stream';
import clientModule from 'mqtt/lib/client';
import type { Clock } from '../core/clock.js';
import { MqttPacketIds } from './mqtt-packet-ids.js';

// Node hands out the whole CommonJS module here; vitest and bundlers with Babel's rules hand out its `default`.
const MqttClient: typeof clientModule.default =
  'default' in clientModule ? clientModule.default : (clientModule as never);

export type MqttJsClient = InstanceType<typeof clientModule.default>;

/** What CONNECT says, and the socket it says it on. */
export interface MqttJsSettings {
  readonly socket: Duplex;
  readonly clientId: string;
  readonly username: string;
  readonly password?: string | undefined;
  readonly clean: boolean;
  readonly keepaliveSeconds: number;
  readonly clock: Clock;
}

/**
 * An MQTT.js client that has not sent CONNECT yet, with everything off that it would decide by itself. Only its client
 * class is imported: WebSocket, SOCKS and the command line stay out of the bundle.
 */
export function createMqttJsClient(settings: MqttJsSettings): MqttJsClient {
  return new MqttClient(() => settings.socket, optionsOf(settings));
}

type MqttJsOptions = MqttJsClient['options'];
type MqttJsTimer = Exclude<NonNullable<MqttJsOptions['timerVariant']>, string>;

function optionsOf(settings: MqttJsSettings): MqttJsOptions {
  const { clientId, username, password, clean, keepaliveSeconds, clock } = settings;
  return {
    protocolVersion: 4,
    clientId,
    username,
    ...(password === undefined ? {} : { password }),
    clean,
    keepalive: keepaliveSeconds,
    manualConnect: true,
    reconnectPeriod: 0,
    resubscribe: false,
    // `openMqtt` has its own bound, by our clock; this is the longest that a timer takes.
    connectTimeout: 0x7fff_ffff,
    // The cache of mqtt-packet holds all 65,536 two-byte numbers: 18 MB and 30 ms for a handful of packets.
    writeCache: false,
    messageIdProvider: new MqttPacketIds(),
    timerVariant: intervalsOf(clock),
    // MQTT.js logs whole packets, the password among them, when DEBUG is set in the environment.
    log: () => {},
  };
}

/** MQTT.js's keep-alive, by our clock. */
function intervalsOf(clock: Clock): MqttJsTimer {
  const orders = new Map<number, () => void>();
  let lastId = 0;
  const arm = (id: number, fn: () => void, everyMs: number): void => {
    const again = (): void => {
      arm(id, fn, everyMs);
      fn();
    };
    orders.set(id, clock.after(everyMs, again));
  };
  return {
    set: (fn, everyMs) => {
      lastId += 1;
      arm(lastId, fn as () => void, everyMs ?? 0);
      return lastId;
    },
    clear: (id) => {
      orders.get(id)?.();
      orders.delete(id);
    },
  };
}
