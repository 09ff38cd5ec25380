/** The keys of one entry of a key store: the one in use, and perhaps a staged one beside it. */
export class KeyStoreModel {
  #made = 1;
  #current = 'key-1';
  #staged: string | undefined;

  /** What a process sees that opens it now: the staged key first. */
  get keys(): readonly string[] {
    return this.#staged === undefined ? [this.#current] : [this.#staged, this.#current];
  }

  get current(): string {
    return this.#current;
  }

  get staged(): string | undefined {
    return this.#staged;
  }

  stage(): string {
    this.#made += 1;
    this.#staged = `key-${this.#made}`;
    return this.#staged;
  }

  /** A key that was committed before stays as it is. */
  commit(key: string): void {
    if (key !== this.#staged) return;
    this.#current = key;
    this.#staged = undefined;
  }

  discard(key: string): void {
    if (key === this.#staged) this.#staged = undefined;
  }
}
