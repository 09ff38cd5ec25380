import { beforeEach, describe, expect, it } from 'vitest';
import type { OperationScript } from '../../src/emulator/assignment.js';
import { resolveConfig, type ScopeConfig } from '../../src/emulator/config.js';
import type { IndividualEnrollment } from '../../src/emulator/enrollment.js';
import { EmulatedScope } from '../../src/emulator/scope.js';
import type { Caller } from '../../src/emulator/service.js';
import type { ServiceReply } from '../../src/emulator/service-reply.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { DEVICE_KEY, dpsToken, GROUP_KEY, hmacBase64, OTHER_KEY } from './tokens.js';

const SCOPE = '0neABCDEF12';
const NOTHING = new Uint8Array();
const TIMESTAMP = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z$/;
const GUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

let clock: ManualClock;

beforeEach(() => {
  clock = new ManualClock();
});

function makeScope(config: ScopeConfig, rules: { refuseConcurrent?: boolean } = {}): EmulatedScope {
  const [scope] = resolveConfig({ idScope: SCOPE, ...config }, '.').scopes;
  if (scope === undefined) throw new Error('no scope');
  let counter = 0;
  return new EmulatedScope(scope, {
    clock,
    world: {
      wallMs: () => clock.wallMs(),
      // Different bytes each time, the same in every run.
      randomBytes: (size) => {
        counter += 1;
        return Uint8Array.from({ length: size }, (_, index) => (counter * 31 + index * 7) & 0xff);
      },
    },
    baseDirectory: '.',
    rules: { retryAfterSeconds: 3, refuseConcurrent: false, ...rules },
    stored: undefined,
    onChange: () => {},
  });
}

const device = (more: Partial<IndividualEnrollment> = {}): IndividualEnrollment => ({
  registrationId: 'dev-1',
  attestation: { symmetricKey: { primaryKey: DEVICE_KEY, secondaryKey: OTHER_KEY } },
  ...more,
});

function caller(registrationId = 'dev-1', key = DEVICE_KEY, apiVersion = '2019-03-31'): Caller {
  const token = dpsToken(SCOPE, registrationId, key, Math.floor(clock.wallMs() / 1000) + 3600);
  return { registrationId, apiVersion, credential: { kind: 'sas', token, presentedAtMs: clock.wallMs() } };
}

const json = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));

interface State {
  [member: string]: unknown;
  assignedHub?: string;
  substatus?: string;
}

/** Registers and polls to the end. */
function provision(
  scope: EmulatedScope,
  who: Caller = caller(),
  script?: OperationScript,
): ServiceReply & { state: State } {
  const started = scope.service.register(who, NOTHING, script);
  expect(started).toMatchObject({ status: 202, retryAfterSeconds: 3, body: { status: 'assigning' } });
  const reply = scope.service.operationStatus(who, String(started.body.operationId));
  expect(reply).toMatchObject({ status: 200, body: { operationId: started.body.operationId } });
  return { ...reply, state: reply.body.registrationState as State };
}

