import { equalBytes } from '../../src/core/bytes.js';
import { isHmacKey } from './activation-blob.js';
import { evictControl, type TpmEntity } from './commands.js';
import { signInTpm } from './hmac-signing.js';
import { describeKey, type PrimaryKeys, readExisting } from './primary-keys.js';
import { TPM_RC } from './response-codes.js';
import { password } from './sessions.js';
import { hex, nameOf, readTpmtPublic } from './structures.js';
import type { TpmTurn } from './tpm.js';
import { isRefusal, tpmError } from './tpm-error.js';
import { loadKey, type WrappedKey } from './wrapped-key.js';

export interface HubIdentitySettings {
  readonly place: string;
  readonly keys: PrimaryKeys;
  readonly handles: { readonly identity: number; readonly stagedIdentity: number };
  readonly ownerAuth: Uint8Array;
}

interface Staged {
  readonly key: WrappedKey;
  /** Whether it was put at the second handle, as far as it got. */
  isPersistent: boolean;
  isCommitting: boolean;
}

/**
 * The keys that sign: the nonce's, the one being tried, and the one in use.
 *
 * What is in use follows from what the TPM holds, so that no power cut leaves it in doubt: what is at the first handle,
 * or, when nothing is, at the second. A commit replaces the first while the second holds the new key already:
 *
 * ```
 *             stage          commit: evict first    persist        evict second
 *   old, -   ------>  old, new  ------>  -, new  ------>  new, new  ------>  new, -
 * ```
 *
 * With `-, key` to begin with, a new key waits in memory, wrapped, and a commit begins at the third state.
 */
export class HubIdentity {
  readonly #settings: HubIdentitySettings;
  #nonceKey: WrappedKey | undefined;
  #staged: Staged | undefined;
  #handleInUse: number | undefined;

  constructor(settings: HubIdentitySettings) {
    this.#settings = settings;
  }

  /** Signs with `key` until another is staged. */
  useNonceKey(key: WrappedKey): void {
    this.#nonceKey = key;
    this.#staged = undefined;
  }

