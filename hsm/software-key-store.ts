import type { KeyObject, X509Certificate } from 'node:crypto';
import type { CancelSignal } from '../src/core/cancel-signal.js';
import { throwIfCancelled, unlessCancelled } from '../src/core/cancellation.js';
import type { AbContent } from '../src/durable/ab-file.js';
import { quoteForShell } from '../src/shell-word.js';
import { systemClock } from '../src/system-clock.js';
import { checkOptionNames, type OptionBag, optionalPath, optionError, requiredText } from './hsm-options.js';
import { type Entry, entryNameProblem, openEntry, readEntryLabel, sealEntry } from './key-store/entry.js';
import {
  attachCertificates,
  commitKey,
  discardKey,
  type EntryContent,
  newEntry,
  stageCertificates,
  stageKey,
} from './key-store/entry-change.js';
import { damagedEntry, explainDamage } from './key-store/entry-damage.js';
import { entryHsm, type KeyStoreHsm } from './key-store/entry-hsm.js';
import { type FoundContent, type ListedEntry, listEntries } from './key-store/entry-list.js';
import { type EntrySummary, summarizeEntry } from './key-store/entry-summary.js';
import { checkMaterial, type KeyMaterial } from './key-store/key-material.js';
import { type KeyStoreOperation, keyStoreError } from './key-store/key-store-error.js';
import type { KeyStoreHsmOptions, KeyStoreOptions } from './key-store/key-store-options.js';
import {
  checkNewSecret,
  readSealingSecret,
  SEALING_OPTION_NAMES,
  type SealingOptions,
  type SealingSecret,
} from './key-store/sealing-secret.js';
import { StoreFiles } from './key-store/store-files.js';
import { makeStoreKey, openHeader, type StoreHeader, type StoreKey, sealHeader } from './key-store/store-header.js';

export type { KeyStoreHsm, RollingKeys } from './key-store/entry-hsm.js';
export type { ListedEntry } from './key-store/entry-list.js';
export type { CertificateSummary, EntrySummary, KeySummary } from './key-store/entry-summary.js';
export { type KeyMaterial, makeSymmetricKey } from './key-store/key-material.js';
export type { KeyStoreHsmOptions, KeyStoreOptions } from './key-store/key-store-options.js';
export { type CredentialSource, makeKeyFile, type SealingOptions } from './key-store/sealing-secret.js';
export { makePrivateKey, makeSigningRequest, type PrivateKeyAlgorithm } from './key-store/signing-request.js';

const OPTION_NAMES = ['directory', 'create', ...SEALING_OPTION_NAMES];
const TEST_OPTION_NAMES = ['clock', 'io', 'processes'];
const HSM_OPTION_NAMES = OPTION_NAMES.filter((name) => name !== 'create').concat('entry');

/**
 * Opens a key store, or makes one.
 *
 * @throws {ConfigurationError} when an option is missing, unknown or of the wrong type.
 * @throws {HsmError} `ERR_DPS_HSM_STORE_MISSING`, `_STORE_DAMAGED`, `_PASSPHRASE`, or what `readSecretFile` throws.
 * @throws {StoreError} when its files cannot be used: mode, owner, lock, disk.
 * @throws {CancelledError} when the signal aborts.
 */
export async function openKeyStore(options: KeyStoreOptions, signal?: CancelSignal): Promise<SoftwareKeyStore> {
  const bag = checkOptionNames(options, OPTION_NAMES, 'the key store', TEST_OPTION_NAMES);
  const files = new StoreFiles(readDirectory(bag), options);
  // First: whoever named a wrong folder is told so, not asked for a passphrase.
  const found = await files.findHeader(signal);
  if (found === undefined && options.create !== true) throw missingStore(files.directory);
  const secret = await readSealingSecret(bag, found === undefined ? 'seal' : 'open', signal);
  try {
    const key =
      found === undefined
        ? await makeStore(files, secret, signal)
        : await openStoreKey(found.header, secret, files.directory, signal);
    return new SoftwareKeyStore(files, key, options.clock ?? systemClock);
  } finally {
    secret.bytes.fill(0);
  }
}

/**
 * Opens the store for one entry: what `provision()` needs.
 *
 * @throws as `openKeyStore` and `SoftwareKeyStore.hsm` do.
 */
