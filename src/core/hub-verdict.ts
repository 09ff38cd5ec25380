import { ClockError, ConfigurationError, type DpsError, HsmError, ServiceError } from '../errors.js';

/**
 * What a failure at the hub says about the device's place in the world.
 *
 * - `refused`: the hub does not know the device, or its credential, any more. DPS knows more.
 * - `throttled`, `unreachable`: nothing is known against this hub; it may be back in a moment.
 * - `untrusted`: someone answers in the hub's place, or the trust store is old. Asking DPS would not help.
 * - `clock`: the device cannot date a token.
 * - `local`: key, certificate or configuration: only a person can mend it.
 */
export type HubVerdict = 'refused' | 'throttled' | 'unreachable' | 'untrusted' | 'clock' | 'local';

/**
 * The refusal of a credential: CONNACK 5, 2 or 4, and in the TLS handshake that of a certificate. A TPM that was cleared
 * has none to show, and only DPS gives it one.
 */
const REFUSALS: ReadonlySet<string> = new Set([
  'ERR_DPS_CONNACK_UNAUTHORIZED',
  'ERR_DPS_TLS_CLIENT_REFUSED',
  'ERR_DPS_HSM_TPM_NO_IDENTITY',
]);
/**
 * Not about the device's identity: the hub's daily quota is spent (403002), it is failing over to another region (404012),
 * or it speaks of a connection that is not there (404103, 404104).
 */
const NO_REFUSALS: ReadonlySet<number | undefined> = new Set([403002, 404012, 404103, 404104]);

/** The table of the hub protocol's reference, section 6.2. */
export function judgeHubFailure(error: DpsError): HubVerdict {
  if (REFUSALS.has(error.code)) return 'refused';
  if (error.code === 'ERR_DPS_TLS_UNTRUSTED') return 'untrusted';
  if (error instanceof ClockError) return 'clock';
  if (error instanceof ConfigurationError || (error instanceof HsmError && !error.retryable)) return 'local';
  if (error instanceof ServiceError) return judgeStatus(error);
  return 'unreachable';
}

function judgeStatus({ status, errorCode }: ServiceError): HubVerdict {
  if (status === 429) return 'throttled';
  const isRefusal = status === 401 || status === 403 || status === 404;
  return isRefusal && !NO_REFUSALS.has(errorCode) ? 'refused' : 'unreachable';
}
