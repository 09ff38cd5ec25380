import {
  CancelledError,
  ClockError,
  ConfigurationError,
  DeadlineError,
  HsmError,
  ProtocolError,
  RegistrationRejectedError,
  ServiceError,
  StoreError,
  TransportError,
} from '../errors.js';
import { OutputError, UsageError } from './cli-errors.js';
import { explainShortage } from './shortage.js';

/** Exit statuses after sysexits(3), so that a boot script can act on the number alone. */
export const EXIT = {
  ok: 0,
  usage: 64,
  rejected: 65,
  network: 69,
  bug: 70,
  hsm: 71,
  output: 74,
  tryLater: 75,
  protocol: 76,
  refused: 77,
  configuration: 78,
  sigint: 130,
  sigterm: 143,
} as const;

export type ExitStatus = (typeof EXIT)[keyof typeof EXIT];

/** Signals that end a command in an orderly way. */
export type StopSignal = 'SIGINT' | 'SIGTERM';

/** What each status means, in the words of `--help` and of the failure report. */
export const EXIT_MEANINGS: Readonly<Record<ExitStatus, string>> = Object.freeze({
  [EXIT.ok]: 'done',
  [EXIT.usage]: 'the command line is wrong',
  [EXIT.rejected]: 'the registration failed, or the service refused the request as wrong',
  [EXIT.network]: 'the network: name resolution, connection, TLS, broker not available',
  [EXIT.bug]: 'a bug in dps-device',
  [EXIT.hsm]: 'the key, certificate or TPM of this device',
  [EXIT.output]: 'the result could not be handed over on standard output',
  [EXIT.tryLater]: 'try again later: throttled, service error, deadline, wrong clock, store locked, disk full',
  [EXIT.protocol]: 'something answered that does not keep to the protocol',
  [EXIT.refused]: 'the credentials were refused, or the enrollment is disabled',
  [EXIT.configuration]: 'the configuration is wrong, the server certificate not trusted, or the store not usable',
  [EXIT.sigint]: 'interrupted by SIGINT',
  [EXIT.sigterm]: 'interrupted by SIGTERM',
});

/** The status for a failure. `stoppedBy` is the signal that this process got, if it got one. */
export function exitStatusOf(error: unknown, stoppedBy?: StopSignal): ExitStatus {
  if (error instanceof UsageError) return EXIT.usage;
  if (error instanceof OutputError) return EXIT.output;
  if (explainShortage(error) !== undefined) return EXIT.tryLater;
  if (error instanceof ConfigurationError) return EXIT.configuration;
  if (error instanceof HsmError) return EXIT.hsm;
  if (error instanceof StoreError) return error.retryable ? EXIT.tryLater : EXIT.configuration;
  if (error instanceof ClockError || error instanceof DeadlineError) return EXIT.tryLater;
  if (error instanceof TransportError) return transportStatus(error);
  if (error instanceof ProtocolError) return EXIT.protocol;
  if (error instanceof ServiceError) return serviceStatus(error);
  if (error instanceof RegistrationRejectedError) return error.status === 'disabled' ? EXIT.refused : EXIT.rejected;
  if (error instanceof CancelledError) return stopStatus(stoppedBy ?? 'SIGINT');
  return EXIT.bug;
}

/** 128 plus the number of the signal, as a shell would report it. */
export function stopStatus(signal: StopSignal): ExitStatus {
  return signal === 'SIGTERM' ? EXIT.sigterm : EXIT.sigint;
}

function transportStatus(error: TransportError): ExitStatus {
  switch (error.code) {
    case 'ERR_DPS_TLS_UNTRUSTED':
    case 'ERR_DPS_PROXY_AUTH':
      return EXIT.configuration;
    case 'ERR_DPS_TLS_CLIENT_REFUSED':
    case 'ERR_DPS_CONNACK_UNAUTHORIZED':
      return EXIT.refused;
    case 'ERR_DPS_PROXY_PROTOCOL':
      return EXIT.protocol;
    default:
      return EXIT.network;
  }
}

function serviceStatus(error: ServiceError): ExitStatus {
  if (error.retryable) return EXIT.tryLater;
  return error.status === 401 || error.status === 403 ? EXIT.refused : EXIT.rejected;
}
