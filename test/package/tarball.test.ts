import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  installPackage,
  makeFolder,
  type PackReport,
  packPackage,
  removeFolder,
  run,
} from '../../tools/trial-ground.mjs';
import { doors, manifest, ROOT } from './built-package.js';

const folder = makeFolder();
let tarball = '';
let report: PackReport;

beforeAll(() => {
  ({ path: tarball, report } = packPackage(folder));
  installPackage(join(folder, 'consumer'), tarball);
});
afterAll(() => removeFolder(folder));

const installed = (...path: string[]): string => join(folder, 'consumer/node_modules', ...path);
const tool = (path: string, ...args: string[]) =>
  run(process.execPath, [join(ROOT, 'node_modules', path), ...args], { cwd: folder });

describe('the tarball', () => {
  it('unpacks to less than 2 MB', () => {
    const { size, unpackedSize, files } = report;
    console.log(`package: ${unpackedSize} bytes in ${files.length} files, ${size} packed (budget 2000000)`);
    expect(files.length).toBeGreaterThan(50);
    expect(unpackedSize).toBeLessThan(2_000_000);
  });

  it('holds what is built, and nothing else', () => {
    const paths = report.files.map(({ path }) => path);
    const others = paths.filter((path) => !/^dist\/.*\.(js|cjs|mjs|d\.ts|d\.cts)$/.test(path)).sort();
    expect(others).toEqual([
      'CHANGELOG.md',
      'LICENSE',
      'README.md',
      'SECURITY.md',
      'dist/THIRD_PARTY_LICENSES.txt',
      'dist/sbom.cdx.json',
      'package.json',
    ]);
    for (const { esm, types, commonJs = esm, commonJsTypes = types } of doors) {
      expect(paths).toEqual(expect.arrayContaining([esm, types, commonJs, commonJsTypes]));
    }
  });

  it('brings the types that its doors show, and no others', () => {
    const paths = report.files.map(({ path }) => path).filter((path) => /\.d\.c?ts$/.test(path));
    expect(paths.length).toBeGreaterThan(20);
    const imports = paths.flatMap((path) => {
      const text = readFileSync(installed(manifest.name, path), 'utf8');
      return [...text.matchAll(/(?:from |import\()['"]([^'"]+)['"]/g)].map(([, from = '']) => from);
    });
    expect(imports.length).toBeGreaterThan(50);
    expect(imports.filter((from) => !/^(\.|node:)/.test(from))).toEqual([]);
    expect(paths.filter((path) => /^dist\/src\/(net|cli|transports|hub)\//.test(path))).toEqual([]);
  });

  it('installs as one package, without a registry', () => {
    expect(readdirSync(installed()).filter((name) => !name.startsWith('.'))).toEqual([manifest.name]);
    expect(existsSync(installed(manifest.name, 'node_modules'))).toBe(false);
    const lock = JSON.parse(readFileSync(installed('.package-lock.json'), 'utf8')) as { packages: object };
    expect(Object.keys(lock.packages)).toEqual([`node_modules/${manifest.name}`]);
  });

  it('has a command', async () => {
    const { status, stdout } = await run(installed('.bin/dps-device'), ['--version'], { cwd: folder });
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${manifest.version}\n` });
  });

  it.each(doors)('opens $name to import and to require', async ({ name, commonJs }) => {
    const specifier = JSON.stringify(name.replace('.', manifest.name));
    const load = `import { createRequire } from 'node:module';
      const imported = await import(${specifier});
      const required = createRequire(import.meta.url)(${specifier});
      console.log(JSON.stringify([Object.keys(imported), Object.keys(required)]));`;
    const ended = await run(process.execPath, ['--input-type=module', '-e', load], { cwd: join(folder, 'consumer') });
    expect(ended.status, ended.stderr).toBe(0);
    const [imported = [], required = []] = JSON.parse(ended.stdout) as string[][];
    expect(imported.length).toBeGreaterThan(0);
    const missing = imported.filter((exported) => !required.includes(exported));
    // A shim cannot have error classes before their module is loaded; `isDpsError` and `code` stand in.
    expect(missing.filter((exported) => commonJs === undefined || !/Error$/.test(exported))).toEqual([]);
  });
});

describe('the checkers of other people', () => {
  it('publint --strict has nothing to say', async () => {
    const { status, stdout } = await tool('publint/src/cli.js', tarball, '--strict', '--level', 'suggestion');
    expect({ status, stdout }).toEqual({ status: 0, stdout: expect.stringContaining('All good!') });
  });

  it('attw finds nothing but that some doors are ESM for CommonJS too', async () => {
    // Into a file: it ends before a pipe has taken all of it.
    const output = join(folder, 'attw.json');
    const program = join(ROOT, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    await run('bash', ['-c', `"$0" "$1" "$2" --format json > "$3"`, process.execPath, program, tarball, output], {
      cwd: folder,
    });
    const { analysis } = JSON.parse(readFileSync(output, 'utf8')) as Attw;
    expect(Object.keys(analysis.entrypoints)).toEqual([...doors.map(({ name }) => name), './package.json']);
    // `node10` is the resolution of TypeScript 4.6 and older, which does not know `exports`.
    const problems = analysis.problems.filter(({ resolutionKind }) => resolutionKind !== 'node10');
    const esmOnly = doors.filter(({ commonJs }) => commonJs === undefined);
    expect(problems.map(({ kind, entrypoint }) => [kind, entrypoint])).toEqual(
      esmOnly.map(({ name }) => ['CJSResolvesToESM', name]),
    );
  });
});

interface Attw {
  readonly analysis: {
    readonly entrypoints: object;
    readonly problems: readonly {
      readonly kind: string;
      readonly entrypoint: string;
      readonly resolutionKind: string;
    }[];
  };
}
