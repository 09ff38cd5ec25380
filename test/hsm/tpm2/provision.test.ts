import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Provisioning, provision } from '../../../src/compose.js';
import { type Emulator, startEmulator } from '../../../src/emulator/index.js';
import type { ProvisionOptions } from '../../../src/provision-options.js';
import { systemClock } from '../../../src/system-clock.js';
import { ManualClock } from '../../fakes/manual-clock.js';
import { HANDLES, signal, signatureOf, TpmBench } from './tpm-bench.js';
import { startRawPeer } from './tpm-peer.js';

/** As a program has it: the HSM by its description, and a record from one start to the next. */
describe('a device with a TPM', () => {
  let bench: TpmBench;
  let emulator: Emulator;
  beforeAll(async () => {
    bench = await TpmBench.start();
    emulator = await startEmulator({ retryAfterSeconds: 0 });
    emulator.enroll((await (await bench.device()).identity(signal)).enrollment);
  });
  afterAll(async () => {
    await emulator.close();
    await bench.stop();
  });

  function start(options: Partial<ProvisionOptions> = {}): Provisioning {
    return provision({
      idScope: emulator.idScope,
      endpoint: emulator.endpoints.dps.https,
      ca: emulator.caPem,
      hsm: { kind: 'tpm', link: bench.swtpm.uri },
      ...options,
    });
  }

  const state = (): string => join(bench.swtpm.folder, 'state');

  async function reasonsOf(journey: Provisioning): Promise<string[]> {
    const reasons: string[] = [];
    for await (const event of journey.events) if (event.type === 'reprovisioning') reasons.push(event.detail);
    return reasons;
  }

  it('goes to DPS over HTTPS, without being told to', async () => {
    const device = await start({ state: state() });
    expect(device.source).toBe('registered');
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
  });

  it('goes straight to its hub after a power cut, by its record', async () => {
    await bench.swtpm.powerCycle();
    const refuse = emulator.faults.add({ at: 'dps.challenge', action: { kind: 'respond', status: 503 } });
    onTestFinished(refuse);
    const device = await start({ state: state() });
    expect(device.source).toBe('stored');
    const session = await device.openHub();
    await session.close();
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('renews its hub token, and the TPM signs the new one', async () => {
    const clock = new ManualClock(Date.now());
    let signatures = 0;
    const link = await bench.tapped((command, pass) => {
      if (command.readUInt32BE(6) === 0x155) signatures += 1;
      return pass();
    });
    const hsm = await bench.device({ link });
    const device = await start({ hsm, state: state(), clock, random: () => 0, tokenLifeSeconds: 1_000 });
    const session = await device.openHub();
    const before = signatures;
    const connections = (): number => emulator.trace.entries({ service: 'hub', event: 'connack' }).length;
    const connected = connections();
    // In steps, so that keep-alive pings find their answers.
    for (let passedMs = 0; passedMs < 800_000; passedMs += 50_000) {
      clock.advance(50_000);
      await session.report({ passedMs });
    }
    await until(() => connections() > connected);
    expect(signatures).toBe(before + 1);
    expect(await session.report({ token: 'renewed' })).toBeGreaterThan(0);
    await session.close();
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('takes back a key that the hub does not want, and keeps the one it had', async () => {
    const before = await signatureOf(await bench.device());
    const refuse = emulator.faults.add({ at: 'hub.connack', action: { kind: 'connack', code: 5 } });
    onTestFinished(refuse);
    await expect(start({ reprovision: true, deadlineMs: 10_000 })).rejects.toMatchObject({
      code: expect.stringMatching(/^ERR_DPS_/),
    });
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
    expect(await bench.probe.leaks()).toEqual([]);
    expect(await signatureOf(await bench.device())).toBe(before);
  });

  it('says why it goes back to DPS when the TPM was cleared, and is provisioned again', async () => {
    await bench.probe.clear();
    const journey = start({ state: state() });
    const [device, reasons] = await Promise.all([journey, reasonsOf(journey)]);
    expect(reasons).toEqual(['ERR_DPS_HSM_TPM_NO_IDENTITY']);
    expect(device.source).toBe('registered');
    expect((await start({ state: state() })).source).toBe('stored');
  });

  it('waits for the TPM by the clock of the journey', async () => {
    const clock = new ManualClock(Date.now());
    let asked = (): void => undefined;
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const peer = await startRawPeer(() => {
      asked();
      return 'silence';
    });
    onTestFinished(() => peer.close());
    const { place } = peer.link(systemClock);
    const link = `tpm2:swtpm:host=127.0.0.1,port=${place.split(':').at(-1)}`;
    const failing = start({ clock, hsm: { kind: 'tpm', link, commandTimeoutMs: 200_000 } });
    const failure = failing.then(
      () => 'it succeeded',
      (error: unknown) => error,
    );
    await isAsked;
    clock.advance(200_000);
    expect(await failure).toMatchObject({ code: 'ERR_DPS_HSM_TPM_TIMEOUT' });
    expect(clock.pending).toBe(0);
  });

  it('can be called off while a password is still to come out of a pipe', async () => {
    const pipe = join(bench.swtpm.folder, 'pipe');
    execFileSync('mkfifo', ['-m', '600', pipe]);
    const pipes = (): number => process.getActiveResourcesInfo().filter((name) => name === 'PipeWrap').length;
    const others = pipes();
    const controller = new AbortController();
    const hsm = { kind: 'tpm', link: bench.swtpm.uri, ownerAuth: { file: pipe } } as const;
    const failing = start({ hsm, signal: controller.signal }).then(
      () => 'it succeeded',
      (error: unknown) => error,
    );
    await until(() => pipes() > others);
    controller.abort();
    expect(await failing).toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await until(() => pipes() === others);
  });
});

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
}
