/* A real TPM (swtpm) over AMQP and AMQP over WebSocket, whose challenge comes in segments of SASL. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Tpm2Hsm } from '../../hsm/tpm2.js';
import { CuttingRelay } from '../guidance/cutting-relay.js';
import { HANDLES, signal, TpmBench } from '../hsm/tpm2/tpm-bench.js';
import { DESIRED, NetworkBench } from './network-bench.js';

let bench: NetworkBench;
let tpm: TpmBench;
let hsm: Tpm2Hsm;

beforeAll(async () => {
  bench = await NetworkBench.start();
  tpm = await bench.addTpm();
  hsm = await tpm.device();
});
afterAll(() => bench?.stop());
beforeEach(() => {
  bench.emulator.trace.clear();
  bench.emulator.faults.clear();
});

describe.each(['amqp', 'amqp-ws'] as const)('%s', (protocol) => {
  const attestation = 'tpm';
  const journey = (endpoint?: string) =>
    bench.provision({ protocol, attestation, ...(endpoint === undefined ? {} : { endpoint }) });
  const challenges = () => bench.emulator.trace.count({ event: 'challenge' });
  const connections = () => {
    const entries = bench.emulator.trace.entries({ service: 'dps' });
    // The end of an earlier test's may be told late.
    return new Set(entries.filter(({ event }) => event !== 'close').map(({ connection }) => connection)).size;
  };

  it('comes to its twin by one connection to DPS, and the hub takes the key that the TPM holds', async () => {
    const device = await journey();
    expect(device).toMatchObject({
      deviceId: await hsm.registrationId(signal),
      twin: { desired: { properties: DESIRED } },
    });
    expect([challenges(), connections()]).toEqual([1, 1]);
    expect(await tpm.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
    expect(await tpm.probe.leaks()).toEqual([]);
    const session = await device.openHub();
    await session.sendTelemetry({ body: { temperature: 21.5 } });
    await session.close();
  });

  it.each([1, 2])('is challenged anew when the connection is cut instead of the challenge, %d times', async (times) => {
    bench.emulator.faults.add({ at: 'dps.challenge', action: { kind: 'cut' }, times });
    expect((await journey()).twin.desired.properties).toEqual(DESIRED);
    expect(connections()).toBe(times + 1);
    expect(await tpm.probe.leaks()).toEqual([]);
  });

  it('is challenged anew when the connection is lost while the TPM opens the challenge', async () => {
    const relay = new CuttingRelay();
    await relay.up();
    try {
      relay.target = bench.endpointOf(protocol);
      const journeying = journey(relay.address);
      const types: string[] = [];
      for await (const { type } of journeying.events) {
        if (type === 'challenged' && !types.includes(type)) relay.cut();
        types.push(type);
      }
      expect((await journeying).twin.desired.properties).toEqual(DESIRED);
      expect(types.filter((type) => type === 'challenged')).toHaveLength(2);
      expect([challenges(), relay.accepted]).toEqual([2, 2]);
      expect(bench.emulator.trace.count({ event: 'register' })).toBe(1);
      expect(await tpm.probe.leaks()).toEqual([]);
    } finally {
      await relay.down();
    }
  });

  it.each(['challenge', 'register'] as const)(
    'says what is wrong with a key that was spoiled on its way (%s)',
    async (at) => {
      bench.emulator.faults.add({ at: `dps.${at}`, action: { kind: 'tpmBlob', damage: 'field2' }, times: 1 });
      const error = await journey().catch((reason: unknown) => reason);
      expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_TPM_BLOB', retryable: false });
      expect(await tpm.probe.leaks()).toEqual([]);
    },
  );

  it('is not enrolled', async () => {
    const other = await TpmBench.start();
    try {
      const stranger = await other.device();
      const error = await bench.provision({ protocol, attestation: stranger }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        name: 'RegistrationRejectedError',
        code: 'ERR_DPS_REGISTRATION_FAILED',
        errorCode: 404201,
        message: expect.stringContaining(
          'check its registration id and, for a TPM, the endorsement key of the enrollment',
        ),
      });
      expect(await other.probe.leaks()).toEqual([]);
    } finally {
      await other.stop();
    }
  });

  it('is enrolled with the EK of another TPM', async () => {
    const other = await TpmBench.start();
    try {
      const impostor = await other.device({ registrationId: await hsm.registrationId(signal) });
      const error = await bench.provision({ protocol, attestation: impostor }).catch((reason: unknown) => reason);
      expect(error).toMatchObject({ name: 'ServiceError', code: 'ERR_DPS_SERVICE_UNAUTHORIZED', status: 401 });
      expect(challenges()).toBe(0);
      expect(await other.probe.persistent()).toEqual([HANDLES.srk, HANDLES.ek]);
      expect(await other.probe.leaks()).toEqual([]);
    } finally {
      await other.stop();
    }
  });
});
