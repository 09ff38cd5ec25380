import type { RegistrationRejectedError, ServiceError } from '../errors.js';
import { ConfigurationError, ProtocolError } from '../errors.js';
import { encodeBase64, encodeUtf8 } from './bytes.js';
import type { JsonBody } from './json-body.js';
import { describeMember, memberOf, objectMember, readJsonObject, textMember } from './json-body.js';
import { rejectionOf, serviceErrorOf } from './refusals.js';
import type { RegistrationResult } from './registration-result.js';
import { memberError, readAssignedState } from './registration-result.js';
import { parseRetryAfter } from './retry.js';
import type { DpsReply } from './transport.js';
import type { JsonObject, JsonValue } from './twin.js';

export type { RegistrationResult } from './registration-result.js';
export { registrationResultOf } from './registration-result.js';

/**
 * The newest version that Microsoft's shipping device clients (C, IoT Edge) send, so that every cloud is known to take
 * it. Most of the others still say 2019-03-31, which hides the substatus `reprovisionedToInitialAssignment`.
 */
export const DPS_API_VERSION: string = '2021-06-01';

export interface RegisterBody {
  readonly registrationId: string;
  /** For a custom allocation webhook, or `{"modelId":"dtmi:…"}`; the service documents a JSON object. */
  readonly payload?: JsonValue;
  /** Marshalled `TPM2B_PUBLIC` of both keys. */
  readonly tpm?: { readonly endorsementKey: Uint8Array; readonly storageRootKey: Uint8Array };
  /** Base64 DER PKCS#10. */
  readonly csr?: string;
}

/** What a reply of DPS means. `retryAfterMs` is what the service asked for, uncapped. */
export type InterpretedReply =
  | {
      readonly kind: 'assigning';
      /** Always there in answer to `register`; without it the operation asked about goes on. */
      readonly operationId: string | undefined;
      readonly retryAfterMs: number | undefined;
    }
  | { readonly kind: 'assigned'; readonly result: RegistrationResult }
  | { readonly kind: 'rejected'; readonly error: RegistrationRejectedError }
  | { readonly kind: 'serviceError'; readonly error: ServiceError; readonly operationId?: string }
  | { readonly kind: 'unexpected'; readonly error: ProtocolError };

/** What a registration status lookup (HTTPS only) found; `none` also where nothing has been assigned yet. */
export type InterpretedLookup =
  | { readonly kind: 'found'; readonly result: RegistrationResult }
  | { readonly kind: 'none' }
  | Extract<InterpretedReply, { readonly kind: 'rejected' | 'serviceError' | 'unexpected' }>;

/**
 * Body of a register request or a status lookup, UTF-8 JSON.
 *
 * @throws ConfigurationError `ERR_DPS_CONFIG_OPTION` when the payload cannot be written as JSON.
 */
export function encodeRegisterBody(body: RegisterBody): Uint8Array {
  const { registrationId, payload, tpm, csr } = body;
  return encodeUtf8(
    stringifyJson({
      registrationId,
      ...(payload === undefined ? {} : { payload }),
      ...(tpm === undefined
        ? {}
        : {
            tpm: {
              endorsementKey: encodeBase64(tpm.endorsementKey),
              storageRootKey: encodeBase64(tpm.storageRootKey),
            },
          }),
      ...(csr === undefined ? {} : { csr }),
    }),
  );
}

