import type { Metafile, Output } from './built-package.js';

/** What of the built files leads where. */
export class ChunkGraph {
  readonly #outputs: Metafile['outputs'];

  constructor(metafile: Metafile) {
    this.#outputs = metafile.outputs;
  }

  /** The file that a door may load, or is, and that was built from a source, e.g. `src/mqtt-parts.ts`. */
  fileOf(source: string, door: string): string {
    const found = [...this.reach([door], 'lazily')].find((file) => this.#output(file).entryPoint === source);
    if (found === undefined) throw new Error(`${source} is no file of its own behind ${door}`);
    return found;
  }

  /** All files that are loaded with `files`; with `lazily`, also what they may load later. */
  reach(files: readonly string[], lazily: 'lazily' | 'at once'): ReadonlySet<string> {
    const seen = new Set<string>();
    const visit = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      for (const { path, kind, external } of this.#output(file).imports) {
        if (external !== true && (lazily === 'lazily' || kind !== 'dynamic-import')) visit(path);
      }
    };
    files.forEach(visit);
    return seen;
  }

  /** The modules that ended up in `files`, our own and others'. */
  modulesIn(files: Iterable<string>): string[] {
    return [...new Set([...files].flatMap((file) => Object.keys(this.#output(file).inputs)))].sort();
  }

  /** What `files` import that is not in dist/. */
  externalsOf(files: Iterable<string>): string[] {
    const imports = [...files].flatMap((file) => this.#output(file).imports);
    return [...new Set(imports.filter(({ external }) => external === true).map(({ path }) => path))].sort();
  }

  bytesOf(files: Iterable<string>): number {
    return [...files].reduce((sum, file) => sum + this.#output(file).bytes, 0);
  }

  #output(file: string): Output {
    const output = this.#outputs[file];
    if (output === undefined) throw new Error(`${file} is not in the metafile`);
    return output;
  }
}
