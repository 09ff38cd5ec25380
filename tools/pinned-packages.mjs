// Packages for the tests alone: pinned in a folder of tools/, installed by `npm run rig` into the folder of .rig/ of that
// name. The tool that knows them is run with
//   --missing   to name them, unless they are there
//   --install   to install them, unless they are there
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export class PinnedPackages {
  #pins;
  #stamp;

  /** The folder in tools/, and in .rig/. */
  constructor(name) {
    this.name = name;
    this.#pins = fileURLToPath(new URL(`${name}/`, import.meta.url));
    this.folder = fileURLToPath(new URL(`../.rig/${name}/`, import.meta.url));
    this.#stamp = join(this.folder, 'installed.sha256');
  }

  /** Versions by name. */
  get dependencies() {
    return JSON.parse(readFileSync(join(this.#pins, 'package.json'), 'utf8')).dependencies;
  }

  /** Installed whole, and from the pins as they are now. */
  areInstalled() {
    return existsSync(this.#stamp) && readFileSync(this.#stamp, 'utf8') === this.#digest();
  }

  /** `trim` takes out what nobody needs, before they count as installed. */
  install(trim = () => {}) {
    mkdirSync(this.folder, { recursive: true });
    rmSync(this.#stamp, { force: true });
    for (const file of ['package.json', 'package-lock.json']) cpSync(join(this.#pins, file), join(this.folder, file));
    execFileSync('npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'], {
      cwd: this.folder,
      stdio: 'inherit',
    });
    trim();
    writeFileSync(this.#stamp, this.#digest());
  }

  #digest() {
    return createHash('sha256')
      .update(readFileSync(join(this.#pins, 'package-lock.json')))
      .digest('hex');
  }
}

/** Does what the command line of a tool orders: names what is missing as `what`, or installs it. */
export function supply(packages, { what, names, size, areInstalled = () => packages.areInstalled(), trim }) {
  if (areInstalled()) return;
  const all = names.join(', ');
  if (process.argv[2] === '--install') {
    console.log(`rig: installing ${all} into .rig/${packages.name}/ (${size})`);
    packages.install(trim);
  } else console.log(`${what} (${all})`);
}