/**
 * Judges a reply to `register` or `operationStatus`. Never throws: what is wrong with a reply is part of the answer.
 *
 * ```
 * 202  {"operationId":"5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3","status":"assigning"}
 * 202  {"operationId":"5.71cf…","status":"assigning","registrationState":{"registrationId":"dev-1","status":"assigning"}}
 * 200  {"operationId":"5.71cf…","status":"assigned","registrationState":{"registrationId":"dev-1",
 *       "createdDateTimeUtc":"2024-05-01T10:00:00.1234567Z","assignedHub":"hub.azure-devices.net","deviceId":"dev-1",
 *       "status":"assigned","substatus":"initialAssignment","lastUpdatedDateTimeUtc":"2024-05-01T10:00:02.7654321Z",
 *       "etag":"IjY5MDAzNTUyLTAwMDAtMDMwMC0wMDAwLTYzMGZkYThhMDAwMCI="}}
 * 200  {"operationId":"4.…","status":"failed","registrationState":{"registrationId":"dev-1","status":"failed",
 *       "errorCode":400207,"errorMessage":"Custom allocation failed with status code: 400"}}
 * 401  {"errorCode":401002,"trackingId":"b3990321-…","message":"Unauthorized","timestampUtc":"2019-04-11T06:59:58.9485669Z"}
 * ```
 *
 * Among the 2xx the status word in the body decides, not the number: `failed` and `disabled` come with 200.
 * `wallMs` is only for a Retry-After date in a reply that has no date of its own.
 */
export function interpretReply(
  reply: DpsReply,
  request: 'register' | 'operationStatus',
  wallMs: number,
): InterpretedReply {
  const body = readJsonObject(reply.body);
  if (!isSuccess(reply.status)) return interpretRefusal(reply, body, wallMs);
  if (body.kind !== 'object') return unexpectedBody(reply.status, body);
  const status = statusWord(body.value);
  if (status === undefined) return missingMember(reply.status, 'status', 'a status word', body.value);
  if (status === 'assigning' || status === 'unassigned') return interpretAssigning(reply, request, body.value, wallMs);
  const state = objectMember(body.value, 'registrationState');
  if (status === 'assigned' && state === undefined) {
    return missingMember(reply.status, 'registrationState', 'an object', body.value);
  }
  return interpretFinal(reply.status, status, state ?? {});
}

/** Judges a reply to `statusLookup`: a registration state at the top level, or 404. Never throws. */
export function interpretStatusLookup(reply: DpsReply, wallMs: number): InterpretedLookup {
  const body = readJsonObject(reply.body);
  if (reply.status === 404 && (body.kind === 'object' || body.kind === 'empty')) return { kind: 'none' };
  if (!isSuccess(reply.status)) return interpretRefusal(reply, body, wallMs);
  if (body.kind !== 'object') return unexpectedBody(reply.status, body);
  const status = statusWord(body.value);
  if (status === undefined) return missingMember(reply.status, 'status', 'a status word', body.value);
  if (status === 'assigning' || status === 'unassigned') return { kind: 'none' };
  const final = interpretFinal(reply.status, status, body.value);
  return final.kind === 'assigned' ? { kind: 'found', result: final.result } : final;
}

function stringifyJson(value: JsonObject): string {
  try {
    return JSON.stringify(value);
  } catch (cause) {
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_OPTION',
      message:
        'The payload cannot be written as JSON: it refers to itself, nests too deep, or holds a BigInt. Give plain JSON values.',
      option: 'payload',
      cause,
    });
  }
}

type Unexpected = Extract<InterpretedReply, { readonly kind: 'unexpected' }>;

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

/** Historic spellings included: services have sent upper case, and `blacklisted` for `disabled`. */
function statusWord(body: JsonObject): string | undefined {
  const word = textMember(body, 'status')?.toLowerCase();
  return word === 'blacklisted' ? 'disabled' : word;
}

function interpretAssigning(
  reply: DpsReply,
  request: 'register' | 'operationStatus',
  body: JsonObject,
  wallMs: number,
): InterpretedReply {
  const operationId = memberOf(body, 'operationId');
  const isMissing = operationId === undefined && request === 'register';
  if (isMissing || (operationId !== undefined && !isOperationId(operationId))) {
    return missingMember(reply.status, 'operationId', OPERATION_ID, body);
  }
  return { kind: 'assigning', operationId, retryAfterMs: retryAfterMsOf(reply, wallMs) };
}

function interpretFinal(
  httpStatus: number,
  status: string,
  state: JsonObject,
): Extract<InterpretedReply, { readonly kind: 'assigned' | 'rejected' | 'unexpected' }> {
  if (status === 'failed' || status === 'disabled') return { kind: 'rejected', error: rejectionOf(status, state) };
  if (status !== 'assigned') return unknownStatusWord(httpStatus, status);
  const result = readAssignedState(state, httpStatus);
  return result instanceof ProtocolError ? { kind: 'unexpected', error: result } : { kind: 'assigned', result };
}

