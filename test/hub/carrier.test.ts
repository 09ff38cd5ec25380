import { describe, expect, it } from 'vitest';
import { mqttHubTransport } from '../../src/hub/session.js';
import type { MqttCarrier } from '../../src/net/mqtt-carrier.js';
import type { TlsSocketOptions } from '../../src/net/socket.js';
import { webSocketCarrier } from '../../src/net/websocket.js';
import { failureOf, HUB, HubBench } from '../fakes/hub-bench.js';
import { HubClock } from '../fakes/hub-clock.js';
import { fakeX509Hsm } from '../fakes/hub-identity.js';

/** A carrier that leads nowhere, and how it was asked to. */
function deadEnd(): { readonly carrier: MqttCarrier; readonly asked: TlsSocketOptions[] } {
  const asked: TlsSocketOptions[] = [];
  const open: MqttCarrier['open'] = async (options) => {
    asked.push(options);
    throw new Error('dead end');
  };
  return { carrier: { ...webSocketCarrier, open }, asked };
}

describe('a hub over WebSocket', () => {
  it.each([
    [HUB, { host: HUB, port: 443 }],
    ['localhost:8443', { host: 'localhost', port: 8443 }],
  ])('is reached at its own port (%s)', async (hostName, address) => {
    const { carrier, asked } = deadEnd();
    const proxyFor = (): undefined => undefined;
    const sources = { clock: new HubClock(), random: () => 0, newRequestId: () => 'r' };
    const transport = mqttHubTransport({ ...sources, carrier, proxyFor, ca: 'ROOT', connectTimeoutMs: 7000 });
    expect(transport.name).toBe('mqtt-ws');
    const hub = { hostName, deviceId: 'dev-1', hsm: fakeX509Hsm(), slot: 0 };
    expect((await failureOf(transport.open(hub, new AbortController().signal))).message).toBe('dead end');
    const client = expect.objectContaining({ certificateChainPem: 'CHAIN' });
    expect(asked).toEqual([
      expect.objectContaining({ ...address, proxyFor, client, ca: 'ROOT', connectTimeoutMs: 7000 }),
    ]);
  });

  it('is told of in the options for MQTT.js', async () => {
    const bench = new HubBench({ carrier: webSocketCarrier });
    const options = await bench.transport.connectionInfo(bench.parameters).mqttOptions();
    expect(options).toMatchObject({ protocol: 'wss', host: HUB, port: 443, path: '/$iothub/websocket' });
    expect(options.username).toMatch(new RegExp(`^${HUB}/dev-1/`));
  });
});
