/** A folder with certificates for a test file about configurations: its hooks run in each file that imports it. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { resolveConfig } from '../../src/emulator/config.js';
import {
  type CertificateAuthority,
  type IssuedCertificate,
  issueCertificate,
  makeAuthority,
} from '../../src/emulator/pki.js';
import { EmulatedScope } from '../../src/emulator/scope.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { DEVICE_KEY } from './tokens.js';

export let folder: string;
export let authority: CertificateAuthority;
export let leaf: IssuedCertificate;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'emulator-config-'));
  authority = await makeAuthority({ commonName: 'CA' });
  leaf = await issueCertificate(authority, { commonName: 'dev-1', usage: 'client' });
  writeFileSync(join(folder, 'ca.pem'), authority.certificatePem);
  writeFileSync(join(folder, 'leaf.pem'), leaf.certificatePem);
  writeFileSync(join(folder, 'nonsense.pem'), 'nonsense');
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Reads a configuration to the last enrollment. */
export function read(config: unknown): EmulatedScope[] {
  const clock = new ManualClock();
  return resolveConfig(config, folder).scopes.map(
    (scope) =>
      new EmulatedScope(scope, {
        clock,
        world: { wallMs: () => clock.wallMs(), randomBytes: (size) => new Uint8Array(size).fill(7) },
        baseDirectory: folder,
        rules: { retryAfterSeconds: 3, refuseConcurrent: false },
        stored: undefined,
        onChange: () => {},
      }),
  );
}

export const key = { symmetricKey: { primaryKey: DEVICE_KEY } };
