import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The folder with package.json and dist/. */
export const ROOT: string = fileURLToPath(new URL('../..', import.meta.url));

type Target = string | { readonly [condition: string]: Target };

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  readonly exports: Readonly<Record<string, Target>>;
  readonly dependencies?: Readonly<Record<string, string>>;
}

/** esbuild's metafile, as far as it is read here. Paths are relative to the root. */
export interface Metafile {
  readonly inputs: Readonly<Record<string, { readonly imports: readonly { readonly path: string }[] }>>;
  readonly outputs: Readonly<Record<string, Output>>;
}

export interface Output {
  readonly bytes: number;
  readonly entryPoint?: string;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly imports: readonly { readonly path: string; readonly kind: string; readonly external?: boolean }[];
}

export const manifest: Manifest = readJson('package.json') as Manifest;

/** A public door. `commonJs` is missing where CommonJS gets the ESM file. */
export interface Door {
  /** `.`, `./core`, … */
  readonly name: string;
  readonly esm: string;
  readonly types: string;
  readonly commonJs?: string;
  readonly commonJsTypes?: string;
}

/** All doors with code behind them. */
export const doors: readonly Door[] = Object.entries(manifest.exports).flatMap(([name, target]) => {
  if (typeof target === 'string') return [];
  const { import: forImport = target, require: forRequire } = target;
  const esm = { esm: fileOf(forImport, 'default'), types: fileOf(forImport, 'types') };
  if (forRequire === undefined) return [{ name, ...esm }];
  return [{ name, ...esm, commonJs: fileOf(forRequire, 'default'), commonJsTypes: fileOf(forRequire, 'types') }];
});

export function readMetafile(name: 'meta.json' | 'meta-device-file.json'): Metafile {
  return readJson(`dist/${name}`) as Metafile;
}

export function readDist(path: string): string {
  const file = join(ROOT, 'dist', path);
  if (!existsSync(file)) throw new Error(`dist/${path} is missing: run npm run build`);
  return readFileSync(file, 'utf8');
}

function readJson(path: string): unknown {
  return JSON.parse(
    path.startsWith('dist/') ? readDist(path.slice('dist/'.length)) : readFileSync(join(ROOT, path), 'utf8'),
  );
}

/** `./dist/src/index.js` -> `dist/src/index.js` */
function fileOf(target: Target, condition: string): string {
  const file = typeof target === 'string' ? undefined : target[condition];
  if (typeof file !== 'string') throw new Error(`package.json: a door without ${condition}`);
  return file.replace('./', '');
}
