import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { CliIo } from '../../src/cli/io.js';
import { main } from '../../src/cli/main.js';
import { provisionCommand } from '../../src/cli/provision.js';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import { makeAuthority } from '../../src/emulator/index.js';
import { CancelledError, DeadlineError, HsmError, ServiceError, TransportError } from '../../src/errors.js';
import type { ProvisionOptions } from '../../src/provision-options.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import {
  CONNECTION_STRING,
  DEVICE_KEY,
  type FakeProvision,
  fakeDevice,
  fakeProvision,
  goWell,
} from './fake-provision.js';
import { temporaryFolder } from './temporary-folder.js';

const KEY_FLAGS = ['--id-scope', '0ne1', '--registration-id', 'dev-1', '--symmetric-key-file', 'dev.key'];

interface Run {
  readonly status: number;
  readonly io: FakeIo;
  readonly options: ProvisionOptions | undefined;
}

async function run(args: string[], ioOptions: FakeIoOptions = {}, fake: FakeProvision = fakeProvision()): Promise<Run> {
  const io = fakeIo(ioOptions);
  return { status: await start(args, io, fake), io, options: fake.calls[0] };
}

function start(args: string[], io: CliIo, fake: FakeProvision): Promise<number> {
  const commands = { provision: { summary: '', load: async () => provisionCommand(async () => fake.provision) } };
  return main(['provision', ...args], io, commands);
}

function fileWith(content: string, name = 'file'): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

describe('the result', () => {
  it('is one JSON document on standard output, without a secret', async () => {
    const { status, io } = await run(KEY_FLAGS);
    expect(status).toBe(0);
    expect(JSON.parse(io.out())).toEqual({
      status: 'provisioned',
      idScope: '0ne1',
      registrationId: 'dev-1',
      attestation: 'symmetricKey',
      transport: { dps: 'mqtt', hub: 'mqtt' },
      assignedHub: 'hub-1.example',
      deviceId: 'device-1',
      source: 'registered',
      substatus: 'initialAssignment',
      enrollmentGroupId: 'group-1',
      createdDateTimeUtc: '2026-05-01T10:00:00.1234567Z',
      lastUpdatedDateTimeUtc: '2026-05-01T10:00:02.7654321Z',
      etag: 'IjY5MDAzNTUyIg==',
      payload: { colour: 'grün' },
      issuedCertificateChain: ['AAEC'],
      twin: { desired: { version: 4, properties: { interval: 5 } }, reported: { version: 9, properties: {} } },
    });
    expect(io.out() + io.err()).not.toContain(DEVICE_KEY);
    expect(io.listeners()).toBe(0);
  });

  it('that cannot be written is no success', async () => {
    const { status, io } = await run(KEY_FLAGS, { stdoutFailure: new Error('ENOSPC: no space left on device') });
    expect(status).toBe(74);
    expect(io.err()).toContain('Standard output cannot be written: ENOSPC: no space left on device.');
  });
});

