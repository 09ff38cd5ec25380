import { describe, expect, it } from 'vitest';
import { DeviceLink } from '../../../hsm/tpm2/links/device.js';
import { tpm2Hsm } from '../../../hsm/tpm2.js';
import { systemClock } from '../../../src/system-clock.js';
import { ManualClock } from '../../fakes/manual-clock.js';
import { expectSignsWith, failureOf, TpmBench } from './tpm-bench.js';
import { type Answer, type KernelDouble, makeKernelDouble } from './tpm-peer.js';
import { bytesOf, hexOf } from './vectors.js';

const COMMAND = bytesOf('80010000000a00000fff');
const ANSWER = bytesOf('80010000001b00000000010000000600000001000001054942 4d00'.replace(' ', ''));

/** The kernel's rules, played by a double in this process: not a kernel, and no device. */
describe('the kernel device, on a double', () => {
  it('is closed whenever no command is waiting', async () => {
    const double = makeKernelDouble(() => ({ response: ANSWER }));
    const link = double.link(new ManualClock());
    await link.transceive(COMMAND, 1_000);
    await link.transceive(COMMAND, 1_000);
    expect(await double.openEnds()).toBe(1);
    link.rest();
    expect(await double.openEnds()).toBe(0);
    expect(hexOf(await link.transceive(COMMAND, 1_000))).toBe(hexOf(ANSWER));
    await link.close();
    expect(await double.openEnds()).toBe(0);
  });

  it.each([1, 9, 10, 11, 26])('puts together what comes in reads of %i bytes', async (bytes) => {
    const double = makeKernelDouble(() => ({ response: ANSWER }));
    double.shortReads = { bytes, dropsRest: false };
    expect(hexOf(await double.link(new ManualClock()).transceive(COMMAND, 1_000))).toBe(hexOf(ANSWER));
  });

  it('reads in one go what an old kernel would drop the rest of, and says so if it does', async () => {
    const double = makeKernelDouble(() => ({ response: ANSWER }));
    double.shortReads = { bytes: 4096, dropsRest: true };
    const link = double.link(new ManualClock());
    expect(hexOf(await link.transceive(COMMAND, 1_000))).toBe(hexOf(ANSWER));
    double.shortReads = { bytes: 12, dropsRest: true };
    expect((await failureOf(link.transceive(COMMAND, 1_000))).message).toContain('12 of 27 bytes');
    double.shortReads = undefined;
    expect(hexOf(await link.transceive(COMMAND, 1_000))).toBe(hexOf(ANSWER));
  });

  it('drops a response that is still in the way', async () => {
    const double = makeKernelDouble(() => ({ response: ANSWER }));
    let isDirty = true;
    const link = new DeviceLink('/dev/tpm-dirty', new ManualClock(), {
      ...double.files,
      async open(path) {
        const descriptor = await double.files.open(path);
        if (isDirty) await double.files.write(descriptor, COMMAND);
        isDirty = false;
        return descriptor;
      },
    });
    expect(hexOf(await link.transceive(COMMAND, 1_000))).toBe(hexOf(ANSWER));
    expect(double.commands).toHaveLength(2);
    await link.close();
  });

  it('sends nothing more to a device that is stuck, from no link, until it has come back', async () => {
    const double = makeKernelDouble(() => 'silence', '/dev/tpm-stuck');
    const clock = new ManualClock();
    const link = double.link(clock);
    const failing = failureOf(link.transceive(COMMAND, 1_000));
    while (double.commands.length === 0) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(1_000);
    expect((await failing).code).toBe('ERR_DPS_HSM_TPM_TIMEOUT');
    double.answering = () => ({ response: ANSWER });
    for (const other of [link, double.link(clock)]) {
      const error = await failureOf(other.transceive(COMMAND, 1_000));
      expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_BUSY', retryable: true });
    }
    expect(double.commands).toHaveLength(1);
    await link.close();
    double.release();
    await settled(double);
    expect(hexOf(await link.transceive(COMMAND, 1_000))).toBe(hexOf(ANSWER));
    await link.close();
    expect(await double.openEnds()).toBe(0);
    expect(clock.pending).toBe(0);
  });

  it('carries a device the whole way', async () => {
    const bench = await TpmBench.start();
    try {
      const { SwtpmLink } = await import('../../../hsm/tpm2/links/swtpm.js');
      const inner = new SwtpmLink({ path: bench.swtpm.socketPath }, systemClock);
      const through = async (command: Uint8Array): Promise<Answer> => ({
        response: await inner.transceive(command, 60_000),
      });
      const double = makeKernelDouble(through);
      const hsm = await tpm2Hsm({ link: double.link(systemClock) });
      await expectSignsWith(hsm, await bench.provision(hsm), Buffer.alloc(3000, 1));
      await hsm.close();
      expect(await double.openEnds()).toBe(0);
      expect(Math.max(...double.commands.map(({ length }) => length))).toBeLessThanOrEqual(4096);
    } finally {
      await bench.stop();
    }
  });
});

async function settled(double: KernelDouble): Promise<void> {
  while ((await double.openEnds()) > 0) await new Promise((resolve) => setImmediate(resolve));
}
