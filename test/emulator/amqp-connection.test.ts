import { expect, it, onTestFinished } from 'vitest';
import { startEmulator } from '../../src/emulator/index.js';
import * as amqp from '../fakes/amqp-bytes.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { AmqpProbe } from './amqp-probe.js';
import { DEVICE_KEY, dpsToken } from './tokens.js';

const SCOPE = '0ne00111111';
const USER = `${SCOPE}/registrations/dev-1`;
const TRANSFER = 0x14;

it.each(['before', 'after'] as const)('a fault switch cuts the connection %s the answer', async (when) => {
  const emulator = await startEmulator({ idScope: SCOPE }, { clock: new ManualClock() });
  onTestFinished(() => emulator.close());
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } });
  emulator.faults.add({ at: 'dps.register', action: { kind: 'cut', when }, when: { protocol: 'amqp' } });
  const probe = await AmqpProbe.connect(emulator);
  await probe.sasl('PLAIN', Buffer.from(`\0${USER}\0${dpsToken(SCOPE, 'dev-1', DEVICE_KEY, 4_000_000_000)}`));
  await probe.attach(USER);
  await probe.request(0, amqp.text('c-1'), amqp.text('iotdps-operation-type'), amqp.text('iotdps-register'));
  const answer = probe.next(TRANSFER).then(
    ({ payload }) => (amqp.sectionOf(payload, 0x73) as amqp.AmqpValue[])[5],
    (error: Error) => error.message,
  );
  expect(await answer).toBe(when === 'after' ? 'c-1' : 'closed');
  await probe.closed;
  const close = await emulator.trace.waitFor({ event: 'close' });
  expect(close).toMatchObject({ detail: 'fault: cut', device: 'dev-1' });
});
