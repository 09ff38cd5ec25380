import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeUtf8 } from '../../src/core/bytes.js';
import {
  DPS_API_VERSION,
  encodeRegisterBody,
  interpretReply,
  interpretStatusLookup,
  type RegistrationResult,
  registrationResultOf,
} from '../../src/core/messages.js';
import type { DpsReply } from '../../src/core/transport.js';
import type { JsonValue } from '../../src/core/twin.js';
import { type DpsError, isDpsError } from '../../src/errors.js';

const WALL_MS = Date.UTC(2026, 10, 21, 12, 0, 0);
const OPERATION_ID = '5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3';
const ASSIGNING = `{"operationId":"${OPERATION_ID}","status":"assigning"}`;
const ASSIGNED = `{"operationId":"${OPERATION_ID}","status":"assigned","registrationState":{"registrationId":"dev-1","createdDateTimeUtc":"2024-05-01T10:00:00.1234567Z","assignedHub":"hub.azure-devices.net","deviceId":"dev-1","status":"assigned","substatus":"initialAssignment","lastUpdatedDateTimeUtc":"2024-05-01T10:00:02.7654321Z","etag":"IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI="}}`;
const FAILED =
  '{"operationId":"4.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550","status":"failed","registrationState":{"registrationId":"dev-1","status":"failed","errorCode":400207,"errorMessage":"Custom allocation failed with status code: 400","lastUpdatedDateTimeUtc":"2020-04-10T03:06:13.0276997Z","etag":"IjQ3"}}';
const DISABLED =
  '{"operationId":"4.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550","status":"disabled","registrationState":{"registrationId":"dev-1","status":"disabled","createdDateTimeUtc":"2024-05-01T10:00:00.1234567Z","etag":"IjQ3"}}';
const UNAUTHORIZED =
  '{"errorCode":401002,"trackingId":"b3990321-f238-414d-96ad-dd52300db848","message":"Unauthorized","timestampUtc":"2019-04-11T06:59:58.9485669Z"}';
const PAGE =
  '<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to the network</body></html>';
const KEY_BLOB = 'ADQAII6SXBhCsecret';

function reply(status: number, body: string | Uint8Array, more: Partial<DpsReply> = {}): DpsReply {
  return { kind: 'reply', status, body: typeof body === 'string' ? encodeUtf8(body) : body, ...more };
}

function interpret(status: number, body: string | Uint8Array, more?: Partial<DpsReply>) {
  return interpretReply(reply(status, body, more), 'operationStatus', WALL_MS);
}

function errorIn(interpreted: object): DpsError {
  if (!('error' in interpreted) || !isDpsError(interpreted.error)) throw new Error(inspect(interpreted));
  return interpreted.error;
}

function assignedWith(state: JsonValue): string {
  return JSON.stringify({ operationId: OPERATION_ID, status: 'assigned', registrationState: state });
}

function resultOf(body: string): RegistrationResult {
  const interpreted = interpret(200, body);
  if (interpreted.kind !== 'assigned') throw new Error(inspect(interpreted));
  return interpreted.result;
}

describe('encodeRegisterBody', () => {
  it.each([
    [{ registrationId: 'r' }, '{"registrationId":"r"}'],
    [
      { registrationId: 'r', payload: { modelId: 'dtmi:com:example:Thermostat;1' } },
      '{"registrationId":"r","payload":{"modelId":"dtmi:com:example:Thermostat;1"}}',
    ],
    [{ registrationId: 'r', payload: null }, '{"registrationId":"r","payload":null}'],
    [
      { registrationId: 'r', tpm: { endorsementKey: Uint8Array.of(1, 0x3a), storageRootKey: Uint8Array.of(0xff) } },
      '{"registrationId":"r","tpm":{"endorsementKey":"ATo=","storageRootKey":"/w=="}}',
    ],
    [{ registrationId: 'r', csr: 'MIIB' }, '{"registrationId":"r","csr":"MIIB"}'],
  ])('%j', (body, text) => {
    expect(Buffer.from(encodeRegisterBody(body)).toString('utf8')).toBe(text);
  });

  it('writes UTF-8', () => {
    const bytes = encodeRegisterBody({ registrationId: 'r', payload: { ort: 'Köln 😀' } });
    expect(Buffer.from(bytes).toString('hex')).toContain('4bc3b66c6e20f09f9880');
  });

  it('blames the payload for what JSON cannot say', () => {
    const circular: { self?: unknown } = {};
    circular.self = circular;
    expect(() => encodeRegisterBody({ registrationId: 'r', payload: circular as JsonValue })).toThrow(
      expect.objectContaining({ code: 'ERR_DPS_CONFIG_OPTION', option: 'payload' }),
    );
  });

  it('goes with an API version', () => {
    expect(DPS_API_VERSION).toBe('2021-06-01');
  });
});

