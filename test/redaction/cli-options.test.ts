import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { emulatorCommand } from '../../src/cli/emulator.js';
import { main } from '../../src/cli/main.js';
import { configKey, environmentName, type OptionSpec } from '../../src/cli/option-spec.js';
import { provisionCommand } from '../../src/cli/provision.js';
import { PROVISION_SPEC } from '../../src/cli/provision-spec.js';
import { provision } from '../../src/compose.js';
import { type FakeIo, fakeIo } from '../cli/fake-io.js';
import { fakeProvision, DEVICE_KEY as KEY_OF_FAKE_DEVICE } from '../cli/fake-provision.js';
import { INDIVIDUAL, KEYS, makeSecrets, PASSPHRASE, PROXY_PASSWORD, privateFile, temporaryFolder } from './bench.js';
import { type Canaries, canaryBytes } from './canaries.js';
import { expectNoLeaks } from './channels.js';

/** Secrets where the command line, the environment or a configuration file expects something else. */

const CONNECTION_STRING = `HostName=hub.example;DeviceId=${INDIVIDUAL};SharedAccessKey=${KEYS.device}`;
const PASTED: readonly string[] = [
  KEYS.device,
  KEYS.unpadded,
  canaryBytes('device', 64).toString('hex'),
  CONNECTION_STRING,
  JSON.stringify({ symmetricKey: KEYS.device }),
  PASSPHRASE,
  PROXY_PASSWORD,
];

/**
 * Identifiers are told to everybody: what is given as one is no secret any more. The name of a file that is to be made is
 * in the messages about it.
 */
const OPEN = ['id-scope', 'registration-id', 'model-id', 'endpoint', 'write-connection'];
const GUARDED: readonly OptionSpec[] = PROVISION_SPEC.options.filter(({ name }) => !OPEN.includes(name));

/** A passphrase may look like any path: only where a secret's file is wanted can it be one. */
function pastedFor({ name, kind }: OptionSpec): readonly string[] {
  const wantsSecret = PROVISION_SPEC.secrets.some((secret) => name === `${secret.name}-file`);
  const wantsPath = (kind === 'input' || kind === 'path') && !wantsSecret;
  return wantsPath ? PASTED.filter((text) => text !== PASSPHRASE && text !== PROXY_PASSWORD) : PASTED;
}

/** What goes with the option, so that it is looked at: option names and values. */
function companyOf(name: string): ReadonlyMap<string, string> {
  const folder = temporaryFolder();
  const identities: readonly (readonly [RegExp, readonly string[]])[] = [
    [/^(cert|chain|key-passphrase)/, ['cert-file', 'cert-key-file']],
    [/group-key/, ['group-key-file']],
    [/^key-store-(key|passphrase)/, [name]],
    [/^key-/, ['key-store-key-file']],
    [/^tpm/, []],
    [/./, ['symmetric-key-file']],
  ];
  const files = identities.find(([options]) => options.test(name))?.[1] ?? [];
  const all: readonly (readonly [string, string])[] = [
    ['id-scope', '0ne00111111'],
    // The entry of a key store brings its own.
    ...(/^key-(store|name)/.test(name) ? [] : ([['registration-id', INDIVIDUAL]] as const)),
    // What gets past all checks is not to go any further.
    ['endpoint', 'localhost:1'],
    ['timeout', '2'],
    ...(/^key-(store|name)/.test(name)
      ? ([
          ['key-store', folder],
          ['key-name', 'device'],
        ] as const)
      : []),
    ...(/^tpm-/.test(name) ? ([['tpm', 'tpm2:swtpm:host=127.0.0.1,port=1']] as const) : []),
    ...(name === 'proxy-password-file' ? ([['proxy', 'http://u@localhost:1']] as const) : []),
    ...files.map((option): [string, string] => [option, privateFile(folder, option, KEYS.device)]),
  ];
  return new Map(all.filter(([option]) => option !== name));
}

