import { describe, expect, it } from 'vitest';
import {
  AUTO_TRANSPORTS,
  afterOpenFailure,
  currentTransport,
  isNetworkFailure,
  orderTransports,
  type TransportOrder,
} from '../../src/core/transport-order.js';
import {
  ClockError,
  type DpsError,
  type DpsErrorCode,
  HsmError,
  ProtocolError,
  ServiceError,
  TransportError,
  type TransportPhase,
} from '../../src/errors.js';

function failure(code: DpsErrorCode, phase: TransportPhase = 'connect', retryable = true): TransportError {
  return new TransportError({ code, message: `${code} at ${phase}.`, phase, peer: 'dps.example:1', retryable });
}

const REFUSED = failure('ERR_DPS_CONNECT');

/** What comes of these failures, one after the other. */
function fail(order: TransportOrder, ...errors: readonly DpsError[]): ReturnType<typeof afterOpenFailure> {
  const [error = REFUSED, ...more] = errors;
  const outcome = afterOpenFailure(order, error);
  return more.length === 0 ? outcome : fail(outcome.order, ...more);
}

describe('orderTransports', () => {
  it.each<[string | undefined, readonly string[]]>([
    [undefined, ['mqtt', 'mqtt-ws', 'https']],
    ['mqtt', ['mqtt', 'mqtt-ws', 'https']],
    ['mqtt-ws', ['mqtt-ws', 'mqtt', 'https']],
    ['https', ['https', 'mqtt', 'mqtt-ws']],
    ['amqp', ['mqtt', 'mqtt-ws', 'https']],
  ])('begins with what worked: %s', (worked, names) => {
    expect(orderTransports(AUTO_TRANSPORTS, worked)).toEqual({ names, failures: [] });
  });
});

describe('afterOpenFailure', () => {
  it('goes from one to the next, and then to the first again', () => {
    const start = orderTransports(AUTO_TRANSPORTS);
    const turns = [start, fail(start).order, fail(start, REFUSED, REFUSED).order];
    expect(turns.map(currentTransport)).toEqual(['mqtt', 'mqtt-ws', 'https']);
    const over = fail(start, REFUSED, REFUSED, REFUSED);
    expect([over.kind, currentTransport(over.order)]).toEqual(['over', 'mqtt']);
  });

  it('names all that were tried, and what became of each', () => {
    const [first, second] = [failure('ERR_DPS_CONNECT_TIMEOUT'), failure('ERR_DPS_PROXY_REFUSED', 'proxy', false)];
    const last = failure('ERR_DPS_WEBSOCKET_REFUSED', 'websocket', false);
    expect(fail(orderTransports(['mqtt', 'https', 'mqtt-ws']), first, second, last)).toMatchObject({
      error: {
        // One of them may come through another time, so that the round may be repeated.
        code: 'ERR_DPS_CONNECT_TIMEOUT',
        retryable: true,
        message:
          'No transport came through. mqtt: ERR_DPS_CONNECT_TIMEOUT at connect. https: ERR_DPS_PROXY_REFUSED at proxy. mqtt-ws: ERR_DPS_WEBSOCKET_REFUSED at websocket.',
        cause: first,
      },
    });
  });

  it('goes on where another protocol is spoken at the port, and says so in the end', () => {
    const foreign = (code: 'ERR_DPS_PROTOCOL_MQTT' | 'ERR_DPS_PROTOCOL_AMQP'): ProtocolError =>
      new ProtocolError({ code, message: `${code}.`, expected: 'a packet', got: 'HTTP' });
    const over = fail(
      orderTransports(['mqtt', 'amqp']),
      foreign('ERR_DPS_PROTOCOL_MQTT'),
      foreign('ERR_DPS_PROTOCOL_AMQP'),
    );
    expect(over).toMatchObject({
      kind: 'over',
      error: { name: 'ProtocolError', code: 'ERR_DPS_PROTOCOL_AMQP', expected: 'a packet', retryable: false },
    });
    expect((over as { readonly error: Error }).error.message).toBe(
      'No transport came through. mqtt: ERR_DPS_PROTOCOL_MQTT. amqp: ERR_DPS_PROTOCOL_AMQP.',
    );
  });

  it('is not worth another round when none of them is', () => {
    const refused = failure('ERR_DPS_PROXY_REFUSED', 'proxy', false);
    expect(fail(orderTransports(['mqtt', 'https']), refused, refused)).toMatchObject({
      error: { code: 'ERR_DPS_PROXY_REFUSED', retryable: false },
    });
  });

  it('leaves the failure of an only one as it is', () => {
    expect(afterOpenFailure(orderTransports(['mqtt']), REFUSED)).toMatchObject({ kind: 'over', error: REFUSED });
  });

  it('ends with a server that is not trusted, whatever is left, and tells what was before', () => {
    const untrusted = failure('ERR_DPS_TLS_UNTRUSTED', 'tls', false);
    const order = orderTransports(AUTO_TRANSPORTS);
    expect(fail(order, untrusted)).toMatchObject({ kind: 'over', error: untrusted });
    expect(fail(order, REFUSED, untrusted)).toMatchObject({
      kind: 'over',
      error: {
        code: 'ERR_DPS_TLS_UNTRUSTED',
        retryable: false,
        message: 'Over mqtt-ws: ERR_DPS_TLS_UNTRUSTED at tls. Tried before: mqtt: ERR_DPS_CONNECT at connect.',
      },
    });
  });
});