describe('options', () => {
  it('become those of provision()', async () => {
    const { certificatePem: ca } = await makeAuthority({ commonName: 'CA' });
    const { options } = await run([
      ...KEY_FLAGS,
      '--secondary-symmetric-key-file=second.key',
      '--endpoint=localhost:18883',
      '--transport=https',
      '--hub-transport=mqtt',
      `--ca-file=${fileWith(ca)}`,
      `--payload-file=${fileWith('{"site":"Nürnberg"}')}`,
      '--model-id=dtmi:com:example:Thermostat;1',
      '--timeout=90',
      '--connect-timeout=2.5',
      '--request-timeout=3',
    ]);
    expect(options).toEqual({
      idScope: '0ne1',
      hsm: {
        kind: 'symmetricKey',
        registrationId: 'dev-1',
        key: { file: 'dev.key' },
        secondaryKey: { file: 'second.key' },
      },
      endpoint: 'localhost:18883',
      transport: 'https',
      hubTransport: 'mqtt',
      ca,
      payload: { site: 'Nürnberg' },
      modelId: 'dtmi:com:example:Thermostat;1',
      deadlineMs: 90_000,
      connectTimeoutMs: 2_500,
      requestTimeoutMs: 3_000,
      signal: expect.any(AbortSignal),
    });
  });

  it('are left to provision() when nobody gave them, but for the time that is left', async () => {
    const { options } = await run(KEY_FLAGS);
    const names = ['deadlineMs', 'hsm', 'hubTransport', 'idScope', 'signal', 'transport'];
    expect(Object.keys(options ?? {}).sort()).toEqual(names);
    expect(options?.deadlineMs).toBe(300_000);
  });

  it('name no certificate authority that would be passed over', async () => {
    const { certificatePem: good } = await makeAuthority({ commonName: 'CA' });
    const damaged = good.replace(/MII/, 'MI');
    const path = fileWith(`${good}${damaged}${good}`);
    const { status, io, options } = await run([...KEY_FLAGS, '--ca-file', path]);
    expect([status, options]).toEqual([78, undefined]);
    expect(io.err()).toContain(`error ERR_DPS_CONFIG_FILE: --ca-file: Certificate 2 in ${path} `);
  });

  it('may all come from a configuration file', async () => {
    const path = fileWith(
      '{"idScope":"0ne1","certFile":"x.pem","certKeyFile":"x.key","chainFile":"c.pem"}',
      'device.json',
    );
    const folder = join(path, '..');
    const { status, options } = await run(['--config', path]);
    expect(status).toBe(0);
    expect(options?.hsm).toEqual({
      kind: 'x509',
      certificate: join(folder, 'x.pem'),
      key: join(folder, 'x.key'),
      chain: join(folder, 'c.pem'),
    });
  });

  it.each(['foo', 'dtmi:com:example:Thermostat;0', 'com:example:Thermostat;1'])('%s is no model id', async (model) => {
    const { status, io, options } = await run([...KEY_FLAGS, '--model-id', model]);
    expect([status, options]).toEqual([64, undefined]);
    expect(io.err()).toContain('--model-id: The model id must look like dtmi:com:example:Thermostat;1');
    const env = await run(KEY_FLAGS, { env: { DPS_MODEL_ID: model } });
    expect([env.status, env.io.err()]).toEqual([
      78,
      expect.stringContaining('DPS_MODEL_ID: The model id must look like'),
    ]);
  });

  it.each([
    ['--ca-file', 'no certificate', 'holds no certificate in PEM'],
    ['--payload-file', '{"open":', 'is not JSON'],
  ])('%s is looked into', async (flag, content, message) => {
    const { status, io, options } = await run([...KEY_FLAGS, flag, fileWith(content)]);
    expect(status).toBe(78);
    expect(io.err()).toContain(message);
    expect(io.out()).toBe('');
    expect(options).toBeUndefined();
  });
});

