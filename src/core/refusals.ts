import type { DpsErrorCode } from '../errors.js';
import { RegistrationRejectedError, ServiceError } from '../errors.js';
import { memberOf, shownMember, textMember } from './json-body.js';
import type { JsonObject } from './twin.js';

/**
 * What DPS's refusals mean and what to do about them, in words. Error bodies are the same on all transports:
 *
 * ```
 * {"errorCode":401002,"trackingId":"b3990321-f238-414d-96ad-dd52300db848","message":"Unauthorized",
 *  "timestampUtc":"2019-04-11T06:59:58.9485669Z"}
 * ```
 *
 * A registration that ended badly is not an error body but the registration's state:
 *
 * ```
 * {"registrationId":"dev-1","status":"failed","errorCode":400207,
 *  "errorMessage":"Custom allocation failed with status code: 400","lastUpdatedDateTimeUtc":"2020-04-10T03:06:13.0276997Z"}
 * ```
 */

export interface Refusal {
  readonly status: number;
  /** The error body, or an empty object where there was none. */
  readonly body: JsonObject;
  /** What came instead of an error body. */
  readonly got?: string | undefined;
  readonly retryAfterMs: number | undefined;
}

/** An error reply, status 400 and above, as an error. Members of the wrong type count as absent. */
export function serviceErrorOf(refusal: Refusal): ServiceError {
  const { status, body, retryAfterMs } = refusal;
  const { code, meaning, advice } = explainStatus(status);
  const errorCode = integerMember(body, 'errorCode');
  const trackingId = shownMember(body, 'trackingId');
  const timestampUtc = shownMember(body, 'timestampUtc');
  const details = [
    `status ${status}`,
    ...(errorCode === undefined ? [] : [`error ${errorCode}`]),
    ...quoted(shownMember(body, 'message', QUOTE_CHARACTERS)),
    ...(trackingId === undefined ? [] : [`tracking id ${trackingId}`]),
    ...(refusal.got === undefined ? [] : [`without DPS's usual JSON; instead there was ${refusal.got}`]),
  ];
  const message = `${meaning} (${details.join(', ')}). ${advice}`;
  return new ServiceError({ service: 'dps', code, message, status, errorCode, trackingId, timestampUtc, retryAfterMs });
}

/** A registration that ended as `failed` or `disabled`, as an error. `state` is its registrationState. */
export function rejectionOf(status: 'failed' | 'disabled', state: JsonObject): RegistrationRejectedError {
  const errorCode = integerMember(state, 'errorCode');
  const errorMessage = shownMember(state, 'errorMessage', QUOTE_CHARACTERS);
  const details = [...(errorCode === undefined ? [] : [`error ${errorCode}`]), ...quoted(errorMessage)];
  const reason = details.length === 0 ? '' : ` (${details.join(', ')})`;
  const advice =
    status === 'disabled' ? ENABLE_THE_ENROLLMENT : failureAdvice(errorCode, textMember(state, 'errorMessage'));
  return new RegistrationRejectedError({
    code: status === 'disabled' ? 'ERR_DPS_REGISTRATION_DISABLED' : 'ERR_DPS_REGISTRATION_FAILED',
    message: `DPS ended the registration as ${status}${reason}. ${advice}`,
    status,
    substatus: shownMember(state, 'substatus'),
    errorCode,
    errorMessage,
  });
}

interface Explanation {
  readonly code: DpsErrorCode;
  readonly meaning: string;
  readonly advice: string;
}

function explainStatus(status: number): Explanation {
  const known = EXPLANATIONS[status === 403 ? 401 : status];
  if (known !== undefined) return known;
  return status >= 500
    ? {
        code: 'ERR_DPS_SERVICE_UNAVAILABLE',
        meaning: 'DPS could not handle the request',
        advice: 'This is usually short-lived; try again later.',
      }
    : {
        code: 'ERR_DPS_SERVICE_REFUSED',
        meaning: 'DPS refused the request',
        advice: 'Repeating it unchanged will not help; look up the status, and a proxy in between if there is one.',
      };
}

