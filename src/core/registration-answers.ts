import { ConfigurationError, type DpsError, ProtocolError, type ServiceError } from '../errors.js';
import type { Now } from './clock.js';
import { excerptOf } from './json-body.js';
import { interpretReply, interpretStatusLookup, type RegistrationResult } from './messages.js';
import { prepareCredential, proceed } from './registration-orders.js';
import {
  MAX_RESTARTS,
  MAX_UNAVAILABLE_CONNACKS,
  type Registration,
  type RegistrationStep,
} from './registration-state.js';
import { fail, finish, overDeadline, remember, report, retryAfter, withEffects } from './registration-steps.js';
import { backoffMs, pollDelayMs, throttleDelayMs } from './retry.js';
import type { DpsChallenge, DpsReply } from './transport.js';
import { unreachable } from './unreachable.js';

/** What the service's answers mean for a registration, and what its failures do. */

export function answered(registration: Registration, reply: DpsReply | DpsChallenge, now: Now): RegistrationStep {
  if (reply.kind === 'challenge') return challenged(registration, reply);
  if (registration.state.name === 'AwaitingLookupReply') return lookedUp(registration, reply, now);
  const request = registration.state.name === 'AwaitingRegisterReply' ? 'register' : 'operationStatus';
  const meaning = interpretReply(reply, request, now.wallMs);
  switch (meaning.kind) {
    case 'assigning':
      return awaitPollTime(registration, meaning.operationId, pollDelayMs(meaning.retryAfterMs), now);
    case 'assigned':
      return assigned(registration, meaning.result);
    case 'rejected':
    case 'unexpected':
      return fail(registration, meaning.error);
    case 'serviceError':
      return refused(registration, meaning.error, request, now);
    default:
      return unreachable(meaning);
  }
}

/** Whatever the lookup does not find, registering finds out. */
function lookedUp(registration: Registration, reply: DpsReply, now: Now): RegistrationStep {
  const meaning = interpretStatusLookup(reply, now.wallMs);
  if (meaning.kind === 'found') return assigned(registration, meaning.result);
  const next = remember(registration, { lookedUp: true });
  if (meaning.kind !== 'serviceError') return proceed(next, now);
  const { error } = meaning;
  const isAboutMore = error.retryable || error.status === 401 || error.status === 403;
  return isAboutMore ? refused(next, error, 'lookup', now) : proceed(next, now);
}

function challenged(registration: Registration, challenge: DpsChallenge): RegistrationStep {
  const { config, memory, state } = registration;
  const isFirst = !memory.activated && state.name === 'AwaitingRegisterReply';
  const isAnother = memory.activated && memory.challengeLost && state.name !== 'AwaitingLookupReply';
  if (config.attestation !== 'tpm' || !(isFirst || isAnother)) {
    return fail(
      registration,
      new ProtocolError({
        code: 'ERR_DPS_PROTOCOL_STATUS',
        message:
          'The service sent a TPM challenge where none was due. Check that the enrollment and the device use the same attestation.',
        expected: 'a reply to the request',
        got: 'a TPM challenge',
      }),
    );
  }
  const ticket = memory.ticket + 1;
  return {
    registration: { ...remember(registration, { ticket }), state: { name: 'AwaitingActivation' } },
    effects: [
      report({ type: 'challenged' }),
      { type: 'ActivateChallenge', ticket, authenticationKey: challenge.authenticationKey },
    ],
  };
}

function awaitPollTime(
  registration: Registration,
  operationId: string | undefined,
  delayMs: number,
  now: Now,
): RegistrationStep {
  const known = operationId ?? registration.memory.operationId;
  const next = remember(registration, { operationId: known, failures: 0, lastError: undefined });
  const atMs = now.monotonicMs + delayMs;
  // Idling up to a deadline that the service has already declared out of reach helps nobody.
  if (atMs >= next.memory.deadlineAtMs) return overDeadline(next, delayMs);
  return {
    registration: { ...next, state: { name: 'AwaitingPollTime', atMs } },
    effects: [
      ...(known === undefined ? [] : [report({ type: 'assigning', operationId: known })]),
      report({ type: 'waiting', forMs: delayMs, reason: 'poll' }),
    ],
  };
}

function assigned(registration: Registration, result: RegistrationResult): RegistrationStep {
  const profile = result.connectionProfile;
  if (profile !== undefined && profile !== 'classic') {
    return fail(
      registration,
      new ConfigurationError({
        code: 'ERR_DPS_CONFIG_UNSUPPORTED',
        message: `The assigned hub asks for connection profile "${excerptOf(profile, 40)}"; this version speaks to classic hubs (MQTT 3.1.1) only. Update the package, or allocate the device to a classic hub.`,
        option: 'connectionProfile',
      }),
    );
  }
  const { assignedHub, deviceId, substatus } = result;
  return withEffects(
    [report({ type: 'assigned', assignedHub, deviceId, ...(substatus === undefined ? {} : { substatus }) })],
    finish(registration, { kind: 'assigned', result, slot: registration.memory.slot }),
  );
}

/** The service answered with an error status. */
function refused(
  registration: Registration,
  error: ServiceError,
  request: 'lookup' | 'register' | 'operationStatus',
  now: Now,
): RegistrationStep {
  if (error.status === 401 || error.status === 403) return credentialRefused(registration, error, now);
  if (error.status === 404 && request === 'operationStatus') return operationForgotten(registration, error, now);
  if (!error.retryable) return fail(registration, error);
  const failures = registration.memory.failures + 1;
  const delayMs = throttleDelayMs(error.retryAfterMs, failures, now.random);
  const reason = error.status === 429 ? 'throttled' : 'unavailable';
  return retryAfter(remember(registration, { failures }), error, delayMs, reason, now);
}

function credentialRefused(registration: Registration, error: DpsError, now: Now): RegistrationStep {
  const { config, memory } = registration;
  if (memory.slot + 1 >= config.slots) return fail(registration, error);
  const slot = memory.slot + 1;
  const next = remember(registration, { slot, operationId: undefined, credentialUntilMs: undefined, lastError: error });
  return withEffects([report({ type: 'next-credential', slot })], prepareCredential(next, now));
}

function operationForgotten(registration: Registration, error: DpsError, now: Now): RegistrationStep {
  const restarts = registration.memory.restarts + 1;
  if (restarts >= MAX_RESTARTS) return fail(registration, error);
  const failures = registration.memory.failures + 1;
  const next = remember(registration, { restarts, failures, operationId: undefined });
  return retryAfter(next, error, backoffMs(failures, now.random), 'refused', now);
}

/** An order could not be carried out. */
export function failed(registration: Registration, error: DpsError, now: Now): RegistrationStep {
  if (error.code === 'ERR_DPS_CONNACK_UNAUTHORIZED') return credentialRefused(registration, error, now);
  if (!error.retryable || error.code === 'ERR_DPS_CLOCK_IMPLAUSIBLE') return fail(registration, error);

  const unavailables = registration.memory.unavailables + (error.code === 'ERR_DPS_CONNACK_UNAVAILABLE' ? 1 : 0);
  if (unavailables >= MAX_UNAVAILABLE_CONNACKS) return fail(registration, error);
  const failures = registration.memory.failures + 1;
  const next = remember(registration, {
    failures,
    unavailables,
    // The host has none: the next attempt begins with making it.
    ...(registration.state.name === 'AwaitingCredential' ? { credentialUntilMs: undefined } : {}),
  });
  return retryAfter(dropConnection(next), error, backoffMs(failures, now.random), 'network', now);
}

function dropConnection(registration: Registration): Registration {
  return remember(registration, { connected: false, challengeLost: true });
}
