/**
 * Microsoft's `azure-iot-provisioning-device` with all five of its transports, unmodified, against the emulator over real
 * TLS. What is said of AMQP alone is in `amqp-provisioning-client.test.ts`.
 *
 * Each test has a process of its own for their client, because it has no option for a CA (`NODE_EXTRA_CA_CERTS`, read at
 * process start, is the one documented way), because it leaves timers and sockets behind, and because some answers kill
 * the process it runs in. Their MQTT transport takes `localhost:{port}` as provisioning host. Their HTTPS transport does
 * not, so the child process gives Node's default agent the port (`https.globalAgent`, agent options being socket
 * options): no port below 1024, no root, no change to name look-up, and not a byte of the packages changed.
 */
import { describe, expect, it } from 'vitest';
import {
  type Emulator,
  type EmulatorConfig,
  type FaultAction,
  issueCertificate,
  makeAuthority,
  makeSelfSigned,
} from '../../src/emulator/index.js';
import { ClientProcess } from './client-process.js';
import { deriveKey, makeKey, startBench } from './emulator-bench.js';
import type { Credential, ProvisioningProtocol, RegisterOptions, RegistrationState } from './microsoft-client.js';

const PROTOCOLS: readonly ProvisioningProtocol[] = ['mqtt', 'mqtt-ws', 'amqp', 'amqp-ws', 'https'];

/** Each with its own way of telling what is asked and answered. */
const TRANSPORTS = ['mqtt', 'https'] as const;

/** What an enrolled device has, and what the answer says of its attestation. */
interface Device {
  readonly registrationId: string;
  readonly credential: Credential;
  readonly attestation: Partial<RegistrationState>;
}

const DEVICES: Record<string, (emulator: Emulator) => Device | Promise<Device>> = {
  'the primary key of an individual enrollment': (emulator) => {
    const [primaryKey, secondaryKey] = [makeKey(), makeKey()];
    emulator.enroll({ registrationId: 'key-1', attestation: { symmetricKey: { primaryKey, secondaryKey } } });
    return { registrationId: 'key-1', credential: { symmetricKey: primaryKey }, attestation: {} };
  },
  'its secondary key': (emulator) => {
    const [primaryKey, secondaryKey] = [makeKey(), makeKey()];
    emulator.enroll({ registrationId: 'key-2', attestation: { symmetricKey: { primaryKey, secondaryKey } } });
    return { registrationId: 'key-2', credential: { symmetricKey: secondaryKey }, attestation: {} };
  },
  'a key derived from a group key': (emulator) => {
    const primaryKey = makeKey();
    emulator.enrollGroup({ enrollmentGroupId: 'meters', attestation: { symmetricKey: { primaryKey } } });
    const symmetricKey = deriveKey(primaryKey, 'meter-1');
    return {
      registrationId: 'meter-1',
      credential: { symmetricKey },
      attestation: { symmetricKey: { enrollmentGroupId: 'meters' } },
    };
  },
  'a self-signed certificate, known by itself': async (emulator) => {
    const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'x509-1' });
    const clientCertificates = { primary: { certificate: certificatePem } };
    emulator.enroll({ registrationId: 'x509-1', attestation: { x509: { clientCertificates } } });
    return {
      registrationId: 'x509-1',
      credential: { cert: certificatePem, key: privateKeyPem },
      attestation: { x509: {} },
    };
  },
  'a certificate under an intermediate of a group’s CA': async (emulator) => {
    const { root, leaf } = await makeChain('x509-2');
    const signingCertificates = { primary: { certificate: root.certificatePem } };
    emulator.enrollGroup({ enrollmentGroupId: 'pumps', attestation: { x509: { signingCertificates } } });
    return {
      registrationId: 'x509-2',
      credential: { cert: leaf.chainPem, key: leaf.privateKeyPem },
      attestation: { x509: { enrollmentGroupId: 'pumps' } },
    };
  },
};

describe.each(PROTOCOLS)('their provisioning client over %s', (transport) => {
  it.each(Object.entries(DEVICES))('registers with %s', async (_name, enroll) => {
    const emulator = await startBench();
    const { registrationId, credential, attestation } = await enroll(emulator);
    const client = await ClientProcess.start(emulator.caPem);
    const state = await client.call('register', optionsFor(emulator, transport, registrationId, credential));
    const [hub] = emulator.endpoints.hubs;
    expect(state).toMatchObject({
      registrationId,
      assignedHub: hub?.hostName,
      deviceId: registrationId,
      status: 'assigned',
      substatus: 'initialAssignment',
    });
    const { x509, symmetricKey } = state;
    expect({ x509, symmetricKey }).toEqual(attestation);
    expect(emulator.hub().devices()).toMatchObject([{ deviceId: registrationId }]);
    const [spoken = ''] = transport.split('-');
    expect(emulator.trace.count({ protocol: spoken as 'mqtt' | 'amqp' | 'https', event: 'register' })).toBe(1);
    expect(emulator.trace.entries({ event: 'refused' })).toEqual([]);
    expect(emulator.trace.entries({ event: 'violation' })).toEqual([]);
  });
});

