import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { EMULATOR_SPEC } from '../../src/cli/emulator-spec.js';
import { main } from '../../src/cli/main.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

interface Ready {
  readonly ready: boolean;
  readonly idScope: string;
  readonly endpoints: {
    readonly dps: { readonly mqtt: string; readonly amqp: string; readonly https: string };
    readonly hubs: readonly { readonly name: string; readonly hostName: string }[];
  };
  readonly caPem: string;
  readonly caFile?: string;
  readonly demo?: { readonly folder: string; readonly configurations: readonly string[] };
}

/** Runs the emulator until `work` is done with it; `work` is not called when it does not come up. */
async function withEmulator(
  args: string[],
  work: (ready: Ready, io: FakeIo) => Promise<void> | void = () => undefined,
  more: FakeIoOptions = {},
): Promise<{ status: number; io: FakeIo }> {
  let announced: (line: string) => void = () => undefined;
  const line = new Promise<string>((resolve) => {
    announced = resolve;
  });
  const io = fakeIo({ ...more, onStdout: (text) => announced(text) });
  const ended = main(['emulator', ...args], io, undefined, 'node dist/main.js');
  const first = await Promise.race([line, ended]);
  if (typeof first === 'string') {
    try {
      expect(first.split('\n')).toHaveLength(2);
      await work(JSON.parse(first) as Ready, io);
    } finally {
      io.send('SIGTERM');
    }
  }
  return { status: await ended, io };
}

function provision(...args: string[]): Promise<{ status: number; io: FakeIo }> {
  const io = fakeIo();
  return main(['provision', ...args], io).then((status) => ({ status, io }));
}