describe('interpretReply: assigning', () => {
  it.each([
    [202, ASSIGNING],
    [200, ASSIGNING],
    [
      202,
      `{"operationId":"${OPERATION_ID}","status":"assigning","registrationState":{"registrationId":"dev-1","status":"assigning"}}`,
    ],
    [202, ASSIGNING.replace('assigning', 'Assigning')],
    [202, ASSIGNING.replace('assigning', 'unassigned')],
    [202, ASSIGNING.replace('}', ',"registrationState":null}')],
  ])('%d %s', (status, body) => {
    for (const request of ['register', 'operationStatus'] as const) {
      expect(interpretReply(reply(status, body, { retryAfter: '3' }), request, WALL_MS)).toEqual({
        kind: 'assigning',
        operationId: OPERATION_ID,
        retryAfterMs: 3000,
      });
    }
  });

  it('leaves a missing Retry-After missing, and reads a date against the date of the reply', () => {
    expect(interpret(202, ASSIGNING)).toMatchObject({ retryAfterMs: undefined });
    const dates = { retryAfter: 'Sat, 21 Nov 2026 12:00:10 GMT', date: 'Sat, 21 Nov 2026 12:00:07 GMT' };
    expect(interpretReply(reply(202, ASSIGNING, dates), 'register', 0)).toMatchObject({ retryAfterMs: 3000 });
  });

  it.each(['{"status":"assigning"}', '{"status":"assigning","operationId":null}'])(
    'goes on without an operation id on a poll, not on a registration: %s',
    (body) => {
      expect(interpret(202, body)).toEqual({ kind: 'assigning', operationId: undefined, retryAfterMs: undefined });
      const error = errorIn(interpretReply(reply(202, body), 'register', WALL_MS));
      expect(error.code).toBe('ERR_DPS_PROTOCOL_BODY');
      expect(error.message).toContain('operationId');
    },
  );

  it.each(['""', '7', '{}', '["5.71"]', '"a\\u0000b"', '"a\\nb"', '"\\u202e"', '"."', '".."', `"${'x'.repeat(513)}"`])(
    'refuses the operation id %s',
    (operationId) => {
      const body = `{"status":"assigning","operationId":${operationId}}`;
      expect(errorIn(interpret(202, body)).code).toBe('ERR_DPS_PROTOCOL_BODY');
    },
  );

  it('takes an operation id of 512 characters', () => {
    const operationId = 'x'.repeat(512);
    expect(interpret(202, JSON.stringify({ status: 'assigning', operationId }))).toMatchObject({ operationId });
  });
});

