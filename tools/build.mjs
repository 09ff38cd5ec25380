// Builds dist/: one ESM entry per public door with shared, lazily loaded chunks; a CommonJS shim; types by tsc.
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = new URL('..', import.meta.url);
process.chdir(fileURLToPath(root));
const { exports: doors } = JSON.parse(readFileSync('package.json', 'utf8'));

rmSync('dist', { recursive: true, force: true });

/** Parts of MQTT.js that our engine never reaches: each is replaced by an empty module, so that it costs nothing. */
const LEFT_OUT = /^(debug|worker-timers|ws|socks|help-me|commist|concat-stream|split2|minimist)$/;

const leaveOut = {
  name: 'leave-out',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: LEFT_OUT }, ({ path }) => ({ path, namespace: 'left-out' }));
    onLoad({ filter: /.*/, namespace: 'left-out' }, ({ path }) => ({
      // `debug` is called at load time and on each packet: it becomes a logger that is switched off.
      contents:
        path === 'debug'
          ? 'const off = Object.assign(() => {}, { enabled: false }); module.exports = () => off;'
          : 'module.exports = {};',
      loader: 'js',
    }));
    // The userland copy of Node's streams: 100 KB for what Node brings along.
    onResolve({ filter: /^readable-stream$/ }, () => ({ path: 'node:stream', external: true }));
  },
};

const entryPoints = Object.fromEntries(
  Object.values(doors)
    .map((door) => door.import?.default)
    .filter((file) => file !== undefined)
    .map((file) => file.replace('./dist/', '').replace(/\.js$/, ''))
    .map((name) => [name, `${name}.ts`]),
);

const { metafile } = await build({
  entryPoints: { ...entryPoints, 'src/cli/main': 'src/cli/main.ts' },
  outdir: 'dist',
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'node18.19',
  chunkNames: 'chunks/[name]-[hash]',
  minify: true,
  keepNames: false,
  sourcemap: false,
  legalComments: 'none',
  metafile: true,
  plugins: [leaveOut],
  // Bundled CommonJS engines call require() for Node's own modules.
  banner: {
    js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
  },
  logLevel: 'warning',
});
writeFileSync('dist/meta.json', JSON.stringify(metafile));

await build({
  entryPoints: ['src/commonjs.cts', 'src/emulator/commonjs.cts'],
  outdir: 'dist/src',
  outbase: 'src',
  outExtension: { '.js': '.cjs' },
  format: 'cjs',
  platform: 'node',
  target: 'node18.19',
  logLevel: 'warning',
});

const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));
for (const project of ['tsconfig.json', 'tsconfig.commonjs.json']) {
  execFileSync(process.execPath, [tsc, '-p', project], { stdio: 'inherit' });
}
