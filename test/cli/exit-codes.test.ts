import { describe, expect, it } from 'vitest';
import { OutputError, UsageError } from '../../src/cli/cli-errors.js';
import { EXIT_MEANINGS, exitStatusOf, stopStatus } from '../../src/cli/exit-codes.js';
import {
  CancelledError,
  ClockError,
  ConfigurationError,
  DeadlineError,
  type DpsError,
  type DpsErrorCode,
  HsmError,
  ProtocolError,
  RegistrationRejectedError,
  ServiceError,
  StoreError,
  TransportError,
} from '../../src/errors.js';

type Make = (code: DpsErrorCode) => DpsError;

const configuration: Make = (code) => new ConfigurationError({ code, message: 'm' });
const hsm: Make = (code) => new HsmError({ code, message: 'm', operation: 'sign' });
const transport: Make = (code) =>
  new TransportError({ code, message: 'm', phase: 'connect', peer: 'dps:8883', retryable: true });
const store: Make = (code) => new StoreError({ code, message: 'm', operation: 'write', path: '/var/lib/device' });
const protocol: Make = (code) => new ProtocolError({ code, message: 'm', expected: 'a', got: 'b' });
const service =
  (status: number): Make =>
  (code) =>
    new ServiceError({ code, message: 'm', service: 'dps', status });
const rejected =
  (status: 'failed' | 'disabled'): Make =>
  (code) =>
    new RegistrationRejectedError({ code, message: 'm', status });

/** Every code there is: the compiler misses one that is left out. */
const STATUSES: Record<DpsErrorCode, readonly [number, Make]> = {
  ERR_DPS_CONFIG_OPTION: [78, configuration],
  ERR_DPS_CONFIG_MISSING_OPTION: [78, configuration],
  ERR_DPS_CONFIG_UNKNOWN_OPTION: [78, configuration],
  ERR_DPS_CONFIG_FILE: [78, configuration],
  ERR_DPS_CONFIG_UNSUPPORTED: [78, configuration],
  ERR_DPS_HSM_FILE_UNREADABLE: [71, hsm],
  ERR_DPS_HSM_FILE_MODE: [71, hsm],
  ERR_DPS_HSM_KEY_INVALID: [71, hsm],
  ERR_DPS_HSM_PASSPHRASE: [71, hsm],
  ERR_DPS_HSM_KEY_MISMATCH: [71, hsm],
  ERR_DPS_HSM_CERTIFICATE_INVALID: [71, hsm],
  ERR_DPS_HSM_CERTIFICATE_EXPIRED: [71, hsm],
  ERR_DPS_HSM_CERTIFICATE_NOT_YET_VALID: [71, hsm],
  ERR_DPS_HSM_CHAIN_ORDER: [71, hsm],
  ERR_DPS_HSM_REGISTRATION_ID: [71, hsm],
  ERR_DPS_HSM_NOT_EXPORTABLE: [71, hsm],
  ERR_DPS_HSM_OPERATION: [71, hsm],
  ERR_DPS_STORE_LOCKED: [75, store],
  ERR_DPS_STORE_FULL: [75, store],
  ERR_DPS_STORE_READ_ONLY: [78, store],
  ERR_DPS_STORE_MODE: [78, store],
  ERR_DPS_STORE_OWNER: [78, store],
  ERR_DPS_STORE_UNREADABLE: [78, store],
  ERR_DPS_STORE_UNWRITABLE: [78, store],
  ERR_DPS_STORE_NEWER_FORMAT: [78, store],
  ERR_DPS_CLOCK_IMPLAUSIBLE: [75, (code) => new ClockError({ code, message: 'm' })],
  ERR_DPS_DNS: [69, transport],
  ERR_DPS_CONNECT: [69, transport],
  ERR_DPS_CONNECT_TIMEOUT: [69, transport],
  ERR_DPS_TLS_UNTRUSTED: [78, transport],
  ERR_DPS_TLS_HANDSHAKE: [69, transport],
  ERR_DPS_TLS_CLIENT_REFUSED: [77, transport],
  ERR_DPS_CONNACK_UNAVAILABLE: [69, transport],
  ERR_DPS_CONNACK_UNAUTHORIZED: [77, transport],
  ERR_DPS_CONNACK_PROTOCOL: [69, transport],
  ERR_DPS_CONNECTION_LOST: [69, transport],
  ERR_DPS_REQUEST_TIMEOUT: [69, transport],
  ERR_DPS_SESSION_CLOSED: [69, transport],
  ERR_DPS_HSM_TPM_UNREACHABLE: [71, hsm],
  ERR_DPS_HSM_TPM_PERMISSION: [71, hsm],
  ERR_DPS_HSM_TPM_BUSY: [71, hsm],
  ERR_DPS_HSM_TPM_TIMEOUT: [71, hsm],
  ERR_DPS_HSM_TPM_CONNECTION_LOST: [71, hsm],
  ERR_DPS_HSM_TPM_RESPONSE: [71, hsm],
  ERR_DPS_HSM_TPM_NOT_STARTED: [71, hsm],
  ERR_DPS_HSM_TPM_AUTH: [71, hsm],
  ERR_DPS_HSM_TPM_LOCKOUT: [71, hsm],
  ERR_DPS_HSM_TPM_HIERARCHY: [71, hsm],
  ERR_DPS_HSM_TPM_HANDLE: [71, hsm],
  ERR_DPS_HSM_TPM_FULL: [71, hsm],
  ERR_DPS_HSM_TPM_BLOB: [71, hsm],
  ERR_DPS_HSM_TPM_NO_IDENTITY: [71, hsm],
  ERR_DPS_HSM_TPM_FAILURE: [71, hsm],
  ERR_DPS_HSM_STORE_MISSING: [71, hsm],
  ERR_DPS_HSM_STORE_DAMAGED: [71, hsm],
  ERR_DPS_HSM_ENTRY_MISSING: [71, hsm],
  ERR_DPS_HSM_ENTRY_EXISTS: [71, hsm],
  ERR_DPS_PROXY_AUTH: [78, transport],
  ERR_DPS_PROXY_REFUSED: [69, transport],
  ERR_DPS_PROXY_PROTOCOL: [76, transport],
  ERR_DPS_WEBSOCKET_REFUSED: [69, transport],
  ERR_DPS_BACKLOG: [69, transport],
  ERR_DPS_PROTOCOL_TOPIC: [76, protocol],
  ERR_DPS_PROTOCOL_BODY: [76, protocol],
  ERR_DPS_PROTOCOL_STATUS: [76, protocol],
  ERR_DPS_PROTOCOL_MQTT: [76, protocol],
  ERR_DPS_PROTOCOL_AMQP: [76, protocol],
  ERR_DPS_PROTOCOL_TWIN: [76, protocol],
  ERR_DPS_SERVICE_BAD_REQUEST: [65, service(400)],
  ERR_DPS_SERVICE_UNAUTHORIZED: [77, service(401)],
  ERR_DPS_SERVICE_NOT_FOUND: [65, service(404)],
  ERR_DPS_SERVICE_CONFLICT: [75, service(409)],
  ERR_DPS_SERVICE_THROTTLED: [75, service(429)],
  ERR_DPS_SERVICE_UNAVAILABLE: [75, service(503)],
  ERR_DPS_SERVICE_REFUSED: [77, service(403)],
  ERR_DPS_REGISTRATION_FAILED: [65, rejected('failed')],
  ERR_DPS_REGISTRATION_DISABLED: [77, rejected('disabled')],
  ERR_DPS_CANCELLED: [130, () => new CancelledError({ state: 'waiting' })],
  ERR_DPS_DEADLINE: [75, () => new DeadlineError({ state: 'waiting', deadlineMs: 1 })],
};