describe('interpretReply: assigned', () => {
  it('gives the state in the words of the service', () => {
    const result = resultOf(ASSIGNED);
    expect({ ...result }).toEqual({
      registrationId: 'dev-1',
      assignedHub: 'hub.azure-devices.net',
      deviceId: 'dev-1',
      status: 'assigned',
      substatus: 'initialAssignment',
      createdDateTimeUtc: '2024-05-01T10:00:00.1234567Z',
      lastUpdatedDateTimeUtc: '2024-05-01T10:00:02.7654321Z',
      etag: 'IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI=',
    });
    expect(result.raw).toEqual(JSON.parse(ASSIGNED).registrationState);
  });

  it('in answer to the registration itself, and in capitals', () => {
    const capitals = ASSIGNED.replaceAll('"assigned"', '"Assigned"');
    expect(interpretReply(reply(202, capitals), 'register', WALL_MS)).toMatchObject({
      kind: 'assigned',
      result: { status: 'assigned' },
    });
  });

  it('with all that may come along', () => {
    const state = {
      registrationId: 'dev-1',
      assignedHub: 'localhost:45915',
      deviceId: 'other',
      payload: { größe: ['😀', null, 1.5] },
      x509: { enrollmentGroupId: 'g' },
      symmetricKey: {},
      issuedCertificateChain: ['MIIB', 'MIIC'],
      connectionProfile: 'classic',
      generationId: 'unknown to us',
    };
    const { generationId: _unknown, ...known } = state;
    const result = resultOf(assignedWith(state));
    expect({ ...result }).toEqual({ ...known, status: 'assigned' });
    expect(result.raw).toEqual(state);
  });

  it('leaves optional members of the wrong type out, and keeps them in raw', () => {
    const state = {
      assignedHub: 'h',
      deviceId: 'd',
      registrationId: 7,
      substatus: 1,
      createdDateTimeUtc: null,
      lastUpdatedDateTimeUtc: {},
      etag: ['e'],
      payload: null,
      x509: 'x',
      symmetricKey: [],
      tpm: { authenticationKey: 1 },
      issuedCertificateChain: ['MIIB', null],
      connectionProfile: false,
    };
    const result = resultOf(assignedWith(state));
    expect({ ...result }).toEqual({ registrationId: '', assignedHub: 'h', deviceId: 'd', status: 'assigned' });
    expect(result.tpm).toBeUndefined();
    expect(result.raw.substatus).toBe(1);
    expect(result.raw.tpm).toEqual({ authenticationKey: 1 });
  });

  it('holds the TPM key blob without showing it', () => {
    const state = { registrationId: 'r', assignedHub: 'h', deviceId: 'd', tpm: { authenticationKey: KEY_BLOB } };
    const result = resultOf(assignedWith(state));
    expect(result.tpm?.authenticationKey).toBe(KEY_BLOB);
    expect((result.raw.tpm as { authenticationKey: string }).authenticationKey).toBe(KEY_BLOB);
    for (const value of [result, result.raw, { ...result }, structuredClone(result), { ...result.raw }]) {
      expect(inspect(value, { depth: 9 })).not.toContain(KEY_BLOB);
      expect(JSON.stringify(value)).not.toContain(KEY_BLOB);
    }
  });

  it.each([
    ['no state', '{"status":"assigned"}', 'registrationState'],
    ['a null state', '{"status":"assigned","registrationState":null}', 'registrationState'],
    ['a state that is an array', '{"status":"assigned","registrationState":[]}', 'registrationState'],
    ['no hub', assignedWith({ deviceId: 'd' }), 'assignedHub'],
    ['a null hub', assignedWith({ assignedHub: null, deviceId: 'd' }), 'assignedHub'],
    ['an empty hub', assignedWith({ assignedHub: '', deviceId: 'd' }), 'assignedHub'],
    ['a hub that is a URL', assignedWith({ assignedHub: 'https://h/x', deviceId: 'd' }), 'assignedHub'],
    ['a hub with a line end', assignedWith({ assignedHub: 'h\r\nX: y', deviceId: 'd' }), 'assignedHub'],
    ['no device id', assignedWith({ assignedHub: 'h' }), 'deviceId'],
    ['a device id that is a number', assignedWith({ assignedHub: 'h', deviceId: 1 }), 'deviceId'],
    ['a device id with a slash', assignedWith({ assignedHub: 'h', deviceId: 'd/modules/m' }), 'deviceId'],
    ['an inherited state', '{"status":"assigned","__proto__":{"registrationState":{}}}', 'registrationState'],
    [
      'an inherited hub',
      '{"status":"assigned","registrationState":{"__proto__":{"assignedHub":"h","deviceId":"d"}}}',
      'assignedHub',
    ],
  ])('refuses %s', (_name, body, member) => {
    const error = errorIn(interpret(200, body));
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_BODY', status: 200 });
    expect(error.message).toContain(member);
  });

  it('takes the last of two equal keys, and `__proto__` as a key like any other', () => {
    const body =
      '{"status":"failed","status":"assigned","registrationState":{"assignedHub":"h","deviceId":"d","__proto__":{"polluted":true}}}';
    const result = resultOf(body);
    expect(Object.hasOwn(result.raw, '__proto__')).toBe(true);
    expect((result as { polluted?: unknown }).polluted).toBeUndefined();
    expect((result.raw as { polluted?: unknown }).polluted).toBeUndefined();
  });

  it('comes from a stored state as from a fresh one', () => {
    const stored = JSON.parse(JSON.stringify(resultOf(ASSIGNED).raw));
    expect(registrationResultOf(stored)).toEqual(resultOf(ASSIGNED));
    expect(() => registrationResultOf({})).toThrow(expect.objectContaining({ code: 'ERR_DPS_PROTOCOL_BODY' }));
  });
});