describe('dps-device emulator', () => {
  it('says on one line where it is, logs, and ends in 0 when it is stopped', async () => {
    const { status, io } = await withEmulator([], (ready) => {
      expect(ready).toEqual({
        ready: true,
        pid: process.pid,
        idScope: '0ne00000000',
        idScopes: ['0ne00000000'],
        endpoints: {
          dps: {
            mqtt: expect.stringMatching(/^localhost:\d+$/),
            amqp: expect.stringMatching(/^localhost:\d+$/),
            https: expect.stringMatching(/^localhost:\d+$/),
          },
          hubs: [expect.objectContaining({ name: 'hub-1', mqtt: expect.stringMatching(/^localhost:\d+$/) })],
        },
        caPem: expect.stringMatching(/^-----BEGIN CERTIFICATE-----/),
      });
    });
    expect(status).toBe(0);
    expect(io.err()).toMatch(
      /^DPS listens at localhost:\d+ \(MQTT\), localhost:\d+ \(AMQP\) and localhost:\d+ \(HTTPS, MQTT and AMQP over WebSocket\), ID scope 0ne00000000\nhub hub-1 listens at localhost:\d+ \(MQTT and AMQP, also over WebSocket\)\n/,
    );
    expect(io.err()).toMatch(/\nstopping: SIGTERM\n$/);
    expect(io.listeners()).toBe(0);
  });

  it('takes its configuration from a file, beside which the files of that lie, and flags before it', async () => {
    const folder = temporaryFolder();
    const caFile = join(folder, 'ca.pem');
    const config = {
      idScope: '0ne11111111',
      ports: { mqtt: 1, amqp: 1 },
      hubs: [{ name: 'north' }, { name: 'south' }],
    };
    writeFileSync(join(folder, 'emulator.json'), JSON.stringify(config));
    const args = [
      '--config',
      join(folder, 'emulator.json'),
      '--mqtt-port=0',
      '--amqp-port=0',
      '--host=127.0.0.1',
      `--ca-file=${caFile}`,
    ];
    const { status } = await withEmulator(args, (ready) => {
      expect(ready.idScope).toBe('0ne11111111');
      expect(ready.endpoints.dps.mqtt).not.toBe('localhost:1');
      expect(ready.endpoints.dps.amqp).not.toBe('localhost:1');
      expect(ready.endpoints.hubs.map(({ name }) => name)).toEqual(['north', 'south']);
      expect(ready.caFile).toBe(caFile);
      expect(readFileSync(caFile, 'utf8')).toBe(ready.caPem);
    });
    expect(status).toBe(0);
  });

  it('logs nothing when quiet, and objects for machines', async () => {
    expect((await withEmulator(['--quiet'])).io.err()).toBe('');
    const folder = temporaryFolder();
    const { io } = await withEmulator(['--json-log', '--demo', folder], async () => {
      expect((await provision('--config', join(folder, 'x509.json'))).status).toBe(0);
    });
    const entries = io
      .err()
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    const log = entries.filter(({ type }) => type === 'log');
    expect(log).toContainEqual({ type: 'log', line: 'stopping: SIGTERM' });
    for (const entry of log) expect(entry).toEqual({ type: 'log', line: expect.any(String) });
    const trace = entries.filter(({ type }) => type === 'trace');
    expect(log.length + trace.length).toBe(entries.length);
    expect(trace.map(({ sequence }) => sequence)).toEqual(trace.map((_, index) => index + 1));
    expect(trace).toContainEqual({
      type: 'trace',
      sequence: expect.any(Number),
      wallMs: expect.any(Number),
      service: 'dps',
      protocol: 'mqtt',
      event: 'register',
      connection: 1,
      idScope: '0ne00000000',
      device: 'demo-x509',
      topic: expect.stringContaining('$dps/registrations/PUT/'),
    });
  });

  it('has an example in its help that it takes, and tells the exit statuses that it has', async () => {
    const help = fakeIo();
    expect(await main(['emulator', '--help'], help)).toBe(0);
    const example = /Example of a configuration:\n((?: {2}.*\n)+)/.exec(help.out())?.[1] ?? '';
    const path = fileWith(example);
    const { status, io } = await withEmulator(['--config', path], ({ ready }) => expect(ready).toBe(true));
    expect([status, io.err()]).toEqual([0, expect.not.stringContaining('careful')]);
    const statuses = [...help.out().matchAll(/^ {2} *(\d+) {2}\S/gm)].map(([, status]) => Number(status));
    expect(statuses).toEqual([0, 64, 70, 74, 78, 130, 143]);
  });

  it.each([
    [['--mqtt-port', 'x'], 64, '--mqtt-port: it must be a port'],
    [['--amqp-port', '70000'], 64, '--amqp-port: it must be a port'],
    [['--port', '8883'], 64, 'There is no flag --port. Give --mqtt-port, --amqp-port or --https-port.'],
    [['--id-scope', 'x'], 64, 'There is no flag --id-scope.'],
    [['--demo', 'a', '--config', 'b'], 64, 'give either --demo or --config'],
    [['--config', 'does-not-exist.json'], 78, 'does-not-exist.json does not exist'],
    [['--ca-file', 'does-not-exist/ca.pem'], 78, 'does-not-exist'],
    [['--host', '192.0.2.1'], 78, ': --host: cannot listen on 192.0.2.1'],
    [['--host', 'a b'], 64, '--host must be an address or a host name'],
  ])('%j does not start', async (args, expected, message) => {
    const { status, io } = await withEmulator(args, () => expect.fail('It started'));
    expect(status).toBe(expected);
    expect(io.err()).toContain(message);
    expect(io.out()).toBe('');
  });

  it('names the nearest key of a configuration with an unknown one', async () => {
    const path = join(temporaryFolder(), 'emulator.json');
    writeFileSync(path, '{"enrolments":[]}');
    const { status, io } = await withEmulator(['--config', path]);
    expect(status).toBe(78);
    expect(io.err()).toContain('"enrollments"');
  });

  it('ends at once when nobody can learn where it listens', async () => {
    const io = fakeIo({ stdoutFailure: Object.assign(new Error('no space left'), { code: 'ENOSPC' }) });
    expect(await main(['emulator'], io)).toBe(74);
    expect(io.err()).toContain('Standard output cannot be written: no space left.');
    expect(io.err()).not.toContain('DPS listens');
  });

  it('goes on when whoever read where it listens goes away', async () => {
    const stdoutFailure = Object.assign(new Error('write EPIPE'), { code: 'EPIPE' });
    const { status, io } = await withEmulator([], () => undefined, { stdoutFailure });
    expect(status).toBe(0);
    expect(io.err()).toContain('DPS listens at');
  });

  it('listens on ::1, however it is written, without a warning', async () => {
    for (const host of ['::1', '[::1]']) {
      const { status, io } = await withEmulator(['--host', host]);
      expect([host, status, io.err()]).toEqual([host, 0, expect.not.stringContaining('careful')]);
    }
  });

  it('says that a port is taken', async () => {
    await withEmulator([], async ({ endpoints }) => {
      const port = endpoints.dps.mqtt.split(':')[1] ?? '';
      const { status, io } = await withEmulator(['--mqtt-port', port]);
      expect(status).toBe(78);
      expect(io.err()).toContain(`port ${port} (EADDRINUSE)`);
    });
  });

  it('names the flag where one gave the port, else the key of the configuration', async () => {
    await withEmulator([], async ({ endpoints }) => {
      const port = endpoints.dps.mqtt.split(':')[1] ?? '';
      const byFlag = await withEmulator(['--mqtt-port', port]);
      expect(byFlag.io.err()).toContain('error ERR_DPS_CONFIG_OPTION: --mqtt-port: cannot listen on ');
      expect(byFlag.io.err()).toMatch(/\n {2}option: +--mqtt-port\n/);
      expect(byFlag.io.err()).not.toContain('ports.mqtt');
      const path = fileWith(JSON.stringify({ ports: { mqtt: Number(port) } }));
      const byFile = await withEmulator(['--config', path]);
      expect([byFile.status, byFile.io.err()]).toEqual([
        78,
        expect.stringContaining(': ports.mqtt: cannot listen on '),
      ]);
    });
  });

  it('warns of keys that it made and nobody can read', async () => {
    const symmetricKey = {};
    const enrollments = [
      { registrationId: 'made', attestation: { symmetricKey } },
      { registrationId: 'by-type', attestation: { type: 'symmetricKey' } },
      {
        registrationId: 'given',
        attestation: { symmetricKey: { primaryKey: Buffer.alloc(32, 7).toString('base64') } },
      },
    ];
    const enrollmentGroups = [{ enrollmentGroupId: 'valves', attestation: { symmetricKey } }];
    const scopes = [{ enrollments }, { idScope: '0ne22222222', enrollmentGroups }];
    const { io } = await withEmulator(['--config', fileWith(JSON.stringify({ scopes }))]);
    const warnings = io.err().match(/^careful: .*$/gm);
    expect(warnings).toHaveLength(3);
    for (const [index, name] of ['made', 'by-type', 'valves'].entries()) {
      expect(warnings?.[index]).toMatch(
        new RegExp(`^careful: the keys of ${name} were made here, .*"primaryKey".*openssl rand`),
      );
    }
    const stateFile = join(temporaryFolder(), 'state.json');
    const kept = await withEmulator(['--config', fileWith(JSON.stringify({ enrollments, stateFile }))]);
    expect([kept.status, kept.io.err()]).toEqual([0, expect.not.stringContaining('careful')]);
  });

  it('tells every option in its help', async () => {
    const io = fakeIo();
    expect(await main(['emulator', '--help'], io)).toBe(0);
    for (const { name } of EMULATOR_SPEC.options) expect(io.out()).toContain(`\n  --${name}`);
    const widths = io
      .out()
      .split('\n')
      .map((line) => line.length);
    expect(Math.max(...widths)).toBeLessThanOrEqual(100);
  });
});

