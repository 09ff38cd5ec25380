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
import type { JsonValue } from '../../src/core/twin.js';
import { isDpsError } from '../../src/errors.js';
import { assignedWith, BODIES, errorIn, interpret, KEY_BLOB, OPERATION_ID, reply, WALL_MS } from './dps-replies.js';

const ASSIGNING = `{"operationId":"${OPERATION_ID}","status":"assigning"}`;

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
    const result = resultOf(BODIES.assigned);
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
    expect(result.raw).toEqual(JSON.parse(BODIES.assigned).registrationState);
  });

  it('in answer to the registration itself, and in capitals', () => {
    const capitals = BODIES.assigned.replaceAll('"assigned"', '"Assigned"');
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
    const stored = JSON.parse(JSON.stringify(resultOf(BODIES.assigned).raw));
    expect(registrationResultOf(stored)).toEqual(resultOf(BODIES.assigned));
    expect(() => registrationResultOf({})).toThrow(expect.objectContaining({ code: 'ERR_DPS_PROTOCOL_BODY' }));
  });
});

describe('interpretStatusLookup', () => {
  const lookup = (status: number, body: string) => interpretStatusLookup(reply(status, body), WALL_MS);
  const record = JSON.stringify(JSON.parse(BODIES.assigned).registrationState);

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
    expect(lookup(401, BODIES.unauthorized)).toMatchObject({ kind: 'serviceError', error: { errorCode: 401002 } });
    expect(lookup(404, BODIES.page)).toMatchObject({ kind: 'unexpected', error: { code: 'ERR_DPS_PROTOCOL_BODY' } });
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

  it.each([ASSIGNING, BODIES.assigned, BODIES.failed, BODIES.disabled, BODIES.unauthorized])(
    'cut short at any byte is an error: %s',
    (text) => {
      const whole = encodeUtf8(text);
      for (let end = 0; end < whole.length; end += 1) {
        for (const status of [200, 401]) {
          expect(isDpsError(errorIn(interpret(status, whole.subarray(0, end))))).toBe(true);
        }
      }
    },
  );

  it('may be a mebibyte long', () => {
    const result = resultOf(assignedWith({ assignedHub: 'h', deviceId: 'd', payload: { text: '€'.repeat(350_000) } }));
    expect((result.payload as { text: string }).text).toHaveLength(350_000);
    expect(errorIn(interpret(403, `<p>${'x '.repeat(500_000)}`)).message.length).toBeLessThan(600);
  });
});