async function run(io: FakeIo, args: readonly string[], load = async () => provision): Promise<number> {
  return main(args, io, {
    provision: { summary: '', load: async () => provisionCommand(load) },
    emulator: { summary: '', load: async () => emulatorCommand() },
  });
}

function expectSilence(canaries: Canaries, io: FakeIo): void {
  expectNoLeaks(
    canaries,
    new Map([
      ['standard output', io.out()],
      ['standard error', io.err()],
    ]),
  );
}

/** Refused, as a slip of the user and not as a bug, in every form of output. */
async function expectRefused(
  canaries: Canaries,
  args: readonly string[],
  setup: Parameters<typeof fakeIo>[0] = {},
): Promise<void> {
  for (const form of [['--quiet'], ['--json-log']]) {
    const io = fakeIo(setup);
    const status = await run(io, ['provision', ...args, ...form]);
    expect([0, 70], io.err()).not.toContain(status);
    expect(io.out()).toBe('');
    expectSilence(canaries, io);
  }
}

describe('a secret as a flag’s value', () => {
  it.each(GUARDED.map((option) => [option.name, option] as const))('--%s', async (name, option) => {
    const { canaries } = await makeSecrets();
    const company = [...companyOf(name)].flatMap(([other, value]) => [`--${other}`, value]);
    for (const secret of pastedFor(option)) {
      await expectRefused(canaries, [...company, `--${name}`, secret]);
      await expectRefused(canaries, [...company, `--${name}=${secret}`]);
    }
  });

  it.each(['symmetric-key', 'key', 'password', 'passphrase', 'connection-string', 'sas-token', 'primary-key'])(
    '--%s, which does not exist',
    async (name) => {
      const { canaries } = await makeSecrets();
      for (const secret of PASTED) {
        await expectRefused(canaries, [`--${name}`, secret]);
        await expectRefused(canaries, [`--${name}=${secret}`]);
      }
    },
  );

  it('in no place that there is', async () => {
    const { canaries } = await makeSecrets();
    for (const secret of PASTED) {
      for (const args of [[secret], [`-k${secret}`], ['--', secret], ['--quiet', secret], [`--quiet=${secret}`]]) {
        await expectRefused(canaries, args);
      }
      for (const name of ['id-scope', 'registration-id', 'endpoint']) {
        await expectRefused(canaries, [`--${name}`, `${secret} /`]);
      }
      const io = fakeIo();
      expect(await run(io, [secret])).toBe(64);
      expectSilence(canaries, io);
    }
  });
});

describe('a secret in the environment', () => {
  const variables = GUARDED.map((option) => [environmentName(option.name), option] as const);

  it.each(variables)('as %s', async (variable, option) => {
    const { canaries } = await makeSecrets();
    const company = [...companyOf(option.name)].map(([other, value]) => [environmentName(other), value]);
    for (const secret of pastedFor(option)) {
      await expectRefused(canaries, [], { env: { ...Object.fromEntries(company), [variable]: secret } });
    }
  });

  it('that is none, or under a name that is nearly right', async () => {
    const { canaries, certified } = await makeSecrets();
    const wrong: readonly Record<string, string>[] = [
      { DPS_SYMETRIC_KEY: KEYS.device },
      { DPS_SYMMETRIC_KEY: `${KEYS.device}!` },
      { DPS_SYMMETRIC_KEY: CONNECTION_STRING },
      { DPS_SYMMETRIC_KEY: certified.keyPem },
      { DPS_GROUP_KEY: KEYS.group.slice(1) },
      { DPS_SYMMETRIC_KEY: KEYS.device, DPS_GROUP_KEY: KEYS.group },
      { DPS_CERT_KEY: certified.keyPem, DPS_SYMMETRIC_KEY: KEYS.device },
      { DPS_CERT_KEY: KEYS.device, DPS_CERT_FILE: '/nowhere' },
    ];
    for (const env of wrong) {
      await expectRefused(canaries, [], {
        env: { DPS_ID_SCOPE: '0ne00111111', DPS_REGISTRATION_ID: INDIVIDUAL, ...env },
      });
    }
  });
});