  async sign(turn: TpmTurn, data: Uint8Array): Promise<Uint8Array> {
    const wrapped = this.#staged?.key ?? this.#nonceKey;
    if (wrapped === undefined) return this.#signInUse(turn, data);
    if (this.#staged?.isPersistent === true) {
      const found = await this.#trySign(turn, this.#settings.handles.stagedIdentity, data);
      if (found !== undefined) return found;
    }
    return signInTpm(turn, await loadKey(turn, wrapped, this.#settings.keys), data);
  }

  async stage(turn: TpmTurn, key: WrappedKey): Promise<void> {
    const { identity, stagedIdentity } = this.#settings.handles;
    const first = await this.#read(turn, identity);
    const second = await this.#read(turn, stagedIdentity);
    const loaded = await loadKey(turn, key, this.#settings.keys);
    // What is at the second handle alone is in use.
    const isPersistent = first !== undefined || second === undefined;
    this.#staged = { key, isPersistent, isCommitting: false };
    this.#nonceKey = undefined;
    if (isPersistent) await this.#put(turn, loaded, stagedIdentity, second);
  }

  async commit(turn: TpmTurn): Promise<void> {
    const staged = this.#staged;
    if (staged === undefined) {
      throw tpmError('ERR_DPS_HSM_OPERATION', 'commit hub identity', 'No hub identity is staged. Call stage() first.');
    }
    const { identity, stagedIdentity } = this.#settings.handles;
    const loaded = await loadKey(turn, staged.key, this.#settings.keys);
    const first = await this.#read(turn, identity);
    turn.finishAnyway();
    staged.isCommitting = true;
    if (!holds(first, staged.key)) {
      if (first !== undefined) await this.#secure(turn, loaded, staged);
      await this.#put(turn, loaded, identity, first);
    }
    this.#staged = undefined;
    this.#handleInUse = identity;
    // The identity is in place: what is left at the second handle is in nobody's way, and replaced some day.
    await this.#evict(turn, stagedIdentity).catch(() => undefined);
  }

  async discard(turn: TpmTurn): Promise<void> {
    const staged = this.#staged;
    this.#staged = undefined;
    this.#nonceKey = undefined;
    if (staged?.isPersistent !== true) return;
    const { identity, stagedIdentity } = this.#settings.handles;
    // A commit that got stuck half way has left the only identity there is.
    if (staged.isCommitting && (await readExisting(turn, identity)) === undefined) return;
    await this.#evict(turn, stagedIdentity);
  }

  async #signInUse(turn: TpmTurn, data: Uint8Array): Promise<Uint8Array> {
    if (this.#handleInUse !== undefined) {
      const signature = await this.#trySign(turn, this.#handleInUse, data);
      if (signature !== undefined) return signature;
    }
    this.#handleInUse = await this.#find(turn);
    return signInTpm(turn, { handle: this.#handleInUse }, data);
  }

  async #find(turn: TpmTurn): Promise<number> {
    const { identity, stagedIdentity } = this.#settings.handles;
    for (const handle of [identity, stagedIdentity]) {
      if ((await this.#read(turn, handle)) !== undefined) return handle;
    }
    throw tpmError(
      'ERR_DPS_HSM_TPM_NO_IDENTITY',
      'sign',
      `The TPM at ${this.#settings.place} holds no hub identity, neither at ${hex(identity)} nor at ${hex(stagedIdentity)}: the device was never provisioned, or the TPM was cleared since. Provision it (again).`,
    );
  }

  /** Undefined when there is nothing at the handle any more. */
  async #trySign(turn: TpmTurn, handle: number, data: Uint8Array): Promise<Uint8Array | undefined> {
    try {
      return await signInTpm(turn, { handle }, data);
    } catch (error) {
      if (isRefusal(error, TPM_RC.HANDLE)) return undefined;
      throw error;
    }
  }

  /** Sees to it that the second handle holds the new key before the first loses the old one. */
  async #secure(turn: TpmTurn, loaded: TpmEntity, staged: Staged): Promise<void> {
    const { stagedIdentity } = this.#settings.handles;
    const second = await this.#read(turn, stagedIdentity);
    staged.isPersistent = true;
    if (!holds(second, staged.key)) await this.#put(turn, loaded, stagedIdentity, second);
  }

  /** The identity's public area at `handle`; undefined when nothing is there. @throws when it is something else. */
  async #read(turn: TpmTurn, handle: number): Promise<Uint8Array | undefined> {
    const publicArea = await readExisting(turn, handle);
    if (publicArea === undefined || isHmacKey(publicArea)) return publicArea;
    const { identity } = this.#settings.handles;
    const found = describeKey(readTpmtPublic(publicArea, `the public area at ${hex(handle)}`));
    const option = handle === identity ? 'identity' : 'stagedIdentity';
    throw tpmError(
      'ERR_DPS_HSM_TPM_HANDLE',
      'read hub identity',
      `The handle ${hex(handle)} for hub identities holds ${found}, which no service has put there. It is left as it is. Give a free one for ${option} with option hsm.handles.`,
    );
  }

  async #put(turn: TpmTurn, loaded: TpmEntity, handle: number, there: Uint8Array | undefined): Promise<void> {
    if (there !== undefined) await this.#evict(turn, handle);
    await turn.execute(evictControl(loaded, handle), password(this.#settings.ownerAuth));
  }

  /** It may be gone already. */
  async #evict(turn: TpmTurn, handle: number): Promise<void> {
    try {
      await turn.execute(evictControl({ handle }, handle), password(this.#settings.ownerAuth));
    } catch (error) {
      if (!isRefusal(error, TPM_RC.HANDLE)) throw error;
    }
  }
}

function holds(publicArea: Uint8Array | undefined, key: WrappedKey): boolean {
  return publicArea !== undefined && equalBytes(nameOf(publicArea), key.name);
}
