import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeAuthority } from '../../src/emulator/index.js';
import { DEVICE_KEY, fakeProvision } from './fake-provision.js';
import { fileWith, KEY_FLAGS, run } from './provision-bench.js';
import { temporaryFolder } from './temporary-folder.js';

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
    const names = ['deadlineMs', 'hsm', 'idScope', 'signal'];
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