describe('a secret in a configuration file', () => {
  const keys = GUARDED.filter(({ name }) => name !== 'config').map(
    (option) => [configKey(option.name), option] as const,
  );

  it.each(keys)('as %s', async (key, option) => {
    const { canaries } = await makeSecrets();
    const folder = temporaryFolder();
    const company = Object.fromEntries([...companyOf(option.name)].map(([other, value]) => [configKey(other), value]));
    for (const secret of pastedFor(option)) {
      for (const value of [secret, { text: secret }, [secret]]) {
        const config = privateFile(folder, 'config.json', JSON.stringify({ ...company, [key]: value }));
        await expectRefused(canaries, ['--config', config]);
      }
    }
  });

  it('as what has no place there', async () => {
    const { canaries, certified } = await makeSecrets();
    const folder = temporaryFolder();
    const base = { idScope: '0ne00111111', registrationId: INDIVIDUAL };
    const text = JSON.stringify({ ...base, symmetricKey: KEYS.device });
    const start = text.indexOf(KEYS.device);
    const places = Array.from({ length: 12 }, (_, index) => start - 5 + index * 8);
    const documents = [
      text,
      JSON.stringify({ ...base, key: KEYS.device }),
      JSON.stringify({ ...base, [KEYS.device]: true }),
      JSON.stringify({ ...base, connectionString: CONNECTION_STRING }),
      JSON.stringify(KEYS),
      JSON.stringify([KEYS.device]),
      JSON.stringify(KEYS.device),
      KEYS.device,
      certified.keyPem,
      CONNECTION_STRING,
      ...places.flatMap((at) => [text.slice(0, at), `${text.slice(0, at)}"${text.slice(at)}`]),
    ];
    for (const document of documents) {
      await expectRefused(canaries, ['--config', privateFile(folder, 'config.json', document)]);
      await expectRefused(canaries, ['--config', '-'], { stdin: document });
    }
  });

  it('of the emulator', async () => {
    const { canaries } = await makeSecrets();
    const folder = temporaryFolder();
    const documents = [JSON.stringify({ symmetricKey: KEYS.device }), `{"primaryKey":"${KEYS.device}`, KEYS.device];
    for (const document of documents) {
      const io = fakeIo();
      expect(await run(io, ['emulator', '--config', privateFile(folder, 'emulator.json', document)])).toBe(78);
      expectSilence(canaries, io);
    }
  });
});

describe('a failure of the command itself', () => {
  it.each([[[]], [['--json-log']]])('is shown with its stack %j', async (form) => {
    const { canaries, certified } = await makeSecrets();
    const bugs = [
      new TypeError(`The "key" argument must be of type string. Received '${KEYS.device}'`),
      new Error(`boom\n${certified.keyPem}`, { cause: new Error(`with ${KEYS.secondary}`) }),
      new Error(`boom\n    at ${KEYS.device} (${KEYS.group})`),
      Object.assign(new Error('boom'), { code: KEYS.device }),
      new AggregateError([new Error(CONNECTION_STRING)], `all failed: ${KEYS.device}`),
    ];
    for (const bug of bugs) {
      const io = fakeIo({ env: { DPS_SYMMETRIC_KEY: KEYS.device } });
      const { provision: fake } = fakeProvision(() => Promise.reject(bug));
      const args = ['provision', '--id-scope', '0ne00111111', '--registration-id', INDIVIDUAL, ...form];
      expect(await run(io, args, async () => fake)).toBe(70);
      expect(io.err()).toMatch(/at .*cli-options\.test/);
      expectSilence(canaries, io);
    }
  });
});

