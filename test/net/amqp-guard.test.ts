import { describe, expect, it } from 'vitest';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import { bench, failureOf, openAndRegister } from '../contracts/transport-bench.js';
import { AmqpProbe } from '../emulator/amqp-probe.js';
import { AMQP_HEADER, amqpFrame, binary, described, FALSE, list, NULL, TRUE, text, uint } from '../fakes/amqp-bytes.js';
import { AMQP_STAGES, playDps } from '../fakes/dps-over-amqp.js';
import type { Wire } from '../fakes/wire-peer.js';
import { startBench } from '../interop/emulator-bench.js';

/** Of 20 to 50 bytes each, and rhea by itself would be busy with them for minutes, or would end the process. */
const FRAMES: readonly (readonly [name: string, frame: Buffer])[] = [
  ['settles four billion deliveries', amqpFrame(0x15, [TRUE, uint(0), uint(0xffff_ffff), TRUE, accepted()])],
  ['counts in fractions', flow(float(0.5), uint(1))],
  ['counts in words', flow(text('many'), uint(1))],
  ['delivers without a number', amqpFrame(0x14, [uint(0), NULL, binary(Buffer.of(1)), uint(0), FALSE], message())],
];
const NARROW_OPEN = amqpFrame(0x10, [text('peer'), text('localhost'), uint(50)]);
/** 16 where a list should be. */
const OPEN_WITHOUT_FIELDS = Buffer.from('0000000d02000000005310' + '5310', 'hex');
const OPENS: readonly (readonly [name: string, frame: Buffer])[] = [
  ['takes frames of 50 bytes', NARROW_OPEN],
  ['opens with a number', OPEN_WITHOUT_FIELDS],
];

describe('what rhea cannot take', () => {
  it.each(FRAMES)('ends a device’s connection: a service that %s', (_name, frame) => expectBreach('reply', frame));

  it.each(OPENS)('ends a device’s connection: a service that %s', (_name, frame) =>
    expectBreach('OPEN', Buffer.concat([AMQP_HEADER, frame])),
  );

  it.each(FRAMES)('ends a connection of the emulator: a client that %s', async (_name, frame) => {
    const emulator = await startBench();
    const probe = await AmqpProbe.connect(emulator);
    await probe.open();
    await probe.link(`${emulator.idScope}/registrations/dev-1`, 0, FALSE);
    await probe.link(`${emulator.idScope}/registrations/dev-1`, 1, TRUE);
    await probe.write(frame);
    await probe.closed;
    expect(emulator.trace.count({ protocol: 'amqp', event: 'violation' })).toBe(1);
  });

  it.each(OPENS)('ends a connection of the emulator: a client that %s', async (_name, frame) => {
    const emulator = await startBench();
    const probe = await AmqpProbe.connect(emulator);
    await probe.write(Buffer.concat([AMQP_HEADER, frame]));
    await probe.closed;
    expect(emulator.trace.count({ protocol: 'amqp', event: 'violation' })).toBe(1);
  });
});

describe('four billion credits to drain', () => {
  // rhea would count them down one by one, for one who calls set_drained().
  const drain = flow(uint(0), uint(0xffff_ffff));

  it('are nothing to a device', async () => {
    const { rigged, gone } = await tell('reply', drain, true);
    expect(await openAndRegister(rigged)).toMatchObject({ kind: 'reply', status: 202 });
    await gone();
    expect(rigged.clock.pending).toBe(0);
  });
});

/** A device that is told this at that stage. */
async function expectBreach(stage: string, words: Uint8Array): Promise<void> {
  const { rigged, gone } = await tell(stage, words);
  expect(await failureOf(openAndRegister(rigged))).toMatchObject({ code: 'ERR_DPS_PROTOCOL_AMQP' });
  await gone();
  expect(rigged.clock.pending).toBe(0);
}

/** A service that says this at that stage, and then nothing more unless it `goesOn`. */
async function tell(stage: string, words: Uint8Array, goesOn = false) {
  let wire: Wire | undefined;
  const reach = async (name: string): Promise<void> => {
    if (name !== stage) return;
    await wire?.write(words);
    if (!goesOn) await new Promise(() => {});
  };
  const rig = { create: amqpDpsTransport, stages: AMQP_STAGES, play: playDps };
  const rigged = await bench(rig, { reach }, (taken) => {
    wire = taken;
  });
  return { rigged, gone: async () => wire?.closed };
}

function flow(deliveryCount: Uint8Array, linkCredit: Uint8Array): Buffer {
  return amqpFrame(0x13, [uint(0), uint(100), uint(0), uint(100), uint(1), deliveryCount, linkCredit, uint(0), TRUE]);
}

function accepted(): Buffer {
  return described(0x24, list());
}

function message(): Buffer {
  return described(0x75, binary(Buffer.from('{}')));
}

function float(value: number): Buffer {
  const bytes = Buffer.of(0x72, 0, 0, 0, 0);
  bytes.writeFloatBE(value, 1);
  return bytes;
}
