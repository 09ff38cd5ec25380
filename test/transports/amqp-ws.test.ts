import { describe, expect, it } from 'vitest';
import { amqpWebSocketCarrier } from '../../src/net/amqp-websocket.js';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import { describeDpsTransport } from '../contracts/dps-transport.js';
import { AMQP_STAGES, playDps } from '../fakes/dps-over-amqp.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { WebSocketWire } from '../fakes/websocket-wire.js';

describe('amqpDpsTransport over WebSocket', () => {
  describeDpsTransport({
    create: (options) => amqpDpsTransport({ ...options, carrier: amqpWebSocketCarrier }),
    stages: { ...AMQP_STAGES, opening: ['upgrade', ...AMQP_STAGES.opening] },
    play: async (wire, scene) => {
      const webSocket = new WebSocketWire(wire);
      const head = await webSocket.accept('AMQPWSB10', () => scene.reach('upgrade'));
      expect(head).toMatch(/^GET \/\$iothub\/websocket HTTP\/1\.1\r\n/);
      expect(head).toMatch(/^sec-websocket-protocol: AMQPWSB10\r$/im);
      await playDps(webSocket, scene);
    },
  });

  it('goes by the name of amqp-ws', () => {
    const options = { clock: new ManualClock(), randomUuid: () => 'id', carrier: amqpWebSocketCarrier };
    expect(amqpDpsTransport(options).name).toBe('amqp-ws');
    expect(amqpWebSocketCarrier.defaultPort).toBe(443);
  });
});
