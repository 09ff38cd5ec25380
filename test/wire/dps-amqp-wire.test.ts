import { describe, expect, it } from 'vitest';
import {
  dpsAmqpAddress,
  dpsAmqpLinkProperties,
  dpsAmqpRefusal,
  dpsAmqpReply,
  dpsAmqpRequest,
} from '../../src/core/wire/dps-amqp.js';

const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));
const ERROR_BODY =
  '{"errorCode":401002,"trackingId":"b3990321-f238-414d-96ad-dd52300db848","message":"Unauthorized","timestampUtc":"2019-04-11T06:59:58.9485669Z"}';

describe('DPS over AMQP', () => {
  it('has one address for both links, and the user name', () => {
    expect(dpsAmqpAddress('0ne00111111', 'dev-1')).toBe('0ne00111111/registrations/dev-1');
  });

  it('tells its version when a link is attached', () => {
    expect(dpsAmqpLinkProperties('2021-06-01')).toEqual({ 'com.microsoft:api-version': '2021-06-01' });
    expect(dpsAmqpLinkProperties('2021-06-01', 'dps-device/1.0.0')).toEqual({
      'com.microsoft:api-version': '2021-06-01',
      'com.microsoft:client-version': 'dps-device/1.0.0',
    });
  });

  it('registers and polls by application properties', () => {
    expect(dpsAmqpRequest({ kind: 'register', body: bytes('{"registrationId":"dev-1"}') })).toEqual({
      applicationProperties: { 'iotdps-operation-type': 'iotdps-register', 'iotdps-forceRegistration': false },
      body: bytes('{"registrationId":"dev-1"}'),
    });
    expect(dpsAmqpRequest({ kind: 'operationStatus', operationId: '5.71cf' })).toEqual({
      applicationProperties: {
        'iotdps-operation-type': 'iotdps-get-operationstatus',
        'iotdps-operation-id': '5.71cf',
      },
      body: bytes(''),
    });
    expect(dpsAmqpRequest({ kind: 'statusLookup', body: bytes('') })).toBeUndefined();
  });

  it.each([
    [{ 'retry-after': 3, 'Retry-After': 3 }, 202, '3'],
    [{ 'Retry-After': '5' }, 202, '5'],
    [{ 'retry-after': 0 }, 202, '0'],
    [{ 'retry-after': 'Wed, 21 Oct 2026 07:28:00 GMT' }, 202, 'Wed, 21 Oct 2026 07:28:00 GMT'],
    [{ 'retry-after': { nested: true } }, 200, undefined],
    [{ other: 3 }, 200, undefined],
    [{}, 200, undefined],
  ])('reads the delay of a reply: %j', (properties, status, retryAfter) => {
    expect(dpsAmqpReply(properties, bytes('{}'))).toEqual({
      kind: 'reply',
      status,
      body: bytes('{}'),
      ...(retryAfter === undefined ? {} : { retryAfter }),
    });
  });

  it('takes the status of a refusal from the error code in its description', () => {
    const refusal = { condition: 'amqp:internal-error', description: ERROR_BODY, info: { 'Retry-After': 7 } };
    expect(dpsAmqpRefusal(refusal)).toEqual({ kind: 'reply', status: 401, body: bytes(ERROR_BODY), retryAfter: '7' });
  });

  it.each([
    ['sasl:auth', 401],
    ['sasl:sys', 500],
    ['sasl:sys-perm', 500],
    ['sasl:sys-temp', 503],
    ['amqp:unauthorized-access', 401],
    ['amqp:not-found', 404],
    ['com.microsoft:device-container-throttled', 429],
    ['amqp:internal-error', 500],
    ['com.microsoft:timeout', 503],
    ['amqp:connection:forced', 503],
    ['something:new', 500],
  ])('or else from the condition: %s is %i', (condition, status) => {
    for (const description of ['', 'no JSON', '{"errorCode":"401002"}', '{"errorCode":7}', '[]']) {
      expect(dpsAmqpRefusal({ condition, description, info: {} })).toEqual({
        kind: 'reply',
        status,
        body: bytes(description),
      });
    }
  });
});