function interpretRefusal(
  reply: DpsReply,
  body: JsonBody,
  wallMs: number,
): Extract<InterpretedReply, { readonly kind: 'serviceError' | 'unexpected' }> {
  const { status } = reply;
  if (!(status >= 400)) return unknownStatus(status);
  // What stands in front of DPS says these, too, in bodies of its own; so the number counts alone.
  const isPassing = status === 408 || status === 425 || status === 429 || status >= 500;
  const isUnreadable = body.kind === 'foreign' || body.kind === 'damaged';
  if (isUnreadable && !isPassing) return unexpectedBody(status, body);
  const members = body.kind === 'object' ? body.value : {};
  const error = serviceErrorOf({
    status,
    body: members,
    got: isUnreadable ? body.got : undefined,
    retryAfterMs: retryAfterMsOf(reply, wallMs),
  });
  const operationId = memberOf(members, 'operationId');
  return { kind: 'serviceError', error, ...(isOperationId(operationId) ? { operationId } : {}) };
}

function retryAfterMsOf(reply: DpsReply, wallMs: number): number | undefined {
  return parseRetryAfter(reply.retryAfter, reply.date, wallMs);
}

const MAX_OPERATION_ID_CHARACTERS = 512;
const OPERATION_ID = `an operation id of 1 to ${MAX_OPERATION_ID_CHARACTERS} visible characters`;

/** Opaque, but it goes into topics and paths. */
function isOperationId(value: JsonValue | undefined): value is string {
  return (
    typeof value === 'string' &&
    value !== '' &&
    value !== '.' &&
    value !== '..' &&
    value.length <= MAX_OPERATION_ID_CHARACTERS &&
    !/\p{C}/u.test(value)
  );
}

const ASK_AGAIN = 'Try again; if it stays, find out what answers in the place of DPS, or report it with this message.';
const LOOK_FOR_PROXY =
  'A proxy, firewall or captive portal seems to answer instead of DPS: check the endpoint, sign in to the network, or exempt the DPS host from inspection.';

function unexpectedBody(status: number, body: Exclude<JsonBody, { readonly kind: 'object' }>): Unexpected {
  const got = body.kind === 'empty' ? 'an empty body' : body.got;
  const advice = body.kind === 'foreign' ? LOOK_FOR_PROXY : ASK_AGAIN;
  const expected = 'a JSON object';
  const message = `The reply with status ${status} is not ${expected}, as DPS sends it; instead there was ${got}. ${advice}`;
  return {
    kind: 'unexpected',
    error: new ProtocolError({ code: 'ERR_DPS_PROTOCOL_BODY', message, expected, got, status }),
  };
}

function unknownStatus(status: number): Unexpected {
  const expected = 'a status of 200 to 299, or 400 and above';
  const got = `status ${status}`;
  const message = `The reply has status ${status}; DPS answers with ${expected}. ${LOOK_FOR_PROXY}`;
  return {
    kind: 'unexpected',
    error: new ProtocolError({ code: 'ERR_DPS_PROTOCOL_STATUS', message, expected, got, status }),
  };
}

function unknownStatusWord(httpStatus: number, word: string): Unexpected {
  const expected = 'assigning, assigned, failed or disabled';
  // Whatever is no word at all may be anything.
  const got = /^[a-z]{1,32}$/.test(word) ? `"${word}"` : 'other text';
  const message = `The reply gives the registration the unknown status ${got} instead of ${expected}. ${ASK_AGAIN}`;
  return {
    kind: 'unexpected',
    error: new ProtocolError({ code: 'ERR_DPS_PROTOCOL_STATUS', message, expected, got, status: httpStatus }),
  };
}

function missingMember(httpStatus: number, name: string, expected: string, body: JsonObject): Unexpected {
  const problem = `Expected ${expected}, found ${describeMember(body, name)}.`;
  return { kind: 'unexpected', error: memberError(name, problem, httpStatus) };
}
