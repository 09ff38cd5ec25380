import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Emulator, startEmulator } from '../src/emulator/index.js';
import { provision } from '../src/index.js';
import type { DpsTransportName } from '../src/transport-names.js';
import { makeKey } from './interop/emulator-bench.js';

const key = makeKey();
let emulator: Emulator;
beforeAll(async () => {
  emulator = await startEmulator({ retryAfterSeconds: 0 });
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: key } } });
});
afterAll(() => emulator?.close());

describe('a transport that is named', () => {
  it.each<[DpsTransportName, 'mqtt' | 'amqp' | 'https', 'mqtt' | 'amqp' | 'https']>([
    ['mqtt', 'mqtt', 'mqtt'],
    ['mqtt-ws', 'https', 'mqtt'],
    ['amqp', 'amqp', 'amqp'],
    ['amqp-ws', 'https', 'amqp'],
    ['https', 'https', 'https'],
  ])('%s is the one that is used', async (transport, door, protocol) => {
    emulator.trace.clear();
    const journey = provision({
      idScope: emulator.idScope,
      endpoint: emulator.endpoints.dps[door],
      ca: emulator.caPem,
      hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key },
      transport,
    });
    const events = [];
    for await (const event of journey.events) events.push(event);
    await expect(journey).resolves.toMatchObject({ deviceId: 'dev-1', source: 'registered' });
    expect(events).toContainEqual(expect.objectContaining({ type: 'started', transport }));
    expect(emulator.trace.entries({ service: 'dps', event: 'register' })).toMatchObject([{ protocol }]);
  });
});