describe('a registration', () => {
  it('runs from 202 assigning to 200 assigned', () => {
    const scope = makeScope({ enrollments: [device()] });
    const started = scope.service.register(caller(), json({ registrationId: 'dev-1' }));
    expect(Object.keys(started.body)).toEqual(['operationId', 'status']);
    expect(started.body.operationId).toMatch(/^\d\.[0-9a-f]{16}\.[0-9a-f-]{36}$/);
    const { state } = provision(scope);
    expect(state).toEqual({
      registrationId: 'dev-1',
      createdDateTimeUtc: expect.stringMatching(TIMESTAMP),
      assignedHub: 'hub-1',
      deviceId: 'dev-1',
      status: 'assigned',
      substatus: 'initialAssignment',
      lastUpdatedDateTimeUtc: expect.stringMatching(TIMESTAMP),
      etag: expect.any(String),
    });
    expect(Buffer.from(String(state.etag), 'base64').toString()).toMatch(
      /^"[0-9a-f]{8}-0000-0300-0000-[0-9a-f]{8}0000"$/,
    );
  });

  it('can be delayed by polls, which carry a registration state', () => {
    const scope = makeScope({ enrollments: [device()] });
    const { body } = scope.service.register(caller(), NOTHING, { delayPolls: 2 });
    const poll = (): ServiceReply => scope.service.operationStatus(caller(), String(body.operationId));
    for (let count = 0; count < 2; count += 1) {
      expect(poll()).toMatchObject({
        status: 202,
        retryAfterSeconds: 3,
        body: { status: 'assigning', registrationState: { registrationId: 'dev-1', status: 'assigning' } },
      });
      expect(scope.registration('dev-1')).toBeUndefined();
    }
    expect(poll()).toMatchObject({ status: 200, body: { status: 'assigned' } });
  });

  it('can be over with the first reply', () => {
    const scope = makeScope({ enrollments: [device()] });
    expect(scope.service.register(caller(), NOTHING, { isImmediate: true })).toMatchObject({
      status: 200,
      body: { status: 'assigned', registrationState: { deviceId: 'dev-1' } },
    });
  });

  it('takes the device id of the enrollment and any payload of the device', () => {
    const scope = makeScope({ enrollments: [device({ deviceId: 'Other@Name' })] });
    const payload = { modelId: 'dtmi:com:example:Thermostat;1', größe: '漢' };
    scope.service.register(caller(), json({ registrationId: 'DEV-1', payload }));
    expect(scope.registration('dev-1')).toMatchObject({ deviceId: 'Other@Name' });
    expect(scope.receivedPayload('dev-1')).toEqual(payload);
  });

  it.each<[string, Uint8Array]>([
    ['nothing (C#)', NOTHING],
    ['a null payload (Python)', json({ payload: null, registrationId: 'dev-1' })],
    ['a text payload (Java)', json({ registrationId: 'dev-1', payload: '{"a":1}' })],
    ['no registration id', json({ payload: { a: 1 } })],
  ])('accepts a body with %s', (_what, body) => {
    expect(makeScope({ enrollments: [device()] }).service.register(caller(), body).status).toBe(202);
  });

  it.each<[string, Uint8Array]>([
    ['that is no JSON', new TextEncoder().encode('{')],
    ['that is a list', json([])],
    ['that is no UTF-8', Uint8Array.of(0x22, 0xff, 0x22)],
    ['that names another device', json({ registrationId: 'dev-2' })],
    ['of more than 96 KB', json({ payload: 'x'.repeat(96 * 1024) })],
  ])('refuses a body %s', (_what, body) => {
    const reply = makeScope({ enrollments: [device()] }).service.register(caller(), body);
    expect(reply).toMatchObject({ status: 400, body: { errorCode: 400004 } });
  });

  it('refuses a CSR where the protocol version knows one, and ignores it before', () => {
    const scope = makeScope({ enrollments: [device()] });
    const body = json({ csr: 'MIIB' });
    expect(scope.service.register(caller('dev-1', DEVICE_KEY, '2025-07-01-preview'), body).status).toBe(400);
    expect(scope.service.register(caller(), body).status).toBe(202);
  });

  it.each(['', 'latest', '2019-3-31'])('refuses the api-version "%s"', (apiVersion) => {
    const scope = makeScope({ enrollments: [device()] });
    expect(scope.service.register(caller('dev-1', DEVICE_KEY, apiVersion), NOTHING).status).toBe(400);
  });

  it('refuses a registration id outside the grammar', () => {
    const reply = makeScope({}).service.register(caller('dev 1'), NOTHING);
    expect(reply).toMatchObject({ status: 400, body: { errorCode: 400004, message: 'Invalid RegistrationId' } });
  });
});

describe('a refusal', () => {
  it('has the error shape and never a status member', () => {
    const { body, error } = makeScope({ enrollments: [device()] }).service.register(
      caller('dev-1', GROUP_KEY),
      NOTHING,
    );
    expect(body).toEqual({
      errorCode: 401002,
      trackingId: expect.stringMatching(GUID),
      message: 'Unauthorized',
      timestampUtc: expect.stringMatching(TIMESTAMP),
    });
    expect(error).toEqual({ errorCode: 401002, trackingId: body.trackingId, reason: expect.any(String) });
  });

  it('looks alike for an unknown device, a wrong key and a wrong kind of credential', () => {
    const scope = makeScope({ enrollments: [device()] });
    const none: Caller = { ...caller(), credential: { kind: 'none' } };
    for (const who of [caller('nobody'), caller('dev-1', GROUP_KEY), none]) {
      expect(scope.service.register(who, NOTHING).body).toMatchObject({ errorCode: 401002, message: 'Unauthorized' });
    }
  });
});

