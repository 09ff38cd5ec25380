import { createHash, randomBytes } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { encodeUtf8 } from '../core/bytes.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { throwIfCancelled } from '../core/cancellation.js';
import { excerptOf, memberOf, readJsonObject, textMember } from '../core/json-body.js';
import type { JsonObject } from '../core/twin.js';
import type { StoreError } from '../errors.js';
import { quoteForShell } from '../shell-word.js';
import { type DurableIo, nodeDurableIo } from './durable-io.js';
import { explainedStoreError } from './explained-failure.js';
import { readPrivateFile, removeFile, writePrivateFile } from './private-file.js';
import { preparePrivateFolder } from './private-folder.js';
import { nodeProcessTable, type ProcessIdentity, type ProcessTable } from './process-table.js';
import { type StoreStep, storeError, systemCodeOf } from './store-failure.js';

/**
 * A lock that is a file, and that the next process takes over when its owner was killed.
 *
 * Node offers no lock that the kernel would give back by itself, so the file says who made it: process number, start
 * time, boot, and a token that is never used twice. Two contenders that both find a dead owner must not both take over:
 * removing the file and making it anew would let the slower one remove the lock of the faster. So the right to replace a
 * lock is itself fought out by a name that only one can make:
 *
 * ```
 * LOCK.TOKEN.new     everyone's own draft, whole before it gets another name
 * LOCK               link(draft): the lock was free                                   -> owned
 *                    taken, and its owner runs                                        -> refused
 *                    taken, and its owner T is dead:
 * LOCK.T.claim       link(draft): the right to replace T, which at most one holds
 *                    taken, and the claimant runs                                     -> refused: it is about to own it
 *                    taken, and the claimant U is dead: its claim is up for a fight in turn:
 * LOCK.X.claim       X from T and U, and so on; then is LOCK.T.claim still U's?
 * LOCK               still T's? Then rename(draft): nobody else may change it now      -> owned
 *                    else someone was faster: claim removed, and from the start
 * ```
 *
 * At most one at a time holds the right to replace what a dead process left in a place: who made its claim or, while that
 * claim is a dead one's, who holds the right to replace that. Nobody else touches a claim: only owners sweep away what the
 * dead have left, and while the lock is a dead one's there is none. What was a dead one's never becomes so again.
 *
 * X stands for the place and the token, not the token alone. After a power cut files may be empty or say anything: claims
 * named after tokens could name themselves or each other, and the way from claim to claim would have no end.
 */
export interface FileLock {
  readonly path: string;
  /**
   * Whether the file is still there, and this lock's own. Where somebody removed it, or the folder, another process may
   * have begun to work there.
   *
   * @throws {StoreError} when it cannot be read.
   */
  isHeld(): Promise<boolean>;
  /** Gives the lock back. Never fails and may be called twice: a file that cannot be removed counts for nothing once this process has ended. */
  release(): Promise<void>;
}

export interface FileLockOptions {
  readonly io?: DurableIo;
  readonly processes?: ProcessTable;
  readonly signal?: CancelSignal | undefined;
}

/**
 * Takes the lock at once or not at all. `path` lies in a folder that is its owner's alone, made when missing (0700). The
 * same process does not get it twice.
 *
 * @throws {StoreError} `ERR_DPS_STORE_LOCKED`, saying who has it; other codes when the folder or the files cannot be used.
 * @throws {CancelledError} when the signal aborts.
 */
export async function lockFile(path: string, options: FileLockOptions = {}): Promise<FileLock> {
  const io = options.io ?? nodeDurableIo;
  const contender = new Contender(path, io, options.processes ?? nodeProcessTable);
  try {
    await preparePrivateFolder(io, dirname(path), 'lock');
    return await contender.take(options.signal);
  } catch (error) {
    throw await explainedStoreError(io, error, { operation: 'lock', path });
  }
}

/** Far more than a lock file has. */
const MAX_LOCK_BYTES = 4096;
/** Each means that someone else was faster in between. */
const MAX_ATTEMPTS = 100;
/** Each is of a process that was killed while it replaced the one before. More are not made by accident. */
const MAX_DEAD_CLAIMS = 100;
const TAKING = 'taking a lock';

interface Owner {
  readonly token: string;
  /** `undefined` when the file does not say: only a power cut leaves such a one, so nobody has it. */
  readonly identity: ProcessIdentity | undefined;
}

