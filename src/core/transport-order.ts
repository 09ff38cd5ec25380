import { type DpsError, type DpsErrorCode, TransportError, type TransportPhase } from '../errors.js';

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
  readonly failures: readonly TransportError[];
}

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

/** There is more than one to choose from. */
export function hasChoice({ names }: TransportOrder): boolean {
  return names.length > 1;
}

export type AfterFailure =
  /** It is another one's turn. */
  | { readonly kind: 'next'; readonly order: TransportOrder }
  /** Another one would not help, or none is left: `error` tells of all that were tried, and the first is first again. */
  | { readonly kind: 'over'; readonly order: TransportOrder; readonly error: DpsError };

/** What follows when a connection could not be opened by the transport whose turn it was. */
export function afterOpenFailure(order: TransportOrder, error: DpsError): AfterFailure {
  const again: TransportOrder = { ...order, failures: [] };
  if (!isNetworkFailure(error)) return { kind: 'over', order: again, error: withEarlier(order, error) };
  const failures = [...order.failures, error];
  if (failures.length < order.names.length) return { kind: 'next', order: { ...order, failures } };
  return { kind: 'over', order: again, error: noneCameThrough(order.names, failures, error) };
}

/**
 * The network was at fault: a port that is closed, a proxy that lets this one not pass, a connection that was cut before it
 * was of use. Not: a password that a proxy wants, a server that is not trusted, and whatever the service says.
 */
export function isNetworkFailure(error: DpsError): error is TransportError {
  return error instanceof TransportError && NETWORK_FAILURES.has(error.code) && OPENING.has(error.phase);
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
  failures: readonly TransportError[],
  last: TransportError,
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

function list(names: readonly string[], failures: readonly TransportError[]): string {
  return failures.map(({ message }, index) => `${names[index]}: ${message}`).join(' ');
}

function retold(error: TransportError, message: string): TransportError {
  const { code, phase, peer, retryable } = error;
  return new TransportError({ code, message, phase, peer, retryable, cause: error });
}
