/**
 * HSMs of this package as security clients of Microsoft's `ProvisioningDeviceClient`, whose packages are unmodified. Their
 * client trusts a CA by `NODE_EXTRA_CA_CERTS` only, and its HTTPS transport knows port 443 only, where Node's default
 * agent may know better: hence programs of their own, which end when nothing is left open.
 */
import { createHmac } from 'node:crypto';
import { inspect } from 'node:util';
import provisioningDevice from 'azure-iot-provisioning-device';
import provisioningMqtt from 'azure-iot-provisioning-device-mqtt';
import { describe, expect, it } from 'vitest';
import { azureSecurityClient } from '../../src/azure/index.js';
import type { Hsm, SymmetricKeyHsm, X509Hsm } from '../../src/core/attestation.js';
import { type Emulator, issueCertificate, makeAuthority, makeSelfSigned } from '../../src/emulator/index.js';
import { HsmError } from '../../src/errors.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { deriveKey, makeKey, startBench } from '../interop/emulator-bench.js';
import { runProgram } from './program.js';

const { ProvisioningDeviceClient } = provisioningDevice;

/** `HSM` is the expression that makes the HSM, `register()` does the rest. */
const program = (hsm: string): string => `
  import https from 'node:https';
  import { createHmac } from 'node:crypto';
  import provisioning from 'azure-iot-provisioning-device';
  import { azureSecurityClient } from 'dps-device/azure';
  import { symmetricKeyHsm } from 'dps-device/hsm/symmetric-key';
  import { x509FileHsm } from 'dps-device/hsm/x509-file';

  const { TRANSPORT, MQTT_ENDPOINT, HTTPS_PORT, ID_SCOPE, KEY, CERTIFICATE, CERTIFICATE_KEY } = process.env;
  const hsm = ${hsm};
  https.globalAgent = new https.Agent({ port: Number(HTTPS_PORT) });
  const transports = {
    mqtt: async () => new (await import('azure-iot-provisioning-device-mqtt')).default.Mqtt(),
    https: async () => new (await import('azure-iot-provisioning-device-http')).default.Http(),
  };
  const client = provisioning.ProvisioningDeviceClient.create(
    TRANSPORT === 'mqtt' ? MQTT_ENDPOINT : 'localhost',
    ID_SCOPE,
    await transports[TRANSPORT](),
    await azureSecurityClient(hsm),
  );
  client.setProvisioningPayload({ site: 'north' });
  const { status, registrationId, assignedHub, deviceId } = await client.register();
  console.log(JSON.stringify({ status, registrationId, assignedHub, deviceId }));
`;

interface Enrolled {
  readonly hsm: string;
  readonly env: Record<string, string>;
}

const DEVICES: Record<string, (emulator: Emulator) => Enrolled | Promise<Enrolled>> = {
  'a key of ours': (emulator) => {
    const KEY = makeKey();
    emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: KEY } } });
    return { hsm: "await symmetricKeyHsm({ registrationId: 'dev-1', key: KEY })", env: { KEY } };
  },
  'a key derived from a group key': (emulator) => {
    const KEY = makeKey();
    emulator.enrollGroup({ enrollmentGroupId: 'meters', attestation: { symmetricKey: { primaryKey: KEY } } });
    return { hsm: "await symmetricKeyHsm({ registrationId: 'dev-1', groupKey: KEY })", env: { KEY } };
  },
  'a key that cannot leave its chip': (emulator) => {
    const groupKey = makeKey();
    emulator.enrollGroup({ enrollmentGroupId: 'meters', attestation: { symmetricKey: { primaryKey: groupKey } } });
    const hsm = `{
      kind: 'symmetricKey',
      registrationId: async () => 'dev-1',
      sign: async (data) => new Uint8Array(createHmac('sha256', Buffer.from(KEY, 'base64')).update(data).digest()),
    }`;
    return { hsm, env: { KEY: deriveKey(groupKey, 'dev-1') } };
  },
  'a certificate under an intermediate': async (emulator) => {
    const root = await makeAuthority({ commonName: 'Plant root' });
    const intermediate = await makeAuthority({ commonName: 'Plant line 1', issuer: root });
    const { chainPem, privateKeyPem } = await issueCertificate(intermediate, { commonName: 'dev-1', usage: 'client' });
    const signingCertificates = { primary: { certificate: root.certificatePem } };
    emulator.enrollGroup({ enrollmentGroupId: 'pumps', attestation: { x509: { signingCertificates } } });
    return {
      hsm: 'await x509FileHsm({ certificatePem: CERTIFICATE, keyPem: CERTIFICATE_KEY })',
      env: { CERTIFICATE: chainPem, CERTIFICATE_KEY: privateKeyPem },
    };
  },
};

