import { type Clock, isPlausibleWallMs } from '../core/clock.js';
import { ClockError, type DpsError, isDpsError, TransportError, type TransportPhase } from '../errors.js';

/** Where a socket failed, and by whose clock. */
export interface FailurePoint {
  readonly phase: TransportPhase;
  /** `host:port` of the other side. */
  readonly peer: string;
  /** `host:port` of whoever the other side, a proxy, is the way to. */
  readonly wayTo?: string | undefined;
  /** Decides whether an expired certificate is believed, or the device's clock doubted. */
  readonly clock: Clock;
  /** Whether roots were given to trust instead of the built-in ones. Default false. */
  readonly hasOwnRoots?: boolean;
}

/** `host:port`, with brackets around an IPv6 address. */
export function peerName(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Names what went wrong on a socket: the only place where codes of the operating system and of OpenSSL are read.
 *
 * A refused client certificate is recognised in every phase, because TLS 1.3 lets a server say so only after the
 * handshake is over for the client (RFC 8446, section 4.4.2.4). Our own errors pass through unchanged.
 */
export function transportErrorFrom(error: unknown, at: FailurePoint): DpsError {
  if (isDpsError(error)) return error;
  const code = codeOf(error);
  if (CLIENT_CERTIFICATE_ALERT.test(code)) return clientRefused(error, code, at);
  if (at.phase === 'tls' && VERIFICATION_FAILURE.test(code)) return untrusted(error, code, at);
  if (at.phase === 'resolve' || RESOLVER_FAILURE.test(code)) return unresolved(error, code, at);
  if (at.phase === 'connect') return unreachable(error, at);
  if (at.phase === 'tls') return handshakeFailed(error, code, at);
  return connectionLost(at, error);
}

/** The connection went away while it was needed. */
export function connectionLost(at: FailurePoint, cause?: unknown): TransportError {
  const how = cause === undefined ? 'was closed by the other side' : `broke off (${summaryOf(cause)})`;
  return new TransportError({
    code: 'ERR_DPS_CONNECTION_LOST',
    message: [`The connection to ${at.peer} ${how} ${MOMENTS[at.phase]}.`, LOSS_HINTS[at.phase] ?? [], roleOf(at)]
      .flat()
      .join(' '),
    phase: at.phase,
    peer: at.peer,
    retryable: true,
    cause,
  });
}

/** Nothing came of the attempt within its time. */
export function connectTimedOut(at: FailurePoint, timeoutMs: number): TransportError {
  return new TransportError({
    code: 'ERR_DPS_CONNECT_TIMEOUT',
    message: `${at.peer} could not be connected to within ${timeoutMs} ms: time ran out ${MOMENTS[at.phase]}. ${[TIMEOUT_HINTS[at.phase], roleOf(at)].flat().join(' ')}`,
    phase: at.phase,
    peer: at.peer,
    retryable: true,
  });
}

/** The connection is needed after its owner has closed it. */
export function sessionClosed(peer: string): TransportError {
  return new TransportError({
    code: 'ERR_DPS_SESSION_CLOSED',
    message: `The connection to ${peer} has been closed on this side.`,
    phase: 'established',
    peer,
    retryable: false,
  });
}

// OpenSSL 3.0 says SSLV3_ALERT_BAD_CERTIFICATE, 3.2 and later SSL/TLS_ALERT_BAD_CERTIFICATE: only the end is stable.
const CLIENT_CERTIFICATE_ALERT =
  /ALERT_(?:(?:BAD|UNSUPPORTED)_CERTIFICATE|CERTIFICATE_(?:UNKNOWN|EXPIRED|REVOKED|REQUIRED)|UNKNOWN_CA|ACCESS_DENIED)$/;

/** Node's names for the results of OpenSSL's X509_verify_cert, and of its own check of the name. */
const VERIFICATION_FAILURE =
  /^(?:UNABLE_TO_|CERT_|CRL_|ERROR_IN_C|DEPTH_ZERO_|SELF_SIGNED_|INVALID_(?:CA|PURPOSE)|PATH_LENGTH_|HOSTNAME_MISMATCH|UNSPECIFIED$|ERR_TLS_CERT_)/;

const RESOLVER_FAILURE = /^(?:ENOTFOUND|EAI_|ENODATA)/;

const NOT_TLS = /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|RECORD_LAYER_FAILURE/;

const MOMENTS: Readonly<Record<TransportPhase, string>> = {
  resolve: 'while its name was looked up',
  connect: 'while the TCP connection was opened',
  proxy: 'before this proxy opened the way',
  tls: 'during the TLS handshake',
  websocket: 'during the WebSocket handshake',
  'mqtt-connect': 'before it answered MQTT CONNECT',
  'amqp-open': 'while the AMQP connection was opened',
  request: 'before the reply was complete',
  established: 'while it was in use',
};

/** A server of the other protocol hears nothing that it understands, and hangs up. */
const LOSS_HINTS: Readonly<Partial<Record<TransportPhase, string>>> = {
  'mqtt-connect': 'Is this the MQTT port (8883) and not HTTPS (443)? Or does a firewall or proxy cut it?',
  'amqp-open': 'Is this the AMQP port (5671) and not HTTPS (443) or MQTT (8883)? Or does a firewall or proxy cut it?',
  request: 'Is this the HTTPS port (443) and not MQTT (8883)? Or does a firewall or proxy cut it?',
};

const TIMEOUT_HINTS: Readonly<Record<TransportPhase, string>> = {
  resolve: 'Check the name servers of the device.',
  connect: 'Check that a firewall lets this port through.',
  proxy: 'Check that it is an HTTP or SOCKS5 proxy, as its URL says.',
  tls: 'Check that no firewall or proxy stands in between.',
  websocket: 'Check that no firewall or proxy stands in between.',
  'mqtt-connect': 'Check that an MQTT broker listens on this port.',
  'amqp-open': 'Check that AMQP 1.0 is spoken on this port.',
  request: '',
  established: '',
};

function clientRefused(cause: unknown, code: string, at: FailurePoint): TransportError {
  const verdict = code.endsWith('CERTIFICATE_REQUIRED')
    ? `${at.peer} demands a device certificate and was given none (${code}). Use X.509 attestation, or check the endpoint.`
    : `${at.peer} refused the device's certificate (${code}). Check that it has not expired, that the chain holds every intermediate, and that its CA is known to the service.`;
  return new TransportError({
    code: 'ERR_DPS_TLS_CLIENT_REFUSED',
    message: verdict,
    phase: at.phase,
    peer: at.peer,
    retryable: false,
    cause,
  });
}

function untrusted(cause: unknown, code: string, at: FailurePoint): DpsError {
  const isAboutDates = code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID';
  if (isAboutDates && !isPlausibleWallMs(at.clock.wallMs())) return clockDoubted(cause, code, at);
  return new TransportError({
    code: 'ERR_DPS_TLS_UNTRUSTED',
    message: `The certificate of ${at.peer} is not trusted: ${verdictOn(cause, code, at)}`,
    phase: at.phase,
    peer: at.peer,
    retryable: false,
    // Node hangs the whole parsed certificate on its error about names; the message has said what matters.
    cause: code === 'ERR_TLS_CERT_ALTNAME_INVALID' ? undefined : cause,
  });
}

function clockDoubted(cause: unknown, code: string, at: FailurePoint): ClockError {
  return new ClockError({
    code: 'ERR_DPS_CLOCK_IMPLAUSIBLE',
    message: `The certificate of ${at.peer} cannot be judged (${code}): the device's clock says ${timeBy(at.clock)}. Set the clock (NTP, RTC) and try again.`,
    cause,
  });
}

function verdictOn(error: unknown, code: string, at: FailurePoint): string {
  switch (code) {
    case 'CERT_HAS_EXPIRED':
    case 'CERT_NOT_YET_VALID':
      return `it is outside its validity (${code}) by the device's clock, which says ${timeBy(at.clock)}. Check the clock, then the server's certificate.`;
    case 'ERR_TLS_CERT_ALTNAME_INVALID':
    case 'HOSTNAME_MISMATCH':
      return `it was issued for another name (${summaryOf(error)}). Check the endpoint: it must be a name that the certificate is for.`;
    default:
      return at.hasOwnRoots === true
        ? `its chain does not end at a trusted root (${code}). Option ca does not hold that CA, and is used instead of Node's own roots. Add the CA of the server, or of the proxy in between.`
        : `its chain does not end at a trusted root (${code}). If the server, or a proxy in between, uses a private CA, get that CA's certificate and give it with option ca.`;
  }
}

function unresolved(cause: unknown, code: string, at: FailurePoint): TransportError {
  return new TransportError({
    code: 'ERR_DPS_DNS',
    message: `The name ${hostOf(at.peer)} could not be looked up (${code || summaryOf(cause)}). ${['Check its spelling, and the network and name servers of the device.', roleOf(at)].flat().join(' ')}`,
    phase: 'resolve',
    peer: at.peer,
    retryable: true,
    cause,
  });
}

function unreachable(cause: unknown, at: FailurePoint): TransportError {
  return new TransportError({
    code: 'ERR_DPS_CONNECT',
    message: `No TCP connection to ${at.peer} (${attemptsOf(cause)}). ${['Check the network, the port, and that a firewall lets it through.', roleOf(at)].flat().join(' ')}`,
    phase: at.phase,
    peer: at.peer,
    retryable: true,
    cause,
  });
}

function handshakeFailed(cause: unknown, code: string, at: FailurePoint): TransportError {
  const hint = NOT_TLS.test(code)
    ? 'What listens there does not speak TLS: check the port, and for a proxy in between.'
    : 'If this repeats, check for a proxy in between, that the server offers TLS 1.2 or later, and that it accepts the certificate of the device.';
  return new TransportError({
    code: 'ERR_DPS_TLS_HANDSHAKE',
    message: `The TLS handshake with ${at.peer} failed (${summaryOf(cause)}). ${hint}`,
    phase: at.phase,
    peer: at.peer,
    retryable: true,
    cause,
  });
}

/** Who uses a proxy may have set it long ago, and for something else. */
function roleOf({ wayTo }: FailurePoint): string[] {
  return wayTo === undefined ? [] : [`It is the proxy on the way to ${wayTo}.`];
}

/** Several addresses were tried: Node then wraps one error for each (happy eyeballs). */
function attemptsOf(error: unknown): string {
  if (!(error instanceof AggregateError)) return summaryOf(error);
  const attempts = error.errors.map(summaryOf);
  return attempts.length === 0 ? summaryOf(error.cause) : attempts.join('; ');
}

/** The opposite of `peerName`, as far as words go. */
function hostOf(peer: string): string {
  return peer.replace(/:\d+$/, '');
}

function codeOf(error: unknown): string {
  const code = typeof error === 'object' && error !== null ? (error as { code?: unknown }).code : undefined;
  return typeof code === 'string' ? code : '';
}

/** One line: OpenSSL's messages carry file names, line numbers and a line break. */
function summaryOf(error: unknown): string {
  const code = codeOf(error);
  if (code.startsWith('ERR_SSL_')) return code;
  const text = error instanceof Error && error.message !== '' ? error.message : code;
  return text.split('\n', 1)[0] || 'no reason given';
}

function timeBy(clock: Clock): string {
  const wallMs = clock.wallMs();
  const isShowable = Math.abs(wallMs) <= 8.64e15;
  return isShowable ? new Date(wallMs).toISOString() : `${wallMs} ms after 1970`;
}