describe('identity', () => {
  it('is a group key', async () => {
    const { options } = await run([
      ...['--id-scope', '0ne1', '--registration-id', 'dev-1'],
      ...['--group-key-file', 'g.key', '--secondary-group-key-file', 'h.key'],
    ]);
    expect(options?.hsm).toEqual({
      kind: 'symmetricKey',
      registrationId: 'dev-1',
      groupKey: { file: 'g.key' },
      secondaryGroupKey: { file: 'h.key' },
    });
  });

  it('is a certificate, checked against a registration id', async () => {
    const { options } = await run([
      ...['--id-scope', '0ne1', '--registration-id', 'dev-1', '--cert-file', 'a.pem', '--cert-key-file', 'a.key'],
      ...['--key-passphrase-file', 'a.pass'],
    ]);
    expect(options?.hsm).toEqual({
      kind: 'x509',
      registrationId: 'dev-1',
      certificate: 'a.pem',
      key: 'a.key',
      passphrase: { file: 'a.pass' },
    });
  });

  it.each([
    [[], '--id-scope is missing'],
    [['--id-scope', '0ne1'], 'Nothing says how this device proves who it is.'],
    [['--id-scope', '0ne1', '--attestation', 'x509'], '--cert-file is missing'],
    [['--id-scope', '0ne1', '--cert-file', 'a.pem'], '--cert-key-file is missing'],
    [['--id-scope', '0ne1', '--attestation', 'symmetric-key'], '--registration-id is missing'],
    [['--id-scope', '0ne1', '--symmetric-key-file', 'a.key'], '--registration-id is missing'],
    [
      ['--id-scope', '0ne1', '--registration-id', 'a', '--attestation', 'symmetric-key'],
      '--symmetric-key-file is missing',
    ],
    [[...KEY_FLAGS, '--cert-file', 'a.pem'], 'different identities: --symmetric-key-file, --cert-file.'],
    [[...KEY_FLAGS, '--attestation', 'x509'], 'different identities: --attestation (x509), --symmetric-key-file.'],
    [[...KEY_FLAGS, '--group-key-file', 'g.key'], 'different identities: --symmetric-key-file, --group-key-file.'],
    [
      [...KEY_FLAGS.slice(0, 4), '--group-key-file', 'g.key', '--secondary-symmetric-key-file', 's.key'],
      'different identities: --secondary-symmetric-key-file, --group-key-file.',
    ],
    [[...KEY_FLAGS.slice(0, 4), '--secondary-symmetric-key-file', 's.key'], '--symmetric-key-file is missing'],
  ])('%j is not enough, or too much', async (args, message) => {
    const { status, io, options } = await run(args);
    expect(status).toBe(64);
    expect(io.err()).toContain(message);
    expect(io.out()).toBe('');
    expect(options).toBeUndefined();
  });

  it('that misses something with a configuration, or has too much there, is a matter of configuration', async () => {
    const config = fileWith('{"idScope":"0ne1","certFile":"a.pem"}');
    expect((await run(['--config', config])).status).toBe(78);
    const both = await run(['--config', config], { env: { DPS_SYMMETRIC_KEY: DEVICE_KEY } });
    expect(both.status).toBe(78);
    expect(both.io.err()).toContain(`identities: DPS_SYMMETRIC_KEY, ${config}: certFile.`);
  });
});

