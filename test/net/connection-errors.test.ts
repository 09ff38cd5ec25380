import { describe, expect, it } from 'vitest';
import { ProtocolError, type TransportPhase } from '../../src/errors.js';
import { connectionLost, connectTimedOut, peerName, transportErrorFrom } from '../../src/net/connection-errors.js';
import { ManualClock } from '../fakes/manual-clock.js';

const at = (phase: TransportPhase) => ({ phase, peer: 'dps.example:8883', clock: new ManualClock() });
const coded = (code: string): Error => Object.assign(new Error(`it says ${code}`), { code });

describe('transportErrorFrom', () => {
  // Seen with `openssl s_server -Verify 1 -verify_return_error` from Node 20 (OpenSSL 3.0); the last as OpenSSL 3.2 spells it.
  it.each([
    'ERR_SSL_TLSV1_ALERT_UNKNOWN_CA',
    'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED',
    'ERR_SSL_SSLV3_ALERT_CERTIFICATE_UNKNOWN',
    'ERR_SSL_SSL/TLS_ALERT_BAD_CERTIFICATE',
  ])('knows a refused device certificate in every phase (%s)', (code) => {
    for (const phase of ['tls', 'mqtt-connect', 'request', 'established'] as const) {
      const error = transportErrorFrom(coded(code), at(phase));
      expect(error).toMatchObject({ code: 'ERR_DPS_TLS_CLIENT_REFUSED', phase, retryable: false });
      expect(error.message).toContain(code);
    }
  });

  it('takes a reset for what it means in its phase', () => {
    const codes = (['connect', 'tls', 'mqtt-connect', 'request', 'established'] as const).map((phase) => [
      phase,
      transportErrorFrom(coded('ECONNRESET'), at(phase)).code,
    ]);
    expect(Object.fromEntries(codes)).toEqual({
      connect: 'ERR_DPS_CONNECT',
      tls: 'ERR_DPS_TLS_HANDSHAKE',
      'mqtt-connect': 'ERR_DPS_CONNECTION_LOST',
      request: 'ERR_DPS_CONNECTION_LOST',
      established: 'ERR_DPS_CONNECTION_LOST',
    });
  });

  it('leaves our own errors alone', () => {
    const own = new ProtocolError({ code: 'ERR_DPS_PROTOCOL_MQTT', message: 'm', expected: 'e', got: 'g' });
    expect(transportErrorFrom(own, at('request'))).toBe(own);
  });

  it('does not carry the certificate that Node hangs on its error about names', () => {
    const thrown = Object.assign(coded('ERR_TLS_CERT_ALTNAME_INVALID'), { cert: { raw: Buffer.alloc(9) } });
    const error = transportErrorFrom(thrown, at('tls'));
    expect(error.code).toBe('ERR_DPS_TLS_UNTRUSTED');
    expect(error).not.toHaveProperty('cause');
  });

  it('makes do with things thrown that are no errors', () => {
    for (const thrown of [undefined, null, 'text', { code: 7 }]) {
      expect(transportErrorFrom(thrown, at('established')).code).toBe('ERR_DPS_CONNECTION_LOST');
    }
  });

  it('says one line of what OpenSSL says in several', () => {
    const error = Object.assign(new Error('80:error:0A0C0103:SSL routines::internal error:\n'), {
      code: 'ERR_SSL_INTERNAL',
    });
    expect(transportErrorFrom(error, at('tls')).message).not.toContain('\n');
  });
});

describe('a name that cannot be looked up', () => {
  it.each([
    ['publc:8883', 'The name publc could'],
    ['dps.example:443', 'The name dps.example could'],
  ])('is named without the port (%s)', (peer, expected) => {
    const error = transportErrorFrom(coded('ENOTFOUND'), { ...at('resolve'), peer });
    expect(error).toMatchObject({ code: 'ERR_DPS_DNS', peer });
    expect(error.message).toContain(expected);
    expect(error.message).not.toContain(peer);
  });
});

describe('a connection that is cut where ports may have been mixed up', () => {
  it.each([
    ['mqtt-connect', 'Is this the MQTT port (8883) and not HTTPS (443)? Or does a firewall or proxy cut it?'],
    ['request', 'Is this the HTTPS port (443) and not MQTT (8883)? Or does a firewall or proxy cut it?'],
  ] as const)('asks which port it is (%s)', (phase, question) => {
    expect(connectionLost(at(phase)).message).toMatch(
      /^The connection to dps\.example:8883 was closed by the other side /,
    );
    expect(connectionLost(at(phase)).message.endsWith(`. ${question}`)).toBe(true);
    expect(transportErrorFrom(new Error('socket hang up'), at(phase)).message.endsWith(`. ${question}`)).toBe(true);
  });

  it('does not where the port has proved right', () => {
    expect(connectionLost(at('established')).message).toBe(
      'The connection to dps.example:8883 was closed by the other side while it was in use.',
    );
  });
});

describe('connectionLost and connectTimedOut', () => {
  it('say when it happened', () => {
    expect(connectionLost(at('request')).message).toContain('closed by the other side before the reply was complete');
    expect(connectTimedOut(at('mqtt-connect'), 5000).message).toContain('5000 ms');
  });
});

describe('peerName', () => {
  it('puts an IPv6 address in brackets', () => {
    expect(peerName('::1', 443)).toBe('[::1]:443');
    expect(peerName('dps.example', 8883)).toBe('dps.example:8883');
  });
});
