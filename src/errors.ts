/**
 * Error taxonomy. Every failure that leaves this package is one of these classes and answers three questions:
 * whose move is it (the class), may the same call be tried again (`retryable`), what to quote to support
 * (`trackingId`, `errorCode`). Codes are stable; messages are for people and may change.
 */

/** Survives two copies of the package in one process, where `instanceof` does not. */
const BRAND: unique symbol = Symbol.for('dps-device.error') as never;

export type DpsErrorCode =
  // ConfigurationError: the caller's move
  | 'ERR_DPS_CONFIG_OPTION'
  | 'ERR_DPS_CONFIG_MISSING_OPTION'
  | 'ERR_DPS_CONFIG_UNKNOWN_OPTION'
  | 'ERR_DPS_CONFIG_FILE'
  | 'ERR_DPS_CONFIG_UNSUPPORTED'
  // HsmError: the device's key store, certificate or TPM
  | 'ERR_DPS_HSM_FILE_UNREADABLE'
  | 'ERR_DPS_HSM_FILE_MODE'
  | 'ERR_DPS_HSM_KEY_INVALID'
  | 'ERR_DPS_HSM_PASSPHRASE'
  | 'ERR_DPS_HSM_KEY_MISMATCH'
  | 'ERR_DPS_HSM_CERTIFICATE_INVALID'
  | 'ERR_DPS_HSM_CERTIFICATE_EXPIRED'
  | 'ERR_DPS_HSM_CERTIFICATE_NOT_YET_VALID'
  | 'ERR_DPS_HSM_CHAIN_ORDER'
  | 'ERR_DPS_HSM_REGISTRATION_ID'
  | 'ERR_DPS_HSM_NOT_EXPORTABLE'
  | 'ERR_DPS_HSM_OPERATION'
  | 'ERR_DPS_HSM_TPM_UNREACHABLE'
  | 'ERR_DPS_HSM_TPM_PERMISSION'
  | 'ERR_DPS_HSM_TPM_BUSY'
  | 'ERR_DPS_HSM_TPM_TIMEOUT'
  | 'ERR_DPS_HSM_TPM_CONNECTION_LOST'
  | 'ERR_DPS_HSM_TPM_RESPONSE'
  | 'ERR_DPS_HSM_TPM_NOT_STARTED'
  | 'ERR_DPS_HSM_TPM_AUTH'
  | 'ERR_DPS_HSM_TPM_LOCKOUT'
  | 'ERR_DPS_HSM_TPM_HIERARCHY'
  | 'ERR_DPS_HSM_TPM_HANDLE'
  | 'ERR_DPS_HSM_TPM_FULL'
  | 'ERR_DPS_HSM_TPM_BLOB'
  | 'ERR_DPS_HSM_TPM_NO_IDENTITY'
  | 'ERR_DPS_HSM_TPM_FAILURE'
  | 'ERR_DPS_HSM_STORE_MISSING'
  | 'ERR_DPS_HSM_STORE_DAMAGED'
  | 'ERR_DPS_HSM_ENTRY_MISSING'
  | 'ERR_DPS_HSM_ENTRY_EXISTS'
  // StoreError: the folder that keeps the record or the keys
  | 'ERR_DPS_STORE_LOCKED'
  | 'ERR_DPS_STORE_FULL'
  | 'ERR_DPS_STORE_READ_ONLY'
  | 'ERR_DPS_STORE_MODE'
  | 'ERR_DPS_STORE_OWNER'
  | 'ERR_DPS_STORE_UNREADABLE'
  | 'ERR_DPS_STORE_UNWRITABLE'
  | 'ERR_DPS_STORE_NEWER_FORMAT'
  // ClockError: the device's clock
  | 'ERR_DPS_CLOCK_IMPLAUSIBLE'
  // TransportError: network, TLS, broker
  | 'ERR_DPS_DNS'
  | 'ERR_DPS_CONNECT'
  | 'ERR_DPS_CONNECT_TIMEOUT'
  | 'ERR_DPS_PROXY_AUTH'
  | 'ERR_DPS_PROXY_REFUSED'
  | 'ERR_DPS_PROXY_PROTOCOL'
  | 'ERR_DPS_WEBSOCKET_REFUSED'
  | 'ERR_DPS_TLS_UNTRUSTED'
  | 'ERR_DPS_TLS_HANDSHAKE'
  | 'ERR_DPS_TLS_CLIENT_REFUSED'
  | 'ERR_DPS_CONNACK_UNAVAILABLE'
  | 'ERR_DPS_CONNACK_UNAUTHORIZED'
  | 'ERR_DPS_CONNACK_PROTOCOL'
  | 'ERR_DPS_CONNECTION_LOST'
  | 'ERR_DPS_REQUEST_TIMEOUT'
  | 'ERR_DPS_SESSION_CLOSED'
  | 'ERR_DPS_BACKLOG'
  // ProtocolError: the peer sent what its contract forbids
  | 'ERR_DPS_PROTOCOL_TOPIC'
  | 'ERR_DPS_PROTOCOL_BODY'
  | 'ERR_DPS_PROTOCOL_STATUS'
  | 'ERR_DPS_PROTOCOL_MQTT'
  | 'ERR_DPS_PROTOCOL_AMQP'
  | 'ERR_DPS_PROTOCOL_TWIN'
  // ServiceError: DPS or hub said no
  | 'ERR_DPS_SERVICE_BAD_REQUEST'
  | 'ERR_DPS_SERVICE_UNAUTHORIZED'
  | 'ERR_DPS_SERVICE_NOT_FOUND'
  | 'ERR_DPS_SERVICE_CONFLICT'
  | 'ERR_DPS_SERVICE_THROTTLED'
  | 'ERR_DPS_SERVICE_UNAVAILABLE'
  | 'ERR_DPS_SERVICE_REFUSED'
  // RegistrationRejectedError: the operator's move
  | 'ERR_DPS_REGISTRATION_FAILED'
  | 'ERR_DPS_REGISTRATION_DISABLED'
  // The caller's signal or time budget
  | 'ERR_DPS_CANCELLED'
  | 'ERR_DPS_DEADLINE';

