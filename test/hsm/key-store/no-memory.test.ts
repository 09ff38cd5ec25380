import { describe, expect, it, vi } from 'vitest';
import { makeStoreKey, openHeader, readHeader, sealHeader } from '../../../hsm/key-store/store-header.js';
import { exitStatusOf } from '../../../src/cli/exit-codes.js';
import { explainShortage } from '../../../src/cli/shortage.js';
import { failureOf } from '../../fakes/failure-of.js';

const broken = vi.hoisted(() => ({ scrypt: undefined as string | undefined }));

/** A process without memory: OpenSSL's own words, which no test can rely on getting from the system. */
vi.mock('node:crypto', async (importOriginal) => {
  const original = await importOriginal<typeof import('node:crypto')>();
  const scrypt = (...args: Parameters<typeof original.scrypt>): void => {
    const done = args.at(-1) as unknown as (error: Error) => void;
    if (broken.scrypt === undefined) original.scrypt(...args);
    else done(new Error(broken.scrypt));
  };
  return { ...original, scrypt };
});

const secret = { kind: 'passphrase' as const, bytes: Buffer.from('correct horse battery'), place: 'a test' };

describe('a passphrase that cannot be tried', () => {
  it('for want of memory says how much it takes, and is for later', async () => {
    broken.scrypt = undefined;
    const file = Buffer.from(await sealHeader(makeStoreKey(), secret, undefined)).toString();
    const big = file.replace('"log2N":15', '"log2N":17');
    broken.scrypt = 'error:030C0100:digital envelope routines::malloc failure';
    for (const [work, mebibytes] of [
      [() => sealHeader(makeStoreKey(), secret, undefined), 32],
      [() => openHeader(readHeader(Buffer.from(file), '/keys/store'), secret, '/keys', undefined), 32],
      [() => openHeader(readHeader(Buffer.from(big), '/keys/store'), secret, '/keys', undefined), 128],
    ] as const) {
      const error = await failureOf(work());
      expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_OPERATION', retryable: true });
      expect(error.message).toContain(`takes ${mebibytes} MiB of memory`);
      expect(explainShortage(error)).toContain('no memory left');
      expect(exitStatusOf(error)).toBe(75);
    }
  });

  it('because OpenSSL has no scrypt is a matter of the machine', async () => {
    broken.scrypt = 'error:0308010C:digital envelope routines::unsupported';
    const error = await failureOf(sealHeader(makeStoreKey(), secret, undefined));
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_OPERATION', retryable: false });
    expect(error.message).toContain('refused scrypt');
    expect(explainShortage(error)).toBeUndefined();
    expect(exitStatusOf(error)).toBe(71);
  });
});
