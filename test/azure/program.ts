import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { onTestFinished } from 'vitest';
import { temporaryFolder } from '../cli/temporary-folder.js';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));

export interface ProgramOptions {
  /** What the program finds in `process.env`, and nothing else but a path. */
  readonly env?: Readonly<Record<string, string>>;
  /** The whole process trusts it: the provisioning packages have no option for it. */
  readonly trustedCaPem?: string;
  /** What relative imports are relative to. Default: the project. */
  readonly from?: string;
}

export interface ProgramEnd {
  /** Exit status; nothing but an empty event loop ends the program, so a handle left open shows as a hang. */
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs an ES module with top-level await in a process of its own. `dps-device` and its doors are compiled from this
 * project's sources; all other packages are loaded by the process as they are installed.
 */
export async function runProgram(source: string, options: ProgramOptions = {}): Promise<ProgramEnd> {
  const folder = temporaryFolder();
  symlinkSync(join(PROJECT, 'node_modules'), join(folder, 'node_modules'));
  const file = join(folder, 'program.mjs');
  writeFileSync(file, await compile(source, options.from ?? join(PROJECT, 'program.mjs')));
  const env: Record<string, string> = { PATH: process.env.PATH ?? '', ...options.env };
  if (options.trustedCaPem !== undefined) {
    env.NODE_EXTRA_CA_CERTS = join(folder, 'ca.pem');
    writeFileSync(env.NODE_EXTRA_CA_CERTS, options.trustedCaPem);
  }
  const child = spawn(process.execPath, [file], { cwd: PROJECT, env, stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => void child.kill('SIGKILL'));
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  const [status] = (await once(child, 'close')) as [number | null];
  return { status, ...output };
}

async function compile(source: string, from: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: dirname(from), sourcefile: from, loader: 'js' },
    bundle: true,
    packages: 'external',
    platform: 'node',
    format: 'esm',
    target: 'node18.19',
    write: false,
    plugins: [ownDoors],
  });
  return outputFiles[0]?.text ?? '';
}

/** `dps-device/emulator` is `src/emulator/index.ts`, `dps-device/hsm/x509-file` is `hsm/x509-file.ts`. */
const ownDoors: Plugin = {
  name: 'own-doors',
  setup({ onResolve }) {
    onResolve({ filter: /^dps-device(\/|$)/ }, ({ path }) => {
      const door = path.slice('dps-device'.length);
      return { path: join(PROJECT, door.startsWith('/hsm/') ? `${door}.ts` : `src${door}/index.ts`) };
    });
  },
};
