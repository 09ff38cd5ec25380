/** Microsoft's security clients, unmodified, as HSMs of this package. */
import { createHmac } from 'node:crypto';
import { inspect } from 'node:util';
import azureIotDevice from 'azure-iot-device';
import symmetricKeyPackage from 'azure-iot-security-symmetric-key';
import x509Package from 'azure-iot-security-x509';
import { describe, expect, it } from 'vitest';
import { azureDeviceClient, fromAzureSecurityClient } from '../../src/azure/index.js';
import { provision } from '../../src/compose.js';
import { encodeUtf8 } from '../../src/core/bytes.js';
import { type Emulator, makeSelfSigned } from '../../src/emulator/index.js';
import { ConfigurationError } from '../../src/errors.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { makeKey, startBench } from '../interop/emulator-bench.js';

const { SymmetricKeySecurityClient } = symmetricKeyPackage;
const { X509Security } = x509Package;
const { SharedAccessSignature } = azureIotDevice;

const KEY = 'c2VjcmV0IGtleSBvZiB0aGUgZGV2aWNl';
const SIGNAL = new AbortController().signal;
const hmac = (key: string, text: string): Buffer =>
  createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest();

const enrollKey = (emulator: Emulator): InstanceType<typeof SymmetricKeySecurityClient> => {
  const primaryKey = makeKey();
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey } } });
  return new SymmetricKeySecurityClient('dev-1', primaryKey);
};

const enrollCertificate = async (emulator: Emulator): Promise<InstanceType<typeof X509Security>> => {
  const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
  const clientCertificates = { primary: { certificate: certificatePem } };
  emulator.enroll({ registrationId: 'dev-1', attestation: { x509: { clientCertificates } } });
  return new X509Security('dev-1', { cert: certificatePem, key: privateKeyPem });
};

describe.each(['mqtt', 'https'] as const)('provision() over %s', (transport) => {
  it('takes their symmetric key client from DPS to the twin, and on to their device client', async () => {
    const emulator = await startBench();
    const hsm = await fromAzureSecurityClient(enrollKey(emulator));
    expect(hsm.kind).toBe('symmetricKey');
    const { idScope, caPem: ca, endpoints } = emulator;
    const device = await provision({ idScope, ca, endpoint: endpoints.dps[transport], transport, hsm });
    expect(device).toMatchObject({ deviceId: 'dev-1', twin: { desired: { version: 1 } } });
    const client = await azureDeviceClient(device);
    await client.open();
    await client.close();
  });

  it('takes their X.509 client from DPS to the twin', async () => {
    const emulator = await startBench();
    const hsm = await fromAzureSecurityClient(await enrollCertificate(emulator));
    expect(hsm.kind).toBe('x509');
    const { idScope, caPem: ca, endpoints } = emulator;
    const device = await provision({ idScope, ca, endpoint: endpoints.dps[transport], transport, hsm });
    expect(device).toMatchObject({ deviceId: 'dev-1', twin: { desired: { version: 1 } } });
  });
});

describe('their symmetric key client as HSM', () => {
  it.each(['0ne00111111%2Fregistrations%2Fdev-1\n1663952627', 'hub.azure-devices.net%3A8883%2Fdevices%2Fdev%201\n1'])(
    'signs %j as its key does',
    async (text) => {
      const hsm = await fromAzureSecurityClient(new SymmetricKeySecurityClient('dev-1', KEY));
      expect(await hsm.registrationId(SIGNAL)).toBe('dev-1');
      expect(await hsm.sign(encodeUtf8(text), 0, SIGNAL)).toEqual(new Uint8Array(hmac(KEY, text)));
    },
  );

  it('signs nothing but tokens, and has one slot', async () => {
    const hsm = await fromAzureSecurityClient(new SymmetricKeySecurityClient('dev-1', KEY));
    const refused = { code: 'ERR_DPS_HSM_OPERATION', message: expect.stringContaining('tokens only') };
    await expect(hsm.sign(encodeUtf8('dev-1'), 0, SIGNAL)).rejects.toMatchObject(refused);
    await expect(hsm.sign(new Uint8Array([0xff]), 0, SIGNAL)).rejects.toMatchObject(refused);
    await expect(hsm.sign(encodeUtf8('a\n1'), 1, SIGNAL)).rejects.toThrow(/slot 1/);
    expect(hsm.exportKey).toBeUndefined();
  });

  it('keeps the key to itself', async () => {
    const hsm = await fromAzureSecurityClient(new SymmetricKeySecurityClient('dev-1', KEY));
    expect(inspect(hsm, { depth: 9, showHidden: true })).not.toContain(KEY);
    expect(JSON.stringify(hsm)).not.toContain(KEY);
  });
});

