import { describe, expect, it } from 'vitest';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import { publishPacket } from '../fakes/mqtt-bytes.js';
import { type Bench, follow, INDIVIDUAL, KEYS, startBench } from './bench.js';
import { errorOutputs, expectNoLeaks, printed, startRecording } from './channels.js';
import { type Echo, errorBody, foreignBodies, inTopic, noMqtt, SPELLINGS, strangeTopic } from './echoes.js';

/** A hub that says the device's own tokens back. */
const INSTEAD_OF_THE_TWIN: readonly Echo[] = [
  ...[400, 401, 429, 500].map(
    (status): Echo => ({
      name: `an error body, status ${status}`,
      at: 'hub.twinGet',
      action: (said) => ({ kind: 'respond', status, body: errorBody(said) }),
    }),
  ),
  ...[200, 400].flatMap((status) => foreignBodies('hub.twinGet', status)),
  {
    name: 'a twin of another shape',
    at: 'hub.twinGet',
    action: (said) => ({ kind: 'respond', body: { desired: said, reported: said } }),
  },
  {
    name: 'a version that is none',
    at: 'hub.twinGet',
    action: (said) => ({ kind: 'respond', body: { desired: { $version: said }, reported: { $version: said } } }),
  },
  { name: 'no MQTT', at: 'hub.twinGet', action: noMqtt },
  { name: 'no MQTT instead of CONNACK', at: 'hub.connack', action: noMqtt },
];

/** What does not answer the device, but is warned about. */
const STRANGE_TOPICS: readonly Echo[] = [
  '$iothub/twin/res/%/?$rid=1',
  '$iothub/twin/res/200/?%',
  '$iothub/twin/res/200/?$rid=1&$version=%',
  '$iothub/twin/PATCH/properties/desired/?$version=%',
  '$iothub/methods/POST/?%',
  '$iothub/methods/POST/%/?%',
  `devices/${INDIVIDUAL}/messages/devicebound/%zz=%`,
].map((topic) => strangeTopic('hub.twinGet', topic, 200));

async function provisioned(bench: Bench, requestTimeoutMs: number): Promise<ProvisionedDevice> {
  const { device, error } = await follow(bench.options('mqtt', { requestTimeoutMs }));
  if (device === undefined) throw error;
  return device;
}

/** Both tokens that the hub could know; the second is the same in every run. */
function tokensOf(bench: Bench): readonly string[] {
  return [bench.hubToken(KEYS.device, INDIVIDUAL), bench.dpsToken(KEYS.device, INDIVIDUAL)];
}

async function hearAll(echo: Echo, requestTimeoutMs: number, spellings = SPELLINGS): Promise<void> {
  const recording = startRecording();
  const bench = await startBench();
  const device = await provisioned(bench, requestTimeoutMs);
  for (const [name, spell] of spellings) {
    // Whether a piece of a signature can be told from a word is chance: one that is always the same.
    const [hubToken = '', dpsToken = ''] = tokensOf(bench);
    const said = spell(name.includes('cut') ? dpsToken : hubToken);
    bench.emulator.faults.clear();
    bench.emulator.faults.add({ at: echo.at, action: echo.action(said) });
    const error = await device.openHub().catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(Error);
    expectNoLeaks(bench.canaries, errorOutputs('error', error));
  }
  await nextTurn();
  expectNoLeaks(bench.canaries, recording.outputs());
}

/** Warnings of the process come a turn later. */
function nextTurn(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

describe('what a hub says back', () => {
  it.each(INSTEAD_OF_THE_TWIN.map((echo) => [echo.name, echo] as const))('%s', (_name, echo) => hearAll(echo, 5_000));

  it.each(STRANGE_TOPICS.map((echo) => [echo.name, echo] as const))('%s', (_name, echo) => hearAll(echo, 50));

  it.each([
    ['an error body', (said: string) => ({ kind: 'respond', status: 400, body: errorBody(said) }) as const],
    ['a page', (said: string) => ({ kind: 'respond', status: 500, text: `<html>${said}</html>` }) as const],
    ['no MQTT', noMqtt],
  ] as const)('to a report: %s', async (_name, action) => {
    const recording = startRecording();
    const bench = await startBench();
    const device = await provisioned(bench, 5_000);
    for (const [, spell] of SPELLINGS.slice(0, 6)) {
      const session = await device.openHub();
      bench.emulator.faults.add({ at: 'hub.twinPatch', times: 1, action: action(spell(tokensOf(bench)[0] ?? '')) });
      const error = await session.report({ canary: true }).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(Error);
      await session.close();
      const outputs = [errorOutputs('error', error), errorOutputs('end', await session.closed)];
      expectNoLeaks(bench.canaries, ...outputs, printed('session', session));
    }
    expectNoLeaks(bench.canaries, recording.outputs());
  });

  it('in a cloud-to-device message that cannot be read', async () => {
    const recording = startRecording();
    const bench = await startBench();
    const device = await provisioned(bench, 5_000);
    const session = await device.openHub();
    const warned = new Promise<void>((resolve) => process.once('warning', () => resolve()));
    const [token = ''] = tokensOf(bench);
    const topic = `devices/${INDIVIDUAL}/messages/devicebound/%zz=${inTopic(token)}`;
    const packet = publishPacket({ topic, packetId: 7, payload: Buffer.from(token) });
    bench.emulator.faults.add({
      at: 'hub.cloudToDevice',
      action: { kind: 'raw', base64: packet.toString('base64') },
    });
    session.onMessage(() => undefined);
    bench.emulator.hub().sendC2D(INDIVIDUAL, { body: 'read me' });
    await warned;
    await session.close();
    expectNoLeaks(bench.canaries, recording.outputs());
  });
});
