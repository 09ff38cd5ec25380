import { type DpsErrorCode, ServiceError } from '../../errors.js';
import { memberOf, readJsonObject, shownMember } from '../json-body.js';
import type { JsonObject } from '../twin.js';

/**
 * The error that a hub's answer with status 300 or more stands for. The body is read with suspicion: it may be missing,
 * cut short, or no JSON at all.
 *
 * ```
 * {"errorCode":400004,"trackingId":"<32 hex>-G:<n>-TimeStamp:<…>","message":"…","timestampUtc":"2017-08-17T10:48:44.5309043Z"}
 * ```
 */
export function hubErrorFrom(doing: string, status: number, body: Uint8Array): ServiceError {
  const json = readJsonObject(body);
  const document = json.kind === 'object' ? json.value : {};
  const errorCode = errorCodeOf(document);
  const trackingId = shownMember(document, 'trackingId');
  const said = shownMember(document, 'message', QUOTE_CHARACTERS);
  const details = [
    `status ${status}`,
    ...(errorCode === undefined ? [] : [`error ${errorCode}`]),
    ...(said === undefined ? [] : [`"${said}"`]),
    ...(trackingId === undefined ? [] : [`tracking id ${trackingId}`]),
  ];
  return new ServiceError({
    code: codeOf(status),
    message: `The hub refused ${doing} (${details.join(', ')}). ${adviceFor(status)}`,
    service: 'hub',
    status,
    errorCode,
    trackingId,
    timestampUtc: shownMember(document, 'timestampUtc'),
  });
}

const QUOTE_CHARACTERS = 400;

function codeOf(status: number): DpsErrorCode {
  if (status >= 500) return 'ERR_DPS_SERVICE_UNAVAILABLE';
  switch (status) {
    case 400:
      return 'ERR_DPS_SERVICE_BAD_REQUEST';
    case 401:
    case 403:
      return 'ERR_DPS_SERVICE_UNAUTHORIZED';
    case 404:
      return 'ERR_DPS_SERVICE_NOT_FOUND';
    case 409:
      return 'ERR_DPS_SERVICE_CONFLICT';
    case 429:
      return 'ERR_DPS_SERVICE_THROTTLED';
    default:
      return 'ERR_DPS_SERVICE_REFUSED';
  }
}

function adviceFor(status: number): string {
  if (status >= 500) return 'Try again later.';
  switch (status) {
    case 400:
      return 'The request itself is wrong; sending it again will not help.';
    case 401:
    case 403:
    case 404:
      return 'The device may be disabled, deleted or moved: ask DPS again.';
    case 429:
      return 'The hub is throttling; wait before trying again.';
    default:
      return 'Quote the tracking id to support.';
  }
}

/** Some bodies carry the number as text. */
function errorCodeOf(document: JsonObject): number | undefined {
  const value = memberOf(document, 'errorCode');
  if (typeof value === 'number' && Number.isSafeInteger(value)) return value;
  return typeof value === 'string' && /^\d{1,15}$/.test(value) ? Number(value) : undefined;
}
