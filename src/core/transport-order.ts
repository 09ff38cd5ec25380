import {
  type DpsError,
  type DpsErrorCode,
  ProtocolError,
  ServiceError,
  TransportError,
  type TransportPhase,
} from '../errors.js';

/** Which of several transports is tried when: only a network that does not let one through leads to the next. */

/** `auto`: the port of MQTT is the one that most networks close, and 443 the one that most leave open. */
export const AUTO_TRANSPORTS = ['mqtt', 'mqtt-ws', 'https'] as const;
/** `auto` for a TPM, which DPS does not take over MQTT. */
export const AUTO_TPM_TRANSPORTS = ['https', 'amqp-ws'] as const;
/** `auto` on the way to the hub. */
export const AUTO_HUB_TRANSPORTS = ['mqtt', 'mqtt-ws'] as const;

/** Transports in the order in which they are tried, and how far that has got. */
export interface TransportOrder {
  /** At least one. */
  readonly names: readonly string[];
  /** What the network did to the first of them; the next one's turn it is. */
  readonly failures: readonly NetworkFailure[];
}

/** Of a `ProtocolError`, only that something else than the service answers at this port. */
export type NetworkFailure = TransportError | ProtocolError;

/** In the order given, but for the one that is known to have worked: that comes first. */
export function orderTransports(names: readonly string[], worked?: string): TransportOrder {
  const others = names.filter((name) => name !== worked);
  const isKnown = worked !== undefined && others.length < names.length;
  return { names: isKnown ? [worked, ...others] : names, failures: [] };
}

/** The one whose turn it is. */
export function currentTransport({ names, failures }: TransportOrder): string {
  return names[failures.length] ?? '';
}

/** A new attempt begins with the first. */
export function fromTheFirst(order: TransportOrder): TransportOrder {
  return { ...order, failures: [] };
}

/** There is more than one to choose from. */
export function hasChoice({ names }: TransportOrder): boolean {
  return names.length > 1;
}

export type AfterFailure =
  /** It is another one's turn, for what `error` says. */
  | { readonly kind: 'next'; readonly order: TransportOrder; readonly error: NetworkFailure }
  /** Another one would not help, or none is left: `error` tells of all that were tried, and the first is first again. */
  | { readonly kind: 'over'; readonly order: TransportOrder; readonly error: DpsError };

/** What follows when a connection could not be opened by the transport whose turn it was. */
export function afterOpenFailure(order: TransportOrder, error: DpsError): AfterFailure {
  if (!isNetworkFailure(error)) {
    const next = isServiceWord(error) ? orderTransports(order.names, currentTransport(order)) : fromTheFirst(order);
    return { kind: 'over', order: next, error: withEarlier(order, error) };
  }
  const failures = [...order.failures, error];
  if (failures.length < order.names.length) return { kind: 'next', order: { ...order, failures }, error };
  return { kind: 'over', order: fromTheFirst(order), error: noneCameThrough(order.names, failures, error) };
}

/**
 * The network was at fault: a port that is closed or where another protocol is spoken, a proxy that lets this one not pass,
 * a connection that was cut before it was of use. Not: a password that a proxy wants, a server that is not trusted, and
 * whatever the service says.
 */
export function isNetworkFailure(error: DpsError): error is NetworkFailure {
  if (error instanceof ProtocolError) return FOREIGN_PROTOCOLS.has(error.code);
  return error instanceof TransportError && NETWORK_FAILURES.has(error.code) && OPENING.has(error.phase);
}

/** Only the service itself says this: the transport has got through to it. */
function isServiceWord(error: DpsError): boolean {
  return error instanceof ServiceError || error.code.startsWith('ERR_DPS_CONNACK_');
}

/** For whom another try, by the next transport, is what comes now. */
export function worthAnotherTry(error: NetworkFailure): DpsError {
  if (error.retryable) return error;
  const { code, message } = error;
  const [phase, peer] = error instanceof TransportError ? [error.phase, error.peer] : (['connect', 'DPS'] as const);
  return new TransportError({ code, message, phase, peer, retryable: true, cause: error });
}

const NETWORK_FAILURES: ReadonlySet<DpsErrorCode> = new Set([
  'ERR_DPS_DNS',
  'ERR_DPS_CONNECT',
  'ERR_DPS_CONNECT_TIMEOUT',
  'ERR_DPS_PROXY_REFUSED',
  'ERR_DPS_WEBSOCKET_REFUSED',
  'ERR_DPS_TLS_HANDSHAKE',
  'ERR_DPS_CONNECTION_LOST',
]);

const FOREIGN_PROTOCOLS: ReadonlySet<DpsErrorCode> = new Set(['ERR_DPS_PROTOCOL_MQTT', 'ERR_DPS_PROTOCOL_AMQP']);

const OPENING: ReadonlySet<TransportPhase> = new Set([
  'resolve',
  'connect',
  'proxy',
  'tls',
  'websocket',
  'mqtt-connect',
  'amqp-open',
]);

/** Worth another round if any of them is; the code of the last of those stands for all. */
function noneCameThrough(
  names: readonly string[],
  failures: readonly NetworkFailure[],
  last: NetworkFailure,
): DpsError {
  if (failures.length === 1) return last;
  const speaker = failures.filter(({ retryable }) => retryable).at(-1) ?? last;
  return retold(speaker, `No transport came through. ${list(names, failures)}`);
}

/** This one got through to somebody, whose word counts. */
function withEarlier(order: TransportOrder, error: DpsError): DpsError {
  if (order.failures.length === 0 || !(error instanceof TransportError)) return error;
  const earlier = list(order.names, order.failures);
  return retold(error, `Over ${currentTransport(order)}: ${error.message} Tried before: ${earlier}`);
}

function list(names: readonly string[], failures: readonly NetworkFailure[]): string {
  return failures.map(({ message }, index) => `${names[index]}: ${message}`).join(' ');
}

function retold(error: NetworkFailure, message: string): NetworkFailure {
  const { code } = error;
  if (error instanceof ProtocolError) {
    return new ProtocolError({ code, message, expected: error.expected, got: error.got, cause: error });
  }
  const { phase, peer, retryable } = error;
  return new TransportError({ code, message, phase, peer, retryable, cause: error });
}
