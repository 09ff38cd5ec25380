import { describe, expect, it } from 'vitest';
import { baseCode, decodeResponseCode, describeResponseCode, TPM_RC } from '../../../hsm/tpm2/response-codes.js';

describe('response codes', () => {
  it.each([
    [0x100, 'TPM_RC_INITIALIZE (0x100)'],
    [0x101, 'TPM_RC_FAILURE (0x101)'],
    [0x12f, 'TPM_RC_AUTH_UNAVAILABLE (0x12f)'],
    [0x14b, 'TPM_RC_NV_SPACE (0x14b)'],
    [0x14c, 'TPM_RC_NV_DEFINED (0x14c)'],
    [0x182, 'TPM_RC_ATTRIBUTES (0x182, handle 1)'],
    [0x185, 'TPM_RC_HIERARCHY (0x185, handle 1)'],
    [0x18a, 'TPM_RC_TYPE (0x18a, handle 1)'],
    [0x18b, 'TPM_RC_HANDLE (0x18b, handle 1)'],
    [0x28b, 'TPM_RC_HANDLE (0x28b, handle 2)'],
    [0x08b, 'TPM_RC_HANDLE (0x08b)'],
    [0x1cb, 'TPM_RC_HANDLE (0x1cb, parameter 1)'],
    [0x1cd, 'TPM_RC_RANGE (0x1cd, parameter 1)'],
    [0x1d5, 'TPM_RC_SIZE (0x1d5, parameter 1)'],
    [0x1df, 'TPM_RC_INTEGRITY (0x1df, parameter 1)'],
    [0x2c2, 'TPM_RC_ATTRIBUTES (0x2c2, parameter 2)'],
    [0x2d2, 'TPM_RC_SCHEME (0x2d2, parameter 2)'],
    [0x2e5, 'TPM_RC_BINDING (0x2e5, parameter 2)'],
    [0x3c7, 'TPM_RC_KEY_SIZE (0x3c7, parameter 3)'],
    [0x5c4, 'TPM_RC_VALUE (0x5c4, parameter 5)'],
    [0xfc4, 'TPM_RC_VALUE (0xfc4, parameter 15)'],
    [0x99d, 'TPM_RC_POLICY_FAIL (0x99d, session 1)'],
    [0x9a2, 'TPM_RC_BAD_AUTH (0x9a2, session 1)'],
    [0xaa2, 'TPM_RC_BAD_AUTH (0xaa2, session 2)'],
    [0x98e, 'TPM_RC_AUTH_FAIL (0x98e, session 1)'],
    [0x902, 'TPM_RC_OBJECT_MEMORY (0x902)'],
    [0x903, 'TPM_RC_SESSION_MEMORY (0x903)'],
    [0x908, 'TPM_RC_YIELDED (0x908)'],
    [0x90a, 'TPM_RC_TESTING (0x90a)'],
    [0x910, 'TPM_RC_REFERENCE_H0 (0x910)'],
    [0x916, 'TPM_RC_REFERENCE_H6 (0x916)'],
    [0x919, 'TPM_RC_REFERENCE_S1 (0x919)'],
    [0x921, 'TPM_RC_LOCKOUT (0x921)'],
    [0x922, 'TPM_RC_RETRY (0x922)'],
    [0x01e, 'TPM_RC_BAD_TAG (0x01e)'],
    [0x16e, 'unknown code (0x16e)'],
    [0x000b0143, 'TPM_RC_COMMAND_CODE (0xb0143, from the resource manager)'],
    [0x00080001, 'unknown code (0x80001, from the software)'],
  ])('%i', (raw, expected) => {
    expect(describeResponseCode(decodeResponseCode(raw))).toBe(expected);
  });

  it('are compared without their index', () => {
    expect(baseCode(0x18b)).toBe(TPM_RC.HANDLE);
    expect(baseCode(0xb028b)).toBe(TPM_RC.HANDLE);
    expect(baseCode(0x9a2)).toBe(TPM_RC.BAD_AUTH);
    expect(baseCode(0x5c4)).toBe(TPM_RC.VALUE);
    expect(baseCode(0x921)).toBe(TPM_RC.LOCKOUT);
    expect(baseCode(0x100)).toBe(TPM_RC.INITIALIZE);
  });

  it('say something, all of them', () => {
    for (let raw = 0; raw < 0x1000; raw += 1) {
      const { name, sentence } = decodeResponseCode(raw);
      expect(name === 'unknown code' || /^TPM_RC_[A-Z_0-9]+$/.test(name)).toBe(true);
      expect(sentence.length).toBeGreaterThan(5);
    }
  });
});