describe('an operation', () => {
  it('is found by its own device only', () => {
    const scope = makeScope({ enrollments: [device(), device({ registrationId: 'dev-2' })] });
    const { operationId } = scope.service.register(caller(), NOTHING).body;
    expect(scope.service.operationStatus(caller('dev-2'), String(operationId))).toMatchObject({
      status: 404,
      body: { errorCode: 404201 },
    });
    expect(scope.service.operationStatus(caller(), 'nonsense').status).toBe(404);
  });

  it('wants the credential again', () => {
    const scope = makeScope({ enrollments: [device()] });
    const { operationId } = scope.service.register(caller(), NOTHING).body;
    expect(scope.service.operationStatus(caller('dev-1', GROUP_KEY), String(operationId)).status).toBe(401);
  });

  it('can keep a second one away until its result was fetched, or for ten seconds', () => {
    const scope = makeScope({ enrollments: [device()] }, { refuseConcurrent: true });
    const register = (): ServiceReply => scope.service.register(caller(), NOTHING);
    const first = register();
    expect(register()).toMatchObject({ status: 409, body: { errorCode: 409203, message: 'Precondition failed.' } });
    scope.service.operationStatus(caller(), String(first.body.operationId));
    expect(register().status).toBe(202);
    clock.advance(9_999);
    expect(register().status).toBe(409);
    clock.advance(1);
    expect(register().status).toBe(202);
  });
});

describe('the status lookup', () => {
  it('shows the record flat, without an operation', () => {
    const scope = makeScope({ enrollments: [device()] });
    expect(scope.service.lookup(caller(), json({ registrationId: 'dev-1' }))).toMatchObject({
      status: 404,
      body: { errorCode: 404201 },
    });
    provision(scope);
    const reply = scope.service.lookup(caller(), json({ registrationId: 'dev-1' }));
    expect(reply.status).toBe(200);
    expect(Object.keys(reply.body)).toEqual([
      'registrationId',
      'createdDateTimeUtc',
      'assignedHub',
      'deviceId',
      'status',
      'substatus',
      'lastUpdatedDateTimeUtc',
      'etag',
    ]);
  });
});

describe('results other than assigned', () => {
  it('is disabled after an ordinary 202, and stored', () => {
    const scope = makeScope({ enrollments: [device({ provisioningStatus: 'disabled' })] });
    const { body, state } = provision(scope);
    expect(body.status).toBe('disabled');
    expect(Object.keys(state)).toEqual([
      'registrationId',
      'createdDateTimeUtc',
      'status',
      'lastUpdatedDateTimeUtc',
      'etag',
    ]);
    expect(scope.registrations()).toMatchObject([{ status: 'disabled' }]);
    expect(scope.hubs[0]?.devices()).toEqual([]);
  });

  it('remembers the hub through a time of being disabled', () => {
    const scope = makeScope({ enrollments: [device()] });
    provision(scope);
    scope.updateEnrollment('dev-1', { provisioningStatus: 'disabled' });
    expect(provision(scope).state.assignedHub).toBeUndefined();
    scope.updateEnrollment('dev-1', { provisioningStatus: 'enabled' });
    provision(scope);
    expect(scope.registration('dev-1')).toMatchObject({ substatus: 'reprovisionedToInitialAssignment' });
  });

  it('fails without a hub, and stores that', () => {
    const scope = makeScope({ hubs: [], enrollments: [device()] });
    const { body, state } = provision(scope);
    expect(body.status).toBe('failed');
    expect(state).toMatchObject({ status: 'failed', errorCode: 400208, errorMessage: expect.any(String) });
    expect(scope.registration('dev-1')).toMatchObject({ status: 'failed', errorCode: 400208 });
  });

  it('can be told to fail, with a payload or without', () => {
    const scope = makeScope({ enrollments: [device()] });
    const outcome = {
      status: 'failed',
      errorCode: 400207,
      errorMessage: 'Custom allocation failed with status code: 404',
    } as const;
    expect(provision(scope, caller(), { outcome }).state).toMatchObject({ errorCode: 400207, status: 'failed' });
    expect(provision(scope, caller(), { payload: { grüße: '👋' } }).state).toMatchObject({ payload: { grüße: '👋' } });
  });
});

