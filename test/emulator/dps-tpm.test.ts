import { createHmac } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { type Emulator, type IndividualEnrollment, startEmulator } from '../../src/emulator/index.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { askHttps, type HttpsReply } from './https-probe.js';
import { MqttProbe } from './mqtt-probe.js';
import { SoftwareTpm } from './software-tpm.js';
import { DEVICE_KEY, dpsToken, hubToken } from './tokens.js';
import { VECTORS } from './tpm-vectors.js';

const SCOPE = '0ne00111111';
const { registrationId: ID } = VECTORS.softwareActivation;
const HOUR_MS = 3_600_000;

const device = new SoftwareTpm();
const ENROLLMENT: IndividualEnrollment = {
  registrationId: ID,
  attestation: { type: 'tpm', tpm: { endorsementKey: device.tpm.endorsementKey } },
  initialTwin: { properties: { desired: { fan: 'on' } } },
};

let clock: ManualClock;
let emulator: Emulator;

beforeEach(async () => {
  clock = new ManualClock();
  emulator = await startEmulator({ idScope: SCOPE, hubs: [{ name: 'a' }], enrollments: [ENROLLMENT] }, { clock });
});

afterEach(() => emulator.close());

interface Asked {
  readonly id?: string;
  readonly token?: string | undefined;
  /** `null`: no body at all. */
  readonly tpm?: unknown;
  readonly path?: string;
  readonly method?: string;
}

function ask({
  id = ID,
  token,
  tpm = device.tpm,
  path = '/register',
  method = 'PUT',
}: Asked = {}): Promise<HttpsReply> {
  const headers = { 'Content-Type': 'application/json', ...(token !== undefined && { Authorization: token }) };
  const body =
    method === 'GET' || tpm === null ? undefined : JSON.stringify({ registrationId: id, tpm, payload: { site: 7 } });
  const target = `/${SCOPE}/registrations/${id}${path}?api-version=2019-03-31`;
  return askHttps(emulator.endpoints.dps.https, emulator.caPem, method, target, {
    headers: body === undefined ? headers : { ...headers, 'Content-Length': Buffer.byteLength(body) },
    ...(body !== undefined && { body }),
  });
}

interface Challenge {
  readonly authenticationKey: string;
}
interface Operation {
  readonly operationId: string;
  readonly status: string;
  readonly registrationState?: Readonly<Record<string, unknown>> & { readonly tpm?: Challenge };
}

const expiry = (): number => Math.floor((clock.wallMs() + HOUR_MS) / 1000);
const tokenOf = (key: Buffer, id = ID): string => dpsToken(SCOPE, id, key.toString('base64'), expiry());

/** The first step: the token that the challenge is for. */
async function answerChallenge(asked: Asked = {}): Promise<string> {
  const reply = await ask(asked);
  expect(reply.status).toBe(401);
  const blob = Buffer.from((reply.json as Challenge).authenticationKey, 'base64');
  return tokenOf(device.activate(blob), asked.id);
}

/** The whole registration to its result. */
async function register(asked: Asked = {}): Promise<Operation> {
  const token = await answerChallenge(asked);
  const started = await ask({ ...asked, token });
  expect([started.status, started.text]).toEqual([202, expect.stringContaining('assigning')]);
  const { operationId } = started.json as Operation;
  const result = await ask({ ...asked, token, method: 'GET', path: `/operations/${operationId}` });
  expect(result.status).toBe(200);
  return result.json as Operation;
}

const hubKeyOf = ({ registrationState }: Operation): Buffer =>
  device.activate(Buffer.from(registrationState?.tpm?.authenticationKey ?? '', 'base64'));

async function connectToHub(key: Buffer, deviceId = ID): Promise<number | undefined> {
  const { hostName } = emulator.hub();
  const probe = await MqttProbe.open({ address: emulator.endpoints.hubs[0]?.mqtt ?? '', caPem: emulator.caPem });
  const answer = await probe.connect({
    clientId: deviceId,
    username: `${hostName}/${deviceId}/?api-version=2021-04-12`,
    password: hubToken(hostName, deviceId, key.toString('base64'), expiry()),
  });
  await probe.close();
  return answer.returnCode;
}