export interface DpsErrorOptions {
  readonly code: DpsErrorCode;
  /** What was wrong, where, and what to do about it. Never a secret. */
  readonly message: string;
  readonly cause?: unknown;
}

/** Base class: `code` is stable, `retryable` says whether the same call may succeed later without anyone's help. */
export class DpsError extends Error {
  // Said outright, here and below: a minifier renames classes, and Node prints the class's name of an uncaught error.
  static override readonly name: string = 'DpsError';
  override readonly name: string = 'DpsError';
  readonly code: DpsErrorCode;
  readonly retryable: boolean;

  /** Also true for the same class of another copy of the package, or of another of its doors. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: each subclass inherits this method and asks about itself.
    if (super[Symbol.hasInstance](value)) return true;
    // biome-ignore lint/complexity/noThisInStatic: the name of the subclass that is asked, which inherits this method.
    const { name } = this;
    return isDpsError(value) && (name === 'DpsError' || name === value.name);
  }

  constructor(options: DpsErrorOptions, retryable: boolean) {
    super(options.message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = options.code;
    this.retryable = retryable;
    Object.defineProperty(this, BRAND, { value: true });
  }
}

/** True for every error of this package, also one made by another installed copy of it. */
export function isDpsError(value: unknown): value is DpsError {
  return typeof value === 'object' && value !== null && (value as { [BRAND]?: unknown })[BRAND] === true;
}

/** The caller's move: an option, a configuration file, or a missing optional package. */
export class ConfigurationError extends DpsError {
  static override readonly name: string = 'ConfigurationError';
  override readonly name: string = 'ConfigurationError';
  /** The option, flag or file at fault. */
  readonly option: string | undefined;

  constructor(options: DpsErrorOptions & { readonly option?: string }) {
    super(options, false);
    this.option = options.option;
  }
}

/** The device's move: key file, certificate or TPM. */
export class HsmError extends DpsError {
  static override readonly name: string = 'HsmError';
  override readonly name: string = 'HsmError';
  /** What was being done, e.g. `load key`, `sign`. */
  readonly operation: string;

  constructor(options: DpsErrorOptions & { readonly operation: string; readonly retryable?: boolean }) {
    super(options, options.retryable ?? false);
    this.operation = options.operation;
  }
}

/** What was being done to the files of a store. */
export type StoreOperation = 'read' | 'write' | 'remove' | 'lock';

/** The device's disk: files that cannot be used as they are. What was stored before is still there. */
export class StoreError extends DpsError {
  static override readonly name: string = 'StoreError';
  override readonly name: string = 'StoreError';
  readonly operation: StoreOperation;
  /** The file or folder at fault. */
  readonly path: string;

  constructor(options: DpsErrorOptions & { readonly operation: StoreOperation; readonly path: string }) {
    super(options, options.code === 'ERR_DPS_STORE_LOCKED' || options.code === 'ERR_DPS_STORE_FULL');
    this.operation = options.operation;
    this.path = options.path;
  }
}

/** The device's clock cannot be right; tokens and dates made from it would be refused. */
export class ClockError extends DpsError {
  static override readonly name: string = 'ClockError';
  override readonly name: string = 'ClockError';

  constructor(options: DpsErrorOptions) {
    super(options, true);
  }
}

/** Where on the way to the peer a transport failed. */
export type TransportPhase =
  | 'resolve'
  | 'connect'
  | 'proxy'
  | 'tls'
  | 'websocket'
  | 'mqtt-connect'
  | 'amqp-open'
  | 'request'
  | 'established';

/** Network, TLS or broker. Retryable unless a certificate or credential was refused. */
export class TransportError extends DpsError {
  static override readonly name: string = 'TransportError';
  override readonly name: string = 'TransportError';
  readonly phase: TransportPhase;
  /** `host:port` of the other side. */
  readonly peer: string;

