import { createHmac, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type SymmetricKeyHsmOptions, symmetricKeyHsm } from '../../hsm/symmetric-key.js';
import { ConfigurationError, HsmError } from '../../src/errors.js';
import { describeHsmContract, expectNoSecrets } from '../contracts/hsm.js';

const { signal } = new AbortController();

// Group key and device key are from Microsoft's symmetric key page; its signature does not belong to the key printed
// there, so the one for DEVICE_KEY was made with openssl dgst.
const GROUP_KEY = '8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==';
const GROUP_MEMBER = 'sn-007-888-abc-mac-a1-b2-c3-d4-e5-f6';
const MEMBER_KEY = 'Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=';
const DEVICE_KEY = '18RQk/hOPJR9EbsJlk2j8WA6vWaj/yi+oaYg7zmxfQNdOyMSu+SJ8O7TSlZhDJCYmn4rzEiVKIzNiVAWjLxrGA==';
const TEXT_TO_SIGN = '0ne00111111%2Fregistrations%2Fmy-symkey-device\n1663952627';
const SIGNATURE = '8VPprb8BiTkuVE0hBqHm/SVrzVpdD8VZcXugntdbhuU=';

let folder = '';
let counter = 0;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'dps-device-key-'));
});
afterAll(async () => {
  await rm(folder, { recursive: true, force: true });
});

async function makeFile(content: string | Uint8Array, mode = 0o600): Promise<string> {
  const path = join(folder, `key-${counter++}`);
  await writeFile(path, content, { mode });
  return path;
}

/** Every spelling in which a careless printer might show a key. */
function spellings(keyBase64: string): string[] {
  const bytes = Buffer.from(keyBase64, 'base64');
  return [
    keyBase64,
    bytes.toString('hex'),
    bytes.toString('base64url'),
    bytes.subarray(0, 12).join(', '),
    bytes.toString('latin1'),
  ];
}

async function failureOf(options: unknown): Promise<HsmError | ConfigurationError> {
  const error = await symmetricKeyHsm(options as SymmetricKeyHsmOptions).then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof HsmError || error instanceof ConfigurationError) return error;
  throw new Error(`Expected an HsmError or a ConfigurationError, not ${String(error)}.`);
}

const bigKey = randomBytes(64).toString('base64');
const smallKey = randomBytes(16).toString('base64');

describeHsmContract('symmetricKeyHsm with two keys', async () => ({
  hsm: await symmetricKeyHsm({ registrationId: 'dev-1', key: bigKey, secondaryKey: smallKey }),
  registrationId: 'dev-1',
  secrets: [...spellings(bigKey), ...spellings(smallKey)],
}));

describeHsmContract('symmetricKeyHsm with a group key', async () => ({
  hsm: await symmetricKeyHsm({ registrationId: GROUP_MEMBER, groupKey: GROUP_KEY }),
  registrationId: GROUP_MEMBER,
  secrets: [...spellings(GROUP_KEY), ...spellings(MEMBER_KEY)],
}));

describe('keys', () => {
  it('signs as the vector does', async () => {
    const hsm = await symmetricKeyHsm({ registrationId: 'my-symkey-device', key: DEVICE_KEY });
    const signature = await hsm.sign(new TextEncoder().encode(TEXT_TO_SIGN), 0, signal);
    expect(Buffer.from(signature).toString('base64')).toBe(SIGNATURE);
    expect(await hsm.exportKey?.(0, signal)).toBe(DEVICE_KEY);
  });

  it('derives the device key of the vector from the group key', async () => {
    const hsm = await symmetricKeyHsm({ registrationId: GROUP_MEMBER, groupKey: GROUP_KEY });
    expect(await hsm.exportKey?.(0, signal)).toBe(MEMBER_KEY);
    const signature = await hsm.sign(Buffer.from('x'), 0, signal);
    const expected = createHmac('sha256', Buffer.from(MEMBER_KEY, 'base64')).update('x').digest();
    expect(Buffer.from(signature).equals(expected)).toBe(true);
  });

  it('has a slot for each key, in order, of devices and of groups', async () => {
    const one = await symmetricKeyHsm({ registrationId: 'dev-1', key: bigKey });
    const two = await symmetricKeyHsm({ registrationId: 'dev-1', key: bigKey, secondaryKey: smallKey });
    const group = await symmetricKeyHsm({
      registrationId: GROUP_MEMBER,
      groupKey: bigKey,
      secondaryGroupKey: GROUP_KEY,
    });
    expect([one.slots, two.slots, group.slots]).toEqual([1, 2, 2]);
    expect(await two.exportKey?.(0, signal)).toBe(bigKey);
    expect(await two.exportKey?.(1, signal)).toBe(smallKey);
    expect(await group.exportKey?.(1, signal)).toBe(MEMBER_KEY);
  });

  it('takes every length from 16 to 64 bytes', async () => {
    for (let length = 16; length <= 64; length += 1) {
      const key = randomBytes(length).toString('base64');
      const hsm = await symmetricKeyHsm({ registrationId: 'dev-1', key });
      expect(await hsm.exportKey?.(0, signal)).toBe(key);
    }
  });

  it('does not follow the data after it was signed, nor the options after they were read', async () => {
    const options = { registrationId: 'dev-1', key: bigKey };
    const hsm = await symmetricKeyHsm(options);
    options.key = smallKey;
    options.registrationId = 'dev-2';
    expect(await hsm.exportKey?.(0, signal)).toBe(bigKey);
    expect(await hsm.registrationId(signal)).toBe('dev-1');
  });
});

