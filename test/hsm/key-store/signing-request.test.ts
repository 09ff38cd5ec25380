import { spawnSync } from 'node:child_process';
import { createPublicKey } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { makePrivateKey, makeSigningRequest } from '../../../hsm/key-store/signing-request.js';
import { failureOf } from '../../fakes/failure-of.js';
import { signRequest } from './store-bench.js';

function openssl(args: readonly string[], input: string): string {
  const { status, stdout, stderr } = spawnSync('openssl', args, { input, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  return stdout;
}

describe('a signing request', () => {
  it.each([
    ['ec-p256', 'ecdsa-with-SHA256'],
    ['ec-p384', 'ecdsa-with-SHA384'],
    ['rsa-2048', 'sha256WithRSAEncryption'],
  ] as const)('for %s is one to OpenSSL, with its name, key and signature', async (algorithm, signature) => {
    const key = await makePrivateKey(algorithm);
    const request = makeSigningRequest(key, 'sensor-17');
    expect(openssl(['req', '-verify', '-noout', '-subject'], request)).toMatch(/CN ?= ?sensor-17/);
    expect(openssl(['req', '-noout', '-text'], request)).toContain(`Signature Algorithm: ${signature}`);
    expect(openssl(['req', '-noout', '-pubkey'], request)).toBe(
      createPublicKey(key).export({ type: 'spki', format: 'pem' }),
    );
    expect((await signRequest(request)).checkPrivateKey(key)).toBe(true);
  });

  it('takes names of any length that a registration id may have', async () => {
    const key = await makePrivateKey('ec-p256');
    for (const length of [1, 64, 127, 128]) {
      const name = 'n'.repeat(length);
      // OpenSSL's own limit for a CN is 64 when it makes one, not when it reads one.
      expect(openssl(['req', '-noout', '-subject'], makeSigningRequest(key, name))).toContain(name);
    }
  });

  it('is not waited for when the signal aborts', async () => {
    const controller = new AbortController();
    const making = makePrivateKey('rsa-2048', controller.signal);
    controller.abort();
    expect(await failureOf(making)).toMatchObject({ code: 'ERR_DPS_CANCELLED' });
  });
});