describe.each(['mqtt', 'https'])('their provisioning client over %s', (transport) => {
  it.each(Object.entries(DEVICES))('registers with %s', async (_name, enroll) => {
    const emulator = await startBench();
    const { hsm, env } = await enroll(emulator);
    const { mqtt, https } = emulator.endpoints.dps;
    const { status, stdout, stderr } = await runProgram(program(hsm), {
      trustedCaPem: emulator.caPem,
      env: {
        ...env,
        TRANSPORT: transport,
        MQTT_ENDPOINT: mqtt,
        HTTPS_PORT: https.split(':')[1] ?? '',
        ID_SCOPE: emulator.idScope,
      },
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      status: 'assigned',
      registrationId: 'dev-1',
      assignedHub: emulator.hub().hostName,
      deviceId: 'dev-1',
    });
    expect(emulator.receivedPayload('dev-1')).toEqual({ site: 'north' });
    expect(emulator.trace.count({ event: 'refused' })).toBe(0);
  });
});

const KEY = 'c2VjcmV0IGtleSBvZiB0aGUgZGV2aWNl';
const keyHsm = (overrides: Partial<SymmetricKeyHsm> = {}): SymmetricKeyHsm => ({
  kind: 'symmetricKey',
  registrationId: async () => 'dev-1',
  sign: async (data) => new Uint8Array(createHmac('sha256', Buffer.from(KEY, 'base64')).update(data).digest()),
  ...overrides,
});
const certificateHsm = (overrides: Partial<X509Hsm> = {}): X509Hsm => ({
  kind: 'x509',
  registrationId: async () => 'dev-1',
  tlsCredential: async (slot) => ({ certificateChainPem: `chain ${slot}`, privateKeyPem: 'key', passphrase: 'p' }),
  ...overrides,
});

