import { describe, expect, it } from 'vitest';
import { hubErrorFrom } from '../../../src/core/wire/hub-error.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe('hubErrorFrom', () => {
  it('reads the error body of hub-protocol section 2.2', () => {
    const error = hubErrorFrom(
      'the reported properties',
      400,
      bytes(
        '{"errorCode":400004,"trackingId":"0123456789abcdef0123456789abcdef-G:7-TimeStamp:08/17/2017 10:48:44","message":"Bad key","timestampUtc":"2017-08-17T10:48:44.5309043Z"}',
      ),
    );
    expect(error).toMatchObject({
      code: 'ERR_DPS_SERVICE_BAD_REQUEST',
      service: 'hub',
      status: 400,
      errorCode: 400004,
      trackingId: '0123456789abcdef0123456789abcdef-G:7-TimeStamp:08/17/2017 10:48:44',
      timestampUtc: '2017-08-17T10:48:44.5309043Z',
      retryable: false,
    });
    expect(error.message).toMatch(/the reported properties .*status 400, error 400004, "Bad key", tracking id 0123/);
  });

  it.each([
    [400, 'ERR_DPS_SERVICE_BAD_REQUEST', false],
    [401, 'ERR_DPS_SERVICE_UNAUTHORIZED', false],
    [403, 'ERR_DPS_SERVICE_UNAUTHORIZED', false],
    [404, 'ERR_DPS_SERVICE_NOT_FOUND', false],
    [409, 'ERR_DPS_SERVICE_CONFLICT', true],
    [413, 'ERR_DPS_SERVICE_REFUSED', false],
    [429, 'ERR_DPS_SERVICE_THROTTLED', true],
    [500, 'ERR_DPS_SERVICE_UNAVAILABLE', true],
    [503, 'ERR_DPS_SERVICE_UNAVAILABLE', true],
  ])('status %i is %s', (status, code, retryable) => {
    expect(hubErrorFrom('it', status, new Uint8Array(0))).toMatchObject({ code, retryable, status });
  });

  it.each([
    ['nothing', ''],
    ['no JSON', 'Service Unavailable'],
    ['JSON cut short', '{"errorCode":429001,"tra'],
    ['no object', '"text"'],
    ['members of the wrong kind', '{"errorCode":{},"trackingId":5,"message":[],"timestampUtc":true}'],
  ])('survives %s', (_name, body) => {
    expect(hubErrorFrom('it', 429, bytes(body))).toMatchObject({ errorCode: undefined, trackingId: undefined });
  });

  it('takes a number that was sent as text, and skips bytes that are not UTF-8', () => {
    expect(hubErrorFrom('it', 429, bytes('{"errorCode":"429001"}')).errorCode).toBe(429001);
    expect(hubErrorFrom('it', 429, Uint8Array.of(0xff, 0xfe)).errorCode).toBeUndefined();
  });

  it('shows no secret that the hub might repeat', () => {
    const echo = bytes('{"message":"bad token SharedAccessSignature sr=x&sig=abc&se=1"}');
    expect(hubErrorFrom('it', 401, echo).message).not.toContain('sig=abc');
  });
});
