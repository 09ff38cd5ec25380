import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { UsageError } from '../../src/cli/cli-errors.js';
import type { CommandSpec } from '../../src/cli/option-spec.js';
import { type Options, readOptions } from '../../src/cli/options.js';
import { ConfigurationError } from '../../src/errors.js';
import { type FakeIoOptions, fakeIo } from './fake-io.js';
import { temporaryFolder } from './temporary-folder.js';

const SPEC: CommandSpec = {
  command: 'try',
  summary: 'For tests.',
  secrets: [{ name: 'device-key', help: 'A secret.' }],
  options: [
    { name: 'config', kind: 'input', help: '' },
    {
      name: 'id-scope',
      kind: 'text',
      help: '',
      problem: (text) => (text.includes(' ') ? 'it has a space.' : undefined),
    },
    { name: 'device-key-file', kind: 'input', help: '', placeholder: 'FILE' },
    { name: 'out-file', kind: 'path', help: '' },
    { name: 'transport', kind: ['mqtt', 'https'], help: '' },
    { name: 'hub-transport', kind: ['mqtt'], help: '' },
    { name: 'timeout', kind: 'seconds', help: '' },
    { name: 'mqtt-port', kind: 'port', help: '' },
    { name: 'quiet', kind: 'switch', help: '' },
  ],
  advice: { 'key-file': 'Give --device-key-file.' },
  notes: '',
};

function read(args: string[], io: FakeIoOptions = {}, spec = SPEC): Promise<Options> {
  return readOptions(args, spec, fakeIo(io), new AbortController().signal);
}

async function failure(args: string[], io: FakeIoOptions = {}): Promise<Error> {
  return read(args, io).then(
    () => expect.fail('No error'),
    (error: Error) => error,
  );
}

function configFile(content: unknown, name = 'device.json'): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

describe('flags', () => {
  it('take values apart or attached, and switches alone', async () => {
    const options = await read([
      '--id-scope',
      '0ne1',
      '--transport=https',
      '--quiet',
      '--timeout',
      '1.5',
      '--mqtt-port=0',
    ]);
    expect(options.text('id-scope')).toBe('0ne1');
    expect(options.text('transport')).toBe('https');
    expect(options.isOn('quiet')).toBe(true);
    expect(options.number('timeout')).toBe(1.5);
    expect(options.number('mqtt-port')).toBe(0);
    expect(options.layer('quiet')).toBe('flag');
    expect((await read([])).isOn('quiet')).toBe(false);
  });

  it('keep an attached value whole', async () => {
    expect((await read(['--id-scope=--a=b'])).text('id-scope')).toBe('--a=b');
    expect((await read(['--device-key-file', '-'])).text('device-key-file')).toBe('-');
  });

  it.each([
    [['--id-scop', 'x'], 'There is no flag --id-scop. Did you mean --id-scope?'],
    [['--xyzzy-plugh', 'x'], 'There is no flag --xyzzy-plugh.'],
    [['--constructor', 'x'], 'There is no flag --constructor.'],
    [['--__proto__', 'x'], 'There is no flag --__proto__.'],
    [['--toString', 'x'], 'There is no flag --toString.'],
    [['--key-file', 'x'], 'There is no flag --key-file. Give --device-key-file.'],
    [['--id-scope'], '--id-scope needs a value: --id-scope VALUE.'],
    [
      ['--device-key-file', '--quiet'],
      '--device-key-file needs a value: --device-key-file FILE. A value that begins with -- goes as --device-key-file=VALUE.',
    ],
    [['--transport'], '--transport needs a value (mqtt, https): --transport VALUE.'],
    [['--id-scope', 'a', '--id-scope', 'b'], '--id-scope is given twice. Give it once.'],
    [['--quiet=yes'], '--quiet takes no value. Write --quiet alone, or leave it out.'],
    [['--transport', 'http'], '--transport: it must be one of mqtt, https. Did you mean https?'],
    [['--hub-transport', 'mqttt'], '--hub-transport: it can only be mqtt.'],
    [['--timeout', '5m'], '--timeout: it must be a number of seconds above 0.'],
    [['--timeout', '0'], '--timeout: it must be a number of seconds above 0.'],
    [['--timeout', '-1'], '--timeout: it must be a number of seconds above 0.'],
    [['--mqtt-port', '65536'], '--mqtt-port: it must be a port from 0 to 65535; 0 takes any that is free.'],
    [['--id-scope', 'a b'], '--id-scope: it has a space.'],
    [['--id-scope', ''], '--id-scope: it is empty.'],
  ])('%j is a usage error', async (args, message) => {
    const error = await failure(args);
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).toBe(message);
  });

  it('of any length are repeated in part only', async () => {
    const { message } = await failure([`--${'n'.repeat(100_000)}`]);
    expect(message).toMatch(/^There is no flag --/);
    expect(message.length).toBeLessThan(100);
  });

  it.each([
    [['--key', 'S3CRET']],
    [['--key=S3CRET']],
    [['--device-key', 'S3CRET']],
    [['--passphrase', 'S3CRET']],
    [['--connection-string', 'S3CRET']],
    [['--sas-token=S3CRET']],
    [['-pS3CRET']],
    [['-k', 'S3CRET']],
    [['--quiet', 'S3CRET']],
    [['--', 'S3CRET']],
    [['--id-scop=S3CRET']],
    [['--transport', 'S3CRET']],
    [['--timeout=S3CRET']],
  ])('%j does not repeat what could be a secret', async (args) => {
    const error = await failure(args);
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).not.toContain('3CRET');
  });

  it('say why there is no flag for a secret, and what there is', async () => {
    expect((await failure(['--device-key', 'x'])).message).toBe(
      'There is no flag --device-key: every user of the machine can read a command line. Use --device-key-file FILE (- for standard input), DPS_DEVICE_KEY in the environment, or the systemd credential dps-device-key.',
    );
    expect((await failure(['--key', 'x'])).message).toContain(
      'Name a file with the secret by one of --device-key-file',
    );
  });
});

