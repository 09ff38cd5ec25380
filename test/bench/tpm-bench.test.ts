import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const RUN = fileURLToPath(new URL('tpm/run.mjs', import.meta.url));

describe('the bench of the TPM layer', () => {
  // A contestant that signs with a wrong key fails the run.
  it('takes every contestant through activation and signing', { timeout: 120_000 }, async () => {
    const args = [RUN, '--runs', '1', '--activations', '2', '--signatures', '2', '--json'];
    const { stdout } = await promisify(execFile)(process.execPath, args);
    const rows = JSON.parse(stdout) as readonly Record<string, unknown>[];
    expect(rows.map(({ name }) => name)).toEqual([
      'dps-device, swtpm socket',
      'dps-device, parameters in clear',
      'dps-device, mssim',
      'azure-iot-security-tpm, mssim',
      'tpm2-tools, swtpm socket',
    ]);
    for (const row of rows) {
      for (const of of ['challengeMs', 'hubKeyMs', 'signatureMs']) expect(row[of]).toBeGreaterThan(0);
    }
  });
});
