import { describe, expect, it } from 'vitest';
import type { HsmDescription } from '../../src/compose.js';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import { type Bench, CERTIFIED, follow, GROUP_MEMBER, INDIVIDUAL, KEYS, PASSPHRASE, startBench } from './bench.js';
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
    const { JSON: _json, ...options } = Object.fromEntries(
      [...printed('', asked)].map(([form, text]) => [form.slice(2), text]),
    );
    // Spread and JSON are a client's way to them: whoever asks for credentials gets them.
    const { spread: _spread, ...shown } = options;
    return new Map([...printed('session', session), ...Object.entries(shown)]);
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

describe.each(['mqtt', 'https'] as const)('refused over %s', (transport) => {
  it.each<[name: string, code: string, hsm: (bench: Bench) => HsmDescription]>([
    ['a wrong key', 'ERR_DPS_SERVICE_UNAUTHORIZED', () => individual(KEYS.wrong, KEYS.unpadded)],
    [
      'a key of somebody unknown',
      'ERR_DPS_SERVICE_UNAUTHORIZED',
      () => ({ ...individual(KEYS.device), registrationId: 'nobody' }),
    ],
  ])('%s', async (_name, code, makeHsm) => {
    const recording = startRecording();
    const bench = await startBench();
    const { error, outputs } = await follow(bench.options(transport, { hsm: makeHsm(bench) }));
    expect(error).toMatchObject({ code });
    expectNoLeaks(bench.canaries, outputs, recording.outputs(), bench.outputs());
  });
});
