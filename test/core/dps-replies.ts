import { inspect } from 'node:util';
import { encodeUtf8 } from '../../src/core/bytes.js';
import { interpretReply } from '../../src/core/messages.js';
import type { DpsReply } from '../../src/core/transport.js';
import type { JsonValue } from '../../src/core/twin.js';
import { type DpsError, isDpsError } from '../../src/errors.js';

export const WALL_MS = Date.UTC(2026, 10, 21, 12, 0, 0);
export const OPERATION_ID = '5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3';

/** What DPS, or a proxy in between, answers. */
export const BODIES = {
  assigned: `{"operationId":"${OPERATION_ID}","status":"assigned","registrationState":{"registrationId":"dev-1","createdDateTimeUtc":"2024-05-01T10:00:00.1234567Z","assignedHub":"hub.azure-devices.net","deviceId":"dev-1","status":"assigned","substatus":"initialAssignment","lastUpdatedDateTimeUtc":"2024-05-01T10:00:02.7654321Z","etag":"IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI="}}`,
  failed:
    '{"operationId":"4.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550","status":"failed","registrationState":{"registrationId":"dev-1","status":"failed","errorCode":400207,"errorMessage":"Custom allocation failed with status code: 400","lastUpdatedDateTimeUtc":"2020-04-10T03:06:13.0276997Z","etag":"IjQ3"}}',
  disabled:
    '{"operationId":"4.316aac5bdc130deb.b1e02da8-c3a0-4ff2-a121-7ea7a6b7f550","status":"disabled","registrationState":{"registrationId":"dev-1","status":"disabled","createdDateTimeUtc":"2024-05-01T10:00:00.1234567Z","etag":"IjQ3"}}',
  unauthorized:
    '{"errorCode":401002,"trackingId":"b3990321-f238-414d-96ad-dd52300db848","message":"Unauthorized","timestampUtc":"2019-04-11T06:59:58.9485669Z"}',
  page: '<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to the network</body></html>',
} as const;
export const KEY_BLOB = 'ADQAII6SXBhCsecret';

export function reply(status: number, body: string | Uint8Array, more: Partial<DpsReply> = {}): DpsReply {
  return { kind: 'reply', status, body: typeof body === 'string' ? encodeUtf8(body) : body, ...more };
}

export function interpret(status: number, body: string | Uint8Array, more?: Partial<DpsReply>) {
  return interpretReply(reply(status, body, more), 'operationStatus', WALL_MS);
}

export function errorIn(interpreted: object): DpsError {
  if (!('error' in interpreted) || !isDpsError(interpreted.error)) throw new Error(inspect(interpreted));
  return interpreted.error;
}

export function assignedWith(state: JsonValue): string {
  return JSON.stringify({ operationId: OPERATION_ID, status: 'assigned', registrationState: state });
}
