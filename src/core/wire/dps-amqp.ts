import { encodeUtf8 } from '../bytes.js';
import { memberOf, readJsonObject } from '../json-body.js';
import type { DpsReply, DpsRequest } from '../transport.js';

/**
 * DPS over AMQP 1.0: addresses, properties and outcomes.
 *
 * ```
 * C: SASL PLAIN   00 0ne00111111/registrations/dev-1 00 SharedAccessSignature …    (none with a device certificate)
 * C: ATTACH       receiver and sender, 0ne00111111/registrations/dev-1, {com.microsoft:api-version: 2021-06-01}
 * C: TRANSFER     correlation id 0f9a…, {iotdps-operation-type: iotdps-register}     {"registrationId":"dev-1"}
 * S: DISPOSITION  accepted
 * S: TRANSFER     correlation id 0f9a…, {retry-after: 3}     {"operationId":"5.71cf…","status":"assigning"}
 * C: TRANSFER     correlation id 77b1…, {iotdps-operation-type: iotdps-get-operationstatus, iotdps-operation-id: 5.71cf…}
 * S: TRANSFER     correlation id 77b1…      {"operationId":"5.71cf…","status":"assigned",…}
 * ```
 *
 * A refusal is no reply but the outcome `rejected` of the request, or the end of a link. Its description is the error body
 * of the other protocols.
 */

/** Address of both links, and the user name of SASL PLAIN. Scope and registration id go verbatim. */
export function dpsAmqpAddress(idScope: string, registrationId: string): string {
  return `${idScope}/registrations/${registrationId}`;
}

/** What a link says about the client when it is attached. */
export function dpsAmqpLinkProperties(apiVersion: string, userAgent?: string): Readonly<Record<string, string>> {
  return {
    'com.microsoft:api-version': apiVersion,
    ...(userAgent === undefined ? {} : { 'com.microsoft:client-version': userAgent }),
  };
}

export interface DpsAmqpRequest {
  readonly applicationProperties: Readonly<Record<string, string | boolean>>;
  readonly body: Uint8Array;
}

/** The message that asks for this; `undefined` for what DPS does not offer over AMQP. */
export function dpsAmqpRequest(request: DpsRequest): DpsAmqpRequest | undefined {
  switch (request.kind) {
    case 'register':
      return {
        applicationProperties: { 'iotdps-operation-type': 'iotdps-register', 'iotdps-forceRegistration': false },
        body: request.body,
      };
    case 'operationStatus':
      return {
        applicationProperties: {
          'iotdps-operation-type': 'iotdps-get-operationstatus',
          'iotdps-operation-id': request.operationId,
        },
        body: new Uint8Array(0),
      };
    case 'statusLookup':
      return undefined;
  }
}

/** Property lists come from the service: any type of value may be in them. */
export type AmqpPropertyList = Readonly<Record<string, unknown>>;

/**
 * A reply message. AMQP carries no status: what names a delay is 202, as on the other protocols, and what does not is 200;
 * the body decides what is meant.
 */
export function dpsAmqpReply(applicationProperties: AmqpPropertyList, body: Uint8Array): DpsReply {
  const retryAfter = retryAfterIn(applicationProperties);
  return { kind: 'reply', status: retryAfter === undefined ? 200 : 202, body, ...delay(retryAfter) };
}

/** The service's no to a link or a request, or to the credentials themselves. */
export interface AmqpRefusal {
  /** A condition of AMQP or of the service, or `sasl:` and the outcome's name. */
  readonly condition: string;
  readonly description: string;
  readonly info: AmqpPropertyList;
}

/**
 * A refusal as the reply that another protocol would have brought: the status is that of the error code in the body, or
 * else follows from the condition.
 */
export function dpsAmqpRefusal({ condition, description, info }: AmqpRefusal): DpsReply {
  const body = encodeUtf8(description);
  const status = statusIn(body) ?? STATUSES.get(condition) ?? 500;
  return { kind: 'reply', status, body, ...delay(retryAfterIn(info)) };
}

/** Which conditions the real service uses is not known; these are those that Microsoft's clients understand. */
const STATUSES: ReadonlyMap<string, number> = new Map([
  ['sasl:auth', 401],
  ['sasl:sys-temp', 503],
  ['amqp:unauthorized-access', 401],
  ['amqp:not-found', 404],
  ['amqp:not-allowed', 405],
  ['amqp:link:message-size-exceeded', 413],
  ['amqp:resource-limit-exceeded', 429],
  ['amqp:link:detach-forced', 503],
  ['amqp:connection:forced', 503],
  ['com.microsoft:argument-error', 400],
  ['com.microsoft:argument-out-of-range', 400],
  ['com.microsoft:precondition-failed', 409],
  ['com.microsoft:device-container-throttled', 429],
  ['com.microsoft:quota-exceeded', 429],
  ['com.microsoft:timeout', 503],
]);

function statusIn(body: Uint8Array): number | undefined {
  const read = readJsonObject(body);
  const errorCode = read.kind === 'object' ? memberOf(read.value, 'errorCode') : undefined;
  if (typeof errorCode !== 'number') return undefined;
  const status = Math.floor(errorCode / 1000);
  return status >= 400 && status <= 599 ? status : undefined;
}

/** The service's own clients disagree about its spelling, and whether it is a number. */
function retryAfterIn(properties: AmqpPropertyList): string | undefined {
  for (const [name, value] of Object.entries(properties)) {
    const isText = typeof value === 'string' || typeof value === 'number';
    if (isText && name.toLowerCase() === 'retry-after') return String(value);
  }
  return undefined;
}

function delay(retryAfter: string | undefined): { readonly retryAfter?: string } {
  return retryAfter === undefined ? {} : { retryAfter };
}