describe('isNetworkFailure', () => {
  it.each<[DpsErrorCode, TransportPhase]>([
    ['ERR_DPS_DNS', 'resolve'],
    ['ERR_DPS_CONNECT', 'connect'],
    ['ERR_DPS_CONNECT_TIMEOUT', 'connect'],
    ['ERR_DPS_CONNECT_TIMEOUT', 'mqtt-connect'],
    ['ERR_DPS_PROXY_REFUSED', 'proxy'],
    ['ERR_DPS_TLS_HANDSHAKE', 'tls'],
    ['ERR_DPS_CONNECTION_LOST', 'tls'],
    ['ERR_DPS_CONNECTION_LOST', 'amqp-open'],
    ['ERR_DPS_WEBSOCKET_REFUSED', 'websocket'],
  ])('is so for %s at %s', (code, phase) => {
    expect(isNetworkFailure(failure(code, phase))).toBe(true);
  });

  it.each<[string, DpsError]>([
    ['a server that is not trusted', failure('ERR_DPS_TLS_UNTRUSTED', 'tls', false)],
    ['a certificate that is refused', failure('ERR_DPS_TLS_CLIENT_REFUSED', 'tls', false)],
    ['credentials that are refused', failure('ERR_DPS_CONNACK_UNAUTHORIZED', 'mqtt-connect', false)],
    ['a service that is not available', failure('ERR_DPS_CONNACK_UNAVAILABLE', 'mqtt-connect')],
    ['a proxy that wants a password', failure('ERR_DPS_PROXY_AUTH', 'proxy', false)],
    ['a proxy that is none', failure('ERR_DPS_PROXY_PROTOCOL', 'proxy', false)],
    ['a connection that is lost in use', failure('ERR_DPS_CONNECTION_LOST', 'established')],
    ['a request without answer', failure('ERR_DPS_REQUEST_TIMEOUT', 'request')],
    ['a clock that is wrong', new ClockError({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', message: '' })],
    ['a key', new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message: '', operation: 'sign' })],
    ['a body', new ProtocolError({ code: 'ERR_DPS_PROTOCOL_BODY', message: '', expected: '', got: '' })],
    ['a status', new ServiceError({ code: 'ERR_DPS_SERVICE_UNAVAILABLE', message: '', service: 'dps', status: 503 })],
  ])('is not so for %s', (_what, error) => {
    expect(isNetworkFailure(error)).toBe(false);
  });
});