describe('key files', () => {
  it.each(['', '\n', '\r\n', '\n\n  '])('reads a key followed by %j', async (end) => {
    const file = await makeFile(bigKey + end);
    const hsm = await symmetricKeyHsm({ registrationId: 'dev-1', key: { file } });
    expect(await hsm.exportKey?.(0, signal)).toBe(bigKey);
  });

  it('reads group keys from files, also behind a byte order mark', async () => {
    const file = await makeFile(`\uFEFF${GROUP_KEY}\r\n`);
    const hsm = await symmetricKeyHsm({
      registrationId: GROUP_MEMBER,
      groupKey: { file },
      secondaryGroupKey: { file },
    });
    expect(await hsm.exportKey?.(1, signal)).toBe(MEMBER_KEY);
  });

  it('refuses a file that others may read, one that is absent, and one that is not text', async () => {
    const readable = await makeFile(bigKey, 0o644);
    expect(await failureOf({ registrationId: 'dev-1', key: { file: readable } })).toMatchObject({
      code: 'ERR_DPS_HSM_FILE_MODE',
    });
    const group = await failureOf({ registrationId: 'dev-1', groupKey: { file: readable } });
    expect(group.message).toMatch(/^The group key file /);
    const absent = join(folder, 'absent');
    expect(await failureOf({ registrationId: 'dev-1', key: { file: absent } })).toMatchObject({
      code: 'ERR_DPS_HSM_FILE_UNREADABLE',
    });
    const certificate = await makeFile('-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n', 0o644);
    expect(await failureOf({ registrationId: 'dev-1', key: { file: certificate } })).toMatchObject({
      code: 'ERR_DPS_HSM_KEY_INVALID',
      message: `The device key file ${certificate} is PEM, which belongs to X.509; give the Base64 key from the enrollment.`,
    });
    const binary = await makeFile(new Uint8Array([0xff, 0xfe, 0x41]));
    const error = await failureOf({ registrationId: 'dev-1', key: { file: binary } });
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_KEY_INVALID' });
    expect(error.message).toBe(`The device key file ${binary} is not text; it must hold the key in Base64.`);
  });
});

describe('malformed keys', () => {
  const canary = 'Zm9yZXZlcmFuZGFkYXlmb3JldmVy';
  it.each([
    [
      `HostName=h.azure-devices.net;DeviceId=d;SharedAccessKey=${canary}`,
      /is a connection string; give only what follows/,
    ],
    [`-----BEGIN PRIVATE KEY-----\n${canary}\n-----END PRIVATE KEY-----\n`, /is PEM/],
    [`${canary}-_==`, /URL-safe/],
    [`${canary}!`, /not Base64: character 29 cannot be in it/],
    [`${canary}a`, /its length 29 is no multiple of 4/],
    [`ab==${canary}`, /not Base64: there is padding/],
    [canary.slice(0, 20), /decodes to 15 bytes; a key has 16 to 64 bytes/],
    [canary.repeat(4), /decodes to 84 bytes/],
    ['   \n', /is empty/],
  ])('says what is wrong with %j and shows nothing of it', async (text, message) => {
    const file = await makeFile(text);
    for (const [source, place] of [
      [text, 'The text of option hsm.secondaryKey'],
      [{ file }, `The device key file ${file}`],
    ] as const) {
      const error = await failureOf({ registrationId: 'dev-1', key: bigKey, secondaryKey: source });
      expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_KEY_INVALID', operation: 'load device key' });
      expect(error.message).toMatch(message);
      expect(error.message.startsWith(place)).toBe(true);
      expectNoSecrets(error, [canary.slice(0, 8), bigKey]);
    }
  });

  it.each([
    [`${canary}!`, /not Base64: character 29 cannot be in it\. Copy the whole key from the enrollment\.$/],
    [`${canary}a`, /lost its padding \(=\)\. Copy the whole key from the enrollment\.$/],
    [`ab==${canary}`, /before its end\. Copy the whole key from the enrollment\.$/],
  ])('says what to do about %j, and nothing of files', async (key, message) => {
    expect((await failureOf({ registrationId: 'dev-1', key })).message).toMatch(message);
  });

  it.each([
    '/etc/device/device.key',
    '/etc/dps/key',
    './keys/device',
    '../device',
    '~/device.key',
    'device.key',
    'C:\\keys\\device',
  ])('says how to name a file where the text of a key looks like one (%j)', async (path) => {
    for (const option of ['key', 'secondaryKey'] as const) {
      const error = await failureOf({ registrationId: 'dev-1', key: bigKey, [option]: path });
      expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_KEY_INVALID' });
      expect(error.message).toMatch(
        new RegExp(
          `^The text of option hsm\\.${option} .* To read it from a file give \\{ file: … \\} as option hsm\\.${option}\\.$`,
        ),
      );
      expect(error.message).not.toContain(path);
    }
  });

  it('does not take a key in a file for a path', async () => {
    const error = await failureOf({ registrationId: 'dev-1', key: { file: await makeFile('device.key') } });
    expect(error.message).not.toContain('{ file');
  });

  it('answers any text with a key or a typed error', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(fc.string(), fc.base64String(), fc.string({ unit: 'binary' })), async (key) => {
        const outcome = await symmetricKeyHsm({ registrationId: 'dev-1', key }).catch((error: unknown) => error);
        if (outcome instanceof Error) expect((outcome as HsmError).code).toBe('ERR_DPS_HSM_KEY_INVALID');
        else expect(Buffer.from(key.trim(), 'base64').length).toBeGreaterThanOrEqual(16);
      }),
    );
  });
});

