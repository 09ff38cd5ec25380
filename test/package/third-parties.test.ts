import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Metafile, manifest, ROOT, readDist, readMetafile } from './built-package.js';

interface Component {
  readonly 'bom-ref': string;
  readonly group?: string;
  readonly name: string;
  readonly version: string;
  readonly purl: string;
  readonly licenses: readonly { readonly license: { readonly id: string } }[];
  readonly hashes: readonly { readonly alg: string; readonly content: string }[];
}

interface Bill {
  readonly bomFormat: string;
  readonly specVersion: string;
  readonly metadata: { readonly component: Component };
  readonly components: readonly Component[];
  readonly dependencies: readonly { readonly ref: string; readonly dependsOn: readonly string[] }[];
}

/** Read from the metafile in another way than the build does: by the manifest nearest to each module that has a name. */
function packagesIn(...metafiles: readonly Metafile[]): string[] {
  const modules = metafiles.flatMap(({ inputs }) => Object.keys(inputs)).filter((path) => /^node_modules\//.test(path));
  expect(modules.length).toBeGreaterThan(20);
  return [...new Set(modules.map(packageOf))].sort();
}

function packageOf(module: string): string {
  const folders = module.split('/').slice(0, -1);
  for (; folders.length > 0; folders.pop()) {
    const found = readManifest(folders.join('/'));
    if (found?.name !== undefined && found.version !== undefined) return `${found.name}@${found.version}`;
  }
  throw new Error(`${module} belongs to no package`);
}

function readManifest(folder: string): { name?: string; version?: string } | undefined {
  try {
    return JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8')) as { name?: string; version?: string };
  } catch {
    return undefined;
  }
}

const compiledIn = packagesIn(readMetafile('meta.json'), readMetafile('meta-device-file.json'));
const bill = JSON.parse(readDist('sbom.cdx.json')) as Bill;
const idOf = ({ group, name, version }: Component): string =>
  `${group === undefined ? '' : `${group}/`}${name}@${version}`;

describe('the SBOM', () => {
  it('lists exactly what was compiled in', () => {
    expect(compiledIn).toEqual(expect.arrayContaining([expect.stringMatching(/^mqtt@5\./)]));
    expect(bill.components.map(idOf)).toEqual(compiledIn);
  });

  it('says what each is and under which licence, with the hash of what was installed', () => {
    const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as {
      packages: Record<string, { version: string; integrity?: string }>;
    };
    const hashes = new Set(Object.values(lock.packages).map(({ integrity }) => integrity));
    for (const component of bill.components) {
      expect(component.purl).toBe(`pkg:npm/${idOf(component).replace(/^@/, '%40')}`);
      expect(component.licenses).toEqual([
        { license: { id: expect.stringMatching(/^(MIT|ISC|0BSD|BSD-[23]-Clause|Apache-2\.0)$/) } },
      ]);
      const [{ content = '' } = {}] = component.hashes;
      expect(hashes).toContain(`sha512-${Buffer.from(content, 'hex').toString('base64')}`);
    }
  });

  it('is CycloneDX 1.6 about this package, the same bytes each time', () => {
    expect(bill).toMatchObject({ bomFormat: 'CycloneDX', specVersion: '1.6' });
    expect(bill.metadata.component).toMatchObject({ name: manifest.name, version: manifest.version });
    expect(JSON.stringify(bill)).not.toMatch(/timestamp|serialNumber/);
  });

  it('leads from this package to every component', () => {
    const targets = new Map(bill.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]));
    const reached = new Set<string>();
    const visit = (ref: string): void => {
      if (reached.has(ref)) return;
      reached.add(ref);
      targets.get(ref)?.forEach(visit);
    };
    visit(bill.metadata.component['bom-ref']);
    expect([...reached].sort()).toEqual([...targets.keys()].sort());
    expect(reached.size).toBe(bill.components.length + 1);
  });
});

describe('the licences', () => {
  const heading = /^={80}\n(.+) \((.+)\)\n={80}\n\n/gm;
  const idsIn = (text: string): string[] => [...text.matchAll(heading)].map(([, id = '']) => id);

  it('are there for exactly what was compiled in, each with its text', () => {
    const text = readDist('THIRD_PARTY_LICENSES.txt');
    expect(idsIn(text)).toEqual(compiledIn);
    const [, ...parts] = text.split(heading).filter((_, index) => index % 3 === 0);
    expect(parts).toHaveLength(compiledIn.length);
    for (const part of parts) expect(part).toMatch(/permission|redistribution/i);
  });

  it('travel in the device file, for what is in it', () => {
    const text = readDist('dps-device.mjs');
    expect(idsIn(text)).toEqual(packagesIn(readMetafile('meta-device-file.json')));
    expect(text.slice(text.lastIndexOf('\n/*\n')).split('*/')).toHaveLength(2);
  });
});
