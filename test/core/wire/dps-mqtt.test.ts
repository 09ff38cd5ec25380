import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  DPS_RESPONSE_FILTER,
  dpsMqttConnect,
  operationStatusTopic,
  parseResponseTopic,
  registerTopic,
} from '../../../src/core/wire/dps-mqtt.js';
import { ProtocolError } from '../../../src/errors.js';

describe('dpsMqttConnect', () => {
  it('names scope, registration id and version', () => {
    const identity = { idScope: '0ne00111111', registrationId: 'dev-1', apiVersion: '2019-03-31' };
    expect(dpsMqttConnect(identity)).toEqual({
      clientId: 'dev-1',
      username: '0ne00111111/registrations/dev-1/api-version=2019-03-31',
    });
  });

  it('encodes the user agent and nothing else', () => {
    expect(
      dpsMqttConnect({
        idScope: '0ne00111111',
        registrationId: 'dev:1',
        apiVersion: '2019-03-31',
        userAgent: 'azure-iot-provisioning-device/1.9.1',
      }),
    ).toEqual({
      clientId: 'dev:1',
      username:
        '0ne00111111/registrations/dev:1/api-version=2019-03-31&ClientVersion=azure-iot-provisioning-device%2F1.9.1',
    });
  });
});

describe('request topics', () => {
  it('are those of the reference', () => {
    expect(DPS_RESPONSE_FILTER).toBe('$dps/registrations/res/#');
    expect(registerTopic('1')).toBe('$dps/registrations/PUT/iotdps-register/?$rid=1');
    expect(operationStatusTopic('2', '5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3')).toBe(
      '$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3',
    );
  });

  it('let no value out of its place', () => {
    expect(registerTopic('a&b=#+/$')).toBe('$dps/registrations/PUT/iotdps-register/?$rid=a%26b%3D%23%2B%2F%24');
    expect(operationStatusTopic('1', 'x&$rid=2#')).toBe(
      '$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1&operationId=x%26%24rid%3D2%23',
    );
  });
});

describe('parseResponseTopic', () => {
  it.each([
    ['$dps/registrations/res/202/?$rid=1&retry-after=3', { status: 202, requestId: '1', retryAfter: '3' }],
    ['$dps/registrations/res/200/?$rid=3', { status: 200, requestId: '3' }],
    ['$dps/registrations/res/401/?$rid=1', { status: 401, requestId: '1' }],
    [
      '$dps/registrations/res/202/?$rid=0f9a8f6e-66f5-4c0b-8b3b-5d7c2a1f0e9d&retry-after=3',
      { status: 202, requestId: '0f9a8f6e-66f5-4c0b-8b3b-5d7c2a1f0e9d', retryAfter: '3' },
    ],
    ['$dps/registrations/res/429/?retry-after=3&$rid=1', { status: 429, requestId: '1', retryAfter: '3' }],
    ['$dps/registrations/res/429/?$RID=1&Retry-After=3', { status: 429, requestId: '1', retryAfter: '3' }],
    ['$dps/registrations/res/202/?%24rid=1', { status: 202, requestId: '1' }],
    ['$dps/registrations/res/202/?$rid=1&&new=x&flag&', { status: 202, requestId: '1' }],
    ['$dps/registrations/res/202/?$rid=a=b', { status: 202, requestId: 'a=b' }],
    ['$dps/registrations/res/202/?$rid=1&retry-after=', { status: 202, requestId: '1', retryAfter: '' }],
    ['$dps/registrations/res/202/?$rid=1&retry-after=-1.5', { status: 202, requestId: '1', retryAfter: '-1.5' }],
  ])('reads %s', (topic, expected) => {
    expect(parseResponseTopic(topic)).toEqual(expected);
  });

  it.each([
    '',
    '$dps',
    '$dps/registrations/res/',
    '$dps/registrations/res/#',
    '$dps/registrations/res/202',
    '$dps/registrations/res/202/',
    '$dps/registrations/res/202/?',
    '$dps/registrations/res/202/?$rid',
    '$dps/registrations/res/202/?$rid=',
    '$dps/registrations/res/202/?rid=1',
    '$dps/registrations/res/202/?retry-after=3',
    '$dps/registrations/res/202?$rid=1',
    '$dps/registrations/res//?$rid=1',
    '$dps/registrations/res/abc/?$rid=1',
    '$dps/registrations/res/20/?$rid=1',
    '$dps/registrations/res/2020/?$rid=1',
    '$dps/registrations/res/020/?$rid=1',
    '$dps/registrations/res/-20/?$rid=1',
    '$dps/registrations/res/2e2/?$rid=1',
    '$dps/registrations/res/٢٠٢/?$rid=1',
    '$dps/registrations/res/202/x/?$rid=1',
    'x$dps/registrations/res/202/?$rid=1',
    '$DPS/registrations/res/202/?$rid=1',
    '$iothub/twin/res/200/?$rid=1',
    '$dps/registrations/res/202/?$rid=1&$rid=1',
    '$dps/registrations/res/202/?$rid=1&$RID=2',
    '$dps/registrations/res/202/?$rid=1&%24rid=2',
    '$dps/registrations/res/202/?$rid=1&retry-after=3&Retry-After=4',
    '$dps/registrations/res/202/?$rid=%',
    '$dps/registrations/res/202/?$rid=%C0%AF',
    '$dps/registrations/res/202/?%=1&$rid=1',
  ])('refuses %j', (topic) => {
    expect(() => parseResponseTopic(topic)).toThrow(
      expect.objectContaining({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_TOPIC' }),
    );
  });

  it('quotes a topic shortened and without control characters', () => {
    const topic = `$dps/\u001b[31m\n\u202e${'x '.repeat(30_000)}`;
    const error = catchError(() => parseResponseTopic(topic));
    expect(error).toBeInstanceOf(ProtocolError);
    expect((error as ProtocolError).got).toMatch(/^"\$dps\/ \[31m x x /);
    expect((error as ProtocolError).message.length).toBeLessThan(400);
  });

  it('gives back any request id that it was asked with', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', minLength: 1 }), fc.nat({ max: 999 }), (requestId, seconds) => {
        const query = registerTopic(requestId).slice('$dps/registrations/PUT/iotdps-register/?'.length);
        const topic = `$dps/registrations/res/202/?${query}&retry-after=${seconds}`;
        expect(parseResponseTopic(topic)).toEqual({ status: 202, requestId, retryAfter: `${seconds}` });
      }),
    );
  });

  it('reads or refuses any topic, and any beginning of one', () => {
    const part = fc.constantFrom('$dps/', 'registrations/', 'res/', '202', '/?', '$rid', '=', '&', '%', '1', '\0');
    const topic = fc.oneof(
      fc.string(),
      fc.array(part).map((parts) => parts.join('')),
    );
    fc.assert(
      fc.property(topic, (text) => {
        const error = catchError(() => parseResponseTopic(text));
        expect(error === undefined || error instanceof ProtocolError).toBe(true);
      }),
    );
    const whole = '$dps/registrations/res/202/?$rid=1';
    for (let end = 0; end < whole.length; end += 1) {
      expect(() => parseResponseTopic(whole.slice(0, end))).toThrow(ProtocolError);
    }
  });
});

function catchError(run: () => unknown): unknown {
  try {
    run();
    return undefined;
  } catch (error) {
    return error;
  }
}
