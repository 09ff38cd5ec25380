import { createSecretKey, type KeyObject } from 'node:crypto';
import { type KeyStoreOptions, openKeyStore, type SoftwareKeyStore } from '../../../hsm/software-key-store.js';
import type { SymmetricKeyHsm } from '../../../src/core/attestation.js';
import { isDpsError } from '../../../src/errors.js';

/** The changes of a key store that are cut short in tests, one entry in it, and how to tell what came of them. */
export type Change = 'make' | 'add' | 'stage' | 'commit' | 'discard' | 'seal' | 'remove';

export const CHANGES: readonly Change[] = ['make', 'add', 'stage', 'commit', 'discard', 'seal', 'remove'];

/** What is before a change, and after it: which secret opens the store, and the keys of the entry in the order of its slots. */
export const STATES: Readonly<Record<Change, readonly [before: string, after: string]>> = {
  make: ['no store', 'old: none'],
  add: ['old: none', 'old: 1'],
  stage: ['old: 1', 'old: 2 1'],
  commit: ['old: 2 1', 'old: 2'],
  discard: ['old: 2 1', 'old: 1'],
  seal: ['old: 1', 'new: 1'],
  remove: ['old: 1', 'old: none'],
};

/** A store with the two files that may seal it. */
export interface ChangedStore {
  readonly options: Pick<KeyStoreOptions, 'directory' | 'io' | 'processes'>;
  readonly oldKeyFile: string;
  readonly newKeyFile: string;
}

const NAME = 'a';
const NEVER = new AbortController().signal;

/** The state from which `change` starts. */
export async function prepare(place: ChangedStore, change: Change): Promise<void> {
  if (change === 'make') return;
  const store = await open(place, 'old');
  const before = STATES[change][0];
  if (before.includes('1')) await store.add(NAME, material(1));
  if (before.includes('2')) await store.stage(NAME, material(2));
  await store.close();
}

export async function perform(place: ChangedStore, change: Change): Promise<void> {
  const store = await open(place, 'old');
  switch (change) {
    case 'make':
      return;
    case 'add':
      await store.add(NAME, material(1));
      return;
    case 'stage':
      await store.stage(NAME, material(2));
      return;
    case 'commit':
      await store.commit(NAME);
      return;
    case 'discard':
      await store.discard(NAME);
      return;
    case 'seal':
      return store.seal({ sealingKey: { file: place.newKeyFile } });
    case 'remove':
      return store.remove(NAME);
  }
}

/** The state as a later process finds it. */
export async function observe(place: ChangedStore): Promise<string> {
  const opened = await openAsItIs(place);
  if (opened === undefined) return 'no store';
  const entries = await opened.store.list();
  if (entries.length === 0) return `${opened.secret}: none`;
  const hsm = (await opened.store.hsm(NAME)) as SymmetricKeyHsm;
  const keys: string[] = [];
  for (let slot = 0; slot < (hsm.slots ?? 1); slot += 1) {
    const text = (await hsm.exportKey?.(slot, NEVER)) ?? '';
    keys.push(String(Buffer.from(text, 'base64')[0]));
  }
  return `${opened.secret}: ${keys.join(' ')}`;
}

/** The life after: a store that was not made is made, and everything works. Leaves one entry of another name behind. */
export async function goOn(place: ChangedStore): Promise<void> {
  const opened = (await openAsItIs(place)) ?? { store: await open(place, 'old') };
  const { store } = opened;
  if ((await store.list()).length === 0) await store.add(NAME, material(1));
  if ((await store.describe(NAME)).staged !== undefined) await store.discard(NAME);
  await store.stage(NAME, material(3));
  await store.commit(NAME);
  await store.close();
  const state = await observe(place);
  if (!/^(old|new): 3$/.test(state)) throw new Error(`after the next key roll the state is ${state}`);
}

async function openAsItIs(
  place: ChangedStore,
): Promise<{ readonly store: SoftwareKeyStore; readonly secret: 'old' | 'new' } | undefined> {
  for (const secret of ['old', 'new'] as const) {
    try {
      return { store: await openKeyStore({ ...place.options, sealingKey: { file: fileOf(place, secret) } }), secret };
    } catch (error) {
      const code = isDpsError(error) ? error.code : undefined;
      if (code === 'ERR_DPS_HSM_STORE_MISSING') return undefined;
      if (code !== 'ERR_DPS_HSM_PASSPHRASE' || secret === 'new') throw error;
    }
  }
  return undefined;
}

function open(place: ChangedStore, secret: 'old' | 'new'): Promise<SoftwareKeyStore> {
  return openKeyStore({ ...place.options, sealingKey: { file: fileOf(place, secret) }, create: true });
}

function fileOf({ oldKeyFile, newKeyFile }: ChangedStore, secret: 'old' | 'new'): string {
  return secret === 'old' ? oldKeyFile : newKeyFile;
}

function material(number: number): { kind: 'symmetricKey'; registrationId: string; key: KeyObject } {
  return { kind: 'symmetricKey', registrationId: 'dev-1', key: createSecretKey(new Uint8Array(64).fill(number)) };
}
