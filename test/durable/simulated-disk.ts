import { constants } from 'node:fs';
import { dirname } from 'node:path';
import { type DurableFile, type DurableIo, type DurableStats, OPEN_FOLDER } from '../../src/durable/durable-io.js';

/**
 * A disk in memory that keeps apart what a process sees and what a power cut would leave: what was written but not
 * synced may be there or not, sector by sector and torn within one, and so may names that were not synced with their
 * folder, in any combination. Any call can fail, or be the last one.
 */
export class SimulatedDisk implements DurableIo {
  userId: number | undefined = 1000;
  /** Every call so far, as `rename /state/device.new`. */
  readonly calls: string[] = [];
  /** Asked before each call; may throw, for a call that fails or a process that is gone. */
  onCall: (call: string, index: number) => void | Promise<void> = () => undefined;
  /** Acknowledges syncs that it does not do. */
  syncLies = false;
  /** The most bytes that one write takes. */
  maxWriteBytes = Number.POSITIVE_INFINITY;
  /** As the process sees it. */
  #names: Map<string, Node> = new Map();
  /** As the disk has it for certain. */
  #safeNames: Map<string, Node> = new Map();
  #pending: PendingName[] = [];

  constructor(...folders: readonly string[]) {
    for (const folder of ['/', ...folders]) this.put(folder, { kind: 'folder', mode: 0o700 });
  }

  /** Puts something there, safely. */
  put(
    path: string,
    options: Partial<Pick<Node, 'kind' | 'mode' | 'userId'>> & { readonly bytes?: Uint8Array } = {},
  ): void {
    const { kind = 'file', mode = 0o600, userId = this.userId ?? 0, bytes = new Uint8Array(0) } = options;
    const node: Node = { kind, mode, userId, bytes: bytes.slice(), versions: [bytes.slice()] };
    this.#names.set(path, node);
    this.#safeNames.set(path, node);
  }

  /** What is there now, `undefined` for nothing. */
  bytesOf(path: string): Uint8Array | undefined {
    return this.#names.get(path)?.bytes.slice();
  }

