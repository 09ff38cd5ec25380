import { createPrivateKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EXIT } from '../../src/cli/exit-codes.js';
import { makeSelfSigned } from '../../src/emulator/pki.js';
import { keys, keysBench, secretFile, succeed } from './keys-bench.js';

describe('keys import', () => {
  it.each<[string, Record<string, string>]>([
    ['a key file', {}],
    ['a passphrase in the environment, too', { DPS_KEY_STORE_PASSPHRASE: 'correct horse battery staple' }],
  ])('names the flag of the passphrase of an encrypted private key, with a store sealed by %s', async (_, env) => {
    const { folder, flags } = keysBench();
    const { privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
    const encrypted = createPrivateKey(privateKeyPem).export({
      ...{ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'opensesame' },
    });
    const args = ['import', '--key-name', 'b', '--cert-key-file', secretFile(folder, String(encrypted)), ...flags];
    const { status, io } = await keys(args, { env });
    expect([status, io.err()]).toEqual([EXIT.hsm, expect.stringContaining('give --key-passphrase-file FILE')]);
    expect(io.err()).not.toMatch(/KEY_STORE|key-store-passphrase|hsm\./);
  });

  it('refuses a registration id that is not the common name of the certificate, and takes the very same', async () => {
    const { folder, flags } = keysBench();
    const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
    const certFile = join(folder, 'cert.pem');
    writeFileSync(certFile, certificatePem);
    const alone = ['import', '--key-name', 'dev', '--cert-file', certFile, ...flags];
    const withKey = [...alone, '--cert-key-file', secretFile(folder, privateKeyPem)];
    const refusal = [EXIT.usage, expect.stringMatching(/--registration-id .*"other".*common name "dev-1"/)];
    const refused = await keys([...withKey, '--registration-id', 'other']);
    expect([refused.status, refused.io.err()]).toEqual(refusal);
    const { entry } = await succeed([...withKey, '--registration-id', 'dev-1']);
    expect(entry).toMatchObject({ registrationId: 'dev-1' });
    const later = await keys([...alone, '--registration-id', 'other']);
    expect([later.status, later.io.err()]).toEqual(refusal);
  });
});