describe('environment', () => {
  it('stands behind flags', async () => {
    const env = {
      DPS_ID_SCOPE: 'from-env',
      DPS_TRANSPORT: 'https',
      DPS_QUIET: '1',
      DPS_TIMEOUT: '7',
      DPS_MQTT_PORT: '',
    };
    const options = await read(['--id-scope', 'from-flag'], { env });
    expect(options.text('id-scope')).toBe('from-flag');
    expect(options.text('transport')).toBe('https');
    expect(options.number('timeout')).toBe(7);
    expect(options.isOn('quiet')).toBe(true);
    expect(options.number('mqtt-port')).toBeUndefined();
    expect(options.label('transport')).toBe('DPS_TRANSPORT');
  });

  it.each([
    [{ DPS_ID_SCOP: 'x' }, 'The environment variable DPS_ID_SCOP is unknown. Did you mean DPS_ID_SCOPE?'],
    [{ DPS_TRANSPORT: 'amqp' }, 'DPS_TRANSPORT: it must be one of mqtt, https.'],
    [{ DPS_QUIET: 'maybe' }, 'DPS_QUIET: it must be true or false.'],
    [{ DPS_TIMEOUT: 'soon' }, 'DPS_TIMEOUT: it must be a number of seconds above 0.'],
  ])('%j is a configuration error', async (env, message) => {
    const error = await failure([], { env });
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.message).toBe(message);
  });

  it("leaves other software's variables alone, and is not looked at by commands of flags only", async () => {
    await read([], { env: { DPS_UPSTREAM_REGION_NAME: 'x', OTHER: 'y', DPS_DEVICE_KEY: 'secret' } });
    const options = await read(
      ['--timeout', '1'],
      { env: { DPS_ID_SCOP: 'x', DPS_ID_SCOPE: 'y' } },
      { ...SPEC, flagsOnly: true },
    );
    expect(options.text('id-scope')).toBeUndefined();
  });
});