describe.each(TRANSPORTS)('their provisioning client over %s', (transport) => {
  it('takes the device id that the enrollment gives', async () => {
    const { emulator, options } = await withKey(transport, 'Pump-7');
    const client = await ClientProcess.start(emulator.caPem);
    expect(await client.call('register', options)).toMatchObject({ registrationId: 'dev-1', deviceId: 'Pump-7' });
  });

  it('hands its payload over, and gets the webhook’s', async () => {
    const { emulator, options } = await withKey(transport);
    const returned = { tier: 'gold', zones: [1, 2] };
    emulator.faults.add({ at: 'dps.register', action: { kind: 'payload', payload: returned } });
    const payload = { modelId: 'dtmi:com:example:Thermostat;1', site: { floor: 3 }, note: 'Zürich' };
    const client = await ClientProcess.start(emulator.caPem);
    expect(await client.call('register', { ...options, payload })).toMatchObject({ payload: returned });
    expect(emulator.receivedPayload('dev-1')).toEqual(payload);
  });

  it('registers again, and is told what its old API version is told', async () => {
    const { emulator, options } = await withKey(transport);
    const client = await ClientProcess.start(emulator.caPem);
    await client.call('register', options);
    expect(await client.call('register', options)).toMatchObject({ substatus: 'initialAssignment' });
    expect(emulator.registration('dev-1')).toMatchObject({ substatus: 'reprovisionedToInitialAssignment' });
  });

  it('polls while the service is assigning', async () => {
    const { emulator, options } = await withKey(transport);
    emulator.faults.add({ at: 'dps.register', action: { kind: 'delay', polls: 3 } });
    const client = await ClientProcess.start(emulator.caPem);
    expect(await client.call('register', options)).toMatchObject({ status: 'assigned' });
    expect(emulator.trace.count({ event: 'status' })).toBe(4);
  });

  it('takes a result that comes with the first reply', async () => {
    const { emulator, options } = await withKey(transport);
    emulator.faults.add({ at: 'dps.register', action: { kind: 'assignImmediately' } });
    const client = await ClientProcess.start(emulator.caPem);
    expect(await client.call('register', options)).toMatchObject({ status: 'assigned' });
    expect(emulator.trace.count({ event: 'status' })).toBe(0);
  });

  it('waits as long as retry-after says', async () => {
    // Longer than the two seconds that their client waits when nothing is said.
    const { emulator, options } = await withKey(transport, undefined, { retryAfterSeconds: 3 });
    const client = await ClientProcess.start(emulator.caPem);
    await client.call('register', options);
    const [reply] = emulator.trace.entries({ event: 'reply', status: 202 });
    const [poll] = emulator.trace.entries({ event: 'status' });
    // Two processes, two roundings of a millisecond each.
    expect((poll?.wallMs ?? 0) - (reply?.wallMs ?? 0)).toBeGreaterThanOrEqual(2990);
  });
});

/** Why the service refuses, and what becomes of it in their client, by transport where that differs. */
interface Refusal {
  readonly prepare: (emulator: Emulator, options: RegisterOptions) => RegisterOptions | Promise<RegisterOptions>;
  /** What the emulator's log says was wrong. */
  readonly reason?: RegExp;
  readonly error: Record<(typeof TRANSPORTS)[number], object>;
}

const both = (error: object): Refusal['error'] => ({ mqtt: error, https: error });

const REFUSALS: Record<string, Refusal> = {
  'a wrong key': {
    prepare: (_emulator, options) => ({ ...options, credential: { symmetricKey: makeKey() } }),
    reason: /signed with another key/,
    error: both({ name: 'UnauthorizedError' }),
  },
  'a device that is not enrolled': {
    prepare: (_emulator, options) => ({ ...options, registrationId: 'nobody' }),
    reason: /no individual enrollment/,
    error: both({ name: 'UnauthorizedError' }),
  },
  'a certificate that is not enrolled': {
    prepare: async (_emulator, options) => {
      const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'stranger' });
      return { ...options, registrationId: 'stranger', credential: { cert: certificatePem, key: privateKeyPem } };
    },
    error: both({ name: 'UnauthorizedError' }),
  },
  'a chain without its intermediate': {
    prepare: async (emulator, options) => {
      const { root, leaf } = await makeChain('x509-3');
      const signingCertificates = { primary: { certificate: root.certificatePem } };
      emulator.enrollGroup({ enrollmentGroupId: 'pumps', attestation: { x509: { signingCertificates } } });
      const credential = { cert: leaf.certificatePem, key: leaf.privateKeyPem };
      return { ...options, registrationId: 'x509-3', credential };
    },
    error: both({ name: 'UnauthorizedError' }),
  },
  'an unknown ID scope': {
    prepare: (_emulator, options) => ({ ...options, idScope: '0ne0FFFFFFF' }),
    reason: /no ID scope/,
    error: {
      mqtt: { name: 'Error', message: 'Connection refused: Server unavailable' },
      https: { name: 'Error', message: 'Not found' },
    },
  },
  'a disabled enrollment': {
    prepare: (emulator, options) => {
      emulator.updateEnrollment('dev-1', { provisioningStatus: 'disabled' });
      return options;
    },
    error: both({
      name: 'SyntaxError',
      message: 'status is disabled',
      result: { status: 'disabled', registrationState: { registrationId: 'dev-1', status: 'disabled' } },
    }),
  },
  'a failed allocation': {
    prepare: (emulator, options) => {
      emulator.faults.add({ at: 'dps.register', action: { kind: 'outcome', status: 'failed', errorCode: 400207 } });
      return options;
    },
    error: both({
      name: 'ProvisioningRegistrationFailedError',
      result: { status: 'failed', registrationState: { status: 'failed', errorCode: 400207 } },
    }),
  },
};

