import { describe, expect, it } from 'vitest';
import type { DpsTransport } from '../../src/core/transport.js';
import { amqpWebSocketCarrier } from '../../src/net/amqp-websocket.js';
import type { ProxyTarget } from '../../src/net/proxy-choice.js';
import { webSocketCarrier } from '../../src/net/websocket.js';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import type { DpsTransportOptions } from '../../src/transports/dps-endpoint.js';
import { httpsDpsTransport } from '../../src/transports/https.js';
import { mqttDpsTransport } from '../../src/transports/mqtt.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startHttpProxy } from '../fakes/proxy-peer.js';

const TRANSPORTS: readonly [string, number, (options: DpsTransportOptions) => DpsTransport][] = [
  ['https', 443, httpsDpsTransport],
  ['mqtt', 8883, mqttDpsTransport],
  ['amqp', 5671, amqpDpsTransport],
  ['amqp-ws', 443, (options) => amqpDpsTransport({ ...options, carrier: amqpWebSocketCarrier })],
  ['mqtt-ws', 443, (options) => mqttDpsTransport({ ...options, carrier: webSocketCarrier })],
];

describe('DPS by way of a proxy', () => {
  it.each(TRANSPORTS)('over %s, port %d', async (_name, port, create) => {
    const proxy = await startHttpProxy('HTTP/1.1 403 Forbidden\r\n\r\n');
    const targets: ProxyTarget[] = [];
    const transport = create({
      clock: new ManualClock(),
      randomUuid: () => 'id',
      proxyFor: (target) => {
        targets.push(target);
        return { kind: 'http', host: '127.0.0.1', port: proxy.port };
      },
    });
    const parameters = { endpoint: 'dps.invalid', idScope: '0ne00111111', registrationId: 'dev-1' };
    const credential = { kind: 'sas', token: 'top-secret' } as const;
    const opening = transport.open({ ...parameters, credential }, new AbortController().signal);
    await expect(opening).rejects.toMatchObject({ code: 'ERR_DPS_PROXY_REFUSED', phase: 'proxy' });
    // The name was left to the proxy.
    expect(targets).toEqual([{ host: 'dps.invalid', port }]);
    expect(proxy.asked).toEqual([`CONNECT dps.invalid:${port} HTTP/1.1\r\nHost: dps.invalid:${port}\r\n\r\n`]);
  });
});
