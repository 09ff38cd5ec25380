import { ClockError } from '../errors.js';
import { isPlausibleWallMs, type Now } from './clock.js';
import { encodeRegisterBody } from './messages.js';
import {
  type Registration,
  type RegistrationEffect,
  type RegistrationStep,
  TOKEN_MARGIN_MS,
  type TokenOrder,
} from './registration-state.js';
import { fail, remember, report, withEffects } from './registration-steps.js';
import { takeRequest } from './retry.js';
import { dpsResource } from './sas.js';

/** The way in: what is due next of a registration, a credential, a connection or a request. */

export function prepareCredential(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const needsToken = config.attestation === 'symmetricKey' || memory.activated;
  if (needsToken && !isPlausibleWallMs(now.wallMs)) return fail(registration, implausibleClock(now.wallMs));

  const ticket = memory.ticket + 1;
  const next = remember(registration, {
    ticket,
    connected: false,
    credentialUntilMs: needsToken
      ? now.monotonicMs + config.tokenLifeSeconds * 1000 - Math.min(TOKEN_MARGIN_MS, config.tokenLifeSeconds * 500)
      : Number.POSITIVE_INFINITY,
  });
  const token: TokenOrder = {
    resource: dpsResource(config.idScope, config.registrationId),
    expirySeconds: Math.floor(now.wallMs / 1000) + config.tokenLifeSeconds,
  };
  return {
    registration: { ...next, state: { name: 'AwaitingCredential' } },
    effects: [
      ...closeIfConnected(registration),
      { type: 'PrepareCredential', ticket, slot: memory.slot, ...(needsToken ? { token } : {}) },
    ],
  };
}

export function openConnection(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const connects = memory.connects + 1;
  return {
    registration: {
      ...remember(registration, { ticket, connects }),
      state: { name: 'AwaitingConnection', timeoutAtMs: now.monotonicMs + config.connectTimeoutMs },
    },
    effects: [
      report({ type: 'connecting', to: 'dps', peer: config.endpoint, attempt: connects }),
      { type: 'OpenConnection', ticket },
    ],
  };
}

export function connected(registration: Registration, now: Now): RegistrationStep {
  const next = remember(registration, { connected: true, unavailables: 0 });
  return withEffects(
    [report({ type: 'connected', to: 'dps', peer: registration.config.endpoint })],
    proceed(next, now),
  );
}

/** Does the next thing that is due: a credential, a connection, or the request that is open. */
export function proceed(registration: Registration, now: Now): RegistrationStep {
  const { memory } = registration;
  const credentialIsGood = memory.credentialUntilMs !== undefined && now.monotonicMs < memory.credentialUntilMs;
  if (!credentialIsGood) return prepareCredential(registration, now);
  if (!memory.connected) return openConnection(registration, now);

  const grant = takeRequest(memory.budget, now.monotonicMs);
  const paid = remember(registration, { budget: grant.budget });
  if (grant.waitMs > 0) {
    return withEffects([report({ type: 'waiting', forMs: grant.waitMs, reason: 'budget' })], {
      registration: { ...paid, state: { name: 'AwaitingRetryTime', atMs: now.monotonicMs + grant.waitMs } },
      effects: [],
    });
  }
  if (memory.operationId !== undefined) return sendStatus(paid, memory.operationId, now);
  return memory.lookedUp ? sendRegister(paid, now) : sendLookup(paid, now);
}

function sendLookup(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const body = encodeRegisterBody({ registrationId: config.registrationId });
  return {
    registration: {
      ...remember(registration, { ticket }),
      state: { name: 'AwaitingLookupReply', timeoutAtMs: now.monotonicMs + config.requestTimeoutMs },
    },
    effects: [report({ type: 'looking-up' }), { type: 'SendRequest', ticket, request: { kind: 'statusLookup', body } }],
  };
}

function sendRegister(registration: Registration, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const registers = memory.registers + 1;
  const body = encodeRegisterBody({
    registrationId: config.registrationId,
    ...(config.payload === undefined ? {} : { payload: config.payload }),
    ...(config.tpm === undefined ? {} : { tpm: config.tpm }),
  });
  return {
    registration: {
      ...remember(registration, { ticket, registers }),
      state: { name: 'AwaitingRegisterReply', timeoutAtMs: now.monotonicMs + config.requestTimeoutMs },
    },
    effects: [
      report({ type: 'registering', attempt: registers }),
      { type: 'SendRequest', ticket, request: { kind: 'register', body } },
    ],
  };
}

function sendStatus(registration: Registration, operationId: string, now: Now): RegistrationStep {
  const { config, memory } = registration;
  const ticket = memory.ticket + 1;
  const polls = memory.polls + 1;
  return {
    registration: {
      ...remember(registration, { ticket, polls }),
      state: { name: 'AwaitingStatusReply', timeoutAtMs: now.monotonicMs + config.requestTimeoutMs },
    },
    effects: [
      report({ type: 'polling', operationId, attempt: polls }),
      { type: 'SendRequest', ticket, request: { kind: 'operationStatus', operationId } },
    ],
  };
}

function closeIfConnected(registration: Registration): readonly RegistrationEffect[] {
  return registration.memory.connected ? [{ type: 'CloseConnection' }] : [];
}

function implausibleClock(wallMs: number): ClockError {
  return new ClockError({
    code: 'ERR_DPS_CLOCK_IMPLAUSIBLE',
    message: `The device's clock says ${formatWallMs(wallMs)}, which cannot be right; a token dated by it would be refused. Set the clock (NTP, RTC) before provisioning.`,
  });
}

function formatWallMs(wallMs: number): string {
  return Math.abs(wallMs) <= 8.64e15 ? new Date(wallMs).toISOString() : String(wallMs);
}