describe('emulator --demo', () => {
  it('says how to start a device, in the form that it was started in', async () => {
    const folder = join(temporaryFolder(), 'my demo');
    const { io } = await withEmulator(['--demo', folder]);
    expect(io.err()).toContain(
      `\na device to try: node dist/main.js provision --config '${join(folder, 'x509.json')}'\n`,
    );
  });

  it('makes devices that provision as they are, over MQTT, AMQP and HTTPS', async () => {
    const folder = join(temporaryFolder(), 'new', 'demo');
    await withEmulator(['--demo', folder], async ({ demo, endpoints }, emulator) => {
      expect(demo).toEqual({
        folder,
        configurations: ['', '-amqp', '-https'].flatMap((transport) => [
          join(folder, `symmetric-key${transport}.json`),
          join(folder, `x509${transport}.json`),
        ]),
      });
      for (const config of demo?.configurations ?? []) {
        const connection = join(folder, 'connection');
        const { status, io } = await provision('--config', config, '--write-connection', connection);
        expect([config, status, io.err()]).toEqual([config, 0, expect.stringContaining('provisioned: demo-')]);
        const isX509 = config.includes('x509');
        const device = isX509 ? 'demo-x509' : 'demo-symmetric-key';
        expect(JSON.parse(io.out())).toMatchObject({
          status: 'provisioned',
          registrationId: device,
          deviceId: device,
          attestation: isX509 ? 'x509' : 'symmetricKey',
          transport: { dps: /-(amqp|https)\.json$/.exec(config)?.[1] ?? 'mqtt', hub: 'mqtt' },
          twin: {
            desired: { version: 1, properties: { telemetryIntervalSeconds: isX509 ? 60 : 30 } },
            reported: { version: 1, properties: {} },
          },
          connectionFile: connection,
        });
        const key = readFileSync(join(folder, 'symmetric-key.key'), 'utf8').trim();
        const credential = isX509 ? 'x509=true' : `SharedAccessKey=${key}`;
        const hostName = endpoints.hubs[0]?.hostName;
        expect(readFileSync(connection, 'utf8')).toBe(`HostName=${hostName};DeviceId=${device};${credential}\n`);
        expect(io.out() + io.err() + emulator.out() + emulator.err()).not.toContain(key);
      }
    });
  });

  it('keeps keys to their owner', async () => {
    const folder = temporaryFolder();
    await withEmulator(['--demo', folder]);
    const modes = Object.fromEntries(
      readdirSync(folder).map((name) => [name, statSync(join(folder, name)).mode & 0o777]),
    );
    expect(modes).toMatchObject({ 'symmetric-key.key': 0o600, 'x509.key': 0o600, 'emulator.json': 0o600 });
    expect(Object.keys(modes).sort()).toEqual([
      'ca.pem',
      'emulator.json',
      'symmetric-key-amqp.json',
      'symmetric-key-https.json',
      'symmetric-key.json',
      'symmetric-key.key',
      'x509-amqp.json',
      'x509-https.json',
      'x509.json',
      'x509.key',
      'x509.pem',
    ]);
  });

  it('uses a folder again, with the credentials and the configuration in it', async () => {
    const folder = temporaryFolder();
    const lasting = ['symmetric-key.key', 'x509.pem', 'x509.key'];
    const readLasting = (): string[] => lasting.map((name) => readFileSync(join(folder, name), 'utf8'));
    await withEmulator(['--demo', folder]);
    const before = readLasting();
    const path = join(folder, 'emulator.json');
    writeFileSync(path, readFileSync(path, 'utf8').replace('"enrollments"', '"idScope": "0ne22222222", "enrollments"'));
    await withEmulator(['--demo', folder], async ({ idScope }) => {
      expect(idScope).toBe('0ne22222222');
      expect(readLasting()).toEqual(before);
      expect((await provision('--config', join(folder, 'x509.json'))).status).toBe(0);
    });
  });

  it("overwrites nobody's files", async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'x509.key'), 'mine');
    const { status, io } = await withEmulator(['--demo', folder]);
    expect(status).toBe(78);
    expect(io.err()).toContain('has x509.key but no emulator.json');
    expect(readFileSync(join(folder, 'x509.key'), 'utf8')).toBe('mine');
    expect(readdirSync(folder)).toEqual(['x509.key']);
  });

  it('does not wait for a pipe', async () => {
    const folder = temporaryFolder();
    execFileSync('mkfifo', [join(folder, 'emulator.json')]);
    const { status, io } = await withEmulator(['--demo', folder]);
    expect(status).toBe(78);
    expect(io.err()).toContain(`--demo: ${join(folder, 'emulator.json')} is not a regular file. Remove it`);
  });

  it.each([
    ['/proc/x', '/proc/x cannot be made there.'],
    ['/proc/x/y', '/proc/x/y cannot be made there.'],
    ['/dev/null', '/dev/null is not a folder.'],
    ['/dev/null/x', '/dev/null/x does not exist.'],
  ])('is refused where no folder can be: %s', async (folder, message) => {
    const { status, io } = await withEmulator(['--demo', folder]);
    expect([status, io.err()]).toEqual([78, expect.stringContaining(`--demo: ${message}`)]);
  });

  it('needs a folder', async () => {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'file'), '');
    mkdirSync(join(folder, 'sub'));
    const { status, io } = await withEmulator(['--demo', join(folder, 'file')]);
    expect(status).toBe(78);
    expect(io.err()).toContain('is not a folder');
    expect(existsSync(join(folder, 'sub', 'ca.pem'))).toBe(false);
  });
});