export async function keyStoreHsm(options: KeyStoreHsmOptions, signal?: CancelSignal): Promise<KeyStoreHsm> {
  const bag = checkOptionNames(options, HSM_OPTION_NAMES, 'the key store', TEST_OPTION_NAMES);
  const name = requiredText(bag, 'entry', 'the name of the entry with the key of this device');
  checkName(name);
  const { entry: _, ...storeOptions } = options;
  const store = await openKeyStore(storeOptions, signal);
  return store.hsm(name, signal);
}

/**
 * What is in a store, by its labels alone: no secret is needed, and nothing shows whether a label is genuine.
 *
 * @throws as `openKeyStore` does, but for the secret.
 */
export async function listSealedEntries(
  options: Pick<KeyStoreOptions, 'directory' | 'io' | 'processes'>,
  signal?: CancelSignal,
): Promise<ListedEntry[]> {
  const files = new StoreFiles(
    readDirectory(checkOptionNames(options, OPTION_NAMES, 'the key store', TEST_OPTION_NAMES)),
    options,
  );
  const found = await files.findHeader(signal);
  if (found === undefined) throw missingStore(files.directory);
  const { storeId } = found.header;
  const entries = await listEntries(files, signal, ({ bytes }, name) => {
    return readEntryLabel(bytes, { path: files.entryPath(name), storeId, name }).label;
  });
  return explainDamage(entries, files, signal);
}

/** An open store. Nothing in it can be printed. Its methods may be called at any time; changes wait for one another. */
export class SoftwareKeyStore {
  readonly #files: StoreFiles;
  readonly #clock: { wallMs(): number };
  #key: StoreKey | undefined;
  #lastChange: Promise<unknown> = Promise.resolve();

  /** For `openKeyStore`. */
  constructor(files: StoreFiles, key: StoreKey, clock: { wallMs(): number }) {
    this.#files = files;
    this.#key = key;
    this.#clock = clock;
  }

  get directory(): string {
    return this.#files.directory;
  }

  /** Every entry, each opened; one that cannot be used says why, and does not keep the others from being listed. */
  async list(signal?: CancelSignal): Promise<ListedEntry[]> {
    const key = this.#openKey('list key store');
    const entries = await listEntries(this.#files, signal, (content, name) => this.#open(key, name, content));
    return explainDamage(entries, this.#files, signal);
  }

  /** @throws {HsmError} `ERR_DPS_HSM_ENTRY_MISSING`, `ERR_DPS_HSM_STORE_DAMAGED`. */
  async describe(name: string, signal?: CancelSignal): Promise<EntrySummary> {
    return summarizeEntry(await this.#entry(name, signal));
  }

  /**
   * The entry as what proves the device's identity.
   *
   * @throws {HsmError} as `describe` does; and as `x509FileHsm` does when no key of it can be used.
   */
  async hsm(name: string, signal?: CancelSignal): Promise<KeyStoreHsm> {
    const entry = await this.#entry(name, signal);
    return entryHsm(entry, this.#clock.wallMs(), (keyId, commitSignal) => this.#commit(name, keyId, commitSignal));
  }

  /**
   * The key and certificates of an entry that has a private key, for issuing: an authority of a test bench.
   *
   * @throws {HsmError} as `describe` does, and `ERR_DPS_HSM_OPERATION` for a symmetric key.
   */
  async authority(
    name: string,
    signal?: CancelSignal,
  ): Promise<{ readonly key: KeyObject; readonly certificates: readonly X509Certificate[] }> {
    const { kind, currentKey, current } = await this.#entry(name, signal);
    if (kind === 'x509' && current.certificates.length > 0)
      return { key: currentKey, certificates: current.certificates };
    const message = `The entry ${name} has no certificate to issue others with. Make an authority: dps-device keys make --kind ca`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', 'read entry', message);
  }

  /**
   * @throws {HsmError} `ERR_DPS_HSM_ENTRY_EXISTS`; {StoreError} when it cannot be written.
   * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` when `material` is none.
   */
  async add(name: string, material: KeyMaterial, signal?: CancelSignal): Promise<EntrySummary> {
    checkMaterial(material);
    return this.#change(name, signal, (entry) => {
      if (entry === undefined) return newEntry(name, material);
      const message = `There is an entry ${name} already. Give another name; roll its key (dps-device keys rotate); or remove it first.`;
      throw keyStoreError('ERR_DPS_HSM_ENTRY_EXISTS', 'change entry', message);
    });
  }

  /** Puts a new key beside the one in use. Then `commit` or `discard`. */
  async stage(name: string, material: KeyMaterial, signal?: CancelSignal): Promise<EntrySummary> {
    return this.#change(name, signal, (entry) => stageKey(this.#found(name, entry), material));
  }

  /**
   * Puts a renewed certificate for the key in use beside the one in use, then `commit` or `discard`; or gives a staged key
   * the certificate that it waits for. The leaf first.
   */
  async stageCertificates(
    name: string,
    certificates: readonly X509Certificate[],
    place: string,
    signal?: CancelSignal,
  ): Promise<EntrySummary> {
    return this.#change(name, signal, (entry) => stageCertificates(this.#found(name, entry), certificates, place));
  }

  /** Gives a key the certificate that was made from its signing request, or a renewed one at once; the leaf first. */
  attach(
    name: string,
    certificates: readonly X509Certificate[],
    place: string,
    signal?: CancelSignal,
  ): Promise<EntrySummary> {
    return this.#change(name, signal, (entry) => attachCertificates(this.#found(name, entry), certificates, place));
  }

  /** Makes the staged key the one in use, and drops the one before. */
  async commit(name: string, signal?: CancelSignal): Promise<EntrySummary> {
    return this.#change(name, signal, (entry) => commitKey(this.#found(name, entry), undefined));
  }

  /** Drops the staged key; the one in use stays. */
  async discard(name: string, signal?: CancelSignal): Promise<EntrySummary> {
    return this.#change(name, signal, (entry) => discardKey(this.#found(name, entry)));
  }

  /** Removes an entry for good, also a damaged one. */
  async remove(name: string, signal?: CancelSignal): Promise<void> {
    checkName(name);
    return this.#locked(signal, `removing the entry ${name}`, async () => {
      const { kind } = await this.#files.readEntry(name, signal);
      if (kind === 'none') throw this.#noEntry(name);
      await this.#files.withEntry(name, (file) => file.remove(signal));
    });
  }

