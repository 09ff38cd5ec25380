import {
  CancelledError,
  ClockError,
  ConfigurationError,
  type DpsError,
  HsmError,
  ProtocolError,
  ServiceError,
  TransportError,
} from '../../src/errors.js';
import type { FuzzRandom } from './fuzz-random.js';

const PEER = 'dps.example:443';

/** What transports and key stores fail with, and what they should never fail with but might. */
export function randomError(random: FuzzRandom): DpsError {
  switch (random.below(12)) {
    case 0:
      return new ConfigurationError({
        code: 'ERR_DPS_CONFIG_UNSUPPORTED',
        message: 'unsupported',
        option: 'transport',
      });
    case 1:
      return new HsmError({
        code: 'ERR_DPS_HSM_OPERATION',
        message: 'the key store is busy',
        operation: 'sign',
        retryable: random.chance(0.7),
      });
    case 2:
      return new ClockError({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', message: 'the clock was never set' });
    case 3:
      return new ProtocolError({ code: 'ERR_DPS_PROTOCOL_TOPIC', message: 'a foreign topic', expected: 'a', got: 'b' });
    case 4:
      return serviceError(random);
    case 5:
      return new CancelledError({ state: 'somewhere else' });
    default:
      return transportError(random);
  }
}

function transportError(random: FuzzRandom): TransportError {
  const code = random.pick([
    'ERR_DPS_DNS',
    'ERR_DPS_CONNECT',
    'ERR_DPS_CONNECT_TIMEOUT',
    'ERR_DPS_TLS_UNTRUSTED',
    'ERR_DPS_TLS_HANDSHAKE',
    'ERR_DPS_CONNACK_UNAVAILABLE',
    'ERR_DPS_CONNACK_UNAVAILABLE',
    'ERR_DPS_CONNACK_UNAUTHORIZED',
    'ERR_DPS_CONNACK_PROTOCOL',
    'ERR_DPS_CONNECTION_LOST',
    'ERR_DPS_CONNECTION_LOST',
    'ERR_DPS_REQUEST_TIMEOUT',
  ] as const);
  const isFinal =
    code === 'ERR_DPS_TLS_UNTRUSTED' || code === 'ERR_DPS_CONNACK_UNAUTHORIZED' || code === 'ERR_DPS_CONNACK_PROTOCOL';
  return new TransportError({ code, message: 'it broke', phase: 'request', peer: PEER, retryable: !isFinal });
}

function serviceError(random: FuzzRandom): ServiceError {
  const [status, code] = random.pick([
    [429, 'ERR_DPS_SERVICE_THROTTLED'],
    [503, 'ERR_DPS_SERVICE_UNAVAILABLE'],
    [404, 'ERR_DPS_SERVICE_NOT_FOUND'],
  ] as const);
  const retryAfterMs = random.pick([undefined, 0, 1, 3_000, 400_000, -5, Number.NaN, Number.POSITIVE_INFINITY]);
  return new ServiceError({ code, message: 'refused', service: 'hub', status, retryAfterMs });
}