describe('configuration file', () => {
  it('stands behind flags and environment; its paths start at its folder', async () => {
    const path = configFile({
      idScope: 'from-file',
      transport: 'https',
      timeout: 9,
      quiet: true,
      deviceKeyFile: 'keys/device.key',
      outFile: '/absolute/out',
    });
    const options = await read(['--config', path, '--timeout', '1'], { env: { DPS_TRANSPORT: 'mqtt' } });
    expect(options.text('id-scope')).toBe('from-file');
    expect(options.text('transport')).toBe('mqtt');
    expect(options.number('timeout')).toBe(1);
    expect(options.isOn('quiet')).toBe(true);
    expect(options.text('device-key-file')).toBe(join(path, '..', 'keys', 'device.key'));
    expect(options.text('out-file')).toBe('/absolute/out');
    expect(options.label('id-scope')).toBe(`${path}: idScope`);
    expect(options.layer('id-scope')).toBe('config');
  });

  it('leaves the paths of flags as they are', async () => {
    const options = await read(['--config', configFile({}), '--out-file', 'here']);
    expect(options.text('out-file')).toBe('here');
  });

  it('may be named by the environment, and come from standard input', async () => {
    const path = configFile('\uFEFF{"idScope":"a"}');
    expect((await read([], { env: { DPS_CONFIG: path } })).text('id-scope')).toBe('a');
    expect((await read(['--config', '-'], { stdin: '{"idScope":"b"}' })).text('id-scope')).toBe('b');
  });

  it.each([
    [{ idScop: 'x' }, 'the key "idScop" is unknown. Did you mean idScope?'],
    [{ 'id-scope': 'x' }, 'the key "id-scope" is unknown. Did you mean idScope?'],
    [{ config: 'x' }, 'the key "config" is unknown.'],
    [{ retryAfterSeconds: 1 }, 'the key "retryAfterSeconds" is unknown. It belongs to the emulator\'s configuration'],
    [{ enrollments: [] }, 'the key "enrollments" is unknown. It belongs to the emulator\'s configuration'],
    [{ ['__proto__']: 'x' }, 'the key "__proto__" is unknown. Known are idScope, '],
    [{ deviceKey: 'S3CRET' }, 'the key "deviceKey" is unknown. Secrets do not go into the configuration'],
    [{ idScope: 5 }, 'idScope: it must be a text.'],
    [{ idScope: null }, 'idScope: it must be a text.'],
    [{ timeout: true }, 'timeout: it must be a number of seconds above 0.'],
    [{ quiet: 'true' }, 'quiet: it must be true or false.'],
    [{ transport: 'S3CRET' }, 'transport: it must be one of mqtt, https.'],
    ['[]', 'must hold a JSON object.'],
    ['"S3CRET"', 'must hold a JSON object.'],
    ['S3CRET==', 'is not JSON'],
    ['{"idScope":"S3CRET",\n\n  "timeout":}', 'is not JSON'],
    ['', 'is not JSON'],
  ])('%j is a configuration error without its content', async (content, message) => {
    const path = configFile(content);
    const error = await failure(['--config', path]);
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error.message).toContain(path);
    expect(error.message).toContain(message);
    expect(JSON.stringify([error.message, String(error.cause)])).not.toContain('S3CRET');
  });

  it('that is missing, a folder, too long or not text is a configuration error', async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, 'sub'));
    writeFileSync(join(folder, 'latin1'), Buffer.from([0x7b, 0xe4, 0x7d]));
    expect((await failure(['--config', join(folder, 'none')])).message).toContain('does not exist');
    expect((await failure(['--config', join(folder, 'sub')])).message).toContain('is a directory');
    writeFileSync(join(folder, 'long'), Buffer.alloc(1_048_577, ' '));
    expect((await failure(['--config', join(folder, 'long')])).message).toContain('is longer than');
    expect((await failure(['--config', '/dev/zero'])).message).toContain('is a terminal or another device');
    expect((await failure(['--config', join(folder, 'n'.repeat(300))])).message).toContain('has a name longer than');
    expect((await failure(['--config', join(folder, 'latin1')])).message).toContain('is not UTF-8 text');
  });
});

describe('a named pipe', () => {
  const pipe = (): string => {
    const path = join(temporaryFolder(), 'pipe');
    execFileSync('mkfifo', [path]);
    return path;
  };

  it('is awaited until somebody writes, and read to its end', async () => {
    const path = pipe();
    const reading = read(['--config', path]);
    const writer = await open(path, 'w');
    for (let turn = 0; turn < 50; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    await writer.writeFile('{"idScope":"0ne1"}');
    await writer.close();
    expect((await reading).text('id-scope')).toBe('0ne1');
  });

  it('that nobody writes to is left when the signal aborts', async () => {
    const path = pipe();
    const controller = new AbortController();
    const reading = readOptions(['--config', path], SPEC, fakeIo(), controller.signal);
    controller.abort();
    await expect(reading).rejects.toMatchObject({ name: 'CancelledError', state: 'reading the file of --config' });
  });
});

describe('standard input', () => {
  it('has paths that are taken as they are: there may be no working directory', async () => {
    const options = await read(['--config', '-'], { stdin: '{"outFile":"out/file"}' });
    expect(options.text('out-file')).toBe('out/file');
  });

  it('is there once', async () => {
    const error = await failure(['--config', '-', '--device-key-file=-'], { stdin: '{}' });
    expect(error).toBeInstanceOf(UsageError);
    expect(error.message).toBe('Standard input can be read once, but --config and --device-key-file ask for it.');
  });

  it('must be neither a terminal nor empty', async () => {
    expect((await failure(['--config', '-'], { isStdinTerminal: true })).message).toContain('is a terminal');
    expect((await failure(['--config', '-'], { stdin: '' })).message).toContain('is empty');
  });
});

describe('a missing option', () => {
  it('is a matter of usage, unless there is a configuration', async () => {
    expect((await read([])).missing('id-scope', 'm')).toBeInstanceOf(UsageError);
    expect((await read(['--config', configFile({})])).missing('id-scope', 'm')).toBeInstanceOf(ConfigurationError);
  });
});
