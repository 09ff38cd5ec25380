import { describe, expect, it } from 'vitest';
import { run } from '../../tools/trial-ground.mjs';
import { ROOT } from './built-package.js';

interface Row {
  readonly runtime: string;
  readonly cells: readonly { readonly title: string; readonly failure?: string; readonly gap?: string }[];
}

const isMachineSupported = process.platform === 'linux' && process.arch === 'x64';

describe('the runtime matrix', () => {
  it('has the packed package do its work on every runtime, but for the gaps that are known', async () => {
    const { stdout, stderr } = await run(process.execPath, ['tools/matrix.mjs', '--json'], { cwd: ROOT });
    // "run npm run rig", when runtimes are missing.
    expect(stdout, stderr).not.toBe('');
    const rows = JSON.parse(stdout) as Row[];
    const names = rows.map(({ runtime }) => runtime.replace(/\..*/, ''));
    expect(names).toEqual(
      isMachineSupported
        ? ['Node 18', 'Node 20', 'Node 22', 'Node 24', 'Node 26', 'Bun 1', 'Deno 2']
        : [`Node ${process.versions.node.replace(/\..*/, '')}`],
    );
    const cells = rows.flatMap((row) => row.cells.map((cell) => ({ runtime: row.runtime, ...cell })));
    expect(cells).toHaveLength(names.length * 11);
    expect(cells.filter(({ failure }) => failure !== undefined)).toEqual([]);
    const gaps = cells.filter(({ gap }) => gap !== undefined).map(({ runtime, title }) => `${runtime}: ${title}`);
    expect(gaps).toEqual(isMachineSupported ? [expect.stringMatching(/^Deno .*: refusal by TLS 1\.3$/)] : []);
  });
});
