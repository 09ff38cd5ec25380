/** One emulator for a test file, with devices of every kind: its hooks run in each file that imports it. */
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { type IssuedCertificate, issueCertificate, makeAuthority } from '../../src/emulator/pki.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { makeFleet } from './fleet-certificates.js';
import { MqttProbe, type ProbeOptions } from './mqtt-probe.js';
import { DEVICE_KEY, dpsToken, GROUP_KEY, OTHER_KEY } from './tokens.js';

export const SCOPE = '0ne00111111';
export const OTHER_SCOPE = '0ne00222222';
export const FILTER = '$dps/registrations/res/#';
export const REGISTER = '$dps/registrations/PUT/iotdps-register/?$rid=';
/** Later than any test moves the clock. */
export const EXPIRY = Math.floor(Date.UTC(2026, 10, 21) / 1000) + 86_400;

export let clock: ManualClock;
export let emulator: Emulator;
export let leaf: IssuedCertificate;
export let stranger: IssuedCertificate;
const probes: MqttProbe[] = [];

beforeAll(async () => {
  clock = new ManualClock();
  const nowMs = clock.wallMs();
  const fleet = await makeFleet(nowMs);
  leaf = fleet.leaf;
  stranger = await issueCertificate(await makeAuthority({ commonName: 'Elsewhere', nowMs }), {
    commonName: 'x-1',
    usage: 'client',
    nowMs,
  });
  const enrollments = [
    { registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey: DEVICE_KEY, secondaryKey: OTHER_KEY } } },
    {
      registrationId: 'off-1',
      provisioningStatus: 'disabled' as const,
      attestation: { symmetricKey: { primaryKey: DEVICE_KEY } },
    },
  ];
  const enrollmentGroups = [
    { enrollmentGroupId: 'keys', attestation: { symmetricKey: { primaryKey: GROUP_KEY } } },
    {
      enrollmentGroupId: 'certs',
      attestation: { x509: { signingCertificates: { primary: { certificate: fleet.authority.certificatePem } } } },
    },
  ];
  emulator = await startEmulator(
    {
      scopes: [
        { idScope: SCOPE, enrollments, enrollmentGroups, hubs: [{ name: 'hub-a', hostName: 'hub-a.test' }] },
        { idScope: OTHER_SCOPE },
      ],
    },
    { clock },
  );
});

afterAll(() => emulator.close());

beforeEach(() => {
  emulator.faults.clear();
  emulator.trace.clear();
});

afterEach(async () => {
  await Promise.all(probes.splice(0).map((probe) => probe.close()));
});

export async function open(options: Partial<ProbeOptions> = {}): Promise<MqttProbe> {
  const probe = await MqttProbe.open({ address: emulator.endpoints.dps.mqtt, caPem: emulator.caPem, ...options });
  probes.push(probe);
  return probe;
}

export const userName = (id = 'dev-1', scope = SCOPE): string =>
  `${scope}/registrations/${id}/api-version=2019-03-31&ClientVersion=azure-iot-provisioning-device%2F1.9.1`;

export const withKey = (id = 'dev-1', key = DEVICE_KEY, scope = SCOPE) => ({
  clientId: id,
  username: userName(id, scope),
  password: dpsToken(scope, id, key, EXPIRY),
});

/** Connected and subscribed. */
export async function ready(
  fields = withKey(),
  options: Partial<ProbeOptions> = {},
  qos: 0 | 1 = 0,
): Promise<MqttProbe> {
  const probe = await open(options);
  expect(await probe.connect(fields)).toMatchObject({ returnCode: 0 });
  await probe.subscribe({ [FILTER]: qos });
  return probe;
}

/** Sends a request and reads its answer. */
export async function ask(
  probe: MqttProbe,
  topic: string,
  body = '',
): Promise<{ topic: string; json: Record<string, unknown> }> {
  probe.publish(topic, body);
  const { topic: answerTopic, text } = await probe.nextPublish();
  return { topic: answerTopic, json: JSON.parse(text) };
}