describe.each(TRANSPORTS)('their provisioning client, refused over %s', (transport) => {
  it.each(Object.entries(REFUSALS))('for %s', async (_name, { prepare, reason, error }) => {
    const { emulator, options } = await withKey(transport);
    const prepared = await prepare(emulator, options);
    const client = await ClientProcess.start(emulator.caPem);
    await expect(client.call('register', prepared)).rejects.toMatchObject(error[transport]);
    const [refused] = emulator.trace.entries({ event: 'refused' });
    if (reason !== undefined) expect(refused?.detail).toMatch(reason);
    expect(emulator.trace.count({ event: 'violation' })).toBe(0);
  });
});

describe('their provisioning client and faults of the service', () => {
  it('over MQTT comes back after a 429 and a 500', async () => {
    const { emulator, options } = await withKey('mqtt');
    emulator.faults.add({ at: 'dps.register', times: 1, action: { kind: 'respond', status: 429, retryAfter: '0' } });
    emulator.faults.add({ at: 'dps.status', times: 1, action: { kind: 'respond', status: 500, retryAfter: '0' } });
    const client = await ClientProcess.start(emulator.caPem);
    expect(await client.call('register', options)).toMatchObject({ status: 'assigned' });
    expect(emulator.trace.entries({ event: 'reply' }).map(({ status }) => status)).toEqual([429, 202, 500, 200]);
  });

  it.each([
    [429, 'ThrottlingError'],
    [500, 'InternalServerError'],
  ])('over HTTPS gives up at the first %i', async (status, name) => {
    const { emulator, options } = await withKey('https');
    emulator.faults.add({ at: 'dps.register', action: { kind: 'respond', status, retryAfter: '0' } });
    const client = await ClientProcess.start(emulator.caPem);
    await expect(client.call('register', options)).rejects.toMatchObject({ name });
    expect(emulator.trace.count({ event: 'register' })).toBe(1);
  });

  it.each<[string, FaultAction, RegExp]>([
    ['a connection that is cut', { kind: 'cut' }, /Unhandled 'error' event/],
    ['a proxy’s page for an answer', { kind: 'respond', text: '<html></html>' }, /SyntaxError/],
    ['text beyond ASCII in the result', { kind: 'payload', payload: { town: '“Köln”' } }, /SyntaxError/],
  ])('over MQTT dies of %s', async (_name, action, lastWords) => {
    const { emulator, options } = await withKey('mqtt');
    emulator.faults.add({ at: 'dps.register', action });
    const client = await ClientProcess.start(emulator.caPem);
    const outcome = client.call('register', options);
    await expect(outcome).rejects.toMatchObject({ name: 'ProcessEnded', message: expect.stringMatching(lastWords) });
  });
});

async function makeChain(commonName: string) {
  const root = await makeAuthority({ commonName: 'Plant root' });
  const intermediate = await makeAuthority({ commonName: 'Plant line 1', issuer: root });
  return { root, leaf: await issueCertificate(intermediate, { commonName, usage: 'client' }) };
}

/** An emulator with the device `dev-1`, and what the device needs. */
async function withKey(transport: RegisterOptions['transport'], deviceId?: string, config: EmulatorConfig = {}) {
  const emulator = await startBench(config);
  const primaryKey = makeKey();
  const attestation = { symmetricKey: { primaryKey } };
  emulator.enroll({ registrationId: 'dev-1', attestation, ...(deviceId !== undefined && { deviceId }) });
  return { emulator, options: optionsFor(emulator, transport, 'dev-1', { symmetricKey: primaryKey }) };
}

function optionsFor(
  emulator: Emulator,
  transport: RegisterOptions['transport'],
  registrationId: string,
  credential: Credential,
): RegisterOptions {
  const { mqtt, amqp, https } = emulator.endpoints.dps;
  const endpoint = { mqtt, amqp, https, 'mqtt-ws': https, 'amqp-ws': https }[transport];
  return { transport, endpoint, idScope: emulator.idScope, registrationId, credential };
}
