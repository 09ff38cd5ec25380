import { describe, expect, it } from 'vitest';
import {
  SASL_TPM_START,
  type SaslTpmProgress,
  type SaslTpmStep,
  saslTpmInit,
  saslTpmToken,
  stepSaslTpm,
} from '../../src/core/wire/sasl-tpm.js';
import { ProtocolError } from '../../src/errors.js';

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));
const EK = hex('00 04 aa bb');
const SRK = hex('00 04 cc dd');

/** Takes challenges one after the other. */
function walk(...challenges: readonly string[]): SaslTpmStep {
  let progress: SaslTpmProgress = SASL_TPM_START;
  let step: SaslTpmStep | undefined;
  for (const challenge of challenges) {
    step = stepSaslTpm(progress, hex(challenge), SRK);
    if (step.kind === 'respond') progress = step.progress;
  }
  if (step === undefined) throw new Error('no challenge');
  return step;
}

describe('SASL TPM', () => {
  it('opens with scope, registration id and endorsement key', () => {
    // 0ne, dev-1
    expect(saslTpmInit('0ne', 'dev-1', EK)).toEqual(hex('00 30 6e 65 00 64 65 76 2d 31 00 00 04 aa bb'));
  });

  it('answers the first challenge with the storage root key', () => {
    expect(walk('00')).toMatchObject({ kind: 'respond', response: hex('00 00 04 cc dd') });
  });

  it('asks on after a segment', () => {
    expect(walk('00', '80 01 02')).toMatchObject({ kind: 'respond', response: hex('00') });
  });

  it('puts the key blob together: two segments, one, or many', () => {
    expect(walk('00', '80 01 02', 'c1 03')).toEqual({ kind: 'blob', blob: hex('01 02 03') });
    expect(walk('00', 'c0 01 02')).toEqual({ kind: 'blob', blob: hex('01 02') });
    const many = walk('00', '80 01', '81 02', '82 03', '83 04', '80 05', 'c1 06');
    expect(many).toEqual({ kind: 'blob', blob: hex('01 02 03 04 05 06') });
  });

  it('ends with the token', () => {
    expect(saslTpmToken('Sha')).toEqual(hex('00 53 68 61'));
  });

  it.each([
    ['nothing at all', ['']],
    ['a second segment first', ['00', '81 01']],
    ['a segment twice', ['00', '80 01', '80 01']],
    ['a segment left out', ['00', '80 01', '82 01']],
    ['an empty segment', ['00', '80']],
    ['no control byte known', ['00', '40 01']],
    ['the storage root key again, amidst the blob', ['00', '80 01', '00']],
  ])('refuses %s', (_what, challenges) => {
    expect(() => walk(...challenges)).toThrow(ProtocolError);
  });

  it('refuses a blob without end, and shows nothing of it', () => {
    const segment = (index: number): string => `${(0x80 + (index % 4)).toString(16)} ${'ab'.repeat(500)}`;
    const endless = Array.from({ length: 60 }, (_, index) => segment(index));
    expect(() => walk('00', ...endless)).toThrow(/at most 16384 bytes/);
    expect(() => walk('00', '81 abab')).toThrow(/^(?!.*abab).*control byte 81/);
  });
});
