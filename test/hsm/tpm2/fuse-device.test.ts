import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, open, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { DeviceLink, deviceFiles } from '../../../hsm/tpm2/links/device.js';
import { tpm2Hsm } from '../../../hsm/tpm2.js';
import type { Clock } from '../../../src/core/clock.js';
import { systemClock } from '../../../src/system-clock.js';
import { ManualClock } from '../../fakes/manual-clock.js';
import { expectSignsWith, failureOf, TpmBench } from './tpm-bench.js';
import { bytesOf } from './vectors.js';

const COMMAND = bytesOf('80010000000a00000fff');
const REFUSAL = '80010000000a00000143';
const openFile = promisify(open);

/**
 * The kernel device's rules on files that are reached through the kernel: a FUSE file system in front of swtpm, see
 * `fuse-device.mjs`. A stand-in: no TPM driver, and no hardware, takes part. Only the check that it is a character device
 * is left out here.
 */
describe('the kernel device, on a FUSE stand-in', () => {
  let bench: TpmBench;
  let folder: string;
  let server: ChildProcess;
  let problem = '';
  beforeAll(async () => {
    bench = await TpmBench.start();
    folder = join(bench.swtpm.folder, 'dev');
    mkdirSync(folder);
    const program = fileURLToPath(new URL('./fuse-device.mjs', import.meta.url));
    server = spawn(process.execPath, [program, folder, bench.swtpm.socketPath]);
    server.stderr?.on('data', (text: Buffer) => {
      problem += text.toString();
    });
    await Promise.race([once(server.stdout ?? server, 'data'), once(server, 'exit')]);
  });
  afterAll(async () => {
    if (server.exitCode === null) {
      const gone = once(server, 'exit');
      spawnSync('umount', ['-l', folder]);
      server.kill('SIGKILL');
      await gone;
    }
    await bench.stop();
  });
  beforeEach((context) => {
    if (server.exitCode !== null) context.skip(`FUSE cannot be mounted here: ${problem}`);
  });

  const linkTo = (name: string, clock: Clock = systemClock): DeviceLink =>
    new DeviceLink(join(folder, name), clock, { ...deviceFiles, open: (path) => openFile(path, 'r+') });
  const answerOf = async (link: DeviceLink): Promise<string> =>
    Buffer.from(await link.transceive(COMMAND, 60_000)).toString('hex');

  it.each(['tpmrm0', 'tpm0', 'tpm-short-reads', 'tpm-old-kernel'])(
    '%s carries a device the whole way',
    async (name) => {
      const hsm = await tpm2Hsm({ link: linkTo(name) });
      await expectSignsWith(hsm, await bench.provision(hsm), Buffer.alloc(3000, 1));
      await hsm.close();
    },
  );

  it('tpmrm0 can be opened by many, tpm0 by one', async () => {
    const [first, second] = [linkTo('tpmrm0'), linkTo('tpmrm0')];
    expect(await Promise.all([answerOf(first), answerOf(second)])).toEqual([REFUSAL, REFUSAL]);
    const [owner, other] = [linkTo('tpm0'), linkTo('tpm0')];
    expect(await answerOf(owner)).toBe(REFUSAL);
    expect(await failureOf(answerOf(other))).toMatchObject({ code: 'ERR_DPS_HSM_TPM_BUSY', retryable: true });
    // Whoever has nothing more to ask lets go of it.
    owner.rest();
    await owner.close();
    expect(await answerOf(other)).toBe(REFUSAL);
    for (const link of [first, second, other]) await link.close();
  });

  it.each([
    ['tpm-not-ours', 'ERR_DPS_HSM_TPM_PERMISSION'],
    ['tpm-gone', 'ERR_DPS_HSM_TPM_CONNECTION_LOST'],
    ['tpm-missing', 'ERR_DPS_HSM_TPM_UNREACHABLE'],
  ])('%s fails with %s', async (name, code) => {
    expect((await failureOf(answerOf(linkTo(name)))).code).toBe(code);
  });

  it('refuses a command that is no command', async () => {
    const link = linkTo('tpmrm0');
    const error = await failureOf(link.transceive(bytesOf('80010000004000000fff'), 60_000));
    expect(error.cause).toMatchObject({ code: 'EINVAL' });
    expect(await answerOf(link)).toBe(REFUSAL);
    await link.close();
  });

  it('tpm-silent blocks nobody but itself', async () => {
    const clock = new ManualClock();
    const link = linkTo('tpm-silent', clock);
    const failing = failureOf(link.transceive(COMMAND, 1_000));
    while (clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
    clock.advance(1_000);
    expect((await failing).code).toBe('ERR_DPS_HSM_TPM_TIMEOUT');
    // As often as a device may try: no thread is taken but the first.
    for (let tries = 0; tries < 20; tries += 1) {
      expect((await failureOf(linkTo('tpm-silent').transceive(COMMAND, 1_000))).code).toBe('ERR_DPS_HSM_TPM_BUSY');
    }
    expect(await answerOf(linkTo('tpmrm0'))).toBe(REFUSAL);
    expect(readFileSync(fileURLToPath(import.meta.url)).length).toBeGreaterThan(0);
    await link.close();
  });
});