describe('interpretReply: rejected', () => {
  it('quotes a failure and says whose move it is', () => {
    const error = errorIn(interpret(200, FAILED));
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
    DISABLED,
    DISABLED.replaceAll('"disabled"', '"DISABLED"'),
    DISABLED.replaceAll('"disabled"', '"blacklisted"'),
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
    const { message } = errorIn(interpret(401, UNAUTHORIZED));
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
    for (const body of [PAGE, 'busy', '[]', '"busy"', '{"errorCode":', Uint8Array.of(0xff, 0xfe)]) {
      expect(interpret(status, body, { retryAfter: '3' })).toMatchObject({
        kind: 'serviceError',
        error: { status, retryAfterMs: 3000 },
      });
    }
    expect(errorIn(interpret(status, PAGE)).message).toContain('instead there was text that begins "<!DOCTYPE html>');
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
    const error = errorIn(interpret(status, ASSIGNED));
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_STATUS', status, retryable: false });
    expect(error.message).toContain('captive portal');
  });

  it.each(['"registering"', '"constructor"', '""'])('status word %s', (word) => {
    expect(errorIn(interpret(200, `{"operationId":"4.3","status":${word}}`)).code).toBe('ERR_DPS_PROTOCOL_STATUS');
  });

  it.each(['{}', '{"status":null}', '{"status":7}', '{"status":["assigned"]}', UNAUTHORIZED])(
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
    [200, 'JSON cut short', ASSIGNED.slice(0, -1)],
    [200, 'a bomb', `{"status":${'['.repeat(100_000)}`],
    [200, 'a closed bomb', `{"status":"assigned","registrationState":${'['.repeat(1e5)}${']'.repeat(1e5)}}`],
    [200, 'bytes that are not UTF-8', Uint8Array.of(0x7b, 0xc0, 0xaf, 0x7d)],
    [401, 'JSON cut short', UNAUTHORIZED.slice(0, -1)],
    [404, 'an array', '[]'],
  ])('%d with %s', (status, _name, body) => {
    const error = errorIn(interpret(status, body));
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_BODY', status });
    expect(error.message).not.toContain('captive portal');
  });

  it.each([200, 202, 400, 401, 403, 404, 407, 409, 418])("%d with a proxy's page", (status) => {
    const error = errorIn(interpret(status, PAGE));
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_BODY', status });
    expect(error.message).toContain(`status ${status}`);
    expect(error.message).toContain('text that begins "<!DOCTYPE html><html><head><title>Sign in</title>');
    expect(error.message).toContain('captive portal');
  });

  it('skips a byte order mark', () => {
    expect(interpret(200, `\ufeff${ASSIGNED}`).kind).toBe('assigned');
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

describe('interpretStatusLookup', () => {
  const lookup = (status: number, body: string) => interpretStatusLookup(reply(status, body), WALL_MS);
  const record = JSON.stringify(JSON.parse(ASSIGNED).registrationState);

  it('finds the record at the top level', () => {
    const found = lookup(200, record);
    expect(found).toMatchObject({ kind: 'found', result: { assignedHub: 'hub.azure-devices.net', deviceId: 'dev-1' } });
  });

  it.each([
    [404, '{"errorCode":404201,"trackingId":"t","message":"Registration not found."}'],
    [404, ''],
    [200, '{"registrationId":"dev-1","status":"unassigned"}'],
    [200, '{"registrationId":"dev-1","status":"assigning"}'],
  ])('finds none in %d %s', (status, body) => {
    expect(lookup(status, body)).toEqual({ kind: 'none' });
  });

  it('tells refusal, error and nonsense apart', () => {
    expect(lookup(200, '{"status":"failed","errorCode":400207}')).toMatchObject({
      kind: 'rejected',
      error: { errorCode: 400207 },
    });
    expect(lookup(401, UNAUTHORIZED)).toMatchObject({ kind: 'serviceError', error: { errorCode: 401002 } });
    expect(lookup(404, PAGE)).toMatchObject({ kind: 'unexpected', error: { code: 'ERR_DPS_PROTOCOL_BODY' } });
    expect(lookup(200, '{"status":"assigned"}')).toMatchObject({ kind: 'unexpected' });
    expect(lookup(200, '{}')).toMatchObject({ kind: 'unexpected' });
    expect(lookup(302, record)).toMatchObject({ kind: 'unexpected', error: { code: 'ERR_DPS_PROTOCOL_STATUS' } });
  });
});

describe('any reply whatsoever', () => {
  const statuses = fc.oneof(fc.integer(), fc.constantFrom(200, 202, 302, 400, 401, 404, 409, 429, 500, 503));
  const known = fc.constantFrom(
    'status',
    'operationId',
    'registrationState',
    'assignedHub',
    'deviceId',
    'tpm',
    'errorCode',
    'message',
    'trackingId',
    '__proto__',
    'constructor',
    'toJSON',
  );
  const word = fc.constantFrom('assigned', 'assigning', 'failed', 'disabled', 'unassigned', 'hub.net', 'dev-1');
  const json = fc.letrec((tie) => ({
    value: fc.oneof({ maxDepth: 4 }, word, fc.jsonValue(), tie('object')),
    object: fc.dictionary(known, tie('value'), { maxKeys: 8 }),
  })).object;
  const bodies = fc.oneof(
    fc.uint8Array(),
    fc.string({ unit: 'binary' }).map(encodeUtf8),
    json.map((value) => encodeUtf8(JSON.stringify(value))),
  );

  it('gets one of the documented answers, every error one of this package, and nothing is thrown', () => {
    fc.assert(
      fc.property(statuses, bodies, fc.option(fc.string(), { nil: undefined }), (status, body, retryAfter) => {
        const answer = reply(status, body, retryAfter === undefined ? {} : { retryAfter });
        for (const interpreted of [
          interpretReply(answer, 'register', WALL_MS),
          interpretReply(answer, 'operationStatus', Number.NaN),
          interpretStatusLookup(answer, WALL_MS),
        ]) {
          if ('error' in interpreted) expect(isDpsError(interpreted.error)).toBe(true);
          expect(() => JSON.stringify(interpreted)).not.toThrow();
        }
      }),
      { numRuns: 500 },
    );
  });

  it.each([ASSIGNING, ASSIGNED, FAILED, DISABLED, UNAUTHORIZED])('cut short at any byte is an error: %s', (text) => {
    const whole = encodeUtf8(text);
    for (let end = 0; end < whole.length; end += 1) {
      for (const status of [200, 401]) {
        expect(isDpsError(errorIn(interpret(status, whole.subarray(0, end))))).toBe(true);
      }
    }
  });

  it('may be a mebibyte long', () => {
    const result = resultOf(assignedWith({ assignedHub: 'h', deviceId: 'd', payload: { text: '€'.repeat(350_000) } }));
    expect((result.payload as { text: string }).text).toHaveLength(350_000);
    expect(errorIn(interpret(403, `<p>${'x '.repeat(500_000)}`)).message.length).toBeLessThan(600);
  });
});
