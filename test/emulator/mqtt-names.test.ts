import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { findRequestId, parseQuery, parseUserName } from '../../src/emulator/mqtt-names.js';
import { parseSasToken } from '../../src/emulator/sas-token.js';

describe('user names', () => {
  it.each<[string, object | undefined]>([
    [
      '0ne00111111/registrations/dev-1/api-version=2019-03-31&ClientVersion=azure-iot-provisioning-device%2F1.9.1',
      {
        kind: 'dps',
        idScope: '0ne00111111',
        registrationId: 'dev-1',
        apiVersion: '2019-03-31',
        userAgent: 'azure-iot-provisioning-device/1.9.1',
      },
    ],
    [
      '0ne/registrations/a/api-version=2021-06-01&ClientVersion=1.15.0/raw',
      { kind: 'dps', registrationId: 'a', userAgent: '1.15.0/raw' },
    ],
    ['0ne/registrations/a/ClientVersion=x', undefined],
    ['0ne/registrations/a', undefined],
    [
      'hub.azure-devices.net/dev-1/?api-version=2021-04-12&DeviceClientType=azure-iot-device%2F1.18.4%20(node%20v20)',
      {
        kind: 'hub',
        host: 'hub.azure-devices.net',
        deviceId: 'dev-1',
        moduleId: undefined,
        apiVersion: '2021-04-12',
        userAgent: 'azure-iot-device/1.18.4 (node v20)',
      },
    ],
    ['localhost:45915/dev-1/?api-version=2021-04-12', { kind: 'hub', host: 'localhost:45915', deviceId: 'dev-1' }],
    [
      'h/dev-1/api-version=2016-11-14',
      { kind: 'hub', deviceId: 'dev-1', apiVersion: '2016-11-14', moduleId: undefined },
    ],
    [
      'h/dev-1/mod/?api-version=2021-04-12',
      { kind: 'hub', deviceId: 'dev-1', moduleId: 'mod', apiVersion: '2021-04-12' },
    ],
    ['h/dev-1/mod/api-version=2021-04-12', { kind: 'hub', moduleId: 'mod', apiVersion: '2021-04-12' }],
    ['h/registrations/?api-version=2021-04-12', { kind: 'hub', deviceId: 'registrations' }],
    ['h/dev-1', { kind: 'hub', deviceId: 'dev-1', apiVersion: undefined }],
    ['h/d?v=1/?api-version=2021-04-12', { kind: 'hub', deviceId: 'd?v=1', apiVersion: '2021-04-12' }],
    ['', undefined],
    ['h', undefined],
    ['/x/?api-version=1', undefined],
    ['h//?api-version=1', undefined],
  ])('%s', (text, expected) => {
    const found = parseUserName(text);
    if (expected === undefined) expect(found).toBeUndefined();
    else expect(found).toMatchObject(expected);
  });
});

describe('topic queries', () => {
  it('are decoded where they can be, and keep $rid as it was sent', () => {
    expect([...parseQuery('$rid=%7Ba%7D&operationId=5%2Eab&x=%zz&bare&a=b=c&$rid=2')]).toEqual([
      ['$rid', '{a}'],
      ['operationId', '5.ab'],
      ['x', '%zz'],
      ['bare', ''],
      ['a', 'b=c'],
    ]);
    expect(findRequestId('operationId=x&%24rid=%7Ba%7D')).toBe('%7Ba%7D');
    expect(findRequestId('$rid=')).toBeUndefined();
    expect(findRequestId('')).toBeUndefined();
  });
});

describe('the parsers', () => {
  it('never throw, whatever they read', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc.string({
            unit: fc.constantFrom(
              '/',
              '?',
              '=',
              '&',
              '%',
              '$rid',
              'registrations',
              'api-version',
              'a',
              'SharedAccessSignature ',
              'sr',
              'sig',
              'se',
            ),
          }),
        ),
        (text) => {
          parseUserName(text);
          parseQuery(text);
          findRequestId(text);
          parseSasToken(text);
        },
      ),
    );
  });
});
