import { describe, expect, it } from 'vitest';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import type { HsmDescription } from '../../src/provision-options.js';
import { type Bench, follow, GROUP_MEMBER, INDIVIDUAL, KEYS, PASSPHRASE, startBench } from './bench.js';
import { expectNoLeaks, type Outputs, printed, startRecording } from './channels.js';

type Identity = readonly [name: string, hsm: (bench: Bench) => HsmDescription];

const individual = (key: string, secondaryKey = KEYS.secondary): HsmDescription => ({
  kind: 'symmetricKey',
  registrationId: INDIVIDUAL,
  key,
  secondaryKey,
});

const IDENTITIES: readonly Identity[] = [
  ['a device key', () => individual(KEYS.device)],
  ['a secondary key, after the first was refused', () => individual(KEYS.wrong)],
  [
    'a key file',
    ({ file }) => ({
      kind: 'symmetricKey',
      registrationId: INDIVIDUAL,
      key: { file: file('device.key', KEYS.device) },
    }),
  ],
  [
    'group keys',
    () => ({
      kind: 'symmetricKey',
      registrationId: GROUP_MEMBER,
      groupKey: KEYS.group,
      secondaryGroupKey: KEYS.secondaryGroup,
    }),
  ],
  [
    'a certificate and key as text',
    ({ certified: { certificatePem, keyPem } }) => ({ kind: 'x509', certificatePem, keyPem }),
  ],
  [
    'files with an encrypted key',
    ({ certified: { certificatePem, encryptedKeyPem }, file }) => ({
      kind: 'x509',
      certificate: file('device.pem', certificatePem),
      key: file('device.key', encryptedKeyPem),
      passphrase: PASSPHRASE,
    }),
  ],
];

/** The device, its session at the hub after some use, and what it hands to other clients, as a log would print them. */
async function useDevice(device: ProvisionedDevice): Promise<Outputs> {
  const session = await device.openHub();
  try {
    await session.report({ canary: true });
    await session.sendTelemetry({ body: { canary: true } });
    const asked = await device.mqttOptions();
    expect(asked.password ?? asked.key).toBeTypeOf('string');
    // JSON and copies of them are a client's way to its credentials; what prints them is not.
    const shown = [...printed('options for MQTT.js', asked)].filter(([form]) => /inspect|String/.test(form));
    return new Map([...printed('session', session), ...shown]);
  } finally {
    await session.close();
  }
}

describe.each(['mqtt', 'https'] as const)('a device provisioned over %s', (transport) => {
  it.each(IDENTITIES)('shows no secret of %s', async (_name, makeHsm) => {
    const recording = startRecording();
    const bench = await startBench();
    const { device, error, outputs } = await follow(bench.options(transport, { hsm: makeHsm(bench) }));
    expect(error).toBeUndefined();
    const used = device === undefined ? [] : [await useDevice(device)];
    expect(bench.emulator.trace.count({ service: 'hub', event: 'telemetry' })).toBe(1);
    expectNoLeaks(bench.canaries, outputs, ...used, recording.outputs(), bench.outputs());
  });
});
