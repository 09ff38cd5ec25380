import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { provision, run } from '../../../src/compose.js';
import { type Emulator, startEmulator } from '../../../src/emulator/index.js';
import type { ProvisionOptions } from '../../../src/provision-options.js';
import { failureOf, HANDLES, signal, signatureOf, TpmBench } from './tpm-bench.js';

/** The whole way on a real swtpm and our emulator: EK, challenge, hub key, twin. */
describe('zero to twin with a TPM', () => {
  let bench: TpmBench;
  let emulator: Emulator;
  beforeAll(async () => {
    bench = await TpmBench.start();
    emulator = await startEmulator({ retryAfterSeconds: 0 });
  });
  afterAll(async () => {
    await emulator.close();
    await bench.stop();
  });

  const options = (hsm: ProvisionOptions['hsm']): ProvisionOptions => ({
    idScope: emulator.idScope,
    endpoint: emulator.endpoints.dps.https,
    transport: 'https',
    ca: emulator.caPem,
    hsm,
  });
  const start = (hsm: ProvisionOptions['hsm']): ReturnType<typeof provision> => provision(options(hsm));

  it('goes from the EK to the twin, and the hub knows the device', async () => {
    const hsm = await bench.device();
    emulator.enroll((await hsm.identity(signal)).enrollment);
    const device = await start(hsm);
    expect(device.deviceId).toBe(await hsm.registrationId(signal));
    expect(device.twin.desired.version).toBeGreaterThan(0);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
    expect(await bench.probe.leaks()).toEqual([]);
    const session = await device.openHub();
    expect(session.twin.desired.version).toBe(device.twin.desired.version);
    await session.close();
    await expect(device.connectionString()).rejects.toMatchObject({ code: 'ERR_DPS_HSM_NOT_EXPORTABLE' });
  });

  it('leaves the TPM of a description open for who goes to the hub with the device', async () => {
    const described = { kind: 'tpm', link: bench.swtpm.uri } as const;
    const device = await start(described);
    await (await device.openHub()).close();
    const running = run(options(described));
    const kept = await running.ready;
    await running.close();
    await (await kept.openHub()).close();
  });

  it('does it again after a power cut, and the identity in use signs meanwhile', async () => {
    await bench.swtpm.powerCycle();
    const hsm = await bench.device();
    const before = await signatureOf(hsm);
    const device = await start(hsm);
    expect(device.deviceId).toBe(await hsm.registrationId(signal));
    expect(before).toHaveLength(64);
    const session = await device.openHub();
    await session.close();
  });

  it('says clearly that the TPM was cleared, and is provisioned again', async () => {
    const hsm = await bench.device();
    await bench.probe.clear();
    expect((await failureOf(signatureOf(hsm))).code).toBe('ERR_DPS_HSM_TPM_NO_IDENTITY');
    const device = await start(hsm);
    const session = await device.openHub();
    await session.close();
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('is refused with the service’s words when it is not enrolled, and leaves nothing', async () => {
    const other = await TpmBench.start();
    try {
      const hsm = await other.device();
      await expect(start(hsm)).rejects.toMatchObject({ name: expect.stringMatching(/Error$/) });
      expect(await other.probe.leaks()).toEqual([]);
      expect(await other.probe.persistent()).toEqual([HANDLES.srk, HANDLES.ek]);
    } finally {
      await other.stop();
    }
  });
});
