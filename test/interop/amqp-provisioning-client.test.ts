/**
 * Microsoft's `azure-iot-provisioning-device` with its AMQP transports, unmodified, against the emulator over real TLS:
 * all three attestations. See `provisioning-client.test.ts` for how the processes are set up.
 */
import { describe, expect, it } from 'vitest';
import {
  type Emulator,
  type EmulatorConfig,
  issueCertificate,
  makeAuthority,
  makeSelfSigned,
} from '../../src/emulator/index.js';
import { SoftwareTpm } from '../emulator/software-tpm.js';
import { ClientProcess } from './client-process.js';
import { deriveKey, makeKey, startBench } from './emulator-bench.js';
import type { AmqpRegisterOptions } from './microsoft-client.js';

const TRANSPORTS = ['amqp', 'amqp-ws'] as const;
type Transport = (typeof TRANSPORTS)[number];

interface Device {
  readonly registrationId: string;
  readonly credential: AmqpRegisterOptions['credential'];
}

const DEVICES: Record<string, (emulator: Emulator) => Device | Promise<Device>> = {
  'a symmetric key': (emulator) => {
    const primaryKey = makeKey();
    emulator.enroll({ registrationId: 'key-1', attestation: { symmetricKey: { primaryKey } } });
    return { registrationId: 'key-1', credential: { symmetricKey: primaryKey } };
  },
  'a key derived from a group key': (emulator) => {
    const primaryKey = makeKey();
    emulator.enrollGroup({ enrollmentGroupId: 'meters', attestation: { symmetricKey: { primaryKey } } });
    return { registrationId: 'meter-1', credential: { symmetricKey: deriveKey(primaryKey, 'meter-1') } };
  },
  'a certificate under an intermediate of a group’s CA': async (emulator) => {
    const root = await makeAuthority({ commonName: 'Plant root' });
    const intermediate = await makeAuthority({ commonName: 'Plant line 1', issuer: root });
    const leaf = await issueCertificate(intermediate, { commonName: 'x509-1', usage: 'client' });
    const signingCertificates = { primary: { certificate: root.certificatePem } };
    emulator.enrollGroup({ enrollmentGroupId: 'pumps', attestation: { x509: { signingCertificates } } });
    return { registrationId: 'x509-1', credential: { cert: leaf.chainPem, key: leaf.privateKeyPem } };
  },
  'a TPM': (emulator) => {
    enrollTpm(emulator);
    return { registrationId: 'tpm-1', credential: { tpm: true } };
  },
};

describe.each(TRANSPORTS)('their provisioning client over %s', (transport) => {
  it.each(Object.entries(DEVICES))('registers with %s', async (_name, enroll) => {
    const emulator = await startBench();
    const { registrationId, credential } = await enroll(emulator);
    const client = await ClientProcess.start(emulator.caPem);
    const result = await client.call('register', optionsFor(emulator, transport, registrationId, credential));
    // With a TPM it gives the whole answer.
    const state =
      'tpm' in credential ? (result as unknown as { registrationState: typeof result }).registrationState : result;
    expect(state).toMatchObject({
      registrationId,
      assignedHub: emulator.hub().hostName,
      deviceId: registrationId,
      status: 'assigned',
      substatus: 'initialAssignment',
    });
    expect(emulator.hub().devices()).toMatchObject([{ deviceId: registrationId }]);
    expect(emulator.trace.count({ protocol: 'amqp', event: 'register' })).toBe(1);
    expect(emulator.trace.entries({ event: 'refused' })).toEqual([]);
    expect(emulator.trace.entries({ event: 'violation' })).toEqual([]);
  });
});

