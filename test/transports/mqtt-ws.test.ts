import { describe, expect, it } from 'vitest';
import { webSocketCarrier } from '../../src/net/websocket.js';
import { mqttDpsTransport } from '../../src/transports/mqtt.js';
import { describeDpsTransport } from '../contracts/dps-transport.js';
import { MQTT_STAGES, playDps } from '../fakes/dps-over-mqtt.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { WebSocketWire } from '../fakes/websocket-wire.js';

describe('mqttDpsTransport over WebSocket', () => {
  describeDpsTransport({
    create: (options) => mqttDpsTransport({ ...options, carrier: webSocketCarrier }),
    stages: { ...MQTT_STAGES, opening: ['upgrade', ...MQTT_STAGES.opening] },
    play: async (wire, scene) => {
      const webSocket = new WebSocketWire(wire);
      await webSocket.accept('mqtt', () => scene.reach('upgrade'));
      await playDps(webSocket, scene);
    },
  });

  it('goes by the name of mqtt-ws', () => {
    const options = { clock: new ManualClock(), randomUuid: () => 'id', carrier: webSocketCarrier };
    expect(mqttDpsTransport(options).name).toBe('mqtt-ws');
    expect(webSocketCarrier).toMatchObject({ defaultPort: 443, path: '/$iothub/websocket' });
  });
});
