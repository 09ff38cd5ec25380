/**
 * docs/migration.md tells the truth: its programs run as they stand, and its tables of errors are what Microsoft's
 * packages and this one answer in the same situation.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { provision } from '../../src/compose.js';
import { type Emulator, type FaultAction, makeSelfSigned } from '../../src/emulator/index.js';
import { isDpsError } from '../../src/errors.js';
import type { ProvisionOptions } from '../../src/provision-options.js';
import { temporaryFolder } from '../cli/temporary-folder.js';
import { ClientProcess } from '../interop/client-process.js';
import { makeKey, startBench } from '../interop/emulator-bench.js';
import type { RegisterOptions } from '../interop/microsoft-client.js';
import { runProgram } from './program.js';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
const GUIDE = readFileSync(join(PROJECT, 'docs/migration.md'), 'utf8');

/** What each program prints, in the order of the page. `HUB` stands for the hub's name. */
const PROGRAMS: readonly (readonly [string, RegExp])[] = [
  ['before', /^HUB dev-1\n$/],
  ['provision here, keep their client', /^HUB dev-1\n\{ interval: 60, '\$version': 1 \}\n$/],
  ['the same with a certificate', /^\{ interval: 60, '\$version': 1 \}\n$/],
  ['keep their security client', /^HUB dev-1 \{ interval: 60 \}\n$/],
  ['everything here', /^\{ interval: 60 \}\n$/],
  ['keep their client, bring our HSM', /^HUB dev-2\n$/],
  ['cancelling', /^ERR_DPS_CANCELLED true Cancelled/],
];

describe('the programs of the migration guide', () => {
  const programs = [...GUIDE.matchAll(/^```js\n(.*?)^```$/gms)].map(([, source = '']) => source);

  it('are all known here', () => {
    expect(programs).toHaveLength(PROGRAMS.length);
  });

  it.each(PROGRAMS.map(([name, output], index) => [name, output, index] as const))(
    '%s',
    async (_name, output, index) => {
      const { emulator, env } = await withDevices();
      const { status, stdout, stderr } = await runProgram(programs[index] ?? '', { env, trustedCaPem: emulator.caPem });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      expect(stdout.replaceAll(emulator.hub().hostName, 'HUB')).toMatch(output);
      expect(emulator.trace.count({ event: 'refused' })).toBe(0);
    },
  );
});

describe('samples/azure-client.mjs', () => {
  it('runs, and ends by itself', async () => {
    const file = join(PROJECT, 'samples/azure-client.mjs');
    const { status, stdout, stderr } = await runProgram(readFileSync(file, 'utf8'), { from: file });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/desired change .*telemetryIntervalSeconds: 30/);
  });
});

async function withDevices(): Promise<{ emulator: Emulator; env: Record<string, string> }> {
  const emulator = await startBench();
  const initialTwin = { properties: { desired: { interval: 60 } } };
  const primaryKey = makeKey();
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey } }, initialTwin });
  const { certificatePem, privateKeyPem } = await makeSelfSigned({ commonName: 'dev-2' });
  const clientCertificates = { primary: { certificate: certificatePem } };
  emulator.enroll({ registrationId: 'dev-2', attestation: { x509: { clientCertificates } }, initialTwin });
  const folder = temporaryFolder();
  const [certificate, key] = [join(folder, 'device.pem'), join(folder, 'device.key')];
  writeFileSync(certificate, certificatePem);
  writeFileSync(key, privateKeyPem, { mode: 0o600 });
  const env = {
    DPS_ENDPOINT: emulator.endpoints.dps.mqtt,
    DPS_ID_SCOPE: emulator.idScope,
    REGISTRATION_ID: 'dev-1',
    DEVICE_KEY: primaryKey,
    DEVICE_CERTIFICATE: certificate,
    DEVICE_CERTIFICATE_KEY: key,
  };
  return { emulator, env };
}

type Transport = Extract<RegisterOptions['transport'], 'mqtt' | 'https'>;

interface Situation {
  /** Answered by the emulator instead of what it would say. */
  readonly register?: FaultAction;
  /** What is given to both clients instead of what is right. */
  readonly given?: Partial<Pick<RegisterOptions, 'endpoint' | 'idScope' | 'credential'>>;
  readonly ours?: Partial<ProvisionOptions>;
  /** Given to both as the authority to trust. */
  readonly ca?: string;
}

