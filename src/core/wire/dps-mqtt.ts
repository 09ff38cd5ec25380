import { ProtocolError } from '../../errors.js';
import { decodePercent, encodeUriComponentStrict } from '../bytes.js';
import { excerptOf } from '../json-body.js';

/**
 * DPS over MQTT 3.1.1: names and topics.
 *
 * ```
 * C: CONNECT   client id dev-1, user name 0ne00111111/registrations/dev-1/api-version=2021-06-01
 * C: SUBSCRIBE $dps/registrations/res/#
 * C: PUBLISH   $dps/registrations/PUT/iotdps-register/?$rid=1                {"registrationId":"dev-1"}
 * S: PUBLISH   $dps/registrations/res/202/?$rid=1&retry-after=3             {"operationId":"5.71cf…","status":"assigning"}
 * C: PUBLISH   $dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=5.71cf…
 * S: PUBLISH   $dps/registrations/res/200/?$rid=2                           {"operationId":"5.71cf…","status":"assigned",…}
 * ```
 */

/** The one filter that DPS grants. */
export const DPS_RESPONSE_FILTER: string = '$dps/registrations/res/#';

export interface DpsMqttIdentity {
  readonly idScope: string;
  readonly registrationId: string;
  readonly apiVersion: string;
  /** Plain; it is percent-encoded here. */
  readonly userAgent?: string;
}

/** Client id and user name of the CONNECT packet. Scope and registration id go verbatim: DPS does not decode them. */
export function dpsMqttConnect(identity: DpsMqttIdentity): { readonly clientId: string; readonly username: string } {
  const { idScope, registrationId, apiVersion, userAgent } = identity;
  const clientVersion = userAgent === undefined ? '' : `&ClientVersion=${encodeUriComponentStrict(userAgent)}`;
  return {
    clientId: registrationId,
    username: `${idScope}/registrations/${registrationId}/api-version=${apiVersion}${clientVersion}`,
  };
}

/** Topic of a register request; `requestId` comes back in the reply's topic. */
export function registerTopic(requestId: string): string {
  return `$dps/registrations/PUT/iotdps-register/?$rid=${encodeUriComponentStrict(requestId)}`;
}

/** Topic of a status poll. */
export function operationStatusTopic(requestId: string, operationId: string): string {
  const query = `$rid=${encodeUriComponentStrict(requestId)}&operationId=${encodeUriComponentStrict(operationId)}`;
  return `$dps/registrations/GET/iotdps-get-operationstatus/?${query}`;
}

export interface ResponseTopic {
  readonly status: number;
  /** As it was given to `registerTopic` or `operationStatusTopic`. */
  readonly requestId: string;
  /** Raw text; `parseRetryAfter` judges it. */
  readonly retryAfter?: string;
}

/**
 * Reads the topic of a reply.
 *
 * Shape: `$dps/registrations/res/{status}/?$rid={requestId}[&retry-after={seconds}]`, the keys in any order and case.
 * Keys not known here are passed over.
 *
 * @throws ProtocolError `ERR_DPS_PROTOCOL_TOPIC` when prefix, status or `$rid` is missing or malformed, or a key is
 * there twice.
 * @see Azure IoT DPS, "Communicate with DPS using the MQTT protocol", registering a device
 */
export function parseResponseTopic(topic: string): ResponseTopic {
  const [, status, query] = /^\$dps\/registrations\/res\/([1-9]\d\d)\/\?(.*)$/s.exec(topic) ?? [];
  if (status === undefined || query === undefined) throw topicError(topic, 'the prefix or the status is malformed');
  const parameters = parseQuery(topic, query);
  const requestId = parameters.get('$rid');
  if (requestId === undefined || requestId === '') throw topicError(topic, '$rid is missing');
  const retryAfter = parameters.get('retry-after');
  return { status: Number(status), requestId, ...(retryAfter === undefined ? {} : { retryAfter }) };
}

function parseQuery(topic: string, query: string): ReadonlyMap<string, string> {
  const parameters = new Map<string, string>();
  for (const pair of query.split('&')) {
    if (pair === '') continue;
    const nameEnd = pair.includes('=') ? pair.indexOf('=') : pair.length;
    const name = decodePercent(pair.slice(0, nameEnd))?.toLowerCase();
    const value = decodePercent(pair.slice(nameEnd + 1));
    if (name === undefined || value === undefined) throw topicError(topic, 'its percent encoding is malformed');
    if (parameters.has(name)) throw topicError(topic, 'a key is there twice');
    parameters.set(name, value);
  }
  return parameters;
}

function topicError(topic: string, problem: string): ProtocolError {
  const expected = '$dps/registrations/res/{status}/?$rid={requestId}[&retry-after={seconds}]';
  const got = `"${excerptOf(topic)}"`;
  return new ProtocolError({
    code: 'ERR_DPS_PROTOCOL_TOPIC',
    message: `DPS published on a topic that is not a reply: ${problem}. Expected ${expected}, got ${got}. Check that the endpoint is a DPS.`,
    expected,
    got,
  });
}
