import type { DpsChallenge, DpsReply } from '../../src/core/transport.js';
import type { JsonObject } from '../../src/core/twin.js';
import type { FuzzRandom } from './fuzz-random.js';
import { jsonBytes } from './json-mutations.js';
import { mutateBytes, mutateText } from './mutations.js';

/** What services have been seen to answer, for mutation: dps-protocol and hub-protocol, the sections on bodies. */
export const ASSIGNING: JsonObject = {
  operationId: '5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3',
  status: 'assigning',
};

export const ASSIGNED: JsonObject = {
  operationId: '5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3',
  status: 'assigned',
  registrationState: {
    x509: null,
    registrationId: 'dev-1',
    createdDateTimeUtc: '2024-05-01T10:00:00.1234567Z',
    assignedHub: 'hub.azure-devices.net',
    deviceId: 'dev-1',
    status: 'assigned',
    substatus: 'initialAssignment',
    lastUpdatedDateTimeUtc: '2024-05-01T10:00:02.7654321Z',
    etag: 'IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI=',
    payload: { greeting: 'Grüße', list: [1, null, { deep: true }] },
    issuedCertificateChain: ['MIIB'],
    connectionProfile: 'classic',
  },
};

export const ASSIGNED_TPM: JsonObject = {
  operationId: '4.op',
  status: 'assigned',
  registrationState: {
    registrationId: 'dev-1',
    assignedHub: 'hub.azure-devices.net',
    deviceId: 'dev-1',
    status: 'assigned',
    tpm: { authenticationKey: 'ADQAII6SXBhC' },
  },
};

export const FAILED: JsonObject = {
  operationId: '4.op',
  status: 'failed',
  registrationState: {
    registrationId: 'dev-1',
    status: 'failed',
    errorCode: 400207,
    errorMessage: 'Custom allocation failed with status code: 400',
    lastUpdatedDateTimeUtc: '2020-04-10T03:06:13.0276997Z',
  },
};

export const DISABLED: JsonObject = {
  operationId: '4.op',
  status: 'disabled',
  registrationState: { registrationId: 'dev-1', status: 'disabled' },
};

export const REFUSED: JsonObject = {
  errorCode: 401002,
  trackingId: 'b3990321-f238-414d-96ad-dd52300db848',
  message: 'Unauthorized',
  timestampUtc: '2019-04-11T06:59:58.9485669Z',
};

export const CHALLENGE: JsonObject = {
  message: 'Authorization required, resend request using supplied key',
  authenticationKey: 'ADQAII6SXBhC',
  unencryptedAuthenticationKey: null,
  keyName: 'registration',
};

export const TWIN: JsonObject = {
  desired: {
    led: { on: true, level: 3 },
    list: [1, 2, { a: null }],
    fan: 'auto',
    $version: 4,
    $metadata: { $lastUpdated: 'x' },
  },
  reported: { firmware: '1.2.0', $version: 9 },
};

export const DESIRED_PATCH: JsonObject = { fan: null, led: { on: false }, $version: 5 };

/** Everything that DPS may answer with, each with the status that it has. */
export const DPS_ANSWERS: readonly (readonly [status: number, body: JsonObject])[] = [
  [202, ASSIGNING],
  [200, ASSIGNED],
  [200, ASSIGNED_TPM],
  [200, FAILED],
  [200, DISABLED],
  [400, { ...REFUSED, errorCode: 400004, message: 'Bad request' }],
  [401, REFUSED],
  [401, CHALLENGE],
  [404, { ...REFUSED, errorCode: 404204, message: 'Operation not found' }],
  [409, { ...REFUSED, errorCode: 409203, message: 'Conflict' }],
  [429, { ...REFUSED, errorCode: 429001, message: 'Throttled' }],
  [500, { ...REFUSED, errorCode: 500000, message: 'Internal' }],
  [503, {}],
];

const STATUSES: readonly number[] = [
  200,
  201,
  202,
  204,
  206,
  299,
  300,
  301,
  302,
  304,
  400,
  401,
  403,
  404,
  405,
  408,
  409,
  412,
  413,
  415,
  418,
  429,
  499,
  500,
  502,
  503,
  504,
  599,
  999,
  0,
  100,
  101,
  199,
  -1,
  1.5,
  1e9,
  Number.NaN,
  Number.POSITIVE_INFINITY,
];

const RETRY_AFTERS: readonly string[] = [
  '0',
  '1',
  '3',
  '3',
  '60',
  '301',
  '86400',
  '-1',
  '1.5',
  '1e3',
  '999999999999999999999',
  'Fri, 21 Nov 2025 10:00:05 GMT',
  'Sunday, 06-Nov-94 08:49:37 GMT',
  'Sun Nov  6 08:49:37 1994',
  'Thu, 31 Feb 2031 00:00:00 GMT',
  'soon',
  '',
];

export function randomRetryAfter(random: FuzzRandom): string {
  const text = random.pick(RETRY_AFTERS);
  return random.chance(0.3) ? mutateText(random, text) : text;
}

/** A reply as it would be, or as it never should be. */
export function randomReply(random: FuzzRandom): DpsReply {
  const [usualStatus, body] = random.pick(DPS_ANSWERS);
  const status = random.chance(0.15) ? random.pick(STATUSES) : usualStatus;
  return {
    kind: 'reply',
    status,
    body: random.chance(0.04) ? mutateBytes(random, FOREIGN_PAGE) : jsonBytes(random, body),
    ...(random.chance(0.5) ? { retryAfter: randomRetryAfter(random) } : {}),
    ...(random.chance(0.2) ? { date: random.pick(RETRY_AFTERS) } : {}),
  };
}

/** The same for a registration status lookup: the state is the whole body there. */
export function randomLookupReply(random: FuzzRandom): DpsReply {
  const reply = randomReply(random);
  if (random.chance(0.4)) return reply;
  const { registrationState } = random.pick([ASSIGNED, ASSIGNED_TPM, FAILED, DISABLED]);
  return { ...reply, status: 200, body: jsonBytes(random, registrationState as JsonObject) };
}

export function randomChallenge(random: FuzzRandom): DpsChallenge {
  return { kind: 'challenge', authenticationKey: random.bytes(random.below(40)) };
}

const FOREIGN_PAGE: Uint8Array = new TextEncoder().encode(
  '<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in to the guest network.</body></html>',
);
