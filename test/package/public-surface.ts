import { posix } from 'node:path';
import { readDist } from './built-package.js';

/** A declaration file as tsc emits it: every statement starts in the first column with one of a few words. */
interface Declarations {
  /** Statements by the names they declare; several for an overloaded function. */
  readonly declared: ReadonlyMap<string, readonly string[]>;
  /** Where imported and re-exported names come from. */
  readonly links: ReadonlyMap<string, { readonly path: string; readonly name: string }>;
  readonly stars: readonly string[];
  readonly exported: readonly string[];
}

/**
 * The types a door shows: what it exports, and every declaration that those lead to, by file. Without comments, so that
 * a better sentence changes nothing.
 *
 * @param file of the door, e.g. `src/index.d.ts`. Of a shim for CommonJS, only what it does not take from the ESM door.
 */
export function publicSurface(file: string): string {
  const found = new Map<string, Set<string>>();
  const follow = (path: string, name: string): void => {
    const source = resolve(path, name);
    if (source === undefined || found.get(source.path)?.has(source.name) === true) return;
    found.set(source.path, (found.get(source.path) ?? new Set()).add(source.name));
    for (const statement of source.statements) {
      for (const [word] of statement.matchAll(/[A-Za-z_$][\w$]*/g)) follow(source.path, word);
      for (const [, from = '', member = ''] of statement.matchAll(/import\(['"](\.[^'"]+)['"][^)]*\)\.(\w+)/g)) {
        follow(declarationFile(source.path, from), member);
      }
    }
  };
  const isShim = file.endsWith('.cts');
  const names = isShim ? [...read(file).exported].sort() : exportsOf(file);
  for (const name of names) follow(file, name);
  if (isShim) for (const path of found.keys()) if (path !== file) found.delete(path);
  const parts = [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([path, members]) => print(path, members));
  return [`// exports\n${names.map((name) => `//   ${name}\n`).join('')}`, ...parts].join('\n');
}

function print(path: string, members: ReadonlySet<string>): string {
  const statements = [...read(path).declared].flatMap(([name, texts]) => (members.has(name) ? texts : []));
  return `// ${path}\n${statements.join('\n')}\n`;
}

function exportsOf(file: string): string[] {
  const { exported, stars } = read(file);
  return [...new Set([...exported, ...stars.flatMap(exportsOf)])].sort();
}

function resolve(
  path: string,
  name: string,
): { path: string; name: string; statements: readonly string[] } | undefined {
  const { declared, links, stars } = read(path);
  const statements = declared.get(name);
  if (statements !== undefined) return { path, name, statements };
  const link = links.get(name);
  if (link !== undefined) return resolve(link.path, link.name);
  for (const star of stars) {
    const found = resolve(star, name);
    if (found !== undefined) return found;
  }
  return undefined;
}

const cache = new Map<string, Declarations>();

function read(path: string): Declarations {
  const known = cache.get(path) ?? parse(path, readDist(path));
  cache.set(path, known);
  return known;
}

function parse(path: string, text: string): Declarations {
  const declared = new Map<string, string[]>();
  const links = new Map<string, { path: string; name: string }>();
  const stars: string[] = [];
  const exported: string[] = [];
  for (const statement of statementsOf(text)) {
    const [, from] = statement.match(/ from ['"](\.[^'"]+)['"]/) ?? [];
    if (/^(import|export) .*['"]node:/.test(statement) || /^export \{\};/.test(statement)) continue;
    if (from !== undefined && /^export (type )?\*/.test(statement)) stars.push(declarationFile(path, from));
    else if (from !== undefined) {
      for (const { name, alias } of namesIn(statement)) {
        links.set(alias, { path: declarationFile(path, from), name });
        if (statement.startsWith('export')) exported.push(alias);
      }
    } else {
      const name = declaredName(path, statement);
      declared.set(name, [...(declared.get(name) ?? []), statement]);
      if (statement.startsWith('export')) exported.push(name);
    }
  }
  return { declared, links, stars, exported };
}

function statementsOf(text: string): string[] {
  const lines = text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .split('\n')
    .filter((line) => line.trim() !== '');
  return lines.reduce<string[]>((statements, line) => {
    if (/^(import|export|declare|interface|type|abstract|class) /.test(line)) statements.push(line);
    else statements.push(`${statements.pop() ?? ''}\n${line}`);
    return statements;
  }, []);
}

/** `import { type A, B as C } from './x.js'` -> A, and B as C. */
function namesIn(statement: string): { name: string; alias: string }[] {
  const [, list = ''] = statement.match(/\{([^}]*)\}/) ?? [];
  const entries = list.split(',').map((entry) => entry.trim().replace(/^type /, ''));
  return entries
    .filter((entry) => entry !== '')
    .map((entry) => {
      const [name = '', alias = name] = entry.split(' as ');
      return { name, alias };
    });
}

function declaredName(path: string, statement: string): string {
  const pattern = /^(?:export )?(?:declare )?(?:abstract )?(?:interface|type|class|const|let|function) ([\w$]+)/;
  const [, name] = statement.match(pattern) ?? [];
  if (name === undefined) throw new Error(`dist/${path}: a statement that is not understood: ${statement}`);
  return name;
}

/** `./hub.js` seen from `src/core/index.d.ts` -> `src/core/hub.d.ts` */
function declarationFile(importer: string, specifier: string): string {
  return posix.join(posix.dirname(importer), specifier.replace(/\.js$/, '.d.ts'));
}
