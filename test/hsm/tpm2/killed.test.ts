import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { HANDLES, signal, signatureOf, softwareHmac, TpmBench } from './tpm-bench.js';

/** A process of its own, killed for good; see `reprovision-process.ts`. */
describe('kill -9 of a device that is being provisioned again', () => {
  let bench: TpmBench;
  let program: string;
  beforeAll(async () => {
    bench = await TpmBench.start();
    program = join(bench.swtpm.folder, 'reprovision.mjs');
    await build({
      entryPoints: [fileURLToPath(new URL('./reprovision-process.ts', import.meta.url))],
      outfile: program,
      bundle: true,
      platform: 'node',
      format: 'esm',
      logLevel: 'error',
    });
  });
  afterAll(() => bench.stop());

  /** Gives what it printed, or undefined when it was killed. */
  async function reprovision(hubKey: Buffer, commands: number, when: 'answered' | 'sent'): Promise<string | undefined> {
    const hsm = await bench.device();
    const blobs = [await bench.sealed(hsm, randomBytes(32)), await bench.sealed(hsm, hubKey)];
    await hsm.close();
    const texts = blobs.map((blob) => Buffer.from(blob).toString('base64'));
    return new Promise((resolve, reject) => {
      const arguments_ = [program, bench.swtpm.uri, ...texts, String(commands), when];
      execFile(process.execPath, arguments_, (error, stdout, stderr) => {
        if (error === null) resolve(stdout);
        else if (error.signal === 'SIGKILL') resolve(undefined);
        else reject(new Error(stderr));
      });
    });
  }

  it.each(['answered', 'sent'] as const)(
    'leaves the old identity or the new one, when a command was %s',
    async (when) => {
      const device = await bench.device();
      let current = await bench.provision(device);
      const total = Number(await reprovision(current, 0, when));
      expect(total).toBeGreaterThan(20);
      let kept = 0;
      let replaced = 0;
      for (let commands = 1; commands <= total; commands += 1) {
        const next = randomBytes(32);
        expect(await reprovision(next, commands, when)).toBeUndefined();
        // First as the process left the TPM, then after a power cut.
        const identity = await whichSigns(current, next);
        await bench.swtpm.powerCycle();
        expect(await whichSigns(current, next)).toBe(identity);
        if (identity === 'old') kept += 1;
        else replaced += 1;
        current = identity === 'old' ? current : next;
        // Every second time it starts from what was left, the others from the usual.
        if (commands % 2 === 0) current = await bench.provision(await bench.device());
      }
      expect(kept).toBeGreaterThan(0);
      expect(replaced).toBeGreaterThan(0);
      current = await bench.provision(await bench.device());
      expect(await whichSigns(current, randomBytes(32))).toBe('old');
      expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
    },
    300_000,
  );

  async function whichSigns(old: Buffer, next: Buffer): Promise<'old' | 'new'> {
    const hsm = await bench.device();
    const signature = await signatureOf(hsm);
    await hsm.close();
    if (signature === softwareHmac(old)) return 'old';
    expect(signature).toBe(softwareHmac(next));
    return 'new';
  }

  it('does not hold the TPM when it lives', async () => {
    await bench.swtpm.powerCycle();
    const hsm = await bench.device();
    await bench.provision(hsm);
    expect(await bench.probe.leaks()).toEqual([]);
    await hsm.sign(randomBytes(2000), 0, signal);
    expect(await bench.probe.leaks()).toEqual([]);
  });
});
