import type { KeyObject, X509Certificate } from 'node:crypto';
import type { Entry, HeldKey } from './entry.js';
import { makeKeyId } from './entry.js';
import { checkSameDevice, commonNameOf, describeKey, type KeyMaterial } from './key-material.js';
import { keyStoreError } from './key-store-error.js';

/** What changes of an entry are, apart from the writing: each makes the next entry of the one before. */

export type EntryContent = Omit<Entry, 'generation'>;

export function newEntry(name: string, material: KeyMaterial): EntryContent {
  return {
    name,
    kind: material.kind,
    registrationId: registrationIdOf(material),
    current: describeHeld(material),
    currentKey: material.key,
    staged: undefined,
    stagedKey: undefined,
  };
}

/** @throws {HsmError} when a key is staged already, is of another kind, or for another device. */
export function stageKey(entry: Entry, material: KeyMaterial): EntryContent {
  checkNothingStaged(entry);
  if (entry.kind !== material.kind) {
    const message = `The entry ${entry.name} holds ${nameKind(entry.kind)}, and ${nameKind(material.kind)} was given. Add it as an entry of its own.`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
  }
  const isAwaiting = material.kind === 'x509' && material.certificates.length === 0;
  if (!isAwaiting) checkSameDevice(entry.name, entry.registrationId, registrationIdOf(material));
  return { ...entry, staged: describeHeld(material), stagedKey: material.key };
}

/**
 * The staged key becomes the one in use. `keyId` guards against committing another than was tried; with one that is in use
 * already there is nothing to do: `undefined`.
 */
export function commitKey(entry: Entry, keyId: string | undefined): EntryContent | undefined {
  const { staged, stagedKey } = entry;
  if (keyId !== undefined && keyId === entry.current.id) return undefined;
  if (staged === undefined || stagedKey === undefined) throw nothingStaged(entry, 'commit');
  if (keyId !== undefined && keyId !== staged.id) {
    const message = `The key that was accepted is not the staged key of the entry ${entry.name} any more: another was staged since. Nothing was changed; try the new one.`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
  }
  if (entry.kind === 'x509' && staged.certificates.length === 0) {
    const message = `The staged key of the entry ${entry.name} has no certificate yet. Give it the one made from its signing request first: dps-device keys import --key-name ${entry.name} --cert-file CERTIFICATE.pem`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
  }
  return { ...entry, current: staged, currentKey: stagedKey, staged: undefined, stagedKey: undefined };
}

export function discardKey(entry: Entry): EntryContent {
  if (entry.staged === undefined) throw nothingStaged(entry, 'discard');
  return { ...entry, staged: undefined, stagedKey: undefined };
}

/**
 * Gives a key its certificate, or a new one at once. A staged key that waits for one comes first; then the key in use.
 *
 * @throws {HsmError} `ERR_DPS_HSM_KEY_MISMATCH`, `ERR_DPS_HSM_REGISTRATION_ID`, `ERR_DPS_HSM_OPERATION`.
 */
export function attachCertificates(
  entry: Entry,
  certificates: readonly X509Certificate[],
  place: string,
): EntryContent {
  const { isForCurrent, isAwaited } = keysOfCertificate(entry, certificates, place);
  const { current, staged } = entry;
  if (staged === undefined || (isForCurrent && !isAwaited)) return { ...entry, current: { ...current, certificates } };
  // A hub that has accepted the certificate before has not accepted this one: it must not be committed in its place.
  const id = isAwaited ? staged.id : makeKeyId();
  return { ...entry, staged: { ...staged, id, certificates } };
}

/**
 * Puts a renewed certificate for the key in use beside the one in use; or gives a staged key the one that it waits for.
 *
 * @throws {HsmError} as `attachCertificates` does, also when something else is staged already.
 */
export function stageCertificates(entry: Entry, certificates: readonly X509Certificate[], place: string): EntryContent {
  if (keysOfCertificate(entry, certificates, place).isAwaited) return attachCertificates(entry, certificates, place);
  return stageKey(entry, { kind: 'x509', key: entry.currentKey, certificates });
}

/** Which key of the entry the first certificate is for; it may be both. `isAwaited`: the staged one has none yet. */
function keysOfCertificate(
  entry: Entry,
  certificates: readonly X509Certificate[],
  place: string,
): { readonly isForCurrent: boolean; readonly isAwaited: boolean } {
  if (entry.kind !== 'x509') {
    const message = `The entry ${entry.name} holds a symmetric key, which has no certificate. Add the certificate with its key as an entry of its own.`;
    throw keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
  }
  const [leaf] = certificates;
  const isFor = (key: KeyObject | undefined): boolean => key !== undefined && leaf?.checkPrivateKey(key) === true;
  const [isForCurrent, isForStaged] = [isFor(entry.currentKey), isFor(entry.stagedKey)];
  if (leaf === undefined || !(isForCurrent || isForStaged)) {
    const message = `The first certificate in ${place} is not for a key of the entry ${entry.name}. Give the certificate that was made from the signing request of this entry, the device's own first.`;
    throw keyStoreError('ERR_DPS_HSM_KEY_MISMATCH', 'change entry', message);
  }
  checkSameDevice(entry.name, entry.registrationId, commonNameOf(leaf));
  return { isForCurrent, isAwaited: isForStaged && entry.staged?.certificates.length === 0 };
}

function checkNothingStaged({ name, staged }: Entry): void {
  if (staged === undefined) return;
  const message = `The entry ${name} has a staged key already. Commit it, or discard it first: dps-device keys rotate --step discard --key-name ${name}`;
  throw keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
}

function describeHeld(material: KeyMaterial): HeldKey {
  return {
    id: makeKeyId(),
    algorithm: describeKey(material.key),
    certificates: material.kind === 'x509' ? material.certificates : [],
  };
}

function registrationIdOf(material: KeyMaterial): string | undefined {
  if (material.kind === 'symmetricKey') return material.registrationId;
  const [leaf] = material.certificates;
  return leaf === undefined ? material.registrationId : commonNameOf(leaf);
}

function nameKind(kind: KeyMaterial['kind']): string {
  return kind === 'x509' ? 'a private key with certificate' : 'a symmetric key';
}

function nothingStaged({ name }: Entry, verb: string): Error {
  const message = `There is nothing to ${verb}: the entry ${name} has no staged key. See what it has: dps-device keys list`;
  return keyStoreError('ERR_DPS_HSM_OPERATION', 'change entry', message);
}