describe('a command leaves no secret', () => {
  it('in its environment', async () => {
    const { certified } = await makeSecrets();
    const secrets = {
      DPS_SYMMETRIC_KEY: KEYS.device,
      DPS_KEY_PASSPHRASE: PASSPHRASE,
      DPS_CERT_KEY: certified.keyPem,
      DPS_TPM_OWNER_AUTH: PASSPHRASE,
      DPS_TPM_ENDORSEMENT_AUTH: PASSPHRASE,
    };
    const io = fakeIo({ env: { ...secrets, DPS_ID_SCOPE: '0ne' } });
    await run(io, ['provision']);
    expect(Object.keys(io.env)).toEqual(['DPS_ID_SCOPE']);
  });

  it.each(['provision', 'run', 'status', 'forget', 'doctor'])('of the proxy in the environment of %s', async (name) => {
    const { canaries } = await makeSecrets();
    const io = fakeIo({ env: { DPS_PROXY_PASSWORD: PROXY_PASSWORD } });
    expect(await main([name, '--endpoint', 'localhost:1'], io)).not.toBe(0);
    expect(io.env).toEqual({});
    expectSilence(canaries, io);
  });

  it('in the result, whatever the service put into it', async () => {
    const { canaries } = await makeSecrets();
    canaries.addText('key of the fake device', KEY_OF_FAKE_DEVICE);
    const io = fakeIo({ env: { DPS_SYMMETRIC_KEY: KEYS.device } });
    const { provision: fake } = fakeProvision();
    const args = ['provision', '--id-scope', '0ne00111111', '--registration-id', INDIVIDUAL];
    expect(await run(io, args, async () => fake)).toBe(0);
    expectSilence(canaries, io);
  });
});

describe('the password of a proxy', () => {
  const IDENTITY = ['--id-scope', '0ne00111111', '--registration-id', INDIVIDUAL, '--endpoint', 'localhost:1'];
  const encoded = encodeURIComponent(PROXY_PASSWORD);

  it.each([
    `http://u:${encoded}@localhost:1`,
    `socks5://u:${PROXY_PASSWORD}@localhost:1`,
    `u:${PROXY_PASSWORD}@localhost:1`,
    `http://${encoded}`,
    `http://localhost:${PROXY_PASSWORD}`,
    `http://localhost:1/${PROXY_PASSWORD}`,
    `ftp://u@${PROXY_PASSWORD}`,
    PROXY_PASSWORD,
  ])('in a URL %#', async (proxy) => {
    const { canaries } = await makeSecrets();
    const folder = temporaryFolder();
    const identity = [...IDENTITY, '--symmetric-key-file', privateFile(folder, 'key', KEYS.device)];
    for (const command of ['provision', 'run', 'doctor']) {
      for (const [args, setup] of [
        [['--proxy', proxy], {}],
        [[`--proxy=${proxy}`], {}],
        [[], { env: { DPS_PROXY: proxy } }],
        [['--config', privateFile(folder, 'config.json', JSON.stringify({ proxy }))], {}],
      ] as const) {
        const io = fakeIo(setup);
        expect(await main([command, ...identity, ...args], io)).toSatisfy((status) => status === 64 || status === 78);
        expectSilence(canaries, io);
      }
    }
  });

  it('in a file that is refused, or named by it', async () => {
    const { canaries } = await makeSecrets();
    const folder = temporaryFolder();
    const open = privateFile(folder, 'open', PROXY_PASSWORD);
    chmodSync(open, 0o644);
    const noText = join(folder, 'no-text');
    writeFileSync(noText, Buffer.concat([Buffer.from(PROXY_PASSWORD), Uint8Array.of(0xff)]), { mode: 0o600 });
    const tooLong = privateFile(folder, 'too-long', PROXY_PASSWORD.repeat(50));
    for (const file of [open, noText, tooLong, PROXY_PASSWORD, folder]) {
      const proxy = ['--proxy', 'socks5://u@localhost:1', '--proxy-password-file', file];
      await expectRefused(canaries, [
        ...IDENTITY,
        ...proxy,
        '--symmetric-key-file',
        privateFile(folder, 'key', KEYS.device),
      ]);
    }
  });
});
