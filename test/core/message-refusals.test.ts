import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { assignedWith, BODIES, errorIn, interpret, KEY_BLOB, OPERATION_ID } from './dps-replies.js';

describe('interpretReply: rejected', () => {
  it('quotes a failure and says whose move it is', () => {
    const error = errorIn(interpret(200, BODIES.failed));
    expect(error).toMatchObject({
      name: 'RegistrationRejectedError',
      code: 'ERR_DPS_REGISTRATION_FAILED',
      status: 'failed',
      errorCode: 400207,
      errorMessage: 'Custom allocation failed with status code: 400',
      retryable: false,
    });
    expect(error.message).toBe(
      'DPS ended the registration as failed (error 400207, "Custom allocation failed with status code: 400"). ' +
        'The custom allocation webhook of the enrollment failed: look at its log and at what it answers.',
    );
  });

  it.each([
    ['404201', '{"errorCode":404201}', /not enrolled.*endorsement key/],
    ['400208', '{"errorCode":400208}', /link an IoT hub/],
    ['400209', '{"errorCode":400209}', /linked hub refused/],
    ['a revoked link', '{"errorMessage":"{\\"Message\\":\\"IotHubUnauthorizedAccess\\"}"}', /linked hub refused/],
    ['an unknown code', '{"errorCode":400999}', /Look at the enrollment/],
    ['a code of the wrong type', '{"errorCode":"400207"}', /failed\. Look at the enrollment/],
    ['a code that is no whole number', '{"errorCode":400207.5}', /failed\. Look at the enrollment/],
    ['a code beyond all numbers', '{"errorCode":1e400}', /failed\. Look at the enrollment/],
  ])('advises on %s', (_name, state, advice) => {
    const body = `{"operationId":"4.3","status":"failed","registrationState":${state}}`;
    expect(errorIn(interpret(200, body)).message).toMatch(advice);
  });

  it.each([
    BODIES.disabled,
    BODIES.disabled.replaceAll('"disabled"', '"DISABLED"'),
    BODIES.disabled.replaceAll('"disabled"', '"blacklisted"'),
    '{"status":"disabled"}',
  ])('%s is disabled', (body) => {
    const error = errorIn(interpret(200, body));
    expect(error).toMatchObject({ code: 'ERR_DPS_REGISTRATION_DISABLED', status: 'disabled', errorCode: undefined });
    expect(error.message).toMatch(/^DPS ended the registration as disabled\. The enrollment .* have it enabled/);
  });

  it('names what a 404 may mean: the ID scope, the registration id', () => {
    const error = errorIn(interpret(404, '{"errorCode":404204,"message":"Not Found."}'));
    expect(error.message).toMatch(
      /^DPS does not know this ID scope, this registration id, or the operation asked for \(/,
    );
    expect(error.message).toContain('Compare the ID scope with the overview page');
  });

  it('quotes the service without its control characters, and not at any length', () => {
    const state = { errorMessage: `\u001b[2Jgone\n${'very long, '.repeat(1000)}` };
    const error = errorIn(interpret(200, JSON.stringify({ status: 'failed', registrationState: state })));
    expect(error.message).not.toMatch(/\p{Cc}/u);
    expect(error.message.length).toBeLessThan(700);
  });
});

describe('interpretReply: service errors', () => {
  it.each([
    [400, 'ERR_DPS_SERVICE_BAD_REQUEST', false],
    [401, 'ERR_DPS_SERVICE_UNAUTHORIZED', false],
    [403, 'ERR_DPS_SERVICE_UNAUTHORIZED', false],
    [404, 'ERR_DPS_SERVICE_NOT_FOUND', false],
    [405, 'ERR_DPS_SERVICE_REFUSED', false],
    [409, 'ERR_DPS_SERVICE_CONFLICT', true],
    [412, 'ERR_DPS_SERVICE_REFUSED', false],
    [415, 'ERR_DPS_SERVICE_REFUSED', false],
    [429, 'ERR_DPS_SERVICE_THROTTLED', true],
    [500, 'ERR_DPS_SERVICE_UNAVAILABLE', true],
    [503, 'ERR_DPS_SERVICE_UNAVAILABLE', true],
    [599, 'ERR_DPS_SERVICE_UNAVAILABLE', true],
  ])('%d is %s, with an error body, an empty one, or one of other JSON', (status, code, retryable) => {
    const body = `{"errorCode":${status}001,"trackingId":"t-1","message":"No.","timestampUtc":"2020-04-10T05:24:22.4718526Z"}`;
    const more = { retryAfter: '7' };
    expect(interpret(status, body, more)).toMatchObject({
      kind: 'serviceError',
      error: {
        name: 'ServiceError',
        service: 'dps',
        code,
        retryable,
        status,
        errorCode: status * 1000 + 1,
        trackingId: 't-1',
        timestampUtc: '2020-04-10T05:24:22.4718526Z',
        retryAfterMs: 7000,
      },
    });
    expect(errorIn(interpret(status, body)).message).toContain(
      `(status ${status}, error ${status}001, "No.", tracking id t-1)`,
    );
    for (const other of ['', ' ', '{}', '{"error":"denied"}', '{"errorCode":"x","message":null,"trackingId":7}']) {
      expect(interpret(status, other)).toMatchObject({
        kind: 'serviceError',
        error: { code, status, errorCode: undefined, trackingId: undefined, retryAfterMs: undefined },
      });
    }
  });

  it('lists what a 401 may mean', () => {
    const { message } = errorIn(interpret(401, BODIES.unauthorized));
    expect(message).toMatch(/^DPS refused the credentials of this device \(status 401, error 401002, "Unauthorized", /);
    for (const cause of [
      /not enrolled/,
      /key is not/,
      /group key/,
      /certificate is unknown/,
      /chain/,
      /intermediate/,
    ]) {
      expect(message).toMatch(cause);
    }
    for (const cause of [/common name/, /clock/, /tracking id b3990321-f238-414d-96ad-dd52300db848/]) {
      expect(message).toMatch(cause);
    }
  });

  it.each([429, 500, 503])('%d stands by its number alone, whatever the body is', (status) => {
    for (const body of [BODIES.page, 'busy', '[]', '"busy"', '{"errorCode":', Uint8Array.of(0xff, 0xfe)]) {
      expect(interpret(status, body, { retryAfter: '3' })).toMatchObject({
        kind: 'serviceError',
        error: { status, retryAfterMs: 3000 },
      });
    }
    expect(errorIn(interpret(status, BODIES.page)).message).toContain(
      'instead there was text that begins "<!DOCTYPE html>',
    );
  });

  it('hands on an operation id that is one', () => {
    const body = `{"operationId":"${OPERATION_ID}","errorCode":500001}`;
    expect(interpret(500, body)).toMatchObject({ kind: 'serviceError', operationId: OPERATION_ID });
    expect(interpret(500, '{"operationId":"a\\u0000"}')).not.toHaveProperty('operationId');
    expect(interpret(500, '{"operationId":7}')).not.toHaveProperty('operationId');
  });

  it('shows nothing of a challenge that went astray', () => {
    const body = `{"message":"Authorization required, resend request using supplied key","authenticationKey":"${KEY_BLOB}","unencryptedAuthenticationKey":null,"keyName":"registration"}`;
    const interpreted = interpret(401, body);
    expect(errorIn(interpreted).message).toContain('Authorization required');
    expect(inspect(interpreted, { depth: 9, showHidden: true })).not.toContain(KEY_BLOB);
  });
});

describe('interpretReply: unexpected', () => {
  it.each([100, 199, 301, 302, 304, 399, 0, -1, Number.NaN])('status %d', (status) => {
    const error = errorIn(interpret(status, BODIES.assigned));
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_STATUS', status, retryable: false });
    expect(error.message).toContain('captive portal');
  });

  it.each(['"registering"', '"constructor"', '""'])('status word %s', (word) => {
    expect(errorIn(interpret(200, `{"operationId":"4.3","status":${word}}`)).code).toBe('ERR_DPS_PROTOCOL_STATUS');
  });

  it.each(['{}', '{"status":null}', '{"status":7}', '{"status":["assigned"]}', BODIES.unauthorized])(
    'no status word: %s',
    (body) => {
      const error = errorIn(interpret(200, body));
      expect(error.code).toBe('ERR_DPS_PROTOCOL_BODY');
      expect(error.message).toContain('member status');
    },
  );

  it.each([
    [200, 'an empty body', ''],
    [202, 'a blank', ' '],
    [200, 'an array', '[]'],
    [200, 'null', 'null'],
    [200, 'text', '"assigned"'],
    [200, 'JSON cut short', BODIES.assigned.slice(0, -1)],
    [200, 'a bomb', `{"status":${'['.repeat(100_000)}`],
    [200, 'a closed bomb', `{"status":"assigned","registrationState":${'['.repeat(1e5)}${']'.repeat(1e5)}}`],
    [200, 'bytes that are not UTF-8', Uint8Array.of(0x7b, 0xc0, 0xaf, 0x7d)],
    [401, 'JSON cut short', BODIES.unauthorized.slice(0, -1)],
    [404, 'an array', '[]'],
  ])('%d with %s', (status, _name, body) => {
    const error = errorIn(interpret(status, body));
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_BODY', status });
    expect(error.message).not.toContain('captive portal');
  });

  it.each([200, 202, 400, 401, 403, 404, 407, 409, 418])("%d with a proxy's page", (status) => {
    const error = errorIn(interpret(status, BODIES.page));
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_BODY', status });
    expect(error.message).toContain(`status ${status}`);
    expect(error.message).toContain('text that begins "<!DOCTYPE html><html><head><title>Sign in</title>');
    expect(error.message).toContain('captive portal');
  });

  it('skips a byte order mark', () => {
    expect(interpret(200, `\ufeff${BODIES.assigned}`).kind).toBe('assigned');
  });

  it('shows no key, wherever the reply breaks', () => {
    const body = assignedWith({
      registrationId: 'r',
      deviceId: 'd',
      tpm: { authenticationKey: KEY_BLOB },
      assignedHub: 'h',
    });
    for (let end = 0; end < body.length; end += 1) {
      const interpreted = interpret(200, body.slice(0, end));
      expect(interpreted.kind).toBe('unexpected');
      expect(inspect(interpreted, { depth: 9 })).not.toContain('ADQAII');
    }
    const withoutHub = body.replace(',"assignedHub":"h"', '');
    expect(inspect(interpret(200, withoutHub), { depth: 9 })).not.toContain('ADQAII');
  });
});
