import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bindingDifference,
  type DecodedRecord,
  type DeviceRecord,
  decodeRecord,
  encodeRecord,
} from '../../src/core/record.js';
import { registrationResultOf } from '../../src/core/registration-result.js';
import type { JsonObject, JsonValue } from '../../src/core/twin.js';

const WALL_MS = Date.UTC(2026, 10, 21);

const RECORD: DeviceRecord = {
  binding: {
    endpoint: 'global.azure-devices-provisioning.net',
    idScope: '0ne00111111',
    registrationId: 'dev-1',
    attestation: 'x509',
  },
  assignment: registrationResultOf({
    registrationId: 'dev-1',
    createdDateTimeUtc: '2026-05-01T10:00:00.1234567Z',
    assignedHub: 'hub.azure-devices.net',
    deviceId: 'dev-1',
    status: 'assigned',
    substatus: 'initialAssignment',
    lastUpdatedDateTimeUtc: '2026-05-01T10:00:02.7654321Z',
    etag: 'IjY5MDAzNTUyIg==',
    payload: { zone: 'north', list: [1, null, 'x'] },
    x509: { enrollmentGroupId: 'group-1' },
    issuedCertificateChain: ['TUlJQg=='],
  }),
  slot: 1,
  dpsTransport: 'mqtt',
  hubTransport: 'mqtt',
  twin: {
    desired: { version: 4, properties: { led: { on: true } } },
    reported: { version: 9, properties: {} },
  },
  acceptedAtWallMs: WALL_MS,
};

/** As it lies on disks: never to be changed, only read for ever. */
const FORMAT_1 = `{"acceptedAtWallMs":1795219200000,"assignment":{"assignedHub":"hub.azure-devices.net","createdDateTimeUtc":"2026-05-01T10:00:00.1234567Z","deviceId":"dev-1","etag":"IjY5MDAzNTUyIg==","issuedCertificateChain":["TUlJQg=="],"lastUpdatedDateTimeUtc":"2026-05-01T10:00:02.7654321Z","payload":{"list":[1,null,"x"],"zone":"north"},"registrationId":"dev-1","status":"assigned","substatus":"initialAssignment","x509":{"enrollmentGroupId":"group-1"}},"binding":{"attestation":"x509","endpoint":"global.azure-devices-provisioning.net","idScope":"0ne00111111","registrationId":"dev-1"},"dpsTransport":"mqtt","format":1,"hubTransport":"mqtt","slot":1,"twin":{"desired":{"properties":{"led":{"on":true}},"version":4},"reported":{"properties":{},"version":9}}}\n`;

describe('encodeRecord', () => {
  it('writes format 1', () => {
    expect(Buffer.from(encodeRecord(RECORD)).toString()).toBe(FORMAT_1);
  });

  it('writes equal records in equal bytes, whatever the order of their members', () => {
    const turned = JSON.parse(FORMAT_1) as JsonObject;
    const again = recordOf(decodeRecord(Buffer.from(JSON.stringify(reversed(turned)))));
    expect(Buffer.from(encodeRecord(again)).toString()).toBe(FORMAT_1);
  });

  it('writes no key, however the service sends it', () => {
    const assignment = registrationResultOf({
      assignedHub: 'hub.azure-devices.net',
      deviceId: 'dev-1',
      tpm: { authenticationKey: 'canary-blob' },
      authenticationKey: 'canary-top',
      symmetricKey: { enrollmentGroupId: 'group-1', primaryKey: 'canary-1', nested: [{ secondaryKey: 'canary-2' }] },
      x509: { signingCertificateInfo: { serialNumber: '01', privateKey: 'canary-3' } },
      somethingNew: { sasToken: 'canary-4' },
    });
    const text = Buffer.from(encodeRecord({ ...RECORD, assignment })).toString();
    expect(text).not.toContain('canary');
    expect(text).toContain('"enrollmentGroupId":"group-1"');
    expect(text).toContain('"serialNumber":"01"');
  });

  it('leaves out a time that a clock without battery made', () => {
    const text = Buffer.from(encodeRecord({ ...RECORD, acceptedAtWallMs: 17 })).toString();
    expect(text).not.toContain('acceptedAtWallMs');
  });

  it.each<[string, DeviceRecord, string]>([
    ['is too long', withDesired({ filler: 'x'.repeat(1_100_000) }), '1048576 are the most'],
    ['nests too deep', withDesired(nested(62)), 'nests more than 64 levels deep'],
    ['nests deep enough to end the stack', withDesired(nested(50_000)), 'nests more than 64 levels deep'],
    [
      'has a version that is none',
      { ...RECORD, twin: { ...RECORD.twin, desired: { version: -1, properties: {} } } },
      'version',
    ],
    ['has a transport without a name', { ...RECORD, hubTransport: '' }, 'hubTransport'],
  ])('refuses what could not be read again: it %s', (_, record, words) => {
    expect(() => encodeRecord(record)).toThrow(
      expect.objectContaining({ code: 'ERR_DPS_STORE_UNWRITABLE', message: expect.stringContaining(words) }),
    );
  });
});