describe('secrets', () => {
  const flags = ['--id-scope', '0ne1', '--registration-id', 'dev-1'];

  it('come from the environment, and leave it', async () => {
    const env = { DPS_SYMMETRIC_KEY: DEVICE_KEY, DPS_KEY_PASSPHRASE: '', DPS_TRANSPORT: 'https' };
    const { io, options } = await run(flags, { env });
    expect(options?.hsm).toMatchObject({ key: DEVICE_KEY });
    expect(io.env).toEqual({ DPS_TRANSPORT: 'https' });
  });

  it('leave the environment whatever goes wrong', async () => {
    const { status, io } = await run(['--nonsense'], { env: { DPS_GROUP_KEY: DEVICE_KEY } });
    expect(status).toBe(64);
    expect(io.env).toEqual({});
  });

  it('come from standard input, without the line end', async () => {
    const { options } = await run([...flags, '--symmetric-key-file', '-'], { stdin: `${DEVICE_KEY}\n` });
    expect(options?.hsm).toMatchObject({ key: DEVICE_KEY });
    const failing = fakeProvision(() => Promise.reject(new TypeError('x')));
    const { io } = await run([...flags, '--symmetric-key-file', '-'], { stdin: DEVICE_KEY }, failing);
    expect(io.err()).toContain('  identity:       symmetric key from --symmetric-key-file (standard input)\n');
  });

  it('come from systemd credentials, which may look readable for the group', async () => {
    const path = fileWith(`${DEVICE_KEY}\n`, 'dps-group-key');
    chmodSync(path, 0o440);
    const { options } = await run(flags, { env: { CREDENTIALS_DIRECTORY: join(path, '..') } });
    expect(options?.hsm).toMatchObject({ groupKey: DEVICE_KEY });
  });

  it.each(['a file', 'nowhere'])('are missed with words when their folder is %s', async (where) => {
    const path = where === 'nowhere' ? join(temporaryFolder(), 'none') : fileWith('');
    const env = { CREDENTIALS_DIRECTORY: path };
    const { status, io } = await run(flags, { env });
    expect(status).toBe(78);
    expect(io.err()).toContain(`error ERR_DPS_CONFIG_FILE: CREDENTIALS_DIRECTORY: ${path} `);
    expect((await run(KEY_FLAGS, { env })).status).toBe(0);
  });

  it('as text bring the certificate along as text', async () => {
    const certificate = fileWith('-----BEGIN CERTIFICATE-----');
    const chain = fileWith('-----BEGIN CERTIFICATE----- 2');
    const { options } = await run(['--id-scope', '0ne1', '--cert-file', certificate, '--chain-file', chain], {
      env: { DPS_CERT_KEY: '-----BEGIN PRIVATE KEY-----', DPS_KEY_PASSPHRASE: ' pass ' },
    });
    expect(options?.hsm).toEqual({
      kind: 'x509',
      certificatePem: '-----BEGIN CERTIFICATE-----',
      chainPem: '-----BEGIN CERTIFICATE----- 2',
      keyPem: '-----BEGIN PRIVATE KEY-----',
      passphrase: ' pass ',
    });
  });

  it('are taken from the first place that has them', async () => {
    const credential = fileWith('from-credential', 'dps-symmetric-key');
    const config = fileWith('{"symmetricKeyFile":"from-config"}');
    const places = {
      flag: ['--symmetric-key-file', 'from-flag'],
      value: { DPS_SYMMETRIC_KEY: 'from-value' },
      file: { DPS_SYMMETRIC_KEY_FILE: 'from-file' },
      credential: { CREDENTIALS_DIRECTORY: join(credential, '..') },
    };
    const keyOf = async (args: string[], env: Record<string, string>): Promise<unknown> => {
      const { options } = await run([...flags, '--config', config, ...args], { env });
      return options?.hsm.kind === 'symmetricKey' && 'key' in options.hsm ? options.hsm.key : undefined;
    };
    const { flag, value, file, credential: systemd } = places;
    expect(await keyOf(flag, { ...value, ...file, ...systemd })).toEqual({ file: 'from-flag' });
    expect(await keyOf([], { ...value, ...file, ...systemd })).toBe('from-value');
    expect(await keyOf([], { ...file, ...systemd })).toEqual({ file: 'from-file' });
    expect(await keyOf([], systemd)).toBe('from-credential');
    expect(await keyOf([], {})).toEqual({ file: join(config, '..', 'from-config') });
  });
});

describe('progress', () => {
  it('is a line per step where nobody watches', async () => {
    const { io } = await run(KEY_FLAGS);
    expect(io.err()).toBe(
      [
        'registering dev-1 in 0ne1 by a symmetric key over mqtt',
        'connecting to DPS at localhost:8883, attempt 2',
        'waiting 2.5 s, the service is throttling: status 429',
        'provisioned: device-1 at hub-1.example',
        '',
      ].join('\n'),
    );
  });

  it('is one live line on a terminal', async () => {
    const { io } = await run(KEY_FLAGS, { isTerminal: true });
    const steps = io.err().split('\r\u001b[K');
    expect(steps).toEqual([
      '',
      'registering dev-1 in 0ne1 by a symmetric key over mqtt',
      'connecting to DPS at localhost:8883, attempt 2',
      'waiting 2.5 s, the service is throttling: status 429',
      'provisioned: device-1 at hub-1.example\n',
    ]);
  });

  it('is an object per line for machines', async () => {
    const { io } = await run([...KEY_FLAGS, '--json-log']);
    const events = io
      .err()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string });
    expect(events.map(({ type }) => type)).toEqual(['started', 'connecting', 'waiting', 'provisioned']);
    expect(events[1]).toEqual({ type: 'connecting', to: 'dps', peer: 'localhost:8883', attempt: 2 });
  });

  it('is nothing when quiet', async () => {
    expect((await run([...KEY_FLAGS, '--quiet'])).io.err()).toBe('');
    expect((await run([...KEY_FLAGS, '--quiet', '--json-log'])).io.err()).toBe('');
  });

  it('does not let a peer write on the terminal', async () => {
    const fake = fakeProvision(async (options, log) => {
      log.append({ type: 'assigned', assignedHub: 'hub\u001b[2J', deviceId: 'd\nprovisioned: x' });
      return goWell(options, log);
    });
    expect((await run(KEY_FLAGS, {}, fake)).io.err()).toContain('assigned to hub\\u{1b}[2J as d\\u{a}provisioned: x\n');
  });
});

