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
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import { HsmError, ServiceError, TransportError } from '../../src/errors.js';
import {
  CONNECTION_STRING,
  DEVICE_KEY,
  type FakeProvision,
  fakeDevice,
  fakeProvision,
  goWell,
} from './fake-provision.js';
import { fileWith, KEY_FLAGS, run } from './provision-bench.js';
import { temporaryFolder } from './temporary-folder.js';

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

  it('refuses before the work a TPM, whose key cannot leave it', async () => {
    const tpm = ['--id-scope', '0ne1', '--registration-id', 'dev-1', '--tpm', 'tpm2:/dev/tpmrm0'];
    const path = join(temporaryFolder(), 'connection');
    const byFlag = await run([...tpm, '--write-connection', path]);
    expect([byFlag.status, byFlag.io.out(), byFlag.options]).toEqual([64, '', undefined]);
    expect(byFlag.io.err()).toMatch(/^error: --write-connection: .* TPM.*[Ll]eave it out\.\nTry: /);
    const byEnvironment = await run(tpm, { env: { DPS_WRITE_CONNECTION: path } });
    expect([byEnvironment.status, byEnvironment.options]).toEqual([78, undefined]);
    expect(byEnvironment.io.err()).toContain('error ERR_DPS_CONFIG_OPTION: DPS_WRITE_CONNECTION: ');
    expect((await run(tpm)).status).toBe(0);
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