describe('decodeRecord', () => {
  it('reads format 1', () => {
    expect(decodeRecord(Buffer.from(FORMAT_1))).toEqual({ kind: 'record', record: RECORD });
  });

  it('gives back what was encoded: any twin, any payload', () => {
    fc.assert(
      fc.property(fc.jsonValue(), fc.dictionary(fc.string(), fc.jsonValue()), fc.nat(), (payload, properties, slot) => {
        fc.pre(payload !== null);
        const assignment = registrationResultOf({ assignedHub: 'h', deviceId: 'd', payload: payload as JsonValue });
        const twin = { ...RECORD.twin, reported: { version: slot, properties: properties as JsonObject } };
        const record: DeviceRecord = { ...RECORD, assignment, twin, slot, movedTo: 'other.azure-devices.net' };
        expect(decodeRecord(encodeRecord(record))).toEqual({ kind: 'record', record });
      }),
    );
  });

  it('keeps the numbers that JSON.stringify would lose', () => {
    const properties = { big: Number.POSITIVE_INFINITY, small: Number.NEGATIVE_INFINITY, zero: -0 };
    expect(recordOf(decodeRecord(encodeRecord(withDesired(properties)))).twin.desired.properties).toEqual(properties);
  });

  it('reads what the credentials were called', () => {
    const record: DeviceRecord = { ...RECORD, keyIds: ['a1', 'b2'] };
    const bytes = encodeRecord(record);
    expect(Buffer.from(bytes).toString()).toBe(FORMAT_1.replace('"slot"', '"keyIds":["a1","b2"],"slot"'));
    expect(decodeRecord(bytes)).toEqual({ kind: 'record', record });
  });

  it('passes over members that it does not know', () => {
    const text = FORMAT_1.replace('"slot":1', '"slot":1,"later":{"x":1}');
    expect(decodeRecord(Buffer.from(text))).toEqual({ kind: 'record', record: RECORD });
  });

  it('tells a later format, and does not look into it', () => {
    expect(decodeRecord(Buffer.from('{"format":2,"binding":7}'))).toEqual({ kind: 'newer', format: 2 });
  });

  it.each([
    ['', 'nothing'],
    ['null', 'JSON null'],
    ['{"format":1', 'break off'],
    ['{}', 'no format number'],
    ['{"format":0}', 'no format number'],
    ['{"format":"1"}', 'no format number'],
    [FORMAT_1.replace('"slot":1', '"slot":-1'), 'slot should be a whole number from 0, and there is a JSON number'],
    [FORMAT_1.replace('"slot":1', '"slot":1.5'), 'slot'],
    [FORMAT_1.replace('"slot":1,', ''), 'slot should be a whole number from 0, and there is nothing'],
    [FORMAT_1.replace('0ne00111111', 'a b'), 'idScope cannot be used'],
    [FORMAT_1.replace('global.azure', 'https://global.azure'), 'endpoint cannot be used'],
    [
      FORMAT_1.replace('"registrationId":"dev-1"},"dps', '"registrationId":"-."},"dps'),
      'registrationId cannot be used',
    ],
    [FORMAT_1.replace('"attestation":"x509"', '"attestation":"none"'), 'attestation'],
    [FORMAT_1.replace('"assignedHub":"hub.azure-devices.net"', '"assignedHub":"hub/x"'), 'assignedHub cannot be used'],
    [FORMAT_1.replace('"deviceId":"dev-1",', ''), 'deviceId should be text, and there is nothing'],
    [FORMAT_1.replace('"hubTransport":"mqtt"', '"hubTransport":[]'), 'hubTransport should be text'],
    [FORMAT_1.replace('"version":4', '"version":"4"'), 'version should be a whole number'],
    [FORMAT_1.replace('"reported":{', '"forgotten":{'), 'reported should be an object'],
    [FORMAT_1.replace('1795219200000', '"yesterday"'), 'acceptedAtWallMs should be a whole number'],
    [FORMAT_1.replace('"slot":1', '"slot":1,"movedTo":"a b"'), 'movedTo cannot be used'],
    ...['"a"', '[]', '[1]', '["a",""]', '["\\n"]', JSON.stringify(Array.from({ length: 65 }, String))].map((keyIds) => [
      FORMAT_1.replace('"slot":1', `"slot":1,"keyIds":${keyIds}`),
      'keyIds cannot be used. It is a list of 1 to 64 texts',
    ]),
    ['['.repeat(100), 'nested more than 64 levels deep'],
    ['x'.repeat(1_048_577), '1048576 are the most'],
  ])('says what is damaged about %.60s', (text, words) => {
    expect(decodeRecord(Buffer.from(text))).toMatchObject({ kind: 'damaged', what: expect.stringContaining(words) });
  });

  it('never throws, and never takes a cut record for a whole one', () => {
    for (let length = 0; length < FORMAT_1.length - 1; length += 1) {
      expect(decodeRecord(Buffer.from(FORMAT_1.slice(0, length))).kind).toBe('damaged');
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => decodeRecord(bytes).kind === 'damaged'));
    fc.assert(
      fc.property(fc.jsonValue(), (value) =>
        ['damaged', 'record'].includes(
          decodeRecord(Buffer.from(JSON.stringify({ ...(JSON.parse(FORMAT_1) as JsonObject), twin: value }))).kind,
        ),
      ),
    );
  });
});