describe('their provisioning client over AMQP', () => {
  it('hands its payload over, and gets the webhook’s', async () => {
    const { emulator, options } = await withKey();
    const returned = { tier: 'gold', town: 'Köln' };
    emulator.faults.add({ at: 'dps.register', action: { kind: 'payload', payload: returned } });
    const payload = { modelId: 'dtmi:com:example:Thermostat;1', note: 'Zürich' };
    const client = await ClientProcess.start(emulator.caPem);
    expect(await client.call('register', { ...options, payload })).toMatchObject({ payload: returned });
    expect(emulator.receivedPayload('dev-1')).toEqual(payload);
  });

  it('waits as long as retry-after says', async () => {
    // Longer than the two seconds that their client waits when nothing is said.
    const { emulator, options } = await withKey({ retryAfterSeconds: 3 });
    const client = await ClientProcess.start(emulator.caPem);
    await client.call('register', options);
    const [reply] = emulator.trace.entries({ event: 'reply', status: 202 });
    const [poll] = emulator.trace.entries({ event: 'status' });
    // Two processes, two roundings of a millisecond each.
    expect((poll?.wallMs ?? 0) - (reply?.wallMs ?? 0)).toBeGreaterThanOrEqual(2990);
  });

  it('comes back after a 429 and a 500', async () => {
    const { emulator, options } = await withKey();
    emulator.faults.add({ at: 'dps.register', times: 1, action: { kind: 'respond', status: 429, retryAfter: '1' } });
    emulator.faults.add({ at: 'dps.status', times: 1, action: { kind: 'respond', status: 500, retryAfter: '1' } });
    const client = await ClientProcess.start(emulator.caPem);
    expect(await client.call('register', options)).toMatchObject({ status: 'assigned' });
    expect(emulator.trace.entries({ event: 'reply' }).map(({ status }) => status)).toEqual([429, 202, 500, 200]);
  });

  const REFUSALS: [
    string,
    (options: AmqpRegisterOptions) => AmqpRegisterOptions | Promise<AmqpRegisterOptions>,
    RegExp,
  ][] = [
    ['a wrong key', (options) => ({ ...options, credential: { symmetricKey: makeKey() } }), /signed with another key/],
    [
      'a device that is not enrolled',
      (options) => ({ ...options, registrationId: 'nobody' }),
      /no individual enrollment/,
    ],
    [
      'a certificate that is not enrolled',
      async (options) => {
        const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'stranger' });
        return { ...options, registrationId: 'stranger', credential: { cert: certificatePem, key: privateKeyPem } };
      },
      /./,
    ],
    ['an unknown ID scope', (options) => ({ ...options, idScope: '0ne0FFFFFFF' }), /no ID scope/],
  ];

  it.each(REFUSALS)('is refused for %s', async (_name, prepare, reason) => {
    const { emulator, options } = await withKey();
    const prepared = await prepare(options);
    const client = await ClientProcess.start(emulator.caPem);
    await expect(client.call('register', prepared)).rejects.toThrow();
    expect(emulator.trace.entries({ event: 'refused' })[0]?.detail).toMatch(reason);
    expect(emulator.trace.entries({ event: 'violation' })).toEqual([]);
  });
});

function enrollTpm(emulator: Emulator): void {
  const { endorsementKey } = new SoftwareTpm().tpm;
  emulator.enroll({ registrationId: 'tpm-1', attestation: { type: 'tpm', tpm: { endorsementKey } } });
}

/** An emulator with the device `dev-1`, and what the device needs. */
async function withKey(config: EmulatorConfig = {}): Promise<{ emulator: Emulator; options: AmqpRegisterOptions }> {
  const emulator = await startBench(config);
  const primaryKey = makeKey();
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey } } });
  return { emulator, options: optionsFor(emulator, 'amqp', 'dev-1', { symmetricKey: primaryKey }) };
}

function optionsFor(
  emulator: Emulator,
  transport: Transport,
  registrationId: string,
  credential: AmqpRegisterOptions['credential'],
): AmqpRegisterOptions {
  const { amqp, https } = emulator.endpoints.dps;
  const endpoint = transport === 'amqp' ? amqp : https;
  return { transport, endpoint, idScope: emulator.idScope, registrationId, credential };
}
