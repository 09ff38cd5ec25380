import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { kdfa, makeActivationBlob, TPM_BLOB_DAMAGES, type TpmBlobDamage } from '../../src/emulator/tpm-activation.js';
import { parseStorageKey, type StorageKey } from '../../src/emulator/tpm-storage-key.js';
import { SoftwareTpm } from './software-tpm.js';
import { fromHex, VECTORS } from './tpm-vectors.js';

const { softwareActivation, recordedExchange } = VECTORS;
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function storageKey(bytes: Uint8Array): StorageKey {
  const key = parseStorageKey(bytes);
  if ('problem' in key) throw new Error(key.problem);
  return key;
}

/** With the random values of the vector, in the order in which they are drawn. */
function makeBlob(
  vector: typeof recordedExchange,
  more: { readonly hmacKey?: Uint8Array; readonly uri?: string; readonly damage?: TpmBlobDamage } = {},
): Buffer {
  const { credential, duplicate, keyedHash } = vector.intermediate;
  const chance = [duplicate.innerWrapKey, keyedHash.obfuscationSeedValue, duplicate.seed, credential.seed].map(fromHex);
  const blob = makeActivationBlob({
    endorsementKey: storageKey(fromHex(vector.endorsementKey_TPM2B_PUBLIC)),
    storageRootKey: storageKey(fromHex(vector.storageRootKey_TPM2B_PUBLIC)),
    hmacKey: fromHex(vector.hmacKey),
    uri: softwareActivation.uriPlaintext_utf8,
    randomBytes: (size) => {
      const bytes = chance.shift();
      return bytes?.length === size ? bytes : Buffer.alloc(size, 7);
    },
    ...more,
  });
  return Buffer.from(blob);
}

describe('KDFa', () => {
  it.each(VECTORS.kdfa)('derives $bits bits for $label', ({ key, label, contextU, contextV, bits, out }) => {
    expect(hex(kdfa(fromHex(key), label, fromHex(contextU), fromHex(contextV), bits))).toBe(out);
  });
});

describe('a blob', () => {
  it.each([
    ['of the software activation', softwareActivation],
    ['that the reference simulator took', recordedExchange],
  ])('is byte for byte the one %s, but for what RSA makes random', (_name, vector) => {
    const blob = makeBlob(vector);
    const { fields } = vector;
    const expected = [
      fields.f1_TPM2B_ID_OBJECT,
      fields.f3_TPM2B_PRIVATE,
      fields.f5_TPM2B_PUBLIC,
      fields.f6_TPM2B_DATA_encUri,
    ];
    const places = [0, 54 + 258, 54 + 258 + 144 + 258, 764];
    const ends = [54, 54 + 258 + 144, 764, blob.length];
    expect(places.map((place, index) => hex(blob.subarray(place, ends[index])))).toEqual(expected);
    expect([54, 54 + 258 + 144].map((place) => hex(blob.subarray(place, place + 2)))).toEqual(['0100', '0100']);
  });

  it('opens for its TPM, with the seeds that were drawn, and signs as the vectors say', () => {
    const key = new SoftwareTpm().activate(makeBlob(softwareActivation));
    expect(hex(key)).toBe(softwareActivation.hmacKey);
    for (const { message_utf8, hmacSha256 } of softwareActivation.signatures) {
      if (message_utf8 === undefined) continue;
      expect(createHmac('sha256', key).update(message_utf8).digest('hex')).toBe(hmacSha256);
    }
  });

  it.each([1, 20, 32, 64])('carries a key of %d bytes', (length) => {
    const hmacKey = Buffer.alloc(length, 9);
    const blob = makeBlob(softwareActivation, { hmacKey });
    expect(hex(new SoftwareTpm().activate(blob))).toBe(hex(hmacKey));
    expect(blob.length).toBe(764 - 32 + length + 2 + softwareActivation.uriPlaintext_utf8.length);
  });

  it('has six fields even without a text', () => {
    expect(hex(makeBlob(softwareActivation, { uri: '' }).subarray(764))).toBe('0000');
  });

  it.each(TPM_BLOB_DAMAGES)('is refused by the TPM when it is spoiled: %s', (damage) => {
    const blob = makeBlob(softwareActivation, { damage });
    const tpm = new SoftwareTpm();
    // The last field is thrown away by every client.
    if (damage === 'field6') expect(hex(tpm.activate(blob))).toBe(softwareActivation.hmacKey);
    else expect(() => tpm.activate(blob)).toThrow();
    if (damage !== 'truncated') expect(hex(blob.subarray(0, 4))).toMatch(/^00[34]40020$/);
  });
});

describe('a key of a TPM', () => {
  const endorsementKey = fromHex(softwareActivation.endorsementKey_TPM2B_PUBLIC);
  const storageRootKey = fromHex(softwareActivation.storageRootKey_TPM2B_PUBLIC);

  it('is read to its name and modulus', () => {
    expect(hex(storageKey(endorsementKey).name)).toBe(softwareActivation.ekName);
    expect(hex(storageKey(storageRootKey).name)).toBe(softwareActivation.srkName);
    const { n } = storageKey(endorsementKey).publicKey.export({ format: 'jwk' });
    expect(Buffer.from(n ?? '', 'base64url').toString('hex')).toBe(softwareActivation.ekPrivate_rsa_hex.n);
    expect(hex(storageKey(fromHex(recordedExchange.storageRootKey_TPM2B_PUBLIC)).name)).toBe(recordedExchange.srkName);
  });

  const changed = (at: number, value: string): Buffer => {
    const bytes = Buffer.from(endorsementKey);
    fromHex(value).copy(bytes, at);
    return bytes;
  };

  it.each<[string, Uint8Array, string]>([
    ['nothing', new Uint8Array(), 'no TPM2B_PUBLIC'],
    ['one byte', Uint8Array.of(1), 'no TPM2B_PUBLIC'],
    ['without its size', endorsementKey.subarray(2), 'no TPM2B_PUBLIC'],
    ['PEM', Buffer.from('-----BEGIN PUBLIC KEY-----'), 'no TPM2B_PUBLIC'],
    ['cut in the middle', endorsementKey.subarray(0, 100), 'no TPM2B_PUBLIC'],
    ['cut, with a size that fits', Buffer.concat([fromHex('0012'), endorsementKey.subarray(2, 20)]), 'cut short'],
    ['with bytes after it', Buffer.concat([endorsementKey, Buffer.alloc(1)]), 'no TPM2B_PUBLIC'],
    [
      'with bytes in it',
      Buffer.concat([fromHex('013b'), endorsementKey.subarray(2), Buffer.alloc(1)]),
      'follows after',
    ],
    ['ECC', changed(2, '0023'), 'no RSA key'],
    ['SHA-1', changed(4, '0004'), 'not SHA-256'],
    ['AES-256', changed(46, '0100'), 'not AES-128-CFB'],
    ['RSASSA', changed(50, '0014'), 'scheme'],
    ['3072 bits', changed(52, '0c00'), 'not 2048 bits'],
    ['another exponent', changed(54, '00000003'), 'exponent'],
    ['a short modulus', changed(60, '00'), 'modulus has not 2048 bits'],
  ])('is refused: %s', (_name, bytes, problem) => {
    expect(parseStorageKey(bytes)).toEqual({ problem: expect.stringContaining(problem) });
  });

  it('is never taken when it is cut anywhere', () => {
    for (let end = 0; end < endorsementKey.length; end += 1)
      expect(parseStorageKey(endorsementKey.subarray(0, end))).toHaveProperty('problem');
  });
});
