// Builds dist/: one ESM entry per public door with shared, lazily loaded chunks; CommonJS shims; the device file; types by
// tsc; licences and SBOM of what was compiled in. Everything is made aside and moved into place at the end.
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { leaveOut, nodeModules } from './engine-parts.mjs';
import { licenceTexts, readThirdParties, softwareBill } from './third-party.mjs';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const manifest = JSON.parse(readFileSync('package.json', 'utf8'));
const FRONT_DOOR = manifest.exports['.'].import.default;
const TPM_DOOR = manifest.exports['./hsm/tpm2'].default;
/** Parts of the command line that are loaded from beside it: the emulator, and the engine that makes certificates. */
const APART = ['dist/src/cli/emulator.js', 'dist/src/cli/keys-certificates.js'];
/** Engines that not every device needs are files of their own, made once for all who load them, the emulator included. */
const ENGINES = { ws: 'dist/chunks/websocket-engine.js', rhea: 'dist/chunks/amqp-engine.js' };
const targets = [...new Set(targetsOf(manifest.exports))];

/** What the front door loads lazily and is a door, or a file, of its own; see `buildDoors`. */
const LAZY = ['dist/hsm/software-key-store.js', 'dist/hsm/tpm2.js', 'dist/src/state/index.js'];

function fromFrontDoor(target) {
  const path = posix.relative(posix.dirname(FRONT_DOOR), target);
  return path.startsWith('.') ? path : `./${path}`;
}

const doorsApart = {
  name: 'doors-apart',
  setup({ onResolve }) {
    onResolve({ filter: /^\.\.?\// }, ({ path, kind, resolveDir }) => {
      const target = posix.join('dist', posix.relative(process.cwd(), posix.join(resolveDir, path)));
      if (kind !== 'dynamic-import' || !LAZY.includes(target)) return undefined;
      return { path: fromFrontDoor(target), external: true };
    });
  },
};

/** Where an engine is from the file that uses it is known when that file is made; see `placeEngines`. */
const enginesApart = {
  name: 'engines-apart',
  setup({ onResolve }) {
    onResolve({ filter: new RegExp(`^(${Object.keys(ENGINES).join('|')})$`) }, ({ path }) => ({
      path: `engine:${path}`,
      external: true,
    }));
  },
};

mkdirSync('node_modules/.cache', { recursive: true });
const staging = mkdtempSync('node_modules/.cache/dps-device-build-');
chmodSync(staging, 0o755);
try {
  await buildAll();
  rmSync('dist', { recursive: true, force: true });
  renameSync(staging, 'dist');
} finally {
  rmSync(staging, { recursive: true, force: true });
}

async function buildAll() {
  const doors = await buildDoors();
  const deviceFile = await buildDeviceFile();
  await buildCommonJsShims();
  emitTypes();
  writeThirdParties([doors, deviceFile]);
  write('dist/meta.json', JSON.stringify(doors));
  write('dist/meta-device-file.json', JSON.stringify(deviceFile));
}

/** What all builds of our own code have in common. */
function settings() {
  return {
    outdir: 'dist',
    write: false,
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node18.19',
    minify: true,
    // An uncaught error prints the line it was thrown on: that shall not be the whole file.
    lineLimit: 400,
    legalComments: 'none',
    // Modules are strict without saying so, each of them.
    tsconfigRaw: {
      compilerOptions: { alwaysStrict: false, useDefineForClassFields: true, verbatimModuleSyntax: true },
    },
    metafile: true,
    // Of packages that are there as ESM and as CommonJS, the one that can be shaken.
    mainFields: ['module', 'main'],
    external: Object.keys(manifest.peerDependencies ?? {}),
    plugins: [leaveOut, nodeModules],
    logLevel: 'warning',
  };
}

/**
 * The front door is made apart from the others, and so is that of the TPM. Made together, they would share what they have in
 * common in many small chunks, and each of those costs half a millisecond at every start of a device.
 */
async function buildDoors() {
  const entries = targets.filter((target) => target.endsWith('.js'));
  const runs = await Promise.all([
    buildTogether([FRONT_DOOR], [doorsApart]),
    buildTogether([TPM_DOOR]),
    buildTogether(entries.filter((target) => target !== FRONT_DOOR && target !== TPM_DOOR).concat(APART)),
    buildEngines(),
  ]);
  return {
    inputs: Object.assign({}, ...runs.map(({ inputs }) => inputs)),
    outputs: Object.assign({}, ...runs.map(({ outputs }) => outputs)),
  };
}

async function buildEngines() {
  const { metafile, outputFiles } = await build({
    ...settings(),
    entryPoints: Object.fromEntries(Object.entries(ENGINES).map(([name, target]) => [nameOf(target), name])),
  });
  writeAll(outputFiles);
  return metafile;
}

/** What is external to a run of esbuild only because another one makes it. */
function withOthers(metafile) {
  const files = new Map([
    ...Object.entries(ENGINES).map(([name, target]) => [`engine:${name}`, target]),
    ...LAZY.map((target) => [fromFrontDoor(target), target]),
  ]);
  for (const { imports } of Object.values(metafile.outputs)) {
    for (const each of imports) {
      if (!files.has(each.path)) continue;
      each.path = files.get(each.path);
      delete each.external;
    }
  }
  return metafile;
}