describe('exitStatusOf', () => {
  const rows = Object.entries(STATUSES) as [DpsErrorCode, readonly [number, Make]][];

  it.each(rows)('%s', (code, [status, make]) => {
    const error = make(code);
    expect(error.code).toBe(code);
    expect(exitStatusOf(error)).toBe(status);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('tells %s apart', (signal, status) => {
    expect(exitStatusOf(new CancelledError({ state: 'waiting' }), signal)).toBe(status);
    expect(stopStatus(signal)).toBe(status);
  });

  it('keeps the status of a failure that a signal did not cause', () => {
    expect(exitStatusOf(hsm('ERR_DPS_HSM_OPERATION'), 'SIGTERM')).toBe(71);
  });

  it('has one of its own for the command line, and one for output', () => {
    expect(exitStatusOf(new UsageError('m'))).toBe(64);
    expect(exitStatusOf(new OutputError('m'))).toBe(74);
  });

  it.each(['EMFILE', 'ENFILE', 'ENOMEM'])('%s is for later, wherever it struck', (code) => {
    const shortage = Object.assign(new Error(code), { code });
    expect(exitStatusOf(shortage)).toBe(75);
    const options = { code: 'ERR_DPS_HSM_FILE_UNREADABLE', message: 'm', operation: 'load key' } as const;
    expect(exitStatusOf(new HsmError({ ...options, cause: shortage }))).toBe(75);
    const attempts = new AggregateError([shortage], 'no connection');
    expect(exitStatusOf(new HsmError({ ...options, cause: attempts }))).toBe(75);
    const round = new Error('round');
    round.cause = round;
    expect(exitStatusOf(round)).toBe(70);
  });

  it.each([[new TypeError('m')], [new Error('m')], ['text'], [undefined], [null]])('takes %s for a bug', (error) => {
    expect(exitStatusOf(error)).toBe(70);
  });

  it('explains every status in the help', () => {
    for (const [, [status]] of rows) expect(EXIT_MEANINGS).toHaveProperty(String(status));
  });
});
