import { createHmac, type KeyObject, type X509Certificate } from 'node:crypto';
import type { SymmetricKeyHsm, TlsClientCredential, X509Hsm } from '../../src/core/attestation.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { throwIfCancelled } from '../../src/core/cancellation.js';
import { registrationIdProblem } from '../../src/core/identifiers.js';
import type { HsmError } from '../../src/errors.js';
import { checkDates } from '../certificate-chain.js';
import type { Entry } from './entry.js';
import { keyStoreError } from './key-store-error.js';

/** What an HSM of the key store can beyond the contract: it holds the key in use, and maybe a staged one beside it. */
export interface RollingKeys {
  /**
   * The slot of the staged key, 0, when there is one. It is tried first, for a renewed certificate would never be taken up
   * while the one before is still good; the key in use is the next slot, for a service that does not know the new one yet.
   */
  readonly stagedSlot: number | undefined;
  /** The ids that the entry has for its keys, in the order of the slots. */
  readonly keyIds: readonly string[];
  /**
   * To be called when the hub has accepted the credential of a slot: a staged key is committed. The slots of this object
   * stay as they are. Does nothing when it is the key in use, or has been committed before.
   *
   * @throws {HsmError} `ERR_DPS_HSM_OPERATION` when another key has been staged since; StoreError when it cannot be written.
   */
  accepted(slot: number, signal: CancelSignal): Promise<void>;
}

export type KeyStoreHsm = (SymmetricKeyHsm | X509Hsm) & RollingKeys;

/** Commits the staged key of that id. */
export type CommitKey = (keyId: string, signal: CancelSignal) => Promise<void>;

/** One credential to try. */
interface Slot {
  readonly keyId: string;
  readonly isStaged: boolean;
  readonly key: KeyObject;
  readonly certificates: readonly X509Certificate[];
}

/**
 * The view of one entry, as it is now.
 *
 * @throws {HsmError} `ERR_DPS_HSM_REGISTRATION_ID`, `_CERTIFICATE_INVALID` (none yet), `_CERTIFICATE_EXPIRED`,
 *   `_CERTIFICATE_NOT_YET_VALID` when no key of it can be used.
 */
export function entryHsm(entry: Entry, wallMs: number, commit: CommitKey): KeyStoreHsm {
  const registrationId = checkRegistrationId(entry);
  const slots = usableSlots(entry, wallMs);
  return entry.kind === 'symmetricKey'
    ? new SymmetricKeyEntry(registrationId, slots, commit)
    : new CertificateEntry(registrationId, slots, commit);
}

abstract class EntryView implements RollingKeys {
  readonly #registrationId: string;
  readonly #slots: readonly Slot[];
  readonly #commit: CommitKey;

  constructor(registrationId: string, slots: readonly Slot[], commit: CommitKey) {
    this.#registrationId = registrationId;
    this.#slots = slots;
    this.#commit = commit;
  }

  get slots(): number {
    return this.#slots.length;
  }

  get stagedSlot(): number | undefined {
    const slot = this.#slots.findIndex(({ isStaged }) => isStaged);
    return slot < 0 ? undefined : slot;
  }

  get keyIds(): readonly string[] {
    return this.#slots.map(({ keyId }) => keyId);
  }

  async registrationId(signal: CancelSignal): Promise<string> {
    throwIfCancelled(signal, 'reading the registration id');
    return this.#registrationId;
  }

  async accepted(slot: number, signal: CancelSignal): Promise<void> {
    throwIfCancelled(signal, 'committing a key');
    const { isStaged, keyId } = this.slot(slot, 'change entry');
    if (isStaged) await this.#commit(keyId, signal);
  }

  protected slot(slot: number, operation: Parameters<typeof keyStoreError>[1]): Slot {
    const found = this.#slots[slot];
    if (found !== undefined) return found;
    const message = `There is no key in slot ${slot}; slots count from 0, and there are ${this.#slots.length}.`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', operation, message);
  }
}

class SymmetricKeyEntry extends EntryView implements SymmetricKeyHsm {
  readonly kind = 'symmetricKey';

  async sign(data: Uint8Array, slot: number, signal: CancelSignal): Promise<Uint8Array> {
    throwIfCancelled(signal, 'signing');
    return new Uint8Array(createHmac('sha256', this.slot(slot, 'sign').key).update(data).digest());
  }

  async exportKey(slot: number, signal: CancelSignal): Promise<string> {
    throwIfCancelled(signal, 'exporting the device key');
    const bytes = this.slot(slot, 'export key').key.export();
    const text = bytes.toString('base64');
    bytes.fill(0);
    return text;
  }
}

class CertificateEntry extends EntryView implements X509Hsm {
  readonly kind = 'x509';

  /** The key leaves decrypted, as PKCS#8: TLS of Node takes it in no other way. */
  async tlsCredential(slot: number, signal: CancelSignal): Promise<TlsClientCredential> {
    throwIfCancelled(signal, 'reading the TLS credential');
    const { key, certificates } = this.slot(slot, 'read TLS credential');
    return {
      certificateChainPem: certificates.map((certificate) => certificate.toString()).join(''),
      privateKeyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    };
  }
}

function checkRegistrationId({ name, registrationId }: Entry): string {
  const problem =
    registrationId === undefined
      ? 'Its certificate has no common name (CN), or several; DPS takes the registration id from there.'
      : registrationIdProblem(registrationId);
  if (registrationId !== undefined && problem === undefined) return registrationId;
  const message = `The entry ${name} cannot prove a device's identity: it has no usable registration id. ${problem}`;
  throw keyStoreError('ERR_DPS_HSM_REGISTRATION_ID', 'read entry', message);
}

/** The staged key first. A key that cannot be used is left out as long as there is another. */
function usableSlots(entry: Entry, wallMs: number): readonly Slot[] {
  const { staged, stagedKey, current, currentKey } = entry;
  const slots: Slot[] = [
    ...(staged === undefined || stagedKey === undefined
      ? []
      : [{ keyId: staged.id, isStaged: true, key: stagedKey, certificates: staged.certificates }]),
    { keyId: current.id, isStaged: false, key: currentKey, certificates: current.certificates },
  ];
  const problems = new Map(slots.map((slot) => [slot, slotProblem(entry, slot, wallMs)]));
  const usable = slots.filter((slot) => problems.get(slot) === undefined);
  if (usable.length > 0) return usable;
  throw [...problems.values()].at(-1) ?? new TypeError('An entry without a key');
}

function slotProblem({ name, kind }: Entry, { certificates }: Slot, wallMs: number): HsmError | undefined {
  if (kind === 'symmetricKey') return undefined;
  if (certificates.length === 0) {
    const message = `The key of the entry ${name} has no certificate yet. Have its signing request signed, then: dps-device keys import --key-name ${name} --cert-file CERTIFICATE.pem`;
    return keyStoreError('ERR_DPS_HSM_CERTIFICATE_INVALID', 'read entry', message);
  }
  try {
    checkDates(certificates, wallMs, `the entry ${name} of the key store`);
    return undefined;
  } catch (error) {
    return error as HsmError;
  }
}