describe('groups', () => {
  const scopeWithGroup = (): EmulatedScope =>
    makeScope({
      enrollmentGroups: [{ enrollmentGroupId: 'g', attestation: { symmetricKey: { primaryKey: GROUP_KEY } } }],
    });

  it('names the group in the result and makes the hub identity with the derived keys', () => {
    const scope = scopeWithGroup();
    const key = hmacBase64(GROUP_KEY, 'Member-7');
    const { state } = provision(scope, caller('Member-7', key));
    expect(Object.keys(state)[0]).toBe('symmetricKey');
    expect(state).toMatchObject({ symmetricKey: { enrollmentGroupId: 'g' }, deviceId: 'Member-7' });
    expect(scope.hubs[0]?.registered('Member-7')?.authentication).toMatchObject({ type: 'sas', primaryKey: key });
  });

  it('keeps one record whatever the spelling of the id', () => {
    const scope = scopeWithGroup();
    provision(scope, caller('Member-7', hmacBase64(GROUP_KEY, 'member-7')));
    provision(scope, caller('MEMBER-7', hmacBase64(GROUP_KEY, 'member-7')));
    expect(scope.registrations()).toHaveLength(1);
    expect(scope.registration('member-7')).toMatchObject({ deviceId: 'Member-7' });
  });

  it('forgets its devices when it is removed', () => {
    const scope = scopeWithGroup();
    provision(scope, caller('m', hmacBase64(GROUP_KEY, 'm')));
    expect(scope.removeEnrollmentGroup('G')).toBe(true);
    expect(scope.registrations()).toEqual([]);
    expect(scope.hubs[0]?.devices()).toHaveLength(1);
  });
});

