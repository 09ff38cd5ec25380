// Microsoft's TPM client, for the interop tests and the bench: pinned in tools/tpm-peers/, installed by `npm run rig` into
// .rig/tpm-peers/. It is no development dependency, because a plain install of it fails: see its package.json here.
//   node tools/tpm-peers.mjs --missing   names it, unless it is there
//   node tools/tpm-peers.mjs --install   installs it, unless it is there
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const PINS = fileURLToPath(new URL('tpm-peers/', import.meta.url));
const FOLDER = fileURLToPath(new URL('../.rig/tpm-peers/', import.meta.url));
const STAMP = join(FOLDER, 'installed.sha256');

const { dependencies } = JSON.parse(readFileSync(join(PINS, 'package.json'), 'utf8'));

/** Installed whole, and from the pins as they are now. */
function areInstalled() {
  return existsSync(STAMP) && readFileSync(STAMP, 'utf8') === pinsDigest();
}

function pinsDigest() {
  return createHash('sha256')
    .update(readFileSync(join(PINS, 'package-lock.json')))
    .digest('hex');
}

function install() {
  mkdirSync(FOLDER, { recursive: true });
  rmSync(STAMP, { force: true });
  for (const file of ['package.json', 'package-lock.json']) cpSync(join(PINS, file), join(FOLDER, file));
  execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: FOLDER,
    stdio: 'inherit',
  });
  writeFileSync(STAMP, pinsDigest());
}

if (!areInstalled()) {
  const names = Object.entries(dependencies).map(([name, version]) => `${name} ${version}`);
  if (process.argv[2] === '--install') {
    console.log(`rig: installing ${names.join(', ')} into .rig/tpm-peers/ (34 MB)`);
    install();
  } else console.log(`packages (${names.join(', ')})`);
}