  constructor(
    options: DpsErrorOptions & { readonly phase: TransportPhase; readonly peer: string; readonly retryable: boolean },
  ) {
    super(options, options.retryable);
    this.phase = options.phase;
    this.peer = options.peer;
  }
}

/** The peer sent what its contract forbids: a proxy's page, a broken body, an unknown status. */
export class ProtocolError extends DpsError {
  static override readonly name: string = 'ProtocolError';
  override readonly name: string = 'ProtocolError';
  readonly expected: string;
  /** What arrived instead, shortened and without secrets. */
  readonly got: string;
  readonly status: number | undefined;

  constructor(
    options: DpsErrorOptions & {
      readonly expected: string;
      readonly got: string;
      readonly status?: number | undefined;
    },
  ) {
    super(options, false);
    this.expected = options.expected;
    this.got = options.got;
    this.status = options.status;
  }
}

/** Request time-out, conflict, too early, too many requests: what may pass by itself, as any 5xx may. */
const PASSING_STATUSES: ReadonlySet<number> = new Set([408, 409, 425, 429]);

/** DPS or the hub answered with an error. Quote `trackingId` to support. */
export class ServiceError extends DpsError {
  static override readonly name: string = 'ServiceError';
  override readonly name: string = 'ServiceError';
  readonly service: 'dps' | 'hub';
  /** HTTP-like status of the reply. */
  readonly status: number;
  /** The service's own number, e.g. 401002. */
  readonly errorCode: number | undefined;
  readonly trackingId: string | undefined;
  readonly timestampUtc: string | undefined;
  /** What the service asked to wait, if it did. */
  readonly retryAfterMs: number | undefined;

  constructor(
    options: DpsErrorOptions & {
      readonly service: 'dps' | 'hub';
      readonly status: number;
      readonly errorCode?: number | undefined;
      readonly trackingId?: string | undefined;
      readonly timestampUtc?: string | undefined;
      readonly retryAfterMs?: number | undefined;
    },
  ) {
    super(options, PASSING_STATUSES.has(options.status) || options.status >= 500);
    this.service = options.service;
    this.status = options.status;
    this.errorCode = options.errorCode;
    this.trackingId = options.trackingId;
    this.timestampUtc = options.timestampUtc;
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** The operator's move: the registration ended as `failed`, or the enrollment is `disabled`. */
export class RegistrationRejectedError extends DpsError {
  static override readonly name: string = 'RegistrationRejectedError';
  override readonly name: string = 'RegistrationRejectedError';
  readonly status: 'failed' | 'disabled';
  readonly substatus: string | undefined;
  readonly errorCode: number | undefined;
  readonly errorMessage: string | undefined;

  constructor(
    options: DpsErrorOptions & {
      readonly status: 'failed' | 'disabled';
      readonly substatus?: string | undefined;
      readonly errorCode?: number | undefined;
      readonly errorMessage?: string | undefined;
    },
  ) {
    super(options, false);
    this.status = options.status;
    this.substatus = options.substatus;
    this.errorCode = options.errorCode;
    this.errorMessage = options.errorMessage;
  }
}

/** The caller's signal ended the work. `state` says for programs what was going on then, the message says it for people. */
export class CancelledError extends DpsError {
  static override readonly name: string = 'CancelledError';
  override readonly name: string = 'CancelledError';
  readonly state: string;

  constructor(options: {
    readonly state: string;
    /** What was going on, as it reads after "while". Default: `state`. */
    readonly doing?: string;
    /** What it was waiting for to pass, if anything. */
    readonly after?: DpsError | undefined;
    readonly cause?: unknown;
  }) {
    const { state, doing = state, after, cause } = options;
    const failure = after === undefined ? '' : ` The last failure before that: ${after.message}`;
    super({ code: 'ERR_DPS_CANCELLED', message: `Cancelled while ${doing}.${failure}`, cause }, true);
    this.state = state;
  }
}

/** The time budget ran out while nothing had failed for good; `cause` is the last error, if there was one. */
export class DeadlineError extends DpsError {
  static override readonly name: string = 'DeadlineError';
  override readonly name: string = 'DeadlineError';
  readonly state: string;
  readonly deadlineMs: number;

  constructor(options: {
    readonly state: string;
    /** What was going on, as it reads after "while". Default: `state`. */
    readonly doing?: string;
    readonly deadlineMs: number;
    /** What the service asked to wait, when that alone outlives the deadline. */
    readonly askedWaitMs?: number;
    readonly cause?: unknown;
  }) {
    const { state, doing = state, deadlineMs, askedWaitMs, cause } = options;
    const what =
      askedWaitMs === undefined
        ? `Not finished within ${deadlineMs} ms: time ran out while ${doing}. Allow more time${cause === undefined ? '' : ', or look at the cause'}.`
        : `The service asked to wait ${askedWaitMs} ms, which does not fit into what is left of the ${deadlineMs} ms allowed. Allow more time, or try again later.`;
    super({ code: 'ERR_DPS_DEADLINE', message: what, cause }, true);
    this.state = state;
    this.deadlineMs = deadlineMs;
  }
}