describe('bindingDifference', () => {
  it('finds none in the same configuration, whatever the letter case of names', () => {
    expect(bindingDifference(RECORD, { ...RECORD.binding })).toBeUndefined();
    const shouted = { ...RECORD.binding, endpoint: 'GLOBAL.azure-devices-provisioning.net', registrationId: 'DEV-1' };
    expect(bindingDifference(RECORD, shouted)).toBeUndefined();
  });

  it.each([
    [{ endpoint: 'other.example' }, 'endpoint global.azure-devices-provisioning.net, and now it is other.example'],
    [{ idScope: '0NE00111111' }, 'ID scope 0ne00111111, and now it is 0NE00111111'],
    [{ registrationId: 'dev-2' }, 'registration id dev-1, and now it is dev-2'],
    [{ attestation: 'tpm' as const }, 'attestation x509, and now it is tpm'],
  ])('says in words that it differs in %j', (change, words) => {
    expect(bindingDifference(RECORD, { ...RECORD.binding, ...change })).toContain(words);
  });
});

function recordOf(decoded: DecodedRecord): DeviceRecord {
  if (decoded.kind !== 'record') throw new Error(JSON.stringify(decoded));
  return decoded.record;
}

function withDesired(properties: JsonObject): DeviceRecord {
  return { ...RECORD, twin: { ...RECORD.twin, desired: { version: 4, properties } } };
}

function nested(levels: number): JsonObject {
  let value: JsonObject = {};
  for (let level = 0; level < levels; level += 1) value = { deeper: value };
  return value;
}

function reversed(value: JsonObject): JsonObject {
  return Object.fromEntries(Object.entries(value).reverse());
}
