import { describe, expect, it } from 'vitest';
import { type HubVerdict, judgeHubFailure } from '../../src/core/hub-verdict.js';
import {
  ClockError,
  ConfigurationError,
  type DpsError,
  type DpsErrorCode,
  HsmError,
  ProtocolError,
} from '../../src/errors.js';
import { hubStatus, transportError } from './journey-driver.js';

const hsm = (code: DpsErrorCode, retryable = false): HsmError =>
  new HsmError({ code, message: 'no', operation: 'sign', retryable });
const option = new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message: 'no' });
const clock = new ClockError({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', message: '1970' });
const strange = new ProtocolError({ code: 'ERR_DPS_PROTOCOL_TWIN', message: 'no', expected: 'a twin', got: 'text' });

describe('judgeHubFailure', () => {
  it.each<[HubVerdict, string, DpsError]>([
    ['refused', 'CONNACK 5, 4 or 2', transportError('ERR_DPS_CONNACK_UNAUTHORIZED', false)],
    ['refused', 'the certificate, in the handshake', transportError('ERR_DPS_TLS_CLIENT_REFUSED', false)],
    ['refused', 'status 401', hubStatus(401, { errorCode: 401003 })],
    ['refused', 'a disabled device', hubStatus(403, { errorCode: 403012 })],
    ['refused', 'a device not found', hubStatus(404, { errorCode: 404001 })],
    ['refused', 'a TPM that was cleared', hsm('ERR_DPS_HSM_TPM_NO_IDENTITY')],
    ['throttled', 'status 429', hubStatus(429, { errorCode: 429002 })],
    ['unreachable', 'the daily quota', hubStatus(403, { errorCode: 403002 })],
    ['unreachable', 'a hub that is failing over', hubStatus(404, { errorCode: 404012 })],
    ['unreachable', 'a device that is not online', hubStatus(404, { errorCode: 404103 })],
    ['unreachable', 'a connection that was closed', hubStatus(404, { errorCode: 404104 })],
    ['unreachable', 'status 500', hubStatus(500)],
    ['unreachable', 'status 503', hubStatus(503)],
    ['unreachable', 'status 400', hubStatus(400)],
    ['unreachable', 'CONNACK 3', transportError('ERR_DPS_CONNACK_UNAVAILABLE', true)],
    ['unreachable', 'CONNACK 1', transportError('ERR_DPS_CONNACK_PROTOCOL', false)],
    ['unreachable', 'no such name', transportError('ERR_DPS_DNS', true)],
    ['unreachable', 'no connection', transportError('ERR_DPS_CONNECT', true)],
    ['unreachable', 'a connection that broke', transportError('ERR_DPS_CONNECTION_LOST', true)],
    ['unreachable', 'a handshake that broke', transportError('ERR_DPS_TLS_HANDSHAKE', true)],
    ['unreachable', 'a twin that is none', strange],
    ['unreachable', 'a busy TPM', hsm('ERR_DPS_HSM_TPM_BUSY', true)],
    ['untrusted', 'a certificate of the hub that nobody vouches for', transportError('ERR_DPS_TLS_UNTRUSTED', false)],
    ['clock', 'a clock in 1970', clock],
    ['local', 'a key that cannot be used', hsm('ERR_DPS_HSM_KEY_INVALID')],
    ['local', 'an option', option],
  ])('%s: %s', (verdict, _what, error) => {
    expect(judgeHubFailure(error)).toBe(verdict);
  });
});