  /** Every file, for a look at what is left. */
  paths(): string[] {
    return [...this.#names.keys()].filter((path) => this.#names.get(path)?.kind === 'file').sort();
  }

  setMode(path: string, mode: number): void {
    const node = this.#names.get(path);
    if (node !== undefined) node.mode = mode;
  }

  /** The machine loses power and starts again. `random` decides what of the unsafe is left. */
  cutPower(random: () => number): void {
    const names = new Map(this.#safeNames);
    for (const { set, drop } of this.#pending) {
      if (random() < 0.5) continue;
      if (drop !== undefined) names.delete(drop);
      if (set !== undefined) names.set(set.path, set.node);
    }
    for (const path of [...names.keys()]) if (!names.has(dirname(path))) names.delete(path);
    for (const node of new Set(names.values())) {
      node.bytes = survivingBytes(node.versions, random);
      node.versions = [node.bytes.slice()];
    }
    this.#names = names;
    this.#safeNames = new Map(names);
    this.#pending = [];
  }

  async open(path: string, flags: number, mode: number = 0o600): Promise<DurableFile> {
    await this.#call('open', path);
    const found = this.#names.get(path);
    if ((flags & constants.O_CREAT) === 0) {
      if (found === undefined) throw systemError('ENOENT');
      if ((flags & OPEN_FOLDER) === OPEN_FOLDER && found.kind !== 'folder') throw systemError('ENOTDIR');
      return this.#opened(path, found);
    }
    if (found !== undefined) throw systemError('EEXIST');
    return this.#opened(path, this.#make(path, { kind: 'file', mode }));
  }

  async mkdir(path: string, mode: number): Promise<void> {
    await this.#call('mkdir', path);
    if (this.#names.has(path)) throw systemError('EEXIST');
    this.#make(path, { kind: 'folder', mode });
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#call('rename', from);
    const node = this.#existing(from);
    // Two names of one file: POSIX does nothing.
    if (this.#names.get(to) === node) return;
    this.#names.delete(from);
    this.#names.set(to, node);
    this.#pending.push({ set: { path: to, node }, drop: from });
  }

  async link(existing: string, path: string): Promise<void> {
    await this.#call('link', path);
    const node = this.#existing(existing);
    if (this.#names.has(path)) throw systemError('EEXIST');
    this.#names.set(path, node);
    this.#pending.push({ set: { path, node } });
  }

  async unlink(path: string): Promise<void> {
    await this.#call('unlink', path);
    this.#existing(path);
    this.#names.delete(path);
    this.#pending.push({ drop: path });
  }

  async stat(path: string): Promise<DurableStats> {
    await this.#call('stat', path);
    return statsOf(this.#existing(path));
  }

  async list(path: string): Promise<readonly string[]> {
    await this.#call('list', path);
    this.#existing(path);
    const prefix = path === '/' ? '/' : `${path}/`;
    return [...this.#names.keys()].flatMap((name) => (dirname(name) === path ? [name.slice(prefix.length)] : []));
  }

  #make(path: string, { kind, mode }: Pick<Node, 'kind' | 'mode'>): Node {
    this.#existing(dirname(path));
    const node: Node = {
      kind,
      mode,
      userId: this.userId ?? 0,
      bytes: new Uint8Array(0),
      versions: [new Uint8Array(0)],
    };
    this.#names.set(path, node);
    this.#pending.push({ set: { path, node } });
    return node;
  }

  #existing(path: string): Node {
    const node = this.#names.get(path);
    if (node === undefined) throw systemError('ENOENT');
    return node;
  }

  #opened(path: string, node: Node): DurableFile {
    const call = (name: string): Promise<void> => this.#call(name, path);
    return {
      stat: async (): Promise<DurableStats> => {
        await call('stat');
        return statsOf(node);
      },
      read: async (into, position) => {
        await call('read');
        const part = node.bytes.subarray(position, position + into.length);
        into.set(part);
        return part.length;
      },
      write: async (bytes, position) => {
        await call('write');
        const part = bytes.subarray(0, this.maxWriteBytes);
        const next = new Uint8Array(Math.max(node.bytes.length, position + part.length));
        next.set(node.bytes);
        next.set(part, position);
        node.bytes = next;
        node.versions.push(next.slice());
        return part.length;
      },
      sync: async () => {
        await call('sync');
        if (this.syncLies) return;
        if (node.kind === 'folder') this.#syncNames(path);
        else node.versions = [node.bytes.slice()];
      },
      close: () => call('close'),
    };
  }

  #syncNames(folder: string): void {
    const isHere = ({ set, drop }: PendingName): boolean =>
      [set?.path, drop].some((path) => path !== undefined && dirname(path) === folder);
    for (const { set, drop } of this.#pending.filter(isHere)) {
      if (drop !== undefined) this.#safeNames.delete(drop);
      if (set !== undefined) this.#safeNames.set(set.path, set.node);
    }
    this.#pending = this.#pending.filter((change) => !isHere(change));
  }

  async #call(name: string, path: string): Promise<void> {
    const call = `${name} ${path}`;
    this.calls.push(call);
    await this.onCall(call, this.calls.length - 1);
  }
}

/** As Node reports a failed call. */
export function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: simulated`), { code });
}

function statsOf({ kind, userId, mode, bytes }: Node): DurableStats {
  return { kind, userId, mode, sizeBytes: bytes.length };
}

/** Bytes of a sector that the hardware writes at once, if it is in a good mood. */
const SECTOR_BYTES = 512;

interface Node {
  kind: DurableStats['kind'];
  mode: number;
  userId: number;
  bytes: Uint8Array;
  /** What the disk has for certain, and what was written since. */
  versions: Uint8Array[];
}

/** A rename is one: it comes to pass as a whole or not at all. */
interface PendingName {
  readonly set?: { readonly path: string; readonly node: Node };
  readonly drop?: string;
}

/** The length of one version; each sector of any of them, or zeros, or torn between two. */
function survivingBytes(versions: readonly Uint8Array[], random: () => number): Uint8Array {
  const pick = (): Uint8Array => versions[Math.floor(random() * versions.length)] ?? new Uint8Array(0);
  if (versions.length === 1) return pick().slice();
  const bytes = new Uint8Array(pick().length);
  for (let start = 0; start < bytes.length; start += SECTOR_BYTES) {
    const end = Math.min(start + SECTOR_BYTES, bytes.length);
    const cut = random() < 0.3 ? start + Math.floor(random() * (end - start)) : end;
    bytes.set(pick().subarray(start, cut), start);
    if (cut < end && random() < 0.8) bytes.set(pick().subarray(cut, end), cut);
  }
  return bytes;
}
