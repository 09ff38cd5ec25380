import { describe, expect, it } from 'vitest';
import {
  deriveDeviceKey,
  isExpired,
  isSignedBy,
  namesResource,
  parseSasToken,
  type SasToken,
} from '../../src/emulator/sas-token.js';
import { DEVICE_KEY, GROUP_KEY, hmacBase64, OTHER_KEY } from './tokens.js';

const RESOURCE = '0ne00111111/registrations/my-symkey-device';

function read(text: string): SasToken {
  const token = parseSasToken(text);
  if (token === undefined) throw new Error('not a token');
  return token;
}

/** Text for the token's signature, percent-encoded with upper- or lower-case hex. */
function sign(signed: string, hex: 'upper' | 'lower' = 'upper'): string {
  const encoded = encodeURIComponent(hmacBase64(DEVICE_KEY, signed));
  return hex === 'upper' ? encoded : encoded.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
}

describe('the worked vectors of the reference', () => {
  it('accepts the documented signature', () => {
    const token = read(
      'SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fmy-symkey-device' +
        '&sig=8VPprb8BiTkuVE0hBqHm%2FSVrzVpdD8VZcXugntdbhuU%3D&se=1663952627&skn=registration',
    );
    expect(isSignedBy(token, DEVICE_KEY)).toBe(true);
    expect(isSignedBy(token, OTHER_KEY)).toBe(false);
    expect(namesResource(token, RESOURCE, true)).toBe(true);
  });

  it('derives the documented device key', () => {
    expect(deriveDeviceKey(GROUP_KEY, 'sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6')).toBe(
      'Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=',
    );
  });
});

describe('the variants that clients send', () => {
  const encoded = '0ne00111111%2Fregistrations%2Fmy-symkey-device';
  const lowerHex = '0ne00111111%2fregistrations%2fmy-symkey-device';
  const lowered = '0ne00111111%2Fregistrations%2Fmy-symkey-device'.toLowerCase();
  const variants: Readonly<Record<string, string>> = {
    'Node, symmetric key': `sr=${RESOURCE}&sig=${sign(`${RESOURCE}\n1700000000`)}&skn=registration&se=1700000000`,
    'Node, TPM': `sr=${encoded}&sig=${sign(`${encoded}\n1700000000`)}&skn=registration&se=1700000000`,
    Java: `sr=${RESOURCE}&sig=${sign(`${RESOURCE}\n1700000000`)}&se=1700000000&skn=`,
    Python: `sr=${encoded}&sig=${sign(`${encoded}\n1700000000`)}&se=1700000000`,
    C: `sr=${lowerHex}&sig=${sign(`${lowerHex}\n1700000000`, 'lower')}&se=1700000000&skn=registration`,
    'C#': `sr=${encoded}&sig=${sign(`${encoded}\n1700000000`)}&se=1700000000&skn=registration`,
    Rust: `sr=${lowered}&sig=${sign(`${lowered}\n1700000000`)}&se=1700000000&skn=registration`,
  };

  it.each(Object.entries(variants))('%s', (_client, fields) => {
    const token = read(`SharedAccessSignature ${fields}`);
    expect(isSignedBy(token, DEVICE_KEY)).toBe(true);
    expect(namesResource(token, RESOURCE, true)).toBe(true);
    expect(token.expiresAtMs).toBe(1_700_000_000_000);
  });

  it('covers the resource as it was received, not as it decodes', () => {
    const token = read(`SharedAccessSignature sr=${encoded}&sig=${sign(`${RESOURCE}\n1700000000`)}&se=1700000000`);
    expect(isSignedBy(token, DEVICE_KEY)).toBe(false);
  });

  it('covers the expiry', () => {
    const token = read(`SharedAccessSignature sr=${encoded}&sig=${sign(`${encoded}\n1700000000`)}&se=1800000000`);
    expect(isSignedBy(token, DEVICE_KEY)).toBe(false);
  });
});

describe('expiry', () => {
  it('allows five minutes of skew and not a second more', () => {
    const token = read(`SharedAccessSignature sr=a&sig=${sign('a\n1700000000')}&se=1700000000`);
    expect(isExpired(token, 1_700_000_300_000)).toBe(false);
    expect(isExpired(token, 1_700_000_301_000)).toBe(true);
  });
});

describe('what is no token', () => {
  it.each([
    ['nothing', ''],
    ['another scheme', 'Bearer sr=a&sig=YQ%3D%3D&se=1'],
    ['no sig', 'SharedAccessSignature sr=a&se=1'],
    ['no sr', 'SharedAccessSignature sig=YQ%3D%3D&se=1'],
    ['no se', 'SharedAccessSignature sr=a&sig=YQ%3D%3D'],
    ['se in words', 'SharedAccessSignature sr=a&sig=YQ%3D%3D&se=soon'],
    ['se negative', 'SharedAccessSignature sr=a&sig=YQ%3D%3D&se=-1'],
    ['sig not Base64', 'SharedAccessSignature sr=a&sig=%21%21&se=1'],
    ['sig with broken percent code', 'SharedAccessSignature sr=a&sig=YQ%3&se=1'],
    ['a parameter twice', 'SharedAccessSignature sr=a&sr=b&sig=YQ%3D%3D&se=1'],
    ['a bare word', 'SharedAccessSignature sr=a&sig=YQ%3D%3D&se=1&skn'],
  ])('%s', (_what, text) => {
    expect(parseSasToken(text)).toBeUndefined();
  });

  it('does not decode as the resource when its percent codes are broken', () => {
    expect(namesResource(read('SharedAccessSignature sr=a%2&sig=YQ%3D%3D&se=1'), 'a%2', true)).toBe(false);
  });
});