/** The situations of the second table, by the words of its first column. */
const SITUATIONS: Record<string, () => Situation | Promise<Situation>> = {
  'registration `failed`': () => ({ register: { kind: 'outcome', status: 'failed', errorCode: 400207 } }),
  'enrollment `disabled`': () => ({ register: { kind: 'outcome', status: 'disabled' } }),
  'connection cut before the answer': () => ({ register: { kind: 'cut' } }),
  "a proxy's HTML page": () => ({ register: { kind: 'respond', text: '<html></html>' } }),
  'an empty answer': () => ({ register: { kind: 'respond', text: '' } }),
  'typographic quotes in the payload of the result': () => ({
    register: { kind: 'payload', payload: { town: '“Köln”' } },
  }),
  'no answer': () => ({ register: { kind: 'silent' }, ours: { requestTimeoutMs: 100 } }),
  'unknown ID scope': () => ({ given: { idScope: '0ne0FFFFFFF' } }),
  'wrong key, unknown device': () => ({ given: { credential: { symmetricKey: makeKey() } } }),
  'server certificate not trusted': async () => ({
    ca: (await makeSelfSigned({ commonName: 'stranger' })).certificatePem,
  }),
  'host name unknown': () => ({ given: { endpoint: 'no-such-host.invalid:8883' } }),
  'nobody listens': () => ({ given: { endpoint: 'localhost:1' } }),
  'certificate is no PEM': () => ({
    given: { credential: { cert: 'garbage', key: 'garbage' } },
    ours: { hsm: { kind: 'x509', certificatePem: 'garbage', keyPem: 'garbage' } },
  }),
  'cancelled between two polls': () => ({ register: { kind: 'delay', polls: 1_000 } }),
};

/** Rows of the table with this first heading, cells without the outer bars. */
function table(heading: string): string[][] {
  const lines = GUIDE.slice(GUIDE.indexOf(`\n| ${heading} |`) + 1).split('\n');
  const rows = lines.slice(
    0,
    lines.findIndex((line) => !line.startsWith('|')),
  );
  return rows.slice(2).map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

describe.each(['mqtt', 'https'] as const)('the tables of errors, over %s', (transport) => {
  it.each(table('Status'))('status %s', async (status = '', theirMqtt = '', theirHttps = '', here = '', again = '') => {
    const situation = { register: { kind: 'respond', status: Number(status), retryAfter: '0' } } as const;
    await expectTheirs(transport, situation, transport === 'mqtt' ? theirMqtt : theirHttps);
    await expectOurs(transport, situation, here, again);
  });

  it.each(table('What happens'))('%s', async (what = '', theirMqtt = '', theirHttps = '', here = '', again = '') => {
    const situation = await SITUATIONS[what]?.();
    if (situation === undefined) throw new Error(`The table has a line that is not tested: ${what}`);
    if (what.startsWith('cancelled')) {
      await expectTheirsToIgnoreCancel(transport);
      await expectOursToBeCancelled(transport, here);
      return;
    }
    await expectTheirs(transport, situation, transport === 'mqtt' ? theirMqtt : theirHttps);
    await expectOurs(transport, situation, here, again);
  });
});

it('every situation stands in the table', () => {
  expect(table('What happens').map(([what]) => what)).toEqual(Object.keys(SITUATIONS));
  expect(table('Status')).toHaveLength(9);
});

interface Bench {
  readonly emulator: Emulator;
  readonly ca: string;
  readonly options: RegisterOptions;
}

async function bench(transport: Transport, { register, given, ca }: Situation): Promise<Bench> {
  const emulator = await startBench();
  const primaryKey = makeKey();
  emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: { primaryKey } } });
  if (register !== undefined) emulator.faults.add({ at: 'dps.register', action: register });
  const options: RegisterOptions = {
    transport,
    endpoint: emulator.endpoints.dps[transport],
    idScope: emulator.idScope,
    registrationId: 'dev-1',
    credential: { symmetricKey: primaryKey },
    ...given,
  };
  return { emulator, ca: ca ?? emulator.caPem, options };
}

async function expectTheirs(transport: Transport, situation: Situation, cell: string): Promise<void> {
  // Half a minute by their clock, which cannot be set.
  if (cell.endsWith('after 30 s')) return;
  const { emulator, ca, options } = await bench(transport, situation);
  const client = await ClientProcess.start(ca);
  const ended = client.call('register', options).then(
    ({ status }) => `\`${status}\``,
    ({ name }: Error) => (name === 'ProcessEnded' ? 'the process dies' : `\`${name}\``),
  );
  const often = requestsTimes(emulator, 5).then(() => 'asks again without end');
  expect(await Promise.race([ended, often])).toBe(cell);
}

async function requestsTimes(emulator: Emulator, times: number): Promise<void> {
  let after = 0;
  for (let time = 0; time < times; time += 1) {
    after = (await emulator.trace.waitFor({ event: 'register' }, after)).sequence;
  }
}