class Contender {
  readonly #path: string;
  readonly #io: DurableIo;
  readonly #processes: ProcessTable;
  readonly #token: string = randomBytes(8).toString('hex');
  readonly #draft: string;

  constructor(path: string, io: DurableIo, processes: ProcessTable) {
    this.#path = path;
    this.#io = io;
    this.#processes = processes;
    this.#draft = `${path}.${this.#token}.new`;
  }

  async take(signal: CancelSignal | undefined): Promise<FileLock> {
    const content = encodeUtf8(`${JSON.stringify({ token: this.#token, ...(await this.#processes.self()) })}\n`);
    try {
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt += 1) {
        throwIfCancelled(signal, TAKING);
        if (await this.#tryOnce(content, signal)) return await this.#own();
      }
    } finally {
      await this.#drop(this.#draft);
    }
    throw storeError('ERR_DPS_STORE_LOCKED', this.#step, 'is being fought for by many processes. Try again.');
  }

  async #tryOnce(content: Uint8Array, signal: CancelSignal | undefined): Promise<boolean> {
    await this.#writeDraft(content);
    if (await this.#linkDraft(this.#path)) return true;
    const owner = await this.#read(this.#path);
    if (owner === undefined) return false;
    await this.#refuseIfRunning(owner);
    const claims: string[] = [];
    try {
      if (!(await this.#claim(owner, claims, signal)) || !(await this.#isStill(owner, this.#path))) return false;
      await this.#io.rename(this.#draft, this.#path);
      return true;
    } finally {
      // The claim on the lock before those on dead claimants: with the latter gone, the former would be up for a fight.
      for (const claim of claims.reverse()) await this.#drop(claim);
    }
  }

  /** Fights for the right to replace what a dead owner has left. `claims` gets what is to be removed afterwards. */
  async #claim(dead: Owner, claims: string[], signal: CancelSignal | undefined): Promise<boolean> {
    const found: { readonly claim: string; readonly claimant: Owner }[] = [];
    let key = dead.token;
    let claim = this.#claimPath(key);
    while (!(await this.#linkDraft(claim))) {
      throwIfCancelled(signal, TAKING);
      const claimant = await this.#read(claim);
      if (claimant === undefined) return false;
      await this.#refuseIfRunning(claimant);
      found.push({ claim, claimant });
      if (found.length > MAX_DEAD_CLAIMS) throw this.#tooManyClaims();
      key = tokenOf(encodeUtf8(`${key} ${claimant.token}`));
      claim = this.#claimPath(key);
    }
    claims.push(claim);
    for (const { claim, claimant } of found.reverse()) {
      if (!(await this.#isStill(claimant, claim))) return false;
      claims.push(claim);
    }
    return true;
  }

  #claimPath(key: string): string {
    return `${this.#path}.${key}.claim`;
  }

  #tooManyClaims(): StoreError {
    const path = quoteForShell(this.#path);
    const problem = `cannot be taken over: more than ${MAX_DEAD_CLAIMS} dead processes have left claims on it. When no dps-device uses the folder, remove them: rm ${path} ${path}.*`;
    return storeError('ERR_DPS_STORE_UNWRITABLE', this.#step, problem);
  }

  /** Not synced: after a power cut the lock counts for nothing, whatever is left of it. */
  async #writeDraft(content: Uint8Array): Promise<void> {
    try {
      await writePrivateFile(this.#io, this.#draft, content, { isSynced: false });
    } catch (error) {
      // From the attempt before.
      if (systemCodeOf(error) === 'EEXIST') return;
      // A disk that is full or read-only is no news to who may not use it anyway.
      const owner = await this.#read(this.#path);
      if (owner !== undefined) await this.#refuseIfRunning(owner);
      throw error;
    }
  }

  /** Whether the draft got that name: not where it is taken, and not where an owner has swept the draft away. */
  async #linkDraft(path: string): Promise<boolean> {
    try {
      await this.#io.link(this.#draft, path);
      return true;
    } catch (error) {
      const code = systemCodeOf(error);
      if (code === 'EEXIST' || code === 'ENOENT') return false;
      throw NO_LINKS.has(code ?? '') ? storeError('ERR_DPS_STORE_UNWRITABLE', this.#step, NEEDS_LINKS, error) : error;
    }
  }

  async #isStill(owner: Owner, path: string): Promise<boolean> {
    return (await this.#read(path))?.token === owner.token;
  }

  async #refuseIfRunning({ identity }: Owner): Promise<void> {
    if (identity === undefined || !(await this.#processes.isRunning(identity))) return;
    throw storeError('ERR_DPS_STORE_LOCKED', this.#step, await this.#explainHolder(identity));
  }

  async #explainHolder(identity: ProcessIdentity): Promise<string> {
    const { pid } = identity;
    const command = await this.#processes.commandOf(identity);
    if (command === undefined) {
      return `is held by process ${pid}, which cannot be looked at from here. Stop it; if it is known to be gone, remove the file: rm ${quoteForShell(this.#path)}`;
    }
    if (pid === process.pid) return 'is held by this process itself. Close what uses it first.';
    const holder = `is held by process ${pid} (${excerptOf(command)})`;
    return pid === INIT
      ? `${holder}, which runs as long as this machine or container does. If that is no dps-device, and none uses the folder, remove the file: rm ${quoteForShell(this.#path)}`
      : `${holder}. Wait for it to end, or stop it.`;
  }

  async #own(): Promise<FileLock> {
    await this.#sweep().catch(() => undefined);
    let isReleased = false;
    const isOurs = (): Promise<boolean> => this.#isStill({ token: this.#token, identity: undefined }, this.#path);
    return {
      path: this.#path,
      isHeld: () =>
        isOurs().catch(async (error: unknown) => {
          throw await explainedStoreError(this.#io, error, this.#step);
        }),
      release: async () => {
        if (isReleased) return;
        isReleased = true;
        // Someone may have removed it by hand, and someone else may have made another since.
        if (await isOurs().catch(() => false)) await this.#drop(this.#path);
      },
    };
  }

  /** Removes drafts and claims that the dead have left. A draft that is being written is made anew by whoever needs it. */
  async #sweep(): Promise<void> {
    const folder = dirname(this.#path);
    const prefix = `${basename(this.#path)}.`;
    for (const name of await this.#io.list(folder)) {
      if (!name.startsWith(prefix) || !/\.[0-9a-f]{16}\.(new|claim)$/.test(name)) continue;
      const { identity } = (await this.#read(join(folder, name))) ?? {};
      const isLeft = identity === undefined || !(await this.#processes.isRunning(identity));
      if (isLeft) await this.#drop(join(folder, name));
    }
  }

  async #read(path: string): Promise<Owner | undefined> {
    const file = await readPrivateFile(this.#io, path, MAX_LOCK_BYTES, 'lock');
    if (file.kind === 'missing') return undefined;
    return file.kind === 'content'
      ? readOwner(file.bytes)
      : { token: tokenOf(encodeUtf8(file.what)), identity: undefined };
  }

  async #drop(path: string): Promise<void> {
    await removeFile(this.#io, path).catch(() => undefined);
  }

  get #step(): StoreStep {
    return { operation: 'lock', path: this.#path };
  }
}

function readOwner(bytes: Uint8Array): Owner {
  const body = readJsonObject(bytes);
  const value = body.kind === 'object' ? body.value : {};
  const token = textMember(value, 'token');
  const identity = readIdentity(value);
  return token !== undefined && /^[0-9a-f]{16}$/.test(token) && identity !== undefined
    ? { token, identity }
    : { token: tokenOf(bytes), identity: undefined };
}

function readIdentity(value: JsonObject): ProcessIdentity | undefined {
  const pid = memberOf(value, 'pid');
  const startTicks = memberOf(value, 'startTicks');
  const bootId = textMember(value, 'bootId');
  const pidNamespace = textMember(value, 'pidNamespace');
  if (!Number.isSafeInteger(pid) || Number(pid) < 1) return undefined;
  return {
    pid: Number(pid),
    ...(typeof startTicks === 'number' ? { startTicks } : {}),
    ...(bootId === undefined ? {} : { bootId }),
    ...(pidNamespace === undefined ? {} : { pidNamespace }),
  };
}

/** The first process of a machine or container. */
const INIT = 1;

/** As Linux says it of FAT, and others of theirs. */
const NO_LINKS: ReadonlySet<string> = new Set(['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']);
const NEEDS_LINKS =
  'cannot be made: its file system knows no hard links (FAT and some network folders do not). Choose a folder on another one, such as ext4.';

/** A name for what has none. */
function tokenOf(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 16);
}