describe('failure', () => {
  const refused = new ServiceError({
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    message: 'The service refused the credentials.',
    service: 'dps',
    status: 401,
    trackingId: 'b3990321',
  });
  const failing = (error: unknown): FakeProvision =>
    fakeProvision(async (_, log) => {
      log.append({ type: 'started', idScope: '0ne1', registrationId: 'dev-1', attestation: 'x509', transport: 'mqtt' });
      log.append({ type: 'ended', code: 'x', message: 'y' });
      throw error;
    });

  it('leaves standard output empty and says what to do on standard error', async () => {
    const { status, io } = await run(KEY_FLAGS, {}, failing(refused));
    expect(status).toBe(77);
    expect(io.out()).toBe('');
    expect(io.err()).toContain('\nerror ERR_DPS_SERVICE_UNAUTHORIZED: The service refused the credentials.\n');
    expect(io.err()).toContain('  tracking id:    b3990321\n');
    expect(io.err()).toContain('  identity:       symmetric key from --symmetric-key-file dev.key\n');
    expect(io.err()).not.toContain('\ny\n');
  });

  it('starts on a line of its own on a terminal', async () => {
    const { io } = await run(KEY_FLAGS, { isTerminal: true }, failing(refused));
    expect(io.err()).toContain('over mqtt\r\u001b[Kerror ERR_DPS_SERVICE_UNAUTHORIZED');
  });

  it('is an object on a line for machines, also when quiet', async () => {
    const { io } = await run([...KEY_FLAGS, '--json-log', '--quiet'], {}, failing(refused));
    expect(JSON.parse(io.err())).toMatchObject({ type: 'error', code: refused.code, retryable: false, exitStatus: 77 });
  });

  it('is an object also for wrong options', async () => {
    expect(JSON.parse((await run(['--json-log', '--nonsense'])).io.err())).toMatchObject({
      type: 'error',
      exitStatus: 64,
    });
    const env = { DPS_JSON_LOG: 'true', DPS_TRANSPORT: 'x' };
    expect(JSON.parse((await run([], { env })).io.err())).toMatchObject({ type: 'error', exitStatus: 78 });
  });

  it.each([
    [new TypeError('x'), 70],
    [Object.assign(new Error('EMFILE: too many open files, open x'), { code: 'EMFILE' }), 75],
    [new HsmError({ code: 'ERR_DPS_HSM_FILE_MODE', message: 'm', operation: 'load' }), 71],
    [
      new TransportError({
        code: 'ERR_DPS_TLS_UNTRUSTED',
        message: 'm',
        phase: 'tls',
        peer: 'p',
        retryable: false,
      }),
      78,
    ],
  ])('%s ends in %i', async (error, expected) => {
    expect((await run(KEY_FLAGS, {}, failing(error))).status).toBe(expected);
  });
});