/** Security clients of other makes: what a token of theirs is, instead of one of azure-iot-common. */
const withToken = (token: unknown) => ({
  getRegistrationId: (callback?: (error?: Error, id?: string) => void) => callback?.(undefined, 'dev-1'),
  createSharedAccessSignature: async () => token,
});

describe('a security client of another make', () => {
  it('may answer by promise', async () => {
    const theirs = new SymmetricKeySecurityClient('dev-1', KEY);
    const client = withToken(await theirs.createSharedAccessSignature('0ne00111111'));
    const hsm = await fromAzureSecurityClient(client);
    expect(await hsm.sign(encodeUtf8('a%2Fb\n7'), 0, SIGNAL)).toEqual(new Uint8Array(hmac(KEY, 'a%2Fb\n7')));
  });

  const signedElsewhere = { sr: 'x', sig: 'y', se: 1, toString: () => 'SharedAccessSignature sr=x&sig=y&se=1' };
  it.each<[string, unknown]>([
    ['text', 'SharedAccessSignature sr=x&sig=y&se=1'],
    ['a token without extend()', signedElsewhere],
    ['a token whose key is elsewhere', SharedAccessSignature.parse(signedElsewhere.toString())],
    ['a token that stays what it was', { ...signedElsewhere, extend: () => signedElsewhere.toString() }],
    ['a token that cannot be changed', Object.freeze({ ...signedElsewhere, extend: () => '' })],
    ['nothing', undefined],
  ])('is refused at once when it makes %s', async (_name, token) => {
    const refused = fromAzureSecurityClient(withToken(token));
    await expect(refused).rejects.toBeInstanceOf(ConfigurationError);
    await expect(refused).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_UNSUPPORTED',
      message: expect.stringContaining('sign()'),
    });
  });
});

describe('their X.509 client as HSM', () => {
  const cert = '-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n';
  const key = '-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n';

  it('gives what it was made with, whatever form that has', async () => {
    const x509 = { cert: [Buffer.from(cert), Buffer.from(cert)], key: Buffer.from(key), passphrase: 'p' };
    const hsm = await fromAzureSecurityClient(new X509Security('dev-1', x509));
    expect(await hsm.registrationId(SIGNAL)).toBe('dev-1');
    expect(await hsm.tlsCredential(0, SIGNAL)).toEqual({
      certificateChainPem: `${cert}\n${cert}`,
      privateKeyPem: key,
      passphrase: 'p',
    });
    await expect(hsm.tlsCredential(1, SIGNAL)).rejects.toThrow(/slot 1/);
  });

  it.each<[string, object | undefined, string]>([
    ['a path for a certificate', { cert: '/etc/device.pem', key }, 'ERR_DPS_HSM_CERTIFICATE_INVALID'],
    ['no certificate', { key }, 'ERR_DPS_HSM_CERTIFICATE_INVALID'],
    ['nothing', undefined, 'ERR_DPS_HSM_CERTIFICATE_INVALID'],
    ['a number for a certificate', { cert: [1], key }, 'ERR_DPS_HSM_CERTIFICATE_INVALID'],
    ['no key', { cert }, 'ERR_DPS_HSM_KEY_INVALID'],
    ['a certificate for a key', { cert, key: cert }, 'ERR_DPS_HSM_KEY_INVALID'],
    ['an OpenSSL engine', { cert, clientCertEngine: 'pkcs11' }, 'ERR_DPS_CONFIG_UNSUPPORTED'],
  ])('is refused at once when it holds %s', async (_name, x509, code) => {
    await expect(fromAzureSecurityClient(new X509Security('dev-1', x509 as never))).rejects.toMatchObject({ code });
  });
});

