import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { decodeBase64, decodeUtf8, encodeBase64 } from '../../src/core/bytes.js';
import {
  DPS_KEY_NAME,
  deviceKeyMessage,
  dpsResource,
  formatSasToken,
  hubResource,
  textToSign,
} from '../../src/core/sas.js';

function hmacSha256(keyBase64: string, message: Uint8Array): Uint8Array {
  const key = decodeBase64(keyBase64);
  if (key === undefined) throw new Error('the key of the vector is not Base64');
  return new Uint8Array(createHmac('sha256', key).update(message).digest());
}

describe('DPS token', () => {
  // Key and text are those of Microsoft's symmetric key page; the signature printed there does not belong to that key,
  // so this one was made with openssl.
  const key = '18RQk/hOPJR9EbsJlk2j8WA6vWaj/yi+oaYg7zmxfQNdOyMSu+SJ8O7TSlZhDJCYmn4rzEiVKIzNiVAWjLxrGA==';
  const resource = dpsResource('0ne00111111', 'my-symkey-device');
  const signature = hmacSha256(key, textToSign(resource, 1663952627));

  it('signs the encoded resource and the expiry', () => {
    expect(decodeUtf8(textToSign(resource, 1663952627))).toBe(
      '0ne00111111%2Fregistrations%2Fmy-symkey-device\n1663952627',
    );
    expect(encodeBase64(signature)).toBe('8VPprb8BiTkuVE0hBqHm/SVrzVpdD8VZcXugntdbhuU=');
  });

  it('is written sr, sig, se, skn', () => {
    expect(formatSasToken({ resource, signature, expirySeconds: 1663952627, keyName: DPS_KEY_NAME })).toBe(
      'SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fmy-symkey-device' +
        '&sig=8VPprb8BiTkuVE0hBqHm%2FSVrzVpdD8VZcXugntdbhuU%3D&se=1663952627&skn=registration',
    );
  });

  it('encodes what a registration id may hold', () => {
    expect(dpsResource('0ne00111111', 'a:b_c.d-E')).toBe('0ne00111111%2Fregistrations%2Fa%3Ab_c.d-E');
  });

  it('signs and sends the same whole second', () => {
    expect(decodeUtf8(textToSign('r', 1663952627.9))).toBe('r\n1663952627');
    expect(formatSasToken({ resource: 'r', signature: Uint8Array.of(0xfb), expirySeconds: 1663952627.9 })).toBe(
      'SharedAccessSignature sr=r&sig=%2Bw%3D%3D&se=1663952627',
    );
  });
});

describe('hub token', () => {
  it('names hub and device, and no key', () => {
    const resource = hubResource('myhub.azure-devices.net', 'dev-1');
    expect(resource).toBe('myhub.azure-devices.net%2Fdevices%2Fdev-1');
    expect(formatSasToken({ resource, signature: new Uint8Array(), expirySeconds: 1 })).toBe(
      'SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fdev-1&sig=&se=1',
    );
  });

  it("keeps a port and encodes a device id's special characters", () => {
    expect(hubResource('localhost:45915', "a'(b)*!%")).toBe('localhost%3A45915%2Fdevices%2Fa%27%28b%29%2A%21%25');
  });
});

describe('deviceKeyMessage', () => {
  it('derives the key of the vector', () => {
    // Microsoft's symmetric key attestation page
    const groupKey = '8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==';
    const deviceKey = hmacSha256(groupKey, deviceKeyMessage('sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6'));
    expect(encodeBase64(deviceKey)).toBe('Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=');
  });

  it('takes the registration id as it is spelled', () => {
    expect(decodeUtf8(deviceKeyMessage('SN-007'))).toBe('SN-007');
  });
});
