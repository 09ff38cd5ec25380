import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeUtf8 } from '../../src/core/bytes.js';
import { readTpmChallenge } from '../../src/core/tpm-challenge.js';

const CHALLENGE =
  '{"message":"Authorization required, resend request using supplied key","authenticationKey":"ADQAII6SXBg=","unencryptedAuthenticationKey":null,"keyName":"registration"}';
const BLOB = Uint8Array.of(0x00, 0x34, 0x00, 0x20, 0x8e, 0x92, 0x5c, 0x18);

describe('readTpmChallenge', () => {
  it("takes the key blob out of DPS's 401", () => {
    expect(readTpmChallenge({ status: 401, body: encodeUtf8(CHALLENGE) })).toEqual(BLOB);
  });

  it('needs nothing but the key', () => {
    expect(readTpmChallenge({ status: 401, body: encodeUtf8('{"authenticationKey":"ADQAII6SXBg="}') })).toEqual(BLOB);
  });

  it.each([
    ['an ordinary 401', '{"errorCode":401002,"trackingId":"b3990321","message":"Unauthorized"}'],
    ['an empty key', '{"authenticationKey":"","keyName":"registration"}'],
    ['no key', '{"authenticationKey":null,"keyName":"registration"}'],
    ['a key that is no text', '{"authenticationKey":{"a":"ADQAII6SXBg="}}'],
    ['broken Base64', '{"authenticationKey":"ADQAII6SXBg"}'],
    ['an inherited key', '{"__proto__":{"authenticationKey":"ADQAII6SXBg="}}'],
    ['an array', '[{"authenticationKey":"ADQAII6SXBg="}]'],
    ['a page', '<html>401</html>'],
    ['nothing', ''],
  ])('passes over %s', (_name, text) => {
    expect(readTpmChallenge({ status: 401, body: encodeUtf8(text) })).toBeUndefined();
  });

  it.each([200, 202, 400, 403, 500])('passes over status %d', (status) => {
    expect(readTpmChallenge({ status, body: encodeUtf8(CHALLENGE) })).toBeUndefined();
  });

  it('passes over a challenge cut short at any byte, and any bytes', () => {
    const whole = encodeUtf8(CHALLENGE);
    for (let end = 0; end < whole.length; end += 1) {
      expect(readTpmChallenge({ status: 401, body: whole.subarray(0, end) })).toBeUndefined();
    }
    fc.assert(
      fc.property(fc.uint8Array(), (body) => {
        expect(readTpmChallenge({ status: 401, body })).toBeUndefined();
      }),
    );
  });
});
