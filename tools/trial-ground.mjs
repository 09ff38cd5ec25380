// Where the package is tried as users get it: packed, installed alone, run by whatever runtime against the emulator.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CONSUMERS = join(ROOT, 'test/package/consumers');

/** A hang is a failure, slowness is not. */
const HANG_MS = 120_000;

/** An empty folder outside the project, so that nothing is found that was not installed. */
export function makeFolder() {
  return mkdtempSync(join(tmpdir(), 'dps-device-trial-'));
}

export function removeFolder(folder) {
  rmSync(folder, { recursive: true, force: true });
}

/** Packs dist/ as it is into `folder`; returns the tarball's path and what npm says of it. */
export function packPackage(folder) {
  const output = npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder], ROOT);
  const [report] = Object.values(JSON.parse(output));
  return { path: join(folder, report.filename), report };
}

/** Installs the tarball into an empty consumer project, from nowhere but the tarball. */
export function installPackage(folder, tarball) {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'package.json'), '{ "name": "consumer", "private": true }\n');
  npm(['install', '--offline', '--no-audit', '--no-fund', tarball], folder);
}

/** Puts the consumer programs into a consumer project. */
export function placeConsumers(folder) {
  cpSync(CONSUMERS, folder, { recursive: true });
}

/** Runs a program to its end; never fails. */
export function run(program, args, { cwd, env = {} }) {
  return new Promise((resolve) => {
    const child = spawn(program, args, {
      cwd,
      env: { ...bareEnvironment(), ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: HANG_MS,
      killSignal: 'SIGKILL',
    });
    const output = { stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr']) {
      child[stream].setEncoding('utf8').on('data', (text) => {
        output[stream] += text;
      });
    }
    child.once('error', (error) => resolve({ ...output, status: undefined, stderr: error.message }));
    child.once('close', (status, signal) => resolve({ ...output, status: status ?? undefined, signal }));
  });
}

/** Nothing of this machine that could stand in for what the package must bring itself. */
function bareEnvironment() {
  const { PATH, HOME, TMPDIR } = process.env;
  return { PATH, HOME, ...(TMPDIR === undefined ? {} : { TMPDIR }), NO_COLOR: '1', DENO_NO_UPDATE_CHECK: '1' };
}

function npm(args, cwd) {
  return execFileSync('npm', args, { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}
