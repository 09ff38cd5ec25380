import type { FuzzRandom } from '../fuzz/fuzz-random.js';

/**
 * The keys of a TPM as the provider handles them: two persistent handles, and what it holds in memory until the process
 * ends. What is in use is at the first handle or, when nothing is there, at the second.
 */
export class TpmModel {
  #first: string | undefined;
  #second: string | undefined;
  #nonceKey: string | undefined;
  #staged: string | undefined;

  /** What a token is signed with now; undefined: the TPM has nothing to sign with. */
  get signingKey(): string | undefined {
    return this.#staged ?? this.#nonceKey ?? this.#first ?? this.#second;
  }

  get holdsUnaccepted(): boolean {
    return this.#staged !== undefined || this.#nonceKey !== undefined;
  }

  activate(): void {
    this.#nonceKey = 'nonce';
    this.#staged = undefined;
  }

  stage(key: string): void {
    if (this.#first !== undefined || this.#second === undefined) this.#second = key;
    this.#staged = key;
    this.#nonceKey = undefined;
  }

  commit(): void {
    this.#first = this.#staged ?? this.#first;
    this.#staged = undefined;
    this.#second = undefined;
  }

  discard(): void {
    if (this.#staged !== undefined && this.#second === this.#staged && this.#first !== undefined)
      this.#second = undefined;
    this.#staged = undefined;
    this.#nonceKey = undefined;
  }

  /** The process, or the power, is gone; `during` may have been done to the end, in part, or not at all. */
  cut(random: FuzzRandom, during: 'stage' | 'commit' | undefined, key: string): void {
    const staged = this.#staged;
    this.#staged = undefined;
    this.#nonceKey = undefined;
    if (during === 'stage' && random.chance(0.5) && (this.#first !== undefined || this.#second === undefined)) {
      this.#second = key;
    }
    if (during !== 'commit' || staged === undefined) return;
    this.#second = staged;
    const step = random.below(4);
    if (step >= 1) this.#first = undefined;
    if (step >= 2) this.#first = staged;
    if (step >= 3) this.#second = undefined;
  }

  clear(): void {
    this.#first = undefined;
    this.#second = undefined;
    this.#staged = undefined;
    this.#nonceKey = undefined;
  }
}
