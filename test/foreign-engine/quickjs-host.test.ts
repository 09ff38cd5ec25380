import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

describe('samples/quickjs-host.mjs', () => {
  it('registers a device with the machine inside QuickJS', async () => {
    const { stdout } = await promisify(execFile)(process.execPath, ['samples/quickjs-host.mjs'], { cwd: ROOT });
    const lines = stdout.trim().split('\n');
    const types = lines.slice(0, -1).map((line) => (JSON.parse(line) as { type: string }).type);
    expect(types).toEqual([
      'started',
      'connecting',
      'connected',
      'registering',
      'assigning',
      'waiting',
      'polling',
      'assigned',
    ]);
    expect(lines.at(-1)).toMatch(/^assigned to localhost:\d+ as sensor-1$/);
  });
});
