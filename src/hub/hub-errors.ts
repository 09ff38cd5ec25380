import { TransportError } from '../errors.js';

/** A request got no answer in time. `silence` says which, `hint` what may be the cause. */
export function requestTimedOut(peer: string, silence: string, afterMs: number, hint: string): TransportError {
  return new TransportError({
    code: 'ERR_DPS_REQUEST_TIMEOUT',
    message: `${peer} did not answer ${silence} within ${afterMs} ms. ${hint}`,
    phase: 'request',
    peer,
    retryable: true,
  });
}

/** The connection went away, `how` it did, while it was needed. */
export function hubConnectionLost(peer: string, how: string): TransportError {
  return new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: `The connection to ${peer} ${how} before this was finished.`,
    phase: 'established',
    peer,
    retryable: true,
  });
}

/** There has been no session so far: nobody knows the hub. */
export function sessionNotReached(): TransportError {
  return new TransportError({
    code: 'ERR_DPS_SESSION_CLOSED',
    message: 'The device has not reached a hub yet: await ready of what run() returned first.',
    phase: 'established',
    peer: 'the hub',
    retryable: true,
  });
}

/** The session is over, because of `cause` or because the application closed it. */
export function sessionClosed(peer: string, deviceId: string, cause: Error | undefined): TransportError {
  const why = cause === undefined ? 'was closed' : `ended: ${cause.message}`;
  return new TransportError({
    code: 'ERR_DPS_SESSION_CLOSED',
    message: `Open a new session for ${deviceId} at ${peer}; this one ${why}`,
    phase: 'established',
    peer,
    retryable: false,
    cause,
  });
}