describe('--write-connection', () => {
  it('writes the connection string for its owner alone, and says where', async () => {
    const path = join(temporaryFolder(), 'connection');
    const { status, io } = await run([...KEY_FLAGS, '--write-connection', path]);
    expect(status).toBe(0);
    expect(readFileSync(path, 'utf8')).toBe(`${CONNECTION_STRING}\n`);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readdirSync(join(path, '..'))).toEqual(['connection']);
    expect(JSON.parse(io.out())).toMatchObject({ connectionFile: path });
    expect(io.out() + io.err()).not.toContain(DEVICE_KEY);
  });

  it('replaces a file, with its mode', async () => {
    const path = fileWith('old');
    chmodSync(path, 0o644);
    await run([...KEY_FLAGS, '--write-connection', path]);
    expect(readFileSync(path, 'utf8')).toBe(`${CONNECTION_STRING}\n`);
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('leaves the file alone when provisioning fails, and when there is no connection string', async () => {
    const path = fileWith('old');
    const failing = fakeProvision(() => Promise.reject(new TypeError('x')));
    await run([...KEY_FLAGS, '--write-connection', path], {}, failing);
    const sealed: ProvisionedDevice = {
      ...fakeDevice(),
      connectionString: () =>
        Promise.reject(new HsmError({ code: 'ERR_DPS_HSM_NOT_EXPORTABLE', message: 'm', operation: 'export key' })),
    };
    const fake = fakeProvision(async (options, log) => ({ ...(await goWell(options, log)), ...sealed }));
    const { status, io } = await run([...KEY_FLAGS, '--write-connection', path], {}, fake);
    expect(status).toBe(71);
    expect(io.out()).toBe('');
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(join(path, '..'))).toEqual(['file']);
  });

  it('refuses before the work what is not a place for a file', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'sub'));
    writeFileSync(join(folder, 'file'), '');
    symlinkSync(join(folder, 'sub'), join(folder, 'link'));
    const cases = [
      ['sub', 'is a folder;'],
      ['link', 'is a link;'],
      ['none/connection', 'does not exist'],
      ['file/connection', 'which is not a folder'],
      ['/dev/null', 'is a device, pipe or socket;'],
      ['-', 'cannot be standard output'],
      ['new/', 'is a folder; give the path of a file in it'],
      ['n'.repeat(256), 'has a name longer than the file system takes'],
      ['/proc/connection', 'cannot be made'],
    ] as const;
    for (const [name, message] of cases) {
      const path = name.startsWith('/') || name === '-' ? name : join(folder, name);
      const { status, io, options } = await run([...KEY_FLAGS, '--write-connection', path]);
      expect([name, status, options]).toEqual([name, 78, undefined]);
      expect(io.err()).toContain(message);
    }
    expect(existsSync(join(folder, 'sub', 'connection'))).toBe(false);
  });
});

