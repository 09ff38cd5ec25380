import { randomBytes } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { keyStoreHsm } from '../../hsm/software-key-store.js';
import { EXIT } from '../../src/cli/exit-codes.js';
import { main } from '../../src/cli/main.js';
import type { SymmetricKeyHsm } from '../../src/core/attestation.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { temporaryFolder } from './temporary-folder.js';

const { signal } = new AbortController();

/** A command of keys that has ended. */
export interface Ended {
  readonly status: number;
  readonly io: FakeIo;
  /** The document on standard output. */
  readonly result: Result;
}

interface Result {
  readonly entry: EntryResult;
  readonly entries: readonly EntryResult[];
  readonly [member: string]: unknown;
}

interface EntryResult {
  readonly name: string;
  readonly registrationId?: string;
  readonly current: KeyResult;
  readonly staged?: KeyResult;
}

interface KeyResult {
  readonly id: string;
  readonly algorithm: string;
  readonly certificate?: { readonly commonName: string; readonly sha256: string; readonly chainLength: number };
}

/** A store in a folder of its own, and the flags that open it. */
export function keysBench(): { folder: string; store: string; keyFile: string; flags: string[] } {
  const folder = temporaryFolder();
  const [store, keyFile] = [join(folder, 'store'), join(folder, 'store.key')];
  return { folder, store, keyFile, flags: ['--key-store', store, '--key-store-key-file', keyFile] };
}

export async function keys(args: readonly string[], options: FakeIoOptions = {}): Promise<Ended> {
  // The certificates made here are held against the clock of this machine, by OpenSSL, too.
  const io = { ...fakeIo(options), clock: new ManualClock(Date.now()) };
  const status = await main(['keys', ...args], io);
  const text = io.out();
  return { status, io, result: (text.startsWith('{') ? JSON.parse(text) : {}) as Result };
}

export async function succeed(args: readonly string[], options: FakeIoOptions = {}): Promise<Result> {
  const { status, io, result } = await keys(args, options);
  expect(io.err()).not.toContain('error');
  expect(status).toBe(EXIT.ok);
  return result;
}

export async function symmetricKeysOf(store: string, keyFile: string, entry: string): Promise<string[]> {
  const hsm = (await keyStoreHsm({ directory: store, sealingKey: { file: keyFile }, entry })) as SymmetricKeyHsm;
  const slots = Array.from({ length: hsm.slots ?? 1 }, (_, slot) => slot);
  return Promise.all(slots.map(async (slot) => (await hsm.exportKey?.(slot, signal)) ?? ''));
}

export function secretFile(folder: string, content: string | Uint8Array, mode = 0o600): string {
  const path = join(folder, `secret-${randomBytes(4).toString('hex')}`);
  writeFileSync(path, content);
  chmodSync(path, mode);
  return path;
}