describe('azureSecurityClient with a key', () => {
  it('makes the token that the service documents, by promise and by callback', async () => {
    const clock = new ManualClock(1_800_000_000_999);
    const client = await azureSecurityClient(keyHsm(), { clock });
    const signed = createHmac('sha256', Buffer.from(KEY, 'base64'))
      .update('0ne00111111%2Fregistrations%2Fdev-1\n1800003600')
      .digest('base64');
    const text = `SharedAccessSignature sr=0ne00111111%2Fregistrations%2Fdev-1&sig=${encodeURIComponent(signed)}&se=1800003600&skn=registration`;
    expect(String(await client.createSharedAccessSignature('0ne00111111'))).toBe(text);
    const token = await new Promise((resolve) =>
      client.createSharedAccessSignature('0ne00111111', (_error, value) => resolve(value)),
    );
    expect(String(token)).toBe(text);
    expect(await client.getRegistrationId()).toBe('dev-1');
    expect(await new Promise((resolve) => client.getRegistrationId((_error, value) => resolve(value)))).toBe('dev-1');
    expect(clock.pending).toBe(0);
  });

  it('uses the slot and the token life it is given', async () => {
    const clock = new ManualClock(1_800_000_000_000);
    const slots: number[] = [];
    const hsm = keyHsm({
      sign: async (_data, slot) => {
        slots.push(slot);
        return new Uint8Array(32);
      },
    });
    const client = await azureSecurityClient(hsm, { clock, slot: 1, tokenLifeSeconds: 60 });
    expect(String(await client.createSharedAccessSignature('s'))).toContain('&se=1800000060&');
    expect(slots).toEqual([1]);
  });

  it('shows no token but by toString()', async () => {
    const client = await azureSecurityClient(keyHsm());
    const token = await client.createSharedAccessSignature('0ne00111111');
    expect(inspect(token, { showHidden: true }) + JSON.stringify(token)).not.toMatch(/sig/);
  });

  it('calls back with a typed error when the HSM fails, has no time, or the clock is not set', async () => {
    const failing = await azureSecurityClient(keyHsm({ sign: () => Promise.reject(new Error('chip gone')) }));
    const error = await new Promise((resolve) =>
      failing.createSharedAccessSignature('s', (failure) => resolve(failure)),
    );
    expect(error).toBeInstanceOf(HsmError);
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_OPERATION', message: expect.stringContaining('chip gone') });

    const clock = new ManualClock();
    const hanging = await azureSecurityClient(keyHsm({ sign: () => new Promise(() => {}) }), { clock });
    const late = hanging.createSharedAccessSignature('s');
    clock.advance(30_000);
    await expect(late).rejects.toMatchObject({ code: 'ERR_DPS_HSM_OPERATION', retryable: true });
    expect(clock.pending).toBe(0);

    const unset = await azureSecurityClient(keyHsm(), { clock: new ManualClock(0) });
    await expect(unset.createSharedAccessSignature('s')).rejects.toMatchObject({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE' });
    await expect(failing.createSharedAccessSignature('')).rejects.toMatchObject({ option: 'idScope' });
    await expect(failing.createSharedAccessSignature(undefined as never)).rejects.toMatchObject({ option: 'idScope' });
  });

  it('passes the error on through their client', async () => {
    const security = await azureSecurityClient(keyHsm({ sign: () => Promise.reject(new Error('chip gone')) }));
    const client = ProvisioningDeviceClient.create('localhost:1', 's', new provisioningMqtt.Mqtt(), security);
    await expect(client.register()).rejects.toMatchObject({ code: 'ERR_DPS_HSM_OPERATION' });
  });

  it('ends with the signal it was made with', async () => {
    const controller = new AbortController();
    const hsm = keyHsm({ sign: () => new Promise(() => {}) });
    const client = await azureSecurityClient(hsm, {}, controller.signal);
    const token = client.createSharedAccessSignature('s');
    controller.abort();
    await expect(token).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await expect(azureSecurityClient(hsm, {}, controller.signal)).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
  });
});

describe('azureSecurityClient with a certificate', () => {
  it('gives chain, key and passphrase', async () => {
    const client = await azureSecurityClient(certificateHsm(), { slot: 1 });
    expect(client.getRegistrationId()).toBe('dev-1');
    const certificate = await new Promise((resolve) => client.getCertificate((_error, value) => resolve(value)));
    expect(certificate).toEqual({ cert: 'chain 1', key: 'key', passphrase: 'p' });
  });

  it('calls back with a typed error when the HSM fails', async () => {
    const hsm = certificateHsm({ tlsCredential: () => Promise.reject(new Error('card out')) });
    const client = await azureSecurityClient(hsm);
    const error = await new Promise((resolve) => client.getCertificate((failure) => resolve(failure)));
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_OPERATION' });
  });

  it('fits their types', async () => {
    const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-1' });
    const tlsCredential = async () => ({ certificateChainPem: certificatePem, privateKeyPem });
    const client = await azureSecurityClient(certificateHsm({ tlsCredential }));
    expect(ProvisioningDeviceClient.create('localhost:1', 's', new provisioningMqtt.Mqtt(), client)).toBeDefined();
  });
});

describe('azureSecurityClient', () => {
  it.each<[string, unknown, object, string]>([
    ['no HSM', undefined, {}, 'ERR_DPS_CONFIG_OPTION'],
    ['a description of one', { kind: 'password' }, {}, 'ERR_DPS_CONFIG_OPTION'],
    ['a TPM', { kind: 'tpm' }, {}, 'ERR_DPS_CONFIG_UNSUPPORTED'],
    ['an unknown option', keyHsm(), { slots: 1 }, 'ERR_DPS_CONFIG_UNKNOWN_OPTION'],
    ['a token life of 0', keyHsm(), { tokenLifeSeconds: 0 }, 'ERR_DPS_CONFIG_OPTION'],
  ])('refuses %s', async (_name, hsm, options, code) => {
    await expect(azureSecurityClient(hsm as Hsm as SymmetricKeyHsm, options)).rejects.toMatchObject({ code });
  });
});
