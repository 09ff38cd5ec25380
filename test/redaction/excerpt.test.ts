/** What of a peer's words is shown, and what is not: `excerptOf` is the one gate into errors and logs. */
import { describe, expect, it } from 'vitest';
import { excerptOf, mayHoldSecret, shownMember } from '../../src/core/json-body.js';
import { KEYS } from './bench.js';

describe('what the service is asked about by support is shown', () => {
  it.each([
    'b3990321-f238-414d-96ad-dd52300db848',
    'B3990321-F238-414D-96AD-DD52300DB848',
    '0123456789abcdef0123456789abcdef-G:7-TimeStamp:08/17/2017 10:48:44',
    '2019-04-11T06:59:58.9485669Z',
    '5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3',
    'ErrorCode:IotHubUnauthorizedAccess;Unauthorized',
    'Custom allocation failed with status code: 400',
    'Device MyFactory-Line3-Sensor0017 is not registered.',
    'my-dps-1.azure-devices-provisioning.net answered 401002',
    '$dps/registrations/res/401/?$rid=1&retry-after=3',
    'The token expired at 1663952627.',
    'Grüße, 世界 🌍',
  ])('%s', (text) => {
    expect(excerptOf(text, 200)).toBe(text);
    expect(mayHoldSecret(text)).toBe(false);
  });
});

describe('what could be a key or a signature is not', () => {
  const key = KEYS.device;

  it.each([
    ['whole', key],
    ['of 16 bytes', 'AbCdEfGh12345678+/AbCd=='],
    ['cut', key.slice(0, 24)],
    ['in hex', Buffer.from(key, 'base64').toString('hex')],
    ['percent-encoded', encodeURIComponent(key.slice(0, 30))],
    ['escaped for HTML', key.slice(0, 30).replaceAll('/', '&#47;').replaceAll('+', '&#x2B;')],
    ['escaped for JSON', key.slice(0, 30).replaceAll('/', '\\/').replaceAll('+', '\\u002b')],
    ['URL-safe', Buffer.from(key, 'base64').toString('base64url')],
  ])('%s', (_name, secret) => {
    expect(excerptOf(`a ${secret} b`)).toBe('a […] b');
    expect(mayHoldSecret(secret)).toBe(true);
  });

  it.each(['SharedAccessSignature sr=x&sig=y', 'sharedaccesskey=abc', '"authenticationKey":""', 'passphrase: x'])(
    'nor anything around %s',
    (text) => {
      expect(excerptOf(`${'before '.repeat(100)}${text}`)).toBe('[left out: it may hold a secret]');
      expect(mayHoldSecret(text)).toBe(true);
    },
  );

  it('in a member that is there to be read', () => {
    const body = { message: `No: ${key}`, trackingId: 7 };
    expect(shownMember(body, 'message')).toBe('No: […]');
    expect(shownMember(body, 'trackingId')).toBeUndefined();
  });
});

it('takes time proportional to the text', () => {
  const units = ['a', 'aB1', '%2B', '&#43;', '&', '&#x', '\\', '\\u002', '%', '%2', 'aB1 ', 'a-', '=', '/'];
  for (const unit of units) {
    const text = unit.repeat(Math.ceil(500_000 / unit.length));
    expect(excerptOf(text).length).toBeLessThanOrEqual(121);
  }
});