async function buildTogether(entries, plugins = []) {
  const { metafile, outputFiles } = await build({
    ...settings(),
    entryPoints: Object.fromEntries(entries.map((target) => [nameOf(target), `${nameOf(target)}.ts`])),
    splitting: true,
    chunkNames: 'chunks/[name]-[hash]',
    plugins: [...plugins, enginesApart, ...settings().plugins],
  });
  for (const { path, text } of outputFiles) {
    const file = posix.relative(process.cwd(), path);
    const placed = placeEngines(file, text);
    metafile.outputs[file].bytes = Buffer.byteLength(placed);
    write(file, placed);
  }
  return withOthers(metafile);
}

/** From each file in the way that leads from its folder. */
function placeEngines(file, text) {
  return text.replace(/(?<=["'])engine:(\w+)(?=["'])/g, (_, name) => {
    const path = posix.relative(posix.dirname(file), ENGINES[name]);
    return path.startsWith('.') ? path : `./${path}`;
  });
}

/**
 * The command line is one file: it starts faster than many, and runs wherever it is copied. What a device never needs stays
 * where it is in the package, and is missed only when it is asked for.
 */
async function buildDeviceFile() {
  const apart = {
    name: 'apart',
    setup({ onResolve }) {
      onResolve({ filter: /^\./ }, ({ path, resolveDir }) => {
        const target = posix.join('dist', posix.relative(process.cwd(), posix.join(resolveDir, path)));
        return APART.includes(target) ? { path: `./${posix.relative('dist', target)}`, external: true } : undefined;
      });
    },
  };
  const options = {
    ...settings(),
    entryPoints: { 'dps-device': 'src/cli/program.ts' },
    outExtension: { '.js': '.mjs' },
  };
  options.plugins = [apart, ...options.plugins];
  const { metafile, outputFiles } = await build(options);
  const { components } = readThirdParties([metafile]);
  // Copied alone, it carries the licences of what is in it.
  const texts = licenceTexts(components).replaceAll('*/', '* /');
  const notices = `/*\nThird-party licences of what is compiled into this file.\n\n${texts}*/\n`;
  for (const { path, text } of outputFiles) write(posix.relative('.', path), `${text}${notices}`, 0o755);
  return metafile;
}

async function buildCommonJsShims() {
  const shims = targets.filter((target) => target.endsWith('.cjs'));
  const { outputFiles } = await build({
    entryPoints: shims.map((target) => `${nameOf(target)}.cts`),
    outdir: 'dist',
    outbase: '.',
    outExtension: { '.js': '.cjs' },
    write: false,
    format: 'cjs',
    platform: 'node',
    target: 'node18.19',
    logLevel: 'warning',
  });
  writeAll(outputFiles);
}

/** Only what the doors show: no module of ours that no door leads to, and with it no engine's types. */
function emitTypes() {
  const tsc = 'node_modules/typescript/bin/tsc';
  for (const project of ['tsconfig.json', 'tsconfig.commonjs.json']) {
    const { status } = spawnSync(process.execPath, [tsc, '-p', project, '--outDir', staging], { stdio: 'inherit' });
    if (status !== 0) throw new Error(`The types of ${project} do not compile; dist/ is as it was.`);
  }
  const reached = new Set();
  const reach = (file) => {
    if (reached.has(file)) return;
    reached.add(file);
    const text = readFileSync(join(staging, file), 'utf8');
    for (const [, path] of text.matchAll(/(?:from |import\()['"](\.[^'"]+)\.js['"]/g)) {
      reach(posix.join(posix.dirname(file), `${path}.d.ts`));
    }
  };
  for (const target of targets) if (/\.d\.[cm]?ts$/.test(target)) reach(posix.relative('dist', target));
  for (const file of readdirSync(staging, { recursive: true, encoding: 'utf8' })) {
    if (/\.d\.[cm]?ts$/.test(file) && !reached.has(file)) rmSync(join(staging, file));
  }
}

function writeThirdParties(metafiles) {
  const { components, direct } = readThirdParties(metafiles);
  const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'));
  const bill = softwareBill({ manifest, components, direct, lock });
  write('dist/THIRD_PARTY_LICENSES.txt', licenceTexts(components));
  write('dist/sbom.cdx.json', `${JSON.stringify(bill)}\n`);
}

/** The files that an exports map leads to, under whatever conditions. */
function targetsOf(exports) {
  return typeof exports === 'string' ? [exports] : Object.values(exports).flatMap(targetsOf);
}

/** `./dist/src/index.js` -> `src/index` */
function nameOf(target) {
  return posix.relative('dist', target).replace(/\.[cm]?js$/, '');
}

function writeAll(outputFiles) {
  for (const { path, contents } of outputFiles) write(posix.relative(process.cwd(), path), contents);
}

/** Into the staging folder, what is to be at `path` in the end. */
function write(path, contents, mode = 0o644) {
  const file = join(staging, posix.relative('dist', path));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, contents, { mode });
}
