// What of other people was compiled in: read from esbuild's metafiles, written as licence texts and as a CycloneDX SBOM.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * The packages that modules were compiled in from, sorted by name and version.
 *
 * @param metafiles esbuild's, of every build whose output is shipped; paths relative to the current directory.
 * @returns `components`, each with its folder, manifest and the ids it imports; `direct`: the ids our own modules import.
 */
export function readThirdParties(metafiles) {
  const components = new Map();
  const direct = new Set();
  const componentAt = (folder) => {
    const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    const id = `${manifest.name}@${manifest.version}`;
    if (!components.has(id)) components.set(id, { id, folder, manifest, dependsOn: new Set() });
    return components.get(id);
  };
  for (const [path, { imports }] of metafiles.flatMap(({ inputs }) => Object.entries(inputs))) {
    const folder = packageFolderOf(path);
    const importer = folder === undefined ? undefined : componentAt(folder);
    for (const imported of imports.map((target) => packageFolderOf(target.path))) {
      if (imported === undefined || imported === folder) continue;
      (importer?.dependsOn ?? direct).add(componentAt(imported).id);
    }
  }
  return { components: [...components.values()].sort((a, b) => compare(a.id, b.id)), direct: [...direct] };
}

/** `node_modules/a/node_modules/@b/c/lib/d.js` -> `node_modules/a/node_modules/@b/c`; undefined for our own files. */
function packageFolderOf(path) {
  return path.match(/^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/)?.[0];
}

/** The licences of all components, as one text. Fails when a component comes without the text of its licence. */
export function licenceTexts(components) {
  const rule = '='.repeat(80);
  const printed = new Map();
  return components
    .map(({ id, folder, manifest }) => {
      const text = oncePrinted(textsIn(folder, id), id, printed);
      return `${rule}\n${id} (${licenceOf(manifest)})\n${rule}\n\n${text}\n`;
    })
    .join('\n');
}

const COPYRIGHT = /^.*\bcopyright\b.*\b(\d{4}|\(c\)|©).*$/gim;

/** A permission notice that many packages share word for word stands there once, the copyright lines of each at its own place. */
function oncePrinted(text, id, printed) {
  const words = text.replace(COPYRIGHT, '').replace(/[^a-z]+/gi, ' ');
  const notice = words.replace(/^.*?(?=Permission is hereby granted)/i, '').trim();
  const first = printed.get(notice);
  if (first === undefined) {
    printed.set(notice, id);
    return text;
  }
  return `${(text.match(COPYRIGHT) ?? []).join('\n')}\n\nThe permission notice is, word for word, that of ${first} above.`;
}

function textsIn(folder, id) {
  const files = readdirSync(folder)
    .filter((name) => /^(licen[cs]e|copying|notice|copyrightnotice)([.-].*)?$/i.test(name))
    .sort(compare);
  if (!files.some((name) => /^(licen[cs]e|copying)/i.test(name))) {
    throw new Error(`${id} is compiled in, but ${folder} holds no licence text to ship with it.`);
  }
  return files.map((name) => readFileSync(join(folder, name), 'utf8').replaceAll('\r\n', '\n').trim()).join('\n\n');
}

function licenceOf({ name, license }) {
  if (typeof license === 'string') return license;
  throw new Error(`${name} is compiled in, but its manifest names no licence.`);
}

/**
 * The software bill of materials: the same bytes for the same input, so without serial number and time stamp.
 *
 * @param lock the parsed package-lock.json, for the hashes.
 * @see CycloneDX 1.6, JSON
 */
export function softwareBill({ manifest, components, direct, lock }) {
  const refs = new Map(components.map((component) => [component.id, purlOf(component.manifest)]));
  const refsOf = (ids) => [...ids].map((id) => refs.get(id)).sort(compare);
  const root = purlOf(manifest);
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: describe(manifest) },
    components: components.map(({ folder, manifest: theirs }) => ({
      ...describe(theirs),
      scope: 'required',
      hashes: hashesOf(lock.packages[folder]),
    })),
    dependencies: [
      { ref: root, dependsOn: refsOf(direct) },
      ...components.map(({ id, dependsOn }) => ({ ref: refs.get(id), dependsOn: refsOf(dependsOn) })),
    ],
  };
}

function describe(manifest) {
  const { name, version, description } = manifest;
  const [, group, ownName = name] = name.match(/^(@[^/]+)\/(.+)$/) ?? [];
  const licence = licenceOf(manifest);
  return {
    type: 'library',
    'bom-ref': purlOf(manifest),
    ...(group === undefined ? {} : { group }),
    name: ownName,
    version,
    ...(description === undefined ? {} : { description }),
    licenses: [/^[\w.+-]+$/.test(licence) ? { license: { id: licence } } : { expression: licence }],
    purl: purlOf(manifest),
  };
}

/** The lock file's `sha512-<Base64>`, as CycloneDX writes it. */
function hashesOf({ integrity }) {
  const [, bits, digest] = integrity.match(/^sha(\d+)-(.+)$/);
  return [{ alg: `SHA-${bits}`, content: Buffer.from(digest, 'base64').toString('hex') }];
}

/** @see Package URL specification, type npm */
const purlOf = ({ name, version }) => `pkg:npm/${name.replace('@', '%40')}@${version}`;

const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
