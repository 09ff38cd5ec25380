import { describe, expect, it } from 'vitest';
import { HsmError } from '../src/errors.js';
import { checkedExportedKey, checkedSignature, checkedTlsCredential, hsmFailure } from '../src/hsm-answers.js';

const refusal = (message: string) =>
  expect.objectContaining({
    name: 'HsmError',
    code: 'ERR_DPS_HSM_OPERATION',
    message: expect.stringContaining(message),
  });

describe('checkedSignature', () => {
  it('takes 32 bytes', () => {
    const signature = new Uint8Array(32);
    expect(checkedSignature(signature)).toBe(signature);
    expect(checkedSignature(Buffer.alloc(32))).toHaveLength(32);
  });

  it.each<[unknown, string]>([
    [undefined, 'not undefined'],
    ['c2VjcmV0', 'not a text'],
    [new Uint8Array(31), 'not 31 bytes'],
    [new ArrayBuffer(32), 'not an object'],
  ])('refuses %s', (signature, words) => {
    expect(() => checkedSignature(signature)).toThrow(refusal(words));
  });
});

describe('checkedTlsCredential', () => {
  it('takes three texts, or two', () => {
    const credential = { certificateChainPem: 'CHAIN', privateKeyPem: 'KEY', passphrase: 'P' };
    expect(checkedTlsCredential(credential)).toBe(credential);
    const { passphrase: _, ...open } = credential;
    expect(checkedTlsCredential(open)).toBe(open);
  });

  it.each<[unknown, string]>([
    [undefined, 'must give { certificateChainPem, privateKeyPem }, not undefined'],
    ['SECRET', 'not a text'],
    [['SECRET'], 'not a list'],
    [
      { certificateChainPem: 'CHAIN' },
      'privateKeyPem of what tlsCredential() of the HSM gives must be a text, not undefined',
    ],
    [
      { certificateChainPem: Buffer.from('CHAIN'), privateKeyPem: 'SECRET' },
      'certificateChainPem of what tlsCredential() of the HSM gives must be a text, not bytes',
    ],
    [
      { certificateChainPem: 'CHAIN', privateKeyPem: 'SECRET', passphrase: 7 },
      'passphrase of what tlsCredential() of the HSM gives must be a text, not a number',
    ],
  ])('refuses %j and shows nothing of it', (credential, words) => {
    expect(() => checkedTlsCredential(credential)).toThrow(refusal(words));
    try {
      checkedTlsCredential(credential);
    } catch (error) {
      expect(String(error)).not.toContain('SECRET');
    }
  });
});

describe('checkedExportedKey', () => {
  it('takes a text and nothing else', () => {
    expect(checkedExportedKey('a2V5')).toBe('a2V5');
    expect(() => checkedExportedKey(undefined)).toThrow(refusal('not undefined'));
    expect(() => checkedExportedKey('')).toThrow(refusal('not an empty text'));
    expect(() => checkedExportedKey(Buffer.from('SECRET'))).toThrow(refusal('not bytes'));
  });
});

describe('hsmFailure', () => {
  it('leaves our own errors as they are', () => {
    const error = new HsmError({ code: 'ERR_DPS_HSM_TPM_BUSY', message: 'busy', operation: 'sign' });
    expect(hsmFailure(error, 'sign')).toBe(error);
  });

  it.each([
    [new Error('bus\nerror'), 'bus error'],
    ['no', 'no'],
    [undefined, 'it threw undefined'],
    [Object.create(null), 'it threw an object'],
  ])('makes an HsmError of %o', (thrown, words) => {
    const error = hsmFailure(thrown, 'sign');
    expect(error.cause).toBe(thrown);
    expect(error).toMatchObject({
      name: 'HsmError',
      code: 'ERR_DPS_HSM_OPERATION',
      operation: 'sign',
      message: `The HSM failed to sign: ${words}`,
    });
  });
});
