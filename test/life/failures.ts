import { ClockError, type DpsErrorCode, ServiceError, TransportError } from '../../src/errors.js';
import type { FuzzRandom } from '../fuzz/fuzz-random.js';

/** What the device's transports fail with. */
export function networkFailure(random: FuzzRandom, peer: string, code?: DpsErrorCode): TransportError {
  const any = ['ERR_DPS_DNS', 'ERR_DPS_CONNECT', 'ERR_DPS_CONNECT_TIMEOUT', 'ERR_DPS_CONNECTION_LOST'] as const;
  return transportError(code ?? random.pick(any), peer, true);
}

export function lossFailure(peer: string): TransportError {
  return transportError('ERR_DPS_CONNECTION_LOST', peer, true);
}

export function refusal(peer: string): TransportError {
  return transportError('ERR_DPS_CONNACK_UNAUTHORIZED', peer, false);
}

export function untrusted(peer: string): TransportError {
  return transportError('ERR_DPS_TLS_UNTRUSTED', peer, false);
}

export function throttled(random: FuzzRandom): ServiceError {
  return new ServiceError({
    code: 'ERR_DPS_SERVICE_THROTTLED',
    message: 'slow down',
    service: 'hub',
    status: 429,
    retryAfterMs: random.pick([undefined, 0, 20_000, 120_000]),
  });
}

export function clockFailure(): ClockError {
  return new ClockError({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', message: '1970' });
}

function transportError(code: DpsErrorCode, peer: string, retryable: boolean): TransportError {
  return new TransportError({ code, message: code, phase: 'connect', peer, retryable });
}
