import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Hsm, SymmetricKeyHsm, X509Hsm } from '../../src/core/attestation.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import type { Fault } from '../../src/emulator/index.js';
import type { HsmDescription } from '../../src/provision-options.js';
import { type Bench, CERTIFIED, follow, INDIVIDUAL, KEYS, startBench } from './bench.js';
import { expectNoLeaks, findLeaks, startRecording } from './channels.js';

/** Every way in which a journey can end badly, with secrets in hand. */

const key = (device: string, secondaryKey = KEYS.secondary): HsmDescription => ({
  kind: 'symmetricKey',
  registrationId: INDIVIDUAL,
  key: device,
  secondaryKey,
});

const certificate = ({ certified: { certificatePem, keyPem } }: Bench): HsmDescription => ({
  kind: 'x509',
  certificatePem,
  keyPem,
});

async function expectSilentEnd(
  transport: 'mqtt' | 'https',
  code: string | RegExp,
  changes: (bench: Bench) => Parameters<Bench['options']>[1],
  faults: readonly Fault[] = [],
): Promise<void> {
  const recording = startRecording();
  const bench = await startBench();
  for (const fault of faults) bench.emulator.faults.add(fault);
  const { error, outputs } = await follow(bench.options(transport, changes(bench)));
  expect(error).toMatchObject({ code: expect.stringMatching(code) });
  expectNoLeaks(bench.canaries, outputs, recording.outputs(), bench.outputs());
}

describe.each(['mqtt', 'https'] as const)('over %s', (transport) => {
  it('refused: wrong keys', async () => {
    await expectSilentEnd(transport, 'ERR_DPS_SERVICE_UNAUTHORIZED', () => ({ hsm: key(KEYS.wrong, KEYS.unpadded) }));
  });

  it('refused: nobody knows the device', async () => {
    const hsm = { ...key(KEYS.device), registrationId: 'nobody' };
    await expectSilentEnd(transport, 'ERR_DPS_SERVICE_UNAUTHORIZED', () => ({ hsm }));
  });

  it.each(['failed', 'disabled'] as const)('rejected: %s', async (status) => {
    const faults: Fault[] = [{ at: 'dps.register', action: { kind: 'outcome', status } }];
    await expectSilentEnd(transport, 'ERR_DPS_REGISTRATION_', () => ({ hsm: key(KEYS.device) }), faults);
  });

  it.each(['dps.register', 'dps.status', 'hub.connack', 'hub.twinGet'] as const)('cut off at %s', async (at) => {
    for (const identity of [() => key(KEYS.device), certificate]) {
      await expectSilentEnd(
        transport,
        /CONNECTION_LOST|DEADLINE/,
        (bench) => ({ hsm: identity(bench), deadlineMs: 900 }),
        [{ at, action: { kind: 'cut' } }],
      );
    }
  });

  it.each(['dps.register', 'dps.status', 'hub.twinGet'] as const)('kept waiting at %s', async (at) => {
    for (const identity of [() => key(KEYS.device), certificate]) {
      await expectSilentEnd(
        transport,
        /TIMEOUT|DEADLINE/,
        (bench) => ({ hsm: identity(bench), deadlineMs: 300, requestTimeoutMs: 150 }),
        [{ at, action: { kind: 'silent' } }],
      );
    }
  });

  it('told to wait for longer than there is time', async () => {
    const faults: Fault[] = [{ at: 'dps.register', action: { kind: 'respond', status: 429, retryAfter: '3600' } }];
    await expectSilentEnd(
      transport,
      'ERR_DPS_SERVICE_THROTTLED',
      () => ({ hsm: key(KEYS.device), deadlineMs: 5_000 }),
      faults,
    );
  });

  it('a server that is not trusted', async () => {
    const others = (bench: Bench): string => bench.certified.certificatePem;
    await expectSilentEnd(transport, 'ERR_DPS_TLS_UNTRUSTED', (bench) => ({
      hsm: key(KEYS.device),
      ca: others(bench),
    }));
  });

  const STEPS = [
    'started',
    'connecting',
    'connected',
    'registering',
    'assigning',
    'polling',
    'assigned',
    'twin',
  ] as const;

  it.each(STEPS)('cancelled when %s', async (type) => {
    for (const identity of [() => key(KEYS.device), certificate]) {
      const recording = startRecording();
      const bench = await startBench();
      const controller = new AbortController();
      const onEvent = (event: ProgressEvent): void => {
        if (event.type === type) controller.abort(new Error('enough'));
      };
      const options = bench.options(transport, { hsm: identity(bench), signal: controller.signal });
      const { error, outputs } = await follow(options, onEvent);
      // The last step may be over before the word of it is heard.
      if (type !== 'twin') expect(error).toMatchObject({ code: 'ERR_DPS_CANCELLED' });
      expectNoLeaks(bench.canaries, outputs, recording.outputs(), bench.outputs());
    }
  });
});

