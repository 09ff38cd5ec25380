import { describe, expect, it } from 'vitest';
import type { DpsOpenParameters } from '../../src/core/transport.js';
import { dpsSocketOptions } from '../../src/transports/dps-endpoint.js';
import { ManualClock } from '../fakes/manual-clock.js';

const PARAMETERS: DpsOpenParameters = {
  endpoint: 'dps.example',
  idScope: '0ne00111111',
  registrationId: 'dev-1',
  credential: { kind: 'sas', token: 'SharedAccessSignature sr=x' },
};

describe('the way to DPS', () => {
  it('is what the application says of it, and has the certificate in the handshake', () => {
    const way = {
      clock: new ManualClock(),
      ca: 'a root',
      servername: 'other.example',
      lookup: () => {},
      proxyFor: () => undefined,
      connectTimeoutMs: 1234,
    };
    const tls = { certificateChainPem: 'a certificate', privateKeyPem: 'a key' };
    const options = { ...way, randomUuid: () => 'r1', userAgent: 'dps-device/0.1.0' };
    const parameters: DpsOpenParameters = { ...PARAMETERS, credential: { kind: 'x509', tls } };
    expect(dpsSocketOptions(options, parameters, 8883)).toEqual({
      host: 'dps.example',
      port: 8883,
      client: tls,
      ...way,
    });
  });

  it('has no token in it, and the port that the endpoint names', () => {
    const options = { clock: new ManualClock(), randomUuid: () => 'r1' };
    const found = dpsSocketOptions(options, { ...PARAMETERS, endpoint: '[::1]:5671' }, 8883);
    expect(found).toMatchObject({ port: 5671, client: undefined });
    expect(JSON.stringify(found)).not.toContain('SharedAccessSignature');
  });

  it('is refused where there is none', () => {
    const options = { clock: new ManualClock(), randomUuid: () => 'r1' };
    expect(() => dpsSocketOptions(options, { ...PARAMETERS, endpoint: 'https://dps.example' }, 443)).toThrow(
      expect.objectContaining({ code: 'ERR_DPS_CONFIG_OPTION', option: 'endpoint' }),
    );
  });
});
