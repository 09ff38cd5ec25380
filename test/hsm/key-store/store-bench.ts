import { spawnSync } from 'node:child_process';
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { KeyMaterial } from '../../../hsm/key-store/key-material.js';
import { makeSymmetricKey } from '../../../hsm/key-store/key-material.js';
import { type KeyStoreOptions, openKeyStore, type SoftwareKeyStore } from '../../../hsm/software-key-store.js';
import { decodeSlot } from '../../../src/durable/slot.js';
import { type KeyAlgorithm, makeAuthority, makeSelfSigned } from '../../../src/emulator/pki.js';

export const PASSPHRASE = 'correct horse battery staple';

/** A folder that goes away with the test. */
export function scratchFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dps-device-keys-'));
  onTestFinished(() => {
    chmodSync(folder, 0o700);
    rmSync(folder, { recursive: true, force: true });
  });
  return folder;
}

/** A sealing key of 32 bytes, the same in every test: making it random is the business of others. */
export function keyFile(folder: string, fill = 7): string {
  const path = join(folder, `sealing-${fill}.key`);
  writeFileSync(path, new Uint8Array(32).fill(fill), { mode: 0o600 });
  return path;
}

/** A new store, sealed with a key file: deriving from passphrases takes its time. */
export async function makeTestStore(
  options: Partial<KeyStoreOptions> = {},
): Promise<{ store: SoftwareKeyStore; options: KeyStoreOptions }> {
  const folder = scratchFolder();
  const all = { directory: join(folder, 'store'), sealingKey: { file: keyFile(folder) }, ...options };
  return { store: await openKeyStore({ ...all, create: true }), options: all };
}

export function symmetric(registrationId: string, key: KeyObject = makeSymmetricKey()): KeyMaterial {
  return { kind: 'symmetricKey', registrationId, key };
}

export async function certified(commonName: string, keyAlgorithm: KeyAlgorithm = 'EC-P256'): Promise<KeyMaterial> {
  const made = await makeSelfSigned({ commonName, keyAlgorithm });
  return {
    kind: 'x509',
    key: createPrivateKey(made.privateKeyPem),
    certificates: [new X509Certificate(made.certificatePem)],
  };
}

/** What an authority makes of a signing request: OpenSSL, which is the judge of the request, too. */
export async function signRequest(requestPem: string): Promise<X509Certificate> {
  const folder = scratchFolder();
  const authority = await makeAuthority({ commonName: 'Factory' });
  writeFileSync(join(folder, 'ca.pem'), authority.certificatePem);
  writeFileSync(join(folder, 'ca.key'), authority.privateKeyPem, { mode: 0o600 });
  const args = ['x509', '-req', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-days', '30'];
  const { status, stdout, stderr } = spawnSync('openssl', args, { cwd: folder, input: requestPem, encoding: 'utf8' });
  if (status !== 0) throw new Error(`openssl: ${stderr}`);
  return new X509Certificate(stdout);
}

export function base64Of(key: KeyObject): string {
  return key.export().toString('base64');
}

/** Every file, byte for byte. */
export function contentOf(directory: string): Record<string, string> {
  return Object.fromEntries(
    readdirSync(directory).map((name) => [name, readFileSync(join(directory, name), 'base64')]),
  );
}

/** Leaves an entry that was just added its first copy alone. */
export function dropSpare(directory: string, entry: string): void {
  rmSync(join(directory, `entry-${entry}.b`));
}

/** What a file of the store holds. */
export function slotOf(path: string, name = 'store'): { format: number; generation: number; bytes: Uint8Array } {
  const decoded = decodeSlot(name, readFileSync(path));
  if (decoded.kind !== 'slot') throw new Error(decoded.what);
  return decoded.slot;
}
