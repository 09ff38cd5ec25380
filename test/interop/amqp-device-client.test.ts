/**
 * Microsoft's `azure-iot-device` with its AMQP transports; see `device-client-suite.ts`. A hub has one port for all
 * protocols, so that the host name that DPS gives leads there whatever a device speaks.
 */

import { describe, expect, it } from 'vitest';
import { ClientProcess } from './client-process.js';
import {
  describeDeviceClient,
  describeExchange,
  type HubWire,
  makeCertificate,
  withDevice,
  withOpenClient,
} from './device-client-suite.js';

const AMQP: HubWire = {
  protocol: 'amqp',
  dpsEndpoint: (emulator) => emulator.endpoints.dps.amqp,
  topics: { desired: '/notifications/twin/properties/desired', methods: 'methods/devicebound' },
  goodbye: 'close',
  refusedPatch: {},
  refusal: { error: {}, entry: {} },
};
const AMQP_WS: HubWire = { ...AMQP, protocol: 'amqp-ws', dpsEndpoint: (emulator) => emulator.endpoints.dps.https };

describeExchange(AMQP);
describeExchange(AMQP_WS);
describeDeviceClient(AMQP);

describe('their device client over AMQP', () => {
  it('renews its token on the same connection', async () => {
    const { emulator, client } = await withOpenClient(AMQP);
    const before = emulator.trace.entries().at(-1)?.sequence ?? 0;
    await client.call('renewToken');
    await emulator.trace.waitFor({ event: 'connect' }, before).catch(() => {});
    await client.call('sendEvent', { body: 'renewed', messageId: '1', properties: {} });
    expect(emulator.hub().telemetry('dev-1')).toHaveLength(1);
    expect(emulator.trace.count({ event: 'close' })).toBe(0);
  });

  it('is refused with its first link for a certificate instead of a key: a connection alone proves nothing', async () => {
    const { emulator, options } = await withDevice(AMQP);
    const client = await ClientProcess.start();
    await client.call('open', { ...options, credential: await makeCertificate() });
    const sending = client.call('sendEvent', { body: '1', messageId: '1', properties: {} });
    await expect(sending).rejects.toMatchObject({ name: 'UnauthorizedError' });
    expect(emulator.trace.entries({ event: 'refused' })[0]).toMatchObject({ detail: expect.stringMatching(/keys/) });
    expect(emulator.hub().telemetry('dev-1')).toEqual([]);
  });
});
