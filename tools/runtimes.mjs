// The runtimes of the matrix: pinned in tools/runtimes/, installed by `npm run rig` into .rig/runtimes/.
//   node tools/runtimes.mjs --missing   names them, unless they are there
//   node tools/runtimes.mjs --install   installs them, unless they are there
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { PinnedPackages, supply } from './pinned-packages.mjs';

const packages = new PinnedPackages('runtimes');
const { dependencies } = packages;

/** The pinned packages are for one kind of machine; elsewhere the matrix has the Node it is run by, and says so. */
export const UNSUPPORTED = `rig: the runtimes of the matrix are for Linux on x64, this is ${process.platform} on ${process.arch}: the matrix has this Node ${process.versions.node} only`;

/** Whether there are binaries for this machine. */
export const isMachineSupported = process.platform === 'linux' && process.arch === 'x64';

/** What a runtime does not do, or not always, by the column of the table it shows in. */
const GAPS = {
  deno: {
    'refusal by TLS 1.3':
      'a server that refuses the device certificate under TLS 1.3 is now and then seen as a lost connection, and asked again',
  },
};

/** In the order of the table: `program` is the binary, `flags` come before the script. */
export const runtimes = Object.entries(dependencies).map(([name, pin]) => {
  const version = pin.slice(pin.lastIndexOf('@') + 1);
  const folder = join(packages.folder, 'node_modules', name);
  const gaps = GAPS[name] ?? {};
  if (name === 'bun') return { name: 'Bun', version, program: join(folder, 'bin/bun'), flags: ['run'], gaps };
  // The packages that were installed, not Deno's own cache; every permission, as Node and Bun have.
  const denoFlags = ['run', '--allow-all', '--no-config', '--node-modules-dir=manual'];
  if (name === 'deno') return { name: 'Deno', version, program: join(folder, 'deno'), flags: denoFlags, gaps };
  return { name: 'Node', version, program: join(folder, 'bin/node'), flags: [], gaps };
});

/** Installed whole, and from the pins as they are now. */
export function areInstalled() {
  return packages.areInstalled() && runtimes.every(({ program }) => existsSync(program));
}

/** Headers and manual pages are a third of what Node's packages bring. */
function trim() {
  for (const name of Object.keys(dependencies)) {
    for (const part of ['include', 'share'])
      rmSync(join(packages.folder, 'node_modules', name, part), { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const names = runtimes.map(({ name, version }) => `${name} ${version}`);
  if (!isMachineSupported) console.error(UNSUPPORTED);
  else supply(packages, { what: 'runtimes', names, size: '760 MB', areInstalled, trim });
}