describe('provision against the emulator', () => {
  it('ends in the status for what is wrong', async () => {
    const folder = temporaryFolder();
    await withEmulator(['--demo', folder], async () => {
      const keyConfig = join(folder, 'symmetric-key.json');
      const wrongKey = join(folder, 'wrong.key');
      writeFileSync(wrongKey, Buffer.alloc(32, 7).toString('base64'), { mode: 0o600 });
      const wrong = await provision('--config', keyConfig, '--symmetric-key-file', wrongKey);
      expect(wrong.status).toBe(77);
      expect(wrong.io.err()).toMatch(/error ERR_DPS_SERVICE_UNAUTHORIZED: [\s\S]*\n {2}tracking id: +\S+\n/);
      const untrusted = await provision('--config', keyConfig, '--ca-file', join(folder, 'x509.pem'));
      expect(untrusted.status).toBe(78);
      expect(untrusted.io.err()).toContain(`--ca-file ${join(folder, 'x509.pem')} does not hold that CA`);
      expect(untrusted.io.err()).not.toContain('  flag: ');
      const mismatch = await provision('--config', join(folder, 'x509.json'), '--registration-id', 'other');
      expect(mismatch.status).toBe(71);
      for (const { io } of [wrong, untrusted, mismatch]) expect(io.out()).toBe('');
    });
  });
});
