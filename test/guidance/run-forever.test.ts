import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

describe('samples/run-forever.mjs', () => {
  it('lives through a lost connection, and ends by itself', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ['samples/run-forever.mjs'], { cwd: ROOT });
    const lines = stdout.trimEnd().split('\n');
    expect(lines.slice(0, 3)).toEqual([
      expect.stringMatching(/^living at localhost:\d+$/),
      'reported version 2',
      'reported version 3',
    ]);
    expect(lines).toContain('method answered { status: 200, payload: { blinking: true } }');
    expect(lines.filter((line) => line === 'telemetry sent').length).toBeGreaterThan(1);
    expect(lines).toContain('stopped');
  });
});
