import { describe, expect, it } from 'vitest';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import { describeDpsTransport } from '../contracts/dps-transport.js';
import { AMQP_STAGES, playDps } from '../fakes/dps-over-amqp.js';
import { ManualClock } from '../fakes/manual-clock.js';

describe('amqpDpsTransport', () => {
  describeDpsTransport({ create: amqpDpsTransport, stages: AMQP_STAGES, play: playDps });

  it('goes by the name of amqp', () => {
    expect(amqpDpsTransport({ clock: new ManualClock(), randomUuid: () => 'r' }).name).toBe('amqp');
  });
});
