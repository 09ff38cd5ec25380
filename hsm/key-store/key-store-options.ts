import type { DurableIo } from '../../src/durable/durable-io.js';
import type { ProcessTable } from '../../src/durable/process-table.js';
import type { SecretSource } from '../hsm-options.js';

/** A systemd credential by its name: a file in `$CREDENTIALS_DIRECTORY`. */
export interface CredentialSource {
  readonly credential: string;
}

/** What seals a key store: one of the two. */
export interface SealingOptions {
  /** Text, the file that holds it (mode 0600), or a systemd credential. One line end is dropped. */
  readonly passphrase?: SecretSource | CredentialSource;
  /** A file (mode 0600) or systemd credential of exactly 32 random bytes, see `makeKeyFile`. */
  readonly sealingKey?: { readonly file: string } | CredentialSource;
  /** Where systemd credentials are. Default: `$CREDENTIALS_DIRECTORY`. */
  readonly credentialsDirectory?: string;
}

/**
 * Keys of a device in a folder, each sealed in a file of its own.
 *
 * ```
 * DIRECTORY/             mode 0700, of the user who runs this
 *   store.a  store.b     the header: the data key, sealed under passphrase or key file
 *   entry-NAME.a  .b     an entry: its label, and its keys sealed under the data key
 *   lock                 while something is changed
 * ```
 *
 * Every change is one atomic write of one file (see `ab-file.ts`), re-sealing included: a power cut leaves the old or the
 * new. Reading needs no lock and no writable disk. What this protects, and what it cannot: `docs/key-store.md`.
 */
export interface KeyStoreOptions extends SealingOptions {
  /** Of the store alone; the folder above it must be there. */
  readonly directory: string;
  /** Makes the store if there is none. Default: false. */
  readonly create?: boolean;
  /** What certificates' dates are held against. Default: the clock of this machine. */
  readonly clock?: { wallMs(): number };
  /** Files and processes, for tests. */
  readonly io?: DurableIo;
  readonly processes?: ProcessTable;
}

/** One entry of a store. */
export interface KeyStoreHsmOptions extends Omit<KeyStoreOptions, 'create'> {
  readonly entry: string;
}