async function expectOurs(transport: Transport, situation: Situation, cell: string, again: string): Promise<void> {
  const { ca, options } = await bench(transport, situation);
  const controller = new AbortController();
  const journey = provision({ ...provisionOptions(ca, options), signal: controller.signal, ...situation.ours });
  const ended = journey.then(
    ({ assignment }) => `\`${assignment.status}\``,
    (error: Error) => (isDpsError(error) ? `\`${error.name}\` \`${error.code}\`` : String(error)),
  );
  const [code, isTriedAgain] = await firstSetback(journey, controller);
  const end = await ended;
  const [mqtt = cell, https = cell] = /^MQTT: (.*); HTTPS: (.*)$/.exec(cell)?.slice(1) ?? [];
  const expected = transport === 'mqtt' ? mqtt : https;
  if (isTriedAgain) expect(expected).toContain(`\`${code}\``);
  else expect(end).toBe(expected);
  expect(isTriedAgain).toBe(again === 'yes' || (again === 'MQTT: twice' && transport === 'mqtt'));
}

/** The first wait that is no poll, after which the journey is ended, or nothing when it ends by itself. */
async function firstSetback(
  journey: ReturnType<typeof provision>,
  controller: AbortController,
): Promise<readonly [string | undefined, boolean]> {
  for await (const event of journey.events) {
    if (event.type !== 'waiting' || event.reason === 'poll') continue;
    controller.abort();
    return [event.detail, true];
  }
  return [undefined, false];
}

function provisionOptions(ca: string, { transport, endpoint, idScope, credential }: RegisterOptions): ProvisionOptions {
  const key = 'symmetricKey' in credential ? credential.symmetricKey : '';
  return { ca, transport, endpoint, idScope, hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key } };
}

async function expectTheirsToIgnoreCancel(transport: Transport): Promise<void> {
  const { emulator, ca, options } = await bench(transport, { register: { kind: 'delay', polls: 1_000 } });
  const [host = '', port = ''] = options.endpoint.split(':');
  const { stdout } = await runProgram(
    `
    import https from 'node:https';
    import provisioning from 'azure-iot-provisioning-device';
    import symmetricKey from 'azure-iot-security-symmetric-key';
    const { TRANSPORT, ENDPOINT, HOST, PORT, ID_SCOPE, KEY } = process.env;
    https.globalAgent = new https.Agent({ port: Number(PORT) });
    const transport = TRANSPORT === 'mqtt'
      ? new (await import('azure-iot-provisioning-device-mqtt')).default.Mqtt()
      : new (await import('azure-iot-provisioning-device-http')).default.Http();
    const client = provisioning.ProvisioningDeviceClient.create(
      TRANSPORT === 'mqtt' ? ENDPOINT : HOST, ID_SCOPE, transport, new symmetricKey.SymmetricKeySecurityClient('dev-1', KEY),
    );
    let state = 'pending';
    let isCancelled = false;
    let pollsAfterwards = 0;
    const { registrationRequest, queryOperationStatus } = transport;
    transport.registrationRequest = (request, done) =>
      registrationRequest.call(transport, request, (error, result, response) => {
        // It waits 50 ms now, and is cancelled in the middle of that.
        done(error, result, response, 50);
        client.cancel().then(() => { isCancelled = true; });
      });
    transport.queryOperationStatus = (...parameters) => {
      if (isCancelled) pollsAfterwards += 1;
      if (pollsAfterwards < 3) return queryOperationStatus.apply(transport, parameters);
      console.log(state);
      process.exit();
    };
    client.register().then(() => { state = 'resolved'; }, () => { state = 'rejected'; });
    `,
    {
      trustedCaPem: ca,
      env: {
        TRANSPORT: transport,
        ENDPOINT: options.endpoint,
        HOST: host,
        PORT: port,
        ID_SCOPE: options.idScope,
        KEY: 'symmetricKey' in options.credential ? options.credential.symmetricKey : '',
      },
    },
  );
  expect(stdout).toBe('pending\n');
  expect(emulator.trace.count({ event: 'status' })).toBeGreaterThanOrEqual(2);
}

async function expectOursToBeCancelled(transport: Transport, cell: string): Promise<void> {
  const { ca, options } = await bench(transport, { register: { kind: 'delay', polls: 1_000 } });
  const controller = new AbortController();
  const journey = provision({ ...provisionOptions(ca, options), signal: controller.signal });
  const ended = journey.catch((error: Error) => error);
  for await (const event of journey.events) if (event.type === 'waiting') controller.abort();
  const error = await ended;
  expect(isDpsError(error) ? `\`${error.name}\` \`${error.code}\`` : error).toBe(cell);
}