describe('options', () => {
  it.each([
    ['dev 1', /a space at position 4/],
    ['dev_', /last character/],
    ['a'.repeat(129), /129 characters/],
  ])('refuses the registration id %j', async (registrationId, message) => {
    const error = await failureOf({ registrationId, key: bigKey });
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_REGISTRATION_ID' });
    expect(error.message).toMatch(message);
  });

  it.each([
    [undefined, 'ERR_DPS_CONFIG_OPTION', 'hsm'],
    [{ key: bigKey }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.registrationId'],
    [{ registrationId: 7, key: bigKey }, 'ERR_DPS_CONFIG_OPTION', 'hsm.registrationId'],
    [{ registrationId: '', key: bigKey }, 'ERR_DPS_CONFIG_OPTION', 'hsm.registrationId'],
    [{ registrationId: 'dev-1' }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.key'],
    [{ registrationId: 'dev-1', secondaryKey: bigKey }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.key'],
    [{ registrationId: 'dev-1', secondaryGroupKey: bigKey }, 'ERR_DPS_CONFIG_MISSING_OPTION', 'hsm.groupKey'],
    [{ registrationId: 'dev-1', key: bigKey, groupKey: bigKey }, 'ERR_DPS_CONFIG_OPTION', 'hsm.groupKey'],
    [
      { registrationId: 'dev-1', key: bigKey, secondaryGroupKey: bigKey },
      'ERR_DPS_CONFIG_MISSING_OPTION',
      'hsm.groupKey',
    ],
    [{ registrationId: 'dev-1', key: 7 }, 'ERR_DPS_CONFIG_OPTION', 'hsm.key'],
    [{ registrationId: 'dev-1', key: null }, 'ERR_DPS_CONFIG_OPTION', 'hsm.key'],
    [{ registrationId: 'dev-1', key: Buffer.from(bigKey, 'base64') }, 'ERR_DPS_CONFIG_OPTION', 'hsm.key'],
    [{ registrationId: 'dev-1', key: { path: 'x' } }, 'ERR_DPS_CONFIG_OPTION', 'hsm.key'],
    [{ registrationId: 'dev-1', key: { file: 7 } }, 'ERR_DPS_CONFIG_OPTION', 'hsm.key.file'],
    [{ registrationId: 'dev-1', key: { file: bigKey } }, 'ERR_DPS_CONFIG_OPTION', 'hsm.key.file'],
    [
      { registrationId: 'dev-1', key: bigKey, secondarykey: bigKey },
      'ERR_DPS_CONFIG_UNKNOWN_OPTION',
      'hsm.secondarykey',
    ],
  ])('refuses %o', async (options, code, option) => {
    const error = await failureOf(options);
    expect(error).toMatchObject({ name: 'ConfigurationError', code, option });
    expectNoSecrets(error, spellings(bigKey));
  });

  it('names the nearest known option', async () => {
    const error = await failureOf({ registrationId: 'dev-1', primaryKey: bigKey, groupkey: bigKey });
    expect(error.message).toMatch(/^Option "hsm\.primaryKey" is unknown/);
    expect((await failureOf({ registrationId: 'dev-1', groupkey: bigKey })).message).toContain(
      'Did you mean hsm.groupKey?',
    );
  });
});

it('stops loading when the signal aborts', async () => {
  const file = await makeFile(bigKey);
  await expect(symmetricKeyHsm({ registrationId: 'dev-1', key: { file } }, AbortSignal.abort())).rejects.toMatchObject({
    code: 'ERR_DPS_CANCELLED',
  });
});