const EXPLANATIONS: Readonly<Record<number, Explanation>> = {
  400: {
    code: 'ERR_DPS_SERVICE_BAD_REQUEST',
    meaning: 'DPS refused the request as wrong',
    advice: 'Check the registration id, the ID scope, the payload (a JSON object) and the CSR if one was sent.',
  },
  401: {
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    meaning: 'DPS refused the credentials of this device',
    advice: [
      'The service gives one and the same answer for each of these, so check them all:',
      'the device is not enrolled under this registration id and ID scope;',
      'the key is not the one of the enrollment (for a group: the key derived for this device, not the group key itself);',
      "the certificate is unknown or has expired, or its chain lacks an intermediate up to the enrollment's verified CA;",
      "the certificate's common name is not the registration id;",
      "the TPM's endorsement key is not the one of the enrollment;",
      'the clock of the device is wrong, so that its token looks expired.',
    ].join(' '),
  },
  404: {
    code: 'ERR_DPS_SERVICE_NOT_FOUND',
    meaning: 'DPS does not know this ID scope, this registration id, or the operation asked for',
    advice:
      'Compare the ID scope with the overview page of the DPS instance, and the registration id with the enrollment; check the endpoint, then register again.',
  },
  409: {
    code: 'ERR_DPS_SERVICE_CONFLICT',
    meaning: 'DPS is busy with another registration of the same device',
    advice: 'Let one process register the device, or try again when the other is done.',
  },
  // The next three come from what stands in front of DPS.
  408: {
    code: 'ERR_DPS_SERVICE_UNAVAILABLE',
    meaning: 'The request did not arrive in the time allowed',
    advice: 'Try again; if this repeats, check how slow or lossy the network is.',
  },
  425: {
    code: 'ERR_DPS_SERVICE_UNAVAILABLE',
    meaning: 'The request came before the connection was trusted',
    advice: 'Try again; it goes over a connection that is set up in full.',
  },
  511: {
    code: 'ERR_DPS_SERVICE_UNAVAILABLE',
    meaning:
      'The network wants somebody to sign in before it lets the device through (Network Authentication Required)',
    advice: 'Look at the captive portal of this network: sign in there, or have the device exempted from it.',
  },
  429: {
    code: 'ERR_DPS_SERVICE_THROTTLED',
    meaning: 'DPS asks for fewer requests',
    advice: 'Try again later; if many devices start together, spread them out.',
  },
};

const ENABLE_THE_ENROLLMENT =
  'The enrollment of this device, or of its group, is disabled: have it enabled in DPS, or take the device out of service.';

const FAILURE_ADVICE: Readonly<Record<number, string>> = {
  400207: 'The custom allocation webhook of the enrollment failed: look at its log and at what it answers.',
  400208: 'No hub could be chosen: link an IoT hub to DPS and let the allocation policy of the enrollment use it.',
  400209: 'The linked hub refused DPS: renew the access policy or key with which it is linked.',
  404201:
    'The device is not enrolled: check its registration id and, for a TPM, the endorsement key of the enrollment.',
};

function failureAdvice(errorCode: number | undefined, errorMessage: string | undefined): string {
  const known = errorCode === undefined ? undefined : FAILURE_ADVICE[errorCode];
  if (known !== undefined) return known;
  if (errorMessage?.includes('IotHubUnauthorizedAccess')) return `${FAILURE_ADVICE[400209]}`;
  return 'Look at the enrollment, its allocation policy and the hubs linked to DPS.';
}

const QUOTE_CHARACTERS = 400;

function quoted(text: string | undefined): string[] {
  return text === undefined || text === '' ? [] : [`"${text}"`];
}

function integerMember(object: JsonObject, name: string): number | undefined {
  const value = memberOf(object, name);
  return typeof value === 'number' && Number.isSafeInteger(value) ? value : undefined;
}