describe('a reader that does not read', () => {
  const reachingOutput = async (io: FakeIo): Promise<void> => {
    while (!io.out().includes('provisioned')) await new Promise((resolve) => setImmediate(resolve));
  };

  it('of standard output is waited for until the time limit', async () => {
    const io = fakeIo({ stuck: ['stdout'] });
    const ended = start([...KEY_FLAGS, '--timeout', '60'], io, fakeProvision());
    await reachingOutput(io);
    io.clock.advance(60_000);
    expect(await ended).toBe(74);
    expect(io.err()).toContain('Nobody read the result from standard output within 60000 ms');
    expect(io.clock.pending).toBe(0);
  });

  it('of standard output does not outlast a signal', async () => {
    const io = fakeIo({ stuck: ['stdout'] });
    const ended = start(KEY_FLAGS, io, fakeProvision());
    await reachingOutput(io);
    io.send('SIGTERM');
    io.clock.advance(2_000);
    expect(await ended).toBe(143);
    expect(io.clock.pending).toBe(0);
  });

  it('of standard output that has gone is no success', async () => {
    const { status, io } = await run(KEY_FLAGS, {
      stdoutFailure: Object.assign(new Error('EPIPE'), { code: 'EPIPE' }),
    });
    expect(status).toBe(74);
    expect(io.err()).toContain('error ERR_DPS_OUTPUT: Nobody took the result');
  });

  it('of standard error holds up nothing, and misses what does not fit', async () => {
    const io = fakeIo({ stuck: ['stderr'] });
    const many = fakeProvision(async (options, log) => {
      for (let attempt = 1; attempt <= 2_000; attempt += 1) {
        log.append({ type: 'connecting', to: 'dps', peer: 'p'.repeat(2_000), attempt });
      }
      return goWell(options, log);
    });
    const ended = start(KEY_FLAGS, io, many);
    await reachingOutput(io);
    while (io.clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
    io.clock.advance(2_000);
    expect(await ended).toBe(0);
    expect(io.err().length).toBeLessThan(1_100_000);
  });
});

describe('the time limit', () => {
  const silent = [...KEY_FLAGS.slice(0, 4), '--symmetric-key-file', '-'];

  it.each([
    ['a key', [...silent, '--timeout', '7'], 7_000],
    ['a key, by default', silent, 300_000],
    ['a configuration', ['--config', '-', '--timeout', '7'], 7_000],
  ])('bounds the wait for %s from standard input', async (_, args, limitMs) => {
    const io = fakeIo({ isStdinSilent: true });
    const ended = start(args, io, fakeProvision());
    while (io.clock.pending === 0) await new Promise((resolve) => setImmediate(resolve));
    io.clock.advance(limitMs - 1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(io.err()).toBe('');
    io.clock.advance(1);
    expect(await ended).toBe(75);
    expect(io.err()).toContain(`error ERR_DPS_DEADLINE: Not finished within ${limitMs} ms`);
    expect(io.clock.pending).toBe(0);
  });

  it('counts what reading took, and is told as it was given', async () => {
    const io = fakeIo();
    const slow: CliIo['stdin'] = {
      isTerminal: false,
      read: async () => {
        io.clock.advance(3_000);
        return new TextEncoder().encode(DEVICE_KEY);
      },
    };
    const late = new TransportError({
      code: 'ERR_DPS_CONNECT',
      message: 'm',
      phase: 'connect',
      peer: 'p',
      retryable: true,
    });
    const fake = fakeProvision(({ deadlineMs = 0 }) =>
      Promise.reject(new DeadlineError({ state: 'connecting', deadlineMs, cause: late })),
    );
    expect(await start([...silent, '--timeout', '7'], { ...io, stdin: slow }, fake)).toBe(75);
    expect(fake.calls[0]?.deadlineMs).toBe(4_000);
    expect(io.err()).toContain('Not finished within 7000 ms; the last state was connecting.');
    expect(io.err()).toContain('  caused by:      ERR_DPS_CONNECT: m\n');
  });
});

describe('signals', () => {
  const untilAborted = fakeProvision(
    ({ signal }) =>
      new Promise((_, reject) => {
        signal?.addEventListener('abort', () => reject(new CancelledError({ state: 'waiting', cause: signal.reason })));
      }),
  );

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends the work in order', async (signal, expected) => {
    const io = fakeIo();
    const fake = fakeProvision((options, log) => {
      queueMicrotask(() => io.send(signal));
      return untilAborted.provision(options).finally(() => log.end());
    });
    expect(await start(KEY_FLAGS, io, fake)).toBe(expected);
    expect(io.out()).toBe('');
    expect(io.err()).toContain(`received ${signal}`);
    expect(io.exits).toEqual([]);
    expect(io.listeners()).toBe(0);
  });

  it('a second one ends it at once', async () => {
    const io = fakeIo();
    const fake = fakeProvision(async (options, log) => {
      io.send('SIGINT');
      expect(io.exits).toEqual([]);
      io.send('SIGTERM');
      return goWell(options, log);
    });
    await start(KEY_FLAGS, io, fake);
    expect(io.exits).toEqual(['SIGTERM']);
  });

  it('end the wait for standard input', async () => {
    const io = fakeIo({ isStdinSilent: true });
    const ended = start([...KEY_FLAGS.slice(0, 4), '--symmetric-key-file', '-'], io, fakeProvision());
    io.send('SIGTERM');
    expect(await ended).toBe(143);
  });

  it('that come too late do not undo a success', async () => {
    const io = fakeIo();
    const fake = fakeProvision(async (options, log) => {
      const device = await goWell(options, log);
      io.send('SIGTERM');
      return device;
    });
    expect(await start(KEY_FLAGS, io, fake)).toBe(0);
    expect(JSON.parse(io.out())).toMatchObject({ status: 'provisioned' });
  });
});