describe('fromAzureSecurityClient', () => {
  it.each<[string, unknown, object, string, RegExp]>([
    ['nothing', undefined, {}, 'ERR_DPS_CONFIG_OPTION', /^Undefined is no security client/],
    ['a key', KEY, {}, 'ERR_DPS_CONFIG_OPTION', /^A string is no security client/],
    ['an object without an id', { getCertificate() {} }, {}, 'ERR_DPS_CONFIG_OPTION', /getRegistrationId/],
    ['a TPM', { getEndorsementKey() {}, getRegistrationId() {} }, {}, 'ERR_DPS_CONFIG_UNSUPPORTED', /TPM/],
    ['an unknown option', withToken(''), { timeout: 1 }, 'ERR_DPS_CONFIG_UNKNOWN_OPTION', /timeoutMs/],
    ['a timeout of 0', withToken(''), { timeoutMs: 0 }, 'ERR_DPS_CONFIG_OPTION', /timeoutMs/],
  ])('refuses %s', async (_name, client, options, code, message) => {
    await expect(fromAzureSecurityClient(client as never, options)).rejects.toMatchObject({
      code,
      message: expect.stringMatching(message),
    });
  });

  it.each([
    [new X509Security('no spaces', { cert: 'x', key: 'y' }), /space/],
    [new SymmetricKeySecurityClient(7 as never, KEY), /a number instead of a text/],
  ])('refuses an id that cannot be one', async (client, message) => {
    await expect(fromAzureSecurityClient(client as never)).rejects.toMatchObject({
      code: 'ERR_DPS_HSM_REGISTRATION_ID',
      message: expect.stringMatching(message),
    });
  });

  it.each<[string, (callback: (error?: Error) => void) => unknown]>([
    ['calls back with an error', (callback) => callback(new Error('the card is out'))],
    ['rejects', () => Promise.reject(new Error('the card is out'))],
    [
      'throws',
      () => {
        throw new Error('the card is out');
      },
    ],
  ])('makes a typed error of a client that %s', async (_name, getRegistrationId) => {
    await expect(fromAzureSecurityClient({ ...withToken(''), getRegistrationId } as never)).rejects.toMatchObject({
      name: 'HsmError',
      code: 'ERR_DPS_HSM_OPERATION',
      operation: 'give the registration id',
      message: expect.stringContaining('the card is out'),
    });
  });

  it('waits for a client that never calls back until the signal aborts, or its time is up', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    const client = new X509Security('dev-1', { cert: 'x', key: 'y' });
    client.getCertificate = () => {};
    const cancelled = fromAzureSecurityClient(client, { clock }, controller.signal);
    const late = fromAzureSecurityClient(client, { clock, timeoutMs: 5_000 });
    await new Promise((resolve) => setImmediate(resolve));
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    clock.advance(5_000);
    await expect(late).rejects.toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      retryable: true,
      message: expect.stringContaining('within 5000 ms'),
    });
    expect(clock.pending).toBe(0);
  });

  it('ends sign() and tlsCredential() with their signal when the client never calls back', async () => {
    const key = new SymmetricKeySecurityClient('dev-1', KEY);
    const hsm = await fromAzureSecurityClient(key);
    key.createSharedAccessSignature = () => undefined;
    const controller = new AbortController();
    const signed = hsm.sign(encodeUtf8('a\n1'), 0, controller.signal);
    controller.abort();
    await expect(signed).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
  });
});