describe('the challenge', () => {
  it('is a 401 in a shape of its own, with a blob for this TPM, and another each time', async () => {
    const reply = await ask();
    expect(reply.status).toBe(401);
    expect(reply.headers['x-ms-error-code']).toBeUndefined();
    expect(reply.json).toEqual({
      message: 'Authorization required, resend request using supplied key',
      authenticationKey: expect.stringMatching(/^ADQAI/),
      unencryptedAuthenticationKey: null,
      keyName: 'registration',
    });
    const keys = [reply, await ask()].map(({ json }) =>
      device.activate(Buffer.from((json as Challenge).authenticationKey, 'base64')).toString('hex'),
    );
    expect(keys[0]).toMatch(/^[0-9a-f]{64}$/);
    expect(keys[1]).not.toBe(keys[0]);
  });

  it('is in the trace, and what it is made of is not', async () => {
    const lines: string[] = [];
    await emulator.close();
    emulator = await startEmulator(
      { idScope: SCOPE, enrollments: [ENROLLMENT] },
      { clock, log: (line) => lines.push(line) },
    );
    const reply = await ask();
    expect(emulator.trace.entries().map(({ event }) => event)).toEqual(['register', 'challenge', 'reply']);
    const { authenticationKey } = reply.json as Challenge;
    const key = device.activate(Buffer.from(authenticationKey, 'base64'));
    const told = lines.join('\n') + JSON.stringify(emulator.trace.entries());
    for (const secret of [authenticationKey, key.toString('base64'), key.toString('hex')])
      expect(told).not.toContain(secret);
  });

  it('comes before a status lookup, too', async () => {
    await register();
    const token = await answerChallenge({ path: '', method: 'POST' });
    const found = await ask({ token, path: '', method: 'POST' });
    expect([found.status, found.json]).toEqual([200, expect.objectContaining({ status: 'assigned', deviceId: ID })]);
    expect(await connectToHub(hubKeyOf({ registrationState: found.json } as never))).toBe(0);
  });

  it.each<[string, unknown, string]>([
    [
      'an ECC key',
      { ...device.tpm, endorsementKey: Buffer.alloc(92).toString('base64') },
      'Endorsement key is invalid',
    ],
    ['no key', { storageRootKey: device.tpm.storageRootKey }, 'Endorsement key is invalid'],
    ['a number', { ...device.tpm, endorsementKey: 5 }, 'Endorsement key is invalid'],
    ['no object', 'tpm', 'Endorsement key is invalid'],
    ['no storage root key', { endorsementKey: device.tpm.endorsementKey }, 'Storage root key is invalid'],
    ['a broken storage root key', { ...device.tpm, storageRootKey: 'AAAA' }, 'Storage root key is invalid'],
  ])('is not given for %s', async (_name, tpm, message) => {
    const reply = await ask({ tpm });
    expect([reply.status, reply.json]).toEqual([
      400,
      expect.objectContaining({ errorCode: 400004, message: expect.stringContaining(message) }),
    ]);
    expect(reply.text).not.toContain('authenticationKey');
  });

  it('takes the storage root key of the enrollment when the device sends none', async () => {
    emulator.enroll({ ...ENROLLMENT, attestation: { tpm: device.tpm } });
    expect(await register({ tpm: { endorsementKey: device.tpm.endorsementKey } })).toMatchObject({
      status: 'assigned',
    });
  });

  it('is refused to a TPM with another endorsement key than the enrolled one, and to other enrollments', async () => {
    const other = VECTORS.recordedExchange.endorsementKey_TPM2B_PUBLIC;
    const endorsementKey = Buffer.from(other, 'hex').toString('base64');
    const wrong = await ask({ tpm: { ...device.tpm, endorsementKey } });
    expect([wrong.status, wrong.json]).toEqual([401, expect.objectContaining({ errorCode: 401002 })]);
    expect(wrong.text).not.toContain('authenticationKey');
    emulator.enroll({ registrationId: 'key-1', attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } });
    expect((await ask({ id: 'key-1' })).json).toMatchObject({ errorCode: 401002 });
    expect(emulator.trace.entries({ event: 'refused' }).map(({ detail }) => detail)).toEqual([
      'the endorsement key is not the one enrolled',
      'the enrollment wants symmetricKey, the device presented a TPM',
    ]);
  });

  it('does not keep a device with a symmetric key of the same id out', async () => {
    emulator.enrollGroup({ enrollmentGroupId: 'g', attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } });
    await ask({ id: 'dev-1' });
    const derived = createHmac('sha256', Buffer.from(DEVICE_KEY, 'base64')).update('dev-1').digest();
    expect((await ask({ id: 'dev-1', token: tokenOf(derived, 'dev-1') })).status).toBe(202);
  });
});

