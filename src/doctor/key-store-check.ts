import { readCertificates } from '../../hsm/certificate-chain.js';
import { type KeyStoreHsmOptions, openKeyStore, type SoftwareKeyStore } from '../../hsm/software-key-store.js';
import type { TlsClientCredential } from '../core/attestation.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import type { DpsErrorCode } from '../errors.js';
import { checkExpiry } from './certificate-check.js';
import { attempt, type CheckName, type Finding, failed, ok, warning } from './finding.js';

export interface KeyStoreCheck {
  readonly findings: readonly Finding[];
  /** To connect with, when the entry has a certificate that can be used. */
  readonly client: TlsClientCredential | undefined;
}

/** Opens the store and its entry as `provision` does. That takes no lock, and nothing is written. */
export async function checkKeyStore(
  { entry, ...options }: KeyStoreHsmOptions,
  clock: Clock,
  signal: CancelSignal,
): Promise<KeyStoreCheck> {
  const opened = await attempt(() => openKeyStore({ ...options, clock }, signal));
  if (opened.error !== undefined) {
    return { findings: [failed(CHECKS.get(opened.error.code) ?? 'key-store', opened.error)], client: undefined };
  }
  const store = opened.value;
  try {
    const found = ok('key-store', `The key store ${store.directory} can be opened.`);
    const doubts = await attempt(() => doubtsOf(store, entry, signal));
    if (doubts.error !== undefined) return { findings: [failed('key-store', doubts.error)], client: undefined };
    const { findings, client } = await checkEntry(store, entry, clock, signal);
    return { findings: [found, ...doubts.value, ...findings], client };
  } finally {
    await store.close();
  }
}

/** Where a fault of the store, or of an entry, belongs. */
const CHECKS: ReadonlyMap<DpsErrorCode, CheckName> = new Map<DpsErrorCode, CheckName>([
  ['ERR_DPS_HSM_FILE_MODE', 'permissions'],
  ['ERR_DPS_HSM_FILE_UNREADABLE', 'permissions'],
  ['ERR_DPS_STORE_MODE', 'permissions'],
  ['ERR_DPS_STORE_OWNER', 'permissions'],
  ['ERR_DPS_HSM_CERTIFICATE_INVALID', 'certificate'],
  ['ERR_DPS_HSM_CERTIFICATE_EXPIRED', 'expiry'],
  ['ERR_DPS_HSM_CERTIFICATE_NOT_YET_VALID', 'expiry'],
  ['ERR_DPS_HSM_REGISTRATION_ID', 'registration-id'],
]);

/** An entry is kept twice: it can be used with one of its two files damaged. */
async function doubtsOf(store: SoftwareKeyStore, entry: string, signal: CancelSignal): Promise<Finding[]> {
  const listed = (await store.list(signal)).find(({ name }) => name === entry);
  if (listed?.problem !== undefined || listed?.warning === undefined) return [];
  return [
    warning(
      'key-store',
      `The entry ${entry}: ${listed.warning}`,
      'The next change of the entry writes that file anew.',
    ),
  ];
}

async function checkEntry(
  store: SoftwareKeyStore,
  entry: string,
  clock: Clock,
  signal: CancelSignal,
): Promise<KeyStoreCheck> {
  const opened = await attempt(() => store.hsm(entry, signal));
  if (opened.error !== undefined) {
    return { findings: [failed(CHECKS.get(opened.error.code) ?? 'key', opened.error)], client: undefined };
  }
  const hsm = opened.value;
  const staged = hsm.stagedSlot === undefined ? '' : '; a staged one is tried first';
  const registrationId = ok('registration-id', `The device registers as ${await hsm.registrationId(signal)}.`);
  if (hsm.kind === 'symmetricKey') {
    return {
      findings: [ok('key', `The entry ${entry} holds a symmetric key${staged}.`), registrationId],
      client: undefined,
    };
  }
  const client = await hsm.tlsCredential(0, signal);
  const place = `the entry ${entry} of the key store`;
  const chain = readCertificates({ text: client.certificateChainPem, place });
  const found = ok('key', `The entry ${entry} holds a private key with its certificate${staged}.`);
  return { findings: [found, await checkExpiry(chain, clock, place), registrationId], client };
}