describe('reprovisioning', () => {
  const hubs = [{ name: 'hub-a' }, { name: 'hub-b' }];
  const moving = (policy?: IndividualEnrollment['reprovisionPolicy']): EmulatedScope => {
    const initialTwin = { tags: { line: 1 }, properties: { desired: { fan: 'on' } } };
    const enrollment = device({
      initialTwin,
      allocationPolicy: 'static',
      iotHubs: ['hub-a'],
      ...(policy && { reprovisionPolicy: policy }),
    });
    const scope = makeScope({ hubs, enrollments: [enrollment] });
    provision(scope);
    const [hubA] = scope.hubs;
    hubA?.patchDesired('dev-1', { fan: 'off' });
    hubA?.patchReported('dev-1', { fw: '1.0' });
    scope.updateEnrollment('dev-1', { iotHubs: ['hub-b'] });
    return scope;
  };
  const twinAt = (scope: EmulatedScope, index: number): unknown => scope.hubs[index]?.contentOf('dev-1');

  it.each([
    ['given', { updateHubAssignment: true, migrateDeviceData: true }],
    ['absent', undefined],
  ] as const)('moves the device with its data (policy %s)', (_how, policy) => {
    const scope = moving(policy);
    expect(provision(scope).state).toMatchObject({ assignedHub: 'hub-b', substatus: 'deviceDataMigrated' });
    expect(twinAt(scope, 0)).toBeUndefined();
    expect(twinAt(scope, 1)).toEqual({ tags: { line: 1 }, desired: { fan: 'off' }, reported: { fw: '1.0' } });
  });

  it('moves the device and resets its data', () => {
    const scope = moving({ updateHubAssignment: true, migrateDeviceData: false });
    expect(provision(scope).state).toMatchObject({ assignedHub: 'hub-b', substatus: 'deviceDataReset' });
    expect(twinAt(scope, 0)).toBeUndefined();
    expect(twinAt(scope, 1)).toEqual({ tags: { line: 1 }, desired: { fan: 'on' }, reported: {} });
  });

  it('never moves the device', () => {
    const scope = moving({ updateHubAssignment: false, migrateDeviceData: true });
    expect(provision(scope).state).toMatchObject({ assignedHub: 'hub-a' });
    expect(twinAt(scope, 0)).toMatchObject({ desired: { fan: 'off' } });
    expect(twinAt(scope, 1)).toBeUndefined();
  });

  it('sticks to the hub for callers from before there were policies', () => {
    const old = (): Caller => caller('dev-1', DEVICE_KEY, '2018-04-01');
    expect(provision(moving(), old()).state).toMatchObject({ assignedHub: 'hub-a' });
    expect(provision(moving({}), old()).state).toMatchObject({ assignedHub: 'hub-b' });
  });

  it('names a return to the same hub by the caller’s version', () => {
    const scope = makeScope({ enrollments: [device()] });
    provision(scope);
    expect(provision(scope).state.substatus).toBe('initialAssignment');
    expect(provision(scope, caller('dev-1', DEVICE_KEY, '2021-06-01')).state.substatus).toBe(
      'reprovisionedToInitialAssignment',
    );
    expect(scope.registration('dev-1')?.substatus).toBe('reprovisionedToInitialAssignment');
  });

  it('gives the same hub the new keys and leaves the twin alone', () => {
    const scope = makeScope({ enrollments: [device({ initialTwin: { properties: { desired: { fan: 'on' } } } })] });
    provision(scope);
    scope.hubs[0]?.patchDesired('dev-1', { fan: 'off' });
    scope.updateEnrollment('dev-1', {
      attestation: { symmetricKey: { primaryKey: GROUP_KEY, secondaryKey: OTHER_KEY } },
    });
    provision(scope, caller('dev-1', GROUP_KEY));
    expect(scope.hubs[0]?.registered('dev-1')?.authentication).toMatchObject({ primaryKey: GROUP_KEY });
    expect(scope.hubs[0]?.twin('dev-1')?.desired).toEqual({ version: 2, properties: { fan: 'off' } });
  });

  it('makes the identity anew when it is gone from the hub', () => {
    const scope = makeScope({ enrollments: [device({ initialTwin: { properties: { desired: { fan: 'on' } } } })] });
    provision(scope);
    scope.hubs[0]?.removeDevice('dev-1');
    provision(scope);
    expect(scope.hubs[0]?.twin('dev-1')?.desired.properties).toEqual({ fan: 'on' });
  });

  it('keeps the device id of the record until the record is deleted, and leaves the old identity behind', () => {
    const scope = makeScope({ enrollments: [device()] });
    provision(scope);
    scope.updateEnrollment('dev-1', { deviceId: 'renamed' });
    expect(provision(scope).state).toMatchObject({ deviceId: 'dev-1' });
    scope.removeRegistration('DEV-1');
    expect(provision(scope).state).toMatchObject({ deviceId: 'renamed', substatus: 'initialAssignment' });
    expect(scope.hubs[0]?.devices().map(({ deviceId }) => deviceId)).toEqual(['dev-1', 'renamed']);
  });
});

describe('allocation', () => {
  const hubs = [
    { name: 'light', allocationWeight: 1 },
    { name: 'heavy', allocationWeight: 9 },
    { name: 'aside', applyAllocationPolicy: false },
  ];
  const spread = (allocationPolicy: 'hashed' | 'geoLatency'): Map<string, number> => {
    const scope = makeScope({
      hubs,
      enrollmentGroups: [
        { enrollmentGroupId: 'g', allocationPolicy, attestation: { symmetricKey: { primaryKey: GROUP_KEY } } },
      ],
    });
    const counts = new Map<string, number>();
    for (let index = 0; index < 300; index += 1) {
      const id = `device-${index}`;
      const hub = provision(scope, caller(id, hmacBase64(GROUP_KEY, id))).state.assignedHub ?? '';
      counts.set(hub, (counts.get(hub) ?? 0) + 1);
    }
    return counts;
  };

  it.each(['hashed', 'geoLatency'] as const)('%s spreads by weight over the hubs that take part', (policy) => {
    const counts = spread(policy);
    expect([...counts.keys()].sort()).toEqual(['heavy', 'light']);
    // One in ten on average; the draw is the same in every run.
    expect(counts.get('light')).toBeGreaterThan(12);
    expect(counts.get('light')).toBeLessThan(60);
  });

  it('chooses among the hubs that the enrollment names, also those that stand aside', () => {
    const scope = makeScope({ hubs, enrollments: [device({ iotHubs: ['aside'] })] });
    expect(provision(scope).state).toMatchObject({ assignedHub: 'aside' });
  });
});
