/**
 * Microsoft's `azure-iot-provisioning-device` with its AMQP transports, unmodified, against the emulator over real TLS:
 * with a TPM, and what becomes of refusals. See `provisioning-client.test.ts` for how the processes are set up, and for keys
 * and certificates.
 */
import { describe, expect, it } from 'vitest';
import { type Emulator, type EmulatorConfig, makeSelfSigned } from '../../src/emulator/index.js';
import { SoftwareTpm } from '../emulator/software-tpm.js';
import { ClientProcess } from './client-process.js';
import { makeKey, startBench } from './emulator-bench.js';
import type { RegisterOptions } from './microsoft-client.js';

describe.each(['amqp', 'amqp-ws'] as const)('their provisioning client over %s', (transport) => {
  it('registers with a TPM', async () => {
    const emulator = await startBench();
    const registrationId = 'tpm-1';
    const { endorsementKey } = new SoftwareTpm().tpm;
    emulator.enroll({ registrationId, attestation: { type: 'tpm', tpm: { endorsementKey } } });
    const client = await ClientProcess.start(emulator.caPem);
    const result = await client.call('register', optionsFor(emulator, transport, registrationId, { tpm: true }));
    // With a TPM it gives the whole answer.
    expect(result).toMatchObject({
      registrationState: {
        registrationId,
        assignedHub: emulator.hub().hostName,
        deviceId: registrationId,
        status: 'assigned',
        substatus: 'initialAssignment',
      },
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

  const REFUSALS: [string, (options: RegisterOptions) => RegisterOptions | Promise<RegisterOptions>, RegExp][] = [
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

/** An emulator with the device `dev-1`, and what the device needs. */
async function withKey(config: EmulatorConfig = {}): Promise<{ emulator: Emulator; options: RegisterOptions }> {
  const emulator = await startBench(config);
  const primaryKey = makeKey();
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey } } });
  return { emulator, options: optionsFor(emulator, 'amqp', 'dev-1', { symmetricKey: primaryKey }) };
}

function optionsFor(
  emulator: Emulator,
  transport: 'amqp' | 'amqp-ws',
  registrationId: string,
  credential: RegisterOptions['credential'],
): RegisterOptions {
  const { amqp, https } = emulator.endpoints.dps;
  const endpoint = transport === 'amqp' ? amqp : https;
  return { transport, endpoint, idScope: emulator.idScope, registrationId, credential };
}
