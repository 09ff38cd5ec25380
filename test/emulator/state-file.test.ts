import { execFileSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type Emulator, type EmulatorConfig, makeAuthority, startEmulator } from '../../src/emulator/index.js';
import { makeFolder, open, start } from './emulator-bench.js';
import { askHttps } from './https-probe.js';
import { DEVICE_KEY, dpsToken, hubToken } from './tokens.js';

describe('the state file', () => {
  const register = async (emulator: Emulator, key: string): Promise<number> => {
    const token = dpsToken(emulator.idScope, 'dev-1', key, 4_000_000_000);
    const path = `/${emulator.idScope}/registrations/dev-1/register?api-version=2021-06-01`;
    return (
      await askHttps(emulator.endpoints.dps.https, emulator.caPem, 'PUT', path, { headers: { Authorization: token } })
    ).status;
  };

  it('carries everything over a restart', async () => {
    const stateFile = join(makeFolder(), 'state.json');
    const config: EmulatorConfig = {
      stateFile,
      enrollments: [{ registrationId: 'dev-1', attestation: { symmetricKey: {} } }],
    };
    const first = await start(config);
    const key = first.enrollments()[0]?.attestation.symmetricKey?.primaryKey ?? '';
    first.enroll({ registrationId: 'added', attestation: { symmetricKey: { primaryKey: DEVICE_KEY } } });
    expect(await register(first, key)).toBe(202);
    first.hub().patchDesired('dev-1', { fan: 'on' });
    first.hub().sendC2D('dev-1', { body: 'later' });
    const { hostName } = first.hub();
    const probe = await open(first, hostName);
    await probe.connect({
      clientId: 'dev-1',
      username: `${hostName}/dev-1/?api-version=2021-04-12`,
      password: hubToken(hostName, 'dev-1', key, 4_000_000_000),
      clean: false,
    });
    await probe.subscribe({ '$iothub/twin/res/#': 0 });
    await first.close();
    expect(statSync(stateFile).mode & 0o777).toBe(0o600);

    const second = await start(config);
    expect(second.caPem).toBe(first.caPem);
    expect(second.enrollments().map(({ registrationId }) => registrationId)).toEqual(['dev-1', 'added']);
    expect(second.enrollments()[0]?.attestation.symmetricKey?.primaryKey).toBe(key);
    expect(second.registration('dev-1')).toMatchObject({ status: 'assigned', assignedHub: second.hub().hostName });
    expect(second.hub().twin('dev-1')?.desired).toEqual({ version: 2, properties: { fan: 'on' } });
    expect(second.hub().queuedC2D('dev-1')).toHaveLength(1);
    const newName = second.hub().hostName;
    const again = await open(second, newName);
    const answer = await again.connect({
      clientId: 'dev-1',
      username: `${newName}/dev-1/?api-version=2021-04-12`,
      password: hubToken(newName, 'dev-1', key, 4_000_000_000),
      clean: false,
    });
    expect(answer).toMatchObject({ returnCode: 0, sessionPresent: true });
    await again.close();
    await second.close();

    // What the configuration no longer has is gone; what was added stays.
    const third = await start({ stateFile });
    expect(third.enrollments().map(({ registrationId }) => registrationId)).toEqual(['added']);
  });

  it.each([
    '{',
    '{"version":2,"scopes":[]}',
    '[]',
    '{"version":1,"scopes":[{"idScope":"0ne00000000"}],"authority":{}}',
    '{"version":1,"scopes":[null],"authority":{"certificatePem":"a","privateKeyPem":"b"}}',
    '{"version":1,"scopes":[],"authority":{"certificatePem":"a","privateKeyPem":"b"}}',
    '\u0000',
  ])('is refused when it says %j', async (text) => {
    const stateFile = join(makeFolder(), 'state.json');
    writeFileSync(stateFile, text);
    await expect(startEmulator({ stateFile })).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_FILE',
      option: 'stateFile',
    });
    expect(readFileSync(stateFile, 'utf8')).toBe(text);
  });
});