  /**
   * Changes what seals the store: one write, after which only the new secret opens it. Further ones, in which a power cut
   * does no harm, see to it that the spare copy does not open with the old one either.
   *
   * @throws {HsmError} `ERR_DPS_HSM_PASSPHRASE` when the new secret cannot be used.
   */
  async seal(options: SealingOptions, signal?: CancelSignal): Promise<void> {
    const key = this.#openKey('seal key store');
    const bag = checkOptionNames(options, SEALING_OPTION_NAMES, 'the seal');
    const secret = await readSealingSecret(bag, 'seal', signal);
    try {
      checkNewSecret(secret);
      const header = await sealHeader(key, secret, signal);
      await this.#locked(signal, 'sealing the key store', () => this.#files.writeHeader(header, signal));
    } finally {
      secret.bytes.fill(0);
    }
  }

  /** Forgets the key of the store, after the change that is under way. HSMs that were given out keep what they have. */
  async close(): Promise<void> {
    this.#key = undefined;
    await this.#lastChange;
  }

  async #commit(name: string, keyId: string, signal: CancelSignal): Promise<void> {
    await this.#change(name, signal, (entry) => commitKey(this.#found(name, entry), keyId));
  }

  async #entry(name: string, signal: CancelSignal | undefined): Promise<Entry> {
    const key = this.#openKey('read entry');
    checkName(name);
    return this.#found(name, this.#openIfThere(key, name, await this.#files.readEntry(name, signal)));
  }

  /** Reads, changes and writes an entry under the lock. */
  #change(
    name: string,
    signal: CancelSignal | undefined,
    next: (entry: Entry | undefined) => EntryContent | undefined,
  ): Promise<EntrySummary> {
    const key = this.#openKey('change entry');
    checkName(name);
    return this.#locked(signal, `changing the entry ${name}`, () =>
      this.#files.withEntry(name, async (file) => {
        const content = await file.read(signal);
        const entry = this.#openIfThere(key, name, content);
        const changed = next(entry);
        if (changed === undefined) return summarizeEntry(this.#found(name, entry));
        const sealed = { ...changed, generation: (entry?.generation ?? 0) + 1 };
        const bytes = sealEntry(key.storeId, key.dataKey, sealed);
        await file.write(bytes, signal);
        // A new key is nowhere else: it needs its spare copy now, not with the next change.
        if (entry === undefined) await file.write(bytes, signal);
        return summarizeEntry(sealed);
      }),
    );
  }

  /** Cancelled work goes on to a point where it may stop, and gives the lock back then. */
  #locked<T>(signal: CancelSignal | undefined, state: string, work: () => Promise<T>): Promise<T> {
    const key = this.#openKey('change entry');
    return unlessCancelled(signal, state, () => {
      const change = this.#lastChange.then(async () => {
        throwIfCancelled(signal, state);
        return this.#files.locked(signal, async () => {
          await this.#checkStillTheSame(key, signal);
          return work();
        });
      });
      this.#lastChange = change.catch(() => undefined);
      return change;
    });
  }

  /** Somebody may have removed the folder and made another store there. Also clears up after a change that was cut short. */
  async #checkStillTheSame({ storeId }: StoreKey, signal: CancelSignal | undefined): Promise<void> {
    const found = await this.#files.findHeader(signal);
    if (found === undefined) throw missingStore(this.directory);
    if (found.header.storeId !== storeId) {
      const message = `The folder ${this.directory} holds another key store than was opened: it was replaced in the meantime. Open it again.`;
      throw keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
    }
    await this.#files.sweepDrafts();
    await this.#files.settleHeader(found, signal);
  }

  #openIfThere(key: StoreKey, name: string, content: AbContent): Entry | undefined {
    if (content.kind === 'none') return undefined;
    if (content.kind === 'damaged') throw damagedEntry(name, content.what);
    return this.#open(key, name, content);
  }

  #open({ storeId, dataKey }: StoreKey, name: string, { bytes }: FoundContent): Entry {
    return openEntry(dataKey, bytes, { path: this.#files.entryPath(name), storeId, name });
  }

  #found(name: string, entry: Entry | undefined): Entry {
    if (entry === undefined) throw this.#noEntry(name);
    return entry;
  }

  #noEntry(name: string): Error {
    const message = `There is no entry ${name} in the key store ${this.directory}. See what there is: dps-device keys list`;
    return keyStoreError('ERR_DPS_HSM_ENTRY_MISSING', 'read entry', message);
  }

  #openKey(operation: KeyStoreOperation): StoreKey {
    if (this.#key !== undefined) return this.#key;
    const message = `The key store ${this.directory} has been closed by this program. Open it again.`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', operation, message);
  }
}