describe('over mqtt', () => {
  const refusals = [2, 3, 4, 5, 77].flatMap((code) => [['dps.connack', code] as const, ['hub.connack', code] as const]);

  it.each(refusals)('refused at %s with return code %d', async (at, code) => {
    const changes = () => ({ hsm: key(KEYS.device, KEYS.wrong), deadlineMs: 900 });
    await expectSilentEnd('mqtt', /CONNACK|DEADLINE/, changes, [{ at, action: { kind: 'connack', code } }]);
  });

  it('a hub that does not know the certificate', async () => {
    const recording = startRecording();
    const bench = await startBench();
    const { device } = await follow(bench.options('mqtt', { hsm: certificate(bench) }));
    bench.emulator.hub().removeDevice(CERTIFIED);
    const error = await device?.openHub().catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNACK_UNAUTHORIZED' });
    expectNoLeaks(bench.canaries, recording.outputs(), bench.outputs());
  });
});

describe('an HSM of the application’s own', () => {
  const sign = async (data: Uint8Array): Promise<Uint8Array> =>
    new Uint8Array(createHmac('sha256', Buffer.from(KEYS.device, 'base64')).update(data).digest());
  const own = (changes: Partial<SymmetricKeyHsm>): SymmetricKeyHsm => ({
    kind: 'symmetricKey',
    registrationId: async () => INDIVIDUAL,
    sign,
    ...changes,
  });
  const ownX509 = (credential: unknown): X509Hsm => ({
    kind: 'x509',
    registrationId: async () => CERTIFIED,
    tlsCredential: async () => credential as Awaited<ReturnType<X509Hsm['tlsCredential']>>,
  });

  it.each<[name: string, hsm: (bench: Bench) => Hsm]>([
    ['a signature as text', () => own({ sign: async () => KEYS.device as never })],
    ['a signature as a list', () => own({ sign: async () => [...Buffer.from(KEYS.device)] as never })],
    ['no signature', () => own({ sign: async () => undefined as never })],
    ['a key as registration id', () => own({ registrationId: async () => ({ key: KEYS.device }) as never })],
    [
      'a broken private key',
      ({ certified: { certificatePem, keyPem } }) =>
        ownX509({ certificateChainPem: certificatePem, privateKeyPem: keyPem.slice(0, 100) }),
    ],
    [
      'a key in the place of the certificate',
      ({ certified: { keyPem } }) => ownX509({ certificateChainPem: keyPem, privateKeyPem: keyPem }),
    ],
    [
      'a key in an object',
      ({ certified: { certificatePem, keyPem } }) =>
        ownX509({ certificateChainPem: certificatePem, privateKeyPem: { pem: keyPem } }),
    ],
    [
      'an encrypted key with another passphrase',
      ({ certified: { certificatePem, encryptedKeyPem } }) =>
        ownX509({ certificateChainPem: certificatePem, privateKeyPem: encryptedKeyPem, passphrase: KEYS.wrong }),
    ],
    [
      'an encrypted key without its passphrase',
      ({ certified: { certificatePem, encryptedKeyPem } }) =>
        ownX509({ certificateChainPem: certificatePem, privateKeyPem: encryptedKeyPem }),
    ],
  ])('may return %s: it is not repeated', async (_name, makeHsm) => {
    for (const transport of ['mqtt', 'https'] as const) {
      const recording = startRecording();
      const bench = await startBench();
      const { error, outputs } = await follow(bench.options(transport, { hsm: makeHsm(bench), deadlineMs: 5_000 }));
      expect(error).toBeInstanceOf(Error);
      expectNoLeaks(bench.canaries, outputs, recording.outputs());
    }
  });

  // What such an HSM says in an error is its own words: they are passed on, so that its author finds them.
  it('is quoted as it is, by decision, when it throws', async () => {
    const { options, canaries } = await startBench();
    const hsm = own({ sign: () => Promise.reject(new Error(`no signature with ${KEYS.device}`)) });
    const { error, outputs } = await follow(options('mqtt', { hsm }));
    expect(error).toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      cause: { message: expect.stringContaining(KEYS.device) },
    });
    expect(findLeaks(canaries, outputs).length).toBeGreaterThan(0);
  });
});