describe('the registration of a TPM', () => {
  it('ends in a hub key that only this TPM can have, by which its hub knows it', async () => {
    const result = await register();
    const { tpm, ...state } = result.registrationState ?? {};
    expect(result.status).toBe('assigned');
    expect(Object.keys(result.registrationState ?? {})[0]).toBe('tpm');
    expect(Object.keys(tpm ?? {})).toEqual(['authenticationKey']);
    expect(state).toMatchObject({ deviceId: ID, assignedHub: emulator.hub().hostName, substatus: 'initialAssignment' });
    const key = hubKeyOf(result);
    expect(key).toHaveLength(32);
    expect(await connectToHub(key)).toBe(0);
    expect(await connectToHub(Buffer.alloc(32))).toBe(5);
    expect(emulator.hub().twin(ID)?.desired.properties).toEqual({ fan: 'on' });
    expect(emulator.registration(ID)).not.toHaveProperty('tpm');
    expect(emulator.receivedPayload(ID)).toEqual({ site: 7 });
  });

  it('goes on without the keys in the second request, as some clients do', async () => {
    const token = await answerChallenge();
    expect((await ask({ token, tpm: undefined })).status).toBe(202);
    expect((await ask({ token, tpm: null })).status).toBe(202);
  });

  it('gives the same hub key again as long as the hub knows it, and a new one when not', async () => {
    const first = hubKeyOf(await register());
    const second = await register();
    expect(hubKeyOf(second).equals(first)).toBe(true);
    expect(second.registrationState?.substatus).toBe('initialAssignment');
    const rolled = Buffer.alloc(32, 3).toString('base64');
    emulator
      .hub()
      .addDevice({ deviceId: ID, authentication: { type: 'sas', primaryKey: rolled, secondaryKey: rolled } });
    expect(hubKeyOf(await register()).toString('base64')).toBe(rolled);
    const tooLong = Buffer.alloc(65, 3).toString('base64');
    emulator
      .hub()
      .addDevice({ deviceId: ID, authentication: { type: 'sas', primaryKey: tooLong, secondaryKey: rolled } });
    expect(hubKeyOf(await register())).toHaveLength(32);
    emulator.hub().removeDevice(ID);
    const third = hubKeyOf(await register());
    expect(third.equals(first)).toBe(false);
    expect([await connectToHub(first), await connectToHub(third)]).toEqual([5, 0]);
  });

  it('leaves no key of an earlier enrollment good', async () => {
    emulator.enroll({ registrationId: ID, attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } });
    const old = Buffer.from(DEVICE_KEY, 'base64');
    expect((await ask({ token: tokenOf(old), tpm: undefined })).status).toBe(202);
    expect(await connectToHub(old)).toBe(0);
    emulator.enroll(ENROLLMENT);
    const key = hubKeyOf(await register());
    expect([await connectToHub(old), await connectToHub(key)]).toEqual([5, 0]);
  });

  it('of one that nobody has enrolled fails in the end, and leaves nothing behind', async () => {
    const result = await register({ id: 'stranger' });
    expect(result).toMatchObject({
      status: 'failed',
      registrationState: { registrationId: 'stranger', status: 'failed', errorCode: 404201 },
    });
    for (const member of ['assignedHub', 'deviceId', 'tpm'])
      expect(result.registrationState).not.toHaveProperty(member);
    expect([emulator.registration('stranger'), emulator.receivedPayload('stranger')]).toEqual([undefined, undefined]);
    expect(emulator.hub().devices()).toEqual([]);
  });

  it('of a disabled one is told so, without a key', async () => {
    emulator.updateEnrollment(ID, { provisioningStatus: 'disabled' });
    const result = await register();
    expect(result.status).toBe('disabled');
    expect(result.registrationState).not.toHaveProperty('tpm');
  });

  it('is refused with a token of another key, which is no challenge', async () => {
    await ask();
    const wrong = await ask({ token: tokenOf(Buffer.alloc(32, 1)) });
    expect([wrong.status, wrong.json]).toEqual([401, expect.objectContaining({ errorCode: 401002 })]);
    expect(wrong.text).not.toContain('authenticationKey');
    expect(emulator.trace.entries({ event: 'refused' })[0]?.detail).toContain(
      'not signed with the key of the latest challenge',
    );
  });

  it('is refused with a token of an older challenge, or when the challenge has run out', async () => {
    const older = await answerChallenge();
    const token = await answerChallenge();
    expect((await ask({ token: older })).status).toBe(401);
    expect((await ask({ token })).status).toBe(202);
    clock.advance(HOUR_MS + 1);
    expect((await ask({ token })).json).toMatchObject({ errorCode: 401002 });
    expect(emulator.trace.entries({ event: 'refused' }).at(-1)?.detail).toContain('let it expire');
    expect(await register()).toMatchObject({ status: 'assigned' });
  });

  it('is refused when its enrollment changes on the way', async () => {
    const token = await answerChallenge();
    emulator.enroll({ registrationId: ID, attestation: { symmetricKey: {} } });
    expect((await ask({ token })).json).toMatchObject({ errorCode: 401002 });
  });

  it('outlives a restart of the emulator', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'emulator-tpm-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const config = { idScope: SCOPE, hubs: [{ name: 'a' }], stateFile: join(folder, 'state.json') };
    await emulator.close();
    emulator = await startEmulator(config, { clock });
    const attestation = { type: 'tpm', tpm: device.tpm } as const;
    expect(emulator.enroll({ ...ENROLLMENT, attestation }).attestation).toEqual(attestation);
    const key = hubKeyOf(await register());
    await emulator.close();
    emulator = await startEmulator(config, { clock });
    expect(emulator.enrollments()[0]?.attestation).toEqual(attestation);
    expect(emulator.registration(ID)).toMatchObject({ status: 'assigned' });
    expect(await connectToHub(key)).toBe(0);
    expect(hubKeyOf(await register()).equals(key)).toBe(true);
  });
});