function readDirectory(options: OptionBag): string {
  const directory = optionalPath(options, 'directory', '/var/lib/dps-device/keys');
  if (directory !== undefined) return directory;
  const message = 'Option hsm.directory is missing: give the folder of the key store.';
  throw optionError('ERR_DPS_CONFIG_MISSING_OPTION', 'directory', message);
}

/** The name is not repeated: it may be a key in the wrong place. */
function checkName(name: string): void {
  const problem = entryNameProblem(name);
  if (problem === undefined) return;
  throw optionError('ERR_DPS_CONFIG_OPTION', 'entry', `Option hsm.entry cannot be the name of an entry: ${problem}`);
}

/** Nobody else makes it at the same time, and nothing that was made before is lost. */
async function makeStore(
  files: StoreFiles,
  secret: SealingSecret,
  signal: CancelSignal | undefined,
): Promise<StoreKey> {
  checkNewSecret(secret);
  const made = makeStoreKey();
  const file = await sealHeader(made, secret, signal);
  return unlessCancelled(signal, 'making the key store', () =>
    files.locked(signal, async () => {
      const found = await files.findHeader(signal);
      if (found !== undefined) return openStoreKey(found.header, secret, files.directory, signal);
      await files.writeHeader(file, signal);
      return made;
    }),
  );
}

async function openStoreKey(
  header: StoreHeader,
  secret: SealingSecret,
  directory: string,
  signal: CancelSignal | undefined,
): Promise<StoreKey> {
  return { storeId: header.storeId, dataKey: await openHeader(header, secret, directory, signal) };
}

function missingStore(directory: string): Error {
  const message = `There is no key store in ${directory}. Check the path, or make one: dps-device keys make --key-store ${quoteForShell(directory)}`;
  return keyStoreError('ERR_DPS_HSM_STORE_MISSING', 'open key store', message);
}