describe('a state file that was changed', () => {
  type State = { authority: { privateKeyPem: string }; scopes: Scope[] };
  type Scope = { enrollments: unknown[]; registrations: Part[]; hubs: { devices: Part[] }[] };
  type Part = Record<string, unknown>;

  const REGISTRATION: Part = {
    registrationId: 'a',
    createdMs: 0,
    lastUpdatedMs: 0,
    etag: 'x',
    status: 'failed',
    attestation: 'x509',
    entryKey: 'individual:a',
  };
  const DEVICE: Part = {
    identity: { deviceId: 'd', isEdge: false, authentication: { type: 'selfSigned', primaryThumbprint: 'aa' } },
    isEnabled: true,
    twin: { tags: {}, desired: { version: 1, properties: {} }, reported: { version: 1, properties: {} } },
    queue: [],
  };
  const addDevice =
    (changes: Part) =>
    ({ scopes: [scope] }: State) =>
      scope?.hubs[0]?.devices.push({ ...DEVICE, ...changes });
  const addRegistration =
    (changes: Part) =>
    ({ scopes: [scope] }: State) =>
      scope?.registrations.push({ ...REGISTRATION, ...changes });

  async function startWith(change: (state: State) => unknown): Promise<Emulator> {
    const stateFile = join(makeFolder(), 'state.json');
    await (await start({ stateFile })).close();
    const state = JSON.parse(readFileSync(stateFile, 'utf8')) as State;
    change(state);
    writeFileSync(stateFile, JSON.stringify(state));
    return await start({ stateFile });
  }

  it('is read where it is as it should be', async () => {
    const emulator = await startWith((state) => {
      addDevice({})(state);
      addRegistration({ error: { code: 404201, message: '' } })(state);
    });
    expect(emulator.hub().devices()).toHaveLength(1);
    expect(emulator.registrations()).toHaveLength(1);
  });

  it.each<[string, (state: State) => unknown]>([
    [
      'scopes[0].enrollments[0].enrollment.registrationId',
      ({ scopes: [scope] }) => scope?.enrollments.push({ enrollment: {} }),
    ],
    [
      'stateFile.attestation',
      ({ scopes: [scope] }) => scope?.enrollments.push({ isConfigured: false, enrollment: { registrationId: 'a' } }),
    ],
    ['scopes[0].registrations[0].createdMs', addRegistration({ createdMs: 1e300 })],
    ['scopes[0].registrations[0].status', addRegistration({ status: 5 })],
    ['scopes[0].registrations[0].assignment.hubName', addRegistration({ assignment: {} })],
    ['scopes[0].registrations[0] ', ({ scopes: [scope] }) => scope?.registrations.push(null as never)],
    ['scopes[0].hubs[0].devices[0].identity', addDevice({ identity: null })],
    ['scopes[0].hubs[0].devices[0].identity.authentication', addDevice({ identity: { deviceId: 'd', isEdge: true } })],
    ['scopes[0].hubs[0].devices[0].twin.desired', addDevice({ twin: { tags: {}, desired: 5 } })],
    ['scopes[0].hubs[0].devices[0].queue[0]', addDevice({ queue: [5] })],
    ['scopes[0].hubs[0].devices[0].session[0]', addDevice({ session: [['a']] })],
    ['scopes[0].surprise', ({ scopes: [scope] }) => Object.assign(scope ?? {}, { surprise: 1 })],
    ['damaged. Delete', ({ authority }) => Object.assign(authority, { certificatePem: '-----BEGIN CERTIFICATE-----' })],
    ['damaged. Delete', ({ authority }) => Object.assign(authority, { privateKeyPem: 'nonsense' })],
  ])('is refused with the place: %s', async (place, change) => {
    const started = startWith(change);
    await expect(started).rejects.toMatchObject({ code: 'ERR_DPS_CONFIG_FILE', option: 'stateFile' });
    await expect(started).rejects.toThrow(place);
    await expect(started).rejects.toThrow(
      /state\.json is not a state file .* Delete it to start afresh, or name another\.$/,
    );
  });

  it('is refused when its authority has the key of another, which is not told', async () => {
    const other = await makeAuthority({ commonName: 'Other' });
    const started = startWith(({ authority }) => {
      authority.privateKeyPem = other.privateKeyPem;
    });
    const problem = await started.catch((error: unknown) => error);
    expect(problem).toMatchObject({ code: 'ERR_DPS_CONFIG_FILE', option: 'stateFile' });
    expect(problem).not.toHaveProperty('cause');
  });
});

describe('a state file that cannot be one', () => {
  const problemOf = async (stateFile: string): Promise<string> => {
    const started = startEmulator({ stateFile });
    await expect(started).rejects.toMatchObject({ code: 'ERR_DPS_CONFIG_FILE', option: 'stateFile' });
    return started.then(
      () => '',
      (error: Error) => error.message,
    );
  };

  it('is a folder, a device, a pipe, or endless', async () => {
    const folder = makeFolder();
    expect(await problemOf(folder)).toBe(`The state file ${folder} is a folder. Give the path of a file.`);
    for (const device of ['/dev/full', '/dev/zero'])
      expect(await problemOf(device)).toContain(`${device} is a device, pipe or socket, not a regular file.`);
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    expect(await problemOf(pipe)).toContain(`${pipe} is a device, pipe or socket`);
    const endless = join(folder, 'endless');
    writeFileSync(endless, '');
    truncateSync(endless, 2 ** 40);
    expect(await problemOf(endless)).toContain(`${endless} is longer than`);
  });

  it('cannot be made where it should be', async () => {
    const missing = join(makeFolder(), 'missing', 'state.json');
    expect(await problemOf(missing)).toBe(
      `The state file cannot be written: ${missing} does not exist, or the folder that it should lie in. Check the path.`,
    );
    expect(await problemOf('/proc/state.json')).toContain('/proc/state.json');
  });

  it('is not kept from being written by what lies beside it', async () => {
    const stateFile = join(makeFolder(), 'state.json');
    execFileSync('mkfifo', [`${stateFile}.new`]);
    await (await start({ stateFile })).close();
    expect(statSync(stateFile).isFile()).toBe(true);
  });
});