describe('fault switches', () => {
  it('spoil the blob of the challenge, or of the hub key', async () => {
    const damage = { kind: 'tpmBlob', damage: 'field3' } as const;
    emulator.faults.add({ at: 'dps.challenge', action: damage, times: 1 });
    await expect(answerChallenge()).rejects.toThrow('INTEGRITY');
    emulator.faults.add({ at: 'dps.register', action: damage, times: 1 });
    const spoiled = await register();
    expect(spoiled.status).toBe('assigned');
    expect(() => hubKeyOf(spoiled)).toThrow('INTEGRITY');
    expect(await connectToHub(hubKeyOf(await register()))).toBe(0);
  });

  it('answer instead of the challenge, and leave the other requests alone', async () => {
    emulator.faults.add({ at: 'dps.challenge', action: { kind: 'respond', status: 503 }, times: 1 });
    emulator.faults.add({ at: 'dps.register', action: { kind: 'respond', status: 429 }, times: 1 });
    expect((await ask()).status).toBe(503);
    const token = await answerChallenge();
    expect((await ask({ token })).status).toBe(429);
    expect((await ask({ token })).status).toBe(202);
  });
});

describe('over MQTT', () => {
  it('a TPM is no credential, as with the real service', async () => {
    const probe = await MqttProbe.open({ address: emulator.endpoints.dps.mqtt, caPem: emulator.caPem });
    const username = `${SCOPE}/registrations/${ID}/api-version=2019-03-31`;
    expect(await probe.connect({ clientId: ID, username })).toMatchObject({ returnCode: 0 });
    await probe.subscribe({ '$dps/registrations/res/#': 0 });
    const body = JSON.stringify({ registrationId: ID, tpm: device.tpm });
    probe.publish('$dps/registrations/PUT/iotdps-register/?$rid=1', body);
    expect((await probe.nextPublish()).topic).toBe('$dps/registrations/res/401/?$rid=1');
    await probe.close();
  });

  it('a challenge of another protocol helps nobody', async () => {
    const password = await answerChallenge();
    const probe = await MqttProbe.open({ address: emulator.endpoints.dps.mqtt, caPem: emulator.caPem });
    const username = `${SCOPE}/registrations/${ID}/api-version=2019-03-31`;
    await probe.connect({ clientId: ID, username, password });
    await probe.subscribe({ '$dps/registrations/res/#': 0 });
    probe.publish('$dps/registrations/PUT/iotdps-register/?$rid=1', '');
    expect((await probe.nextPublish()).topic).toBe('$dps/registrations/res/401/?$rid=1');
    await probe.close();
  });
});
