import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type JourneySettings, readSettings } from '../../src/cli/journey-settings.js';
import { readOptions } from '../../src/cli/options.js';
import { PROVISION_SPEC } from '../../src/cli/provision-spec.js';
import { findSecrets, takeEnvironmentSecrets } from '../../src/cli/secrets.js';
import { proxyRule } from '../../src/net/proxy-choice.js';
import { type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

const KEY_FLAGS = ['--id-scope', '0ne1', '--registration-id', 'dev-1', '--symmetric-key-file', 'dev.key'];
const TARGET = { host: 'hub.example', port: 8883 };

async function settingsFor(args: readonly string[], setup: FakeIoOptions = {}): Promise<JourneySettings> {
  const io = fakeIo(setup);
  const { signal } = new AbortController();
  const taken = takeEnvironmentSecrets(io.env, PROVISION_SPEC.secrets);
  const options = await readOptions([...KEY_FLAGS, ...args], PROVISION_SPEC, io, signal);
  const secrets = await findSecrets(PROVISION_SPEC.secrets, options, taken, io, signal);
  return readSettings(options, secrets, { io, signal });
}

/** What the library makes of the proxy. */
async function proxyFor(args: readonly string[], setup: FakeIoOptions = {}): Promise<unknown> {
  const { provision } = await settingsFor(args, setup);
  return proxyRule({ proxy: provision.proxy, env: {} })?.(TARGET);
}

async function messageOf(args: readonly string[], setup: FakeIoOptions = {}): Promise<string> {
  const error = await settingsFor(args, setup).then(
    () => expect.fail('It was accepted.'),
    (reason: unknown) => reason,
  );
  return String(error);
}

describe('readSettings', () => {
  it('leaves out what was not given', async () => {
    expect((await settingsFor([])).provision).toEqual({
      idScope: '0ne1',
      hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key: { file: 'dev.key' } },
    });
  });

  it('reads what the device remembers by, and how it starts', async () => {
    const args = ['--state', '/var/lib/device', '--reprovision', '--start-spread', '0'];
    const transports = ['--transport', 'mqtt-ws', '--hub-transport', 'mqtt-ws'];
    expect((await settingsFor([...args, ...transports])).provision).toMatchObject({
      state: '/var/lib/device',
      reprovision: true,
      startSpreadMs: 0,
      transport: 'mqtt-ws',
      hubTransport: 'mqtt-ws',
    });
    const env = { DPS_STATE: '/var/lib/device', DPS_REPROVISION: 'no', DPS_START_SPREAD: '600' };
    const { provision } = await settingsFor([], { env });
    expect(provision).toMatchObject({ state: '/var/lib/device', startSpreadMs: 600_000 });
    expect(provision).not.toHaveProperty('reprovision');
  });

  it.each(['amqp', 'amqp-ws'])('takes %s as a transport, from everywhere', async (transport) => {
    expect((await settingsFor(['--transport', transport])).provision).toMatchObject({ transport });
    expect((await settingsFor([], { env: { DPS_TRANSPORT: transport } })).provision.transport).toBe(transport);
  });

  it('takes several transports, or leaves the choice', async () => {
    const several = ['--transport', 'amqp,https', '--hub-transport', 'mqtt-ws,mqtt'];
    expect((await settingsFor(several)).provision).toMatchObject({
      transport: ['amqp', 'https'],
      hubTransport: ['mqtt-ws', 'mqtt'],
    });
    const env = { DPS_TRANSPORT: 'auto', DPS_HUB_TRANSPORT: 'auto' };
    expect((await settingsFor([], { env })).provision).toMatchObject({ transport: 'auto', hubTransport: 'auto' });
  });

  it.each<[string, string[], string]>([
    [
      'a spread of more than a day',
      ['--start-spread', '86401'],
      '--start-spread: it must be a number of seconds from 0',
    ],
    [
      'a spread of less than nothing',
      ['--start-spread', '-1'],
      '--start-spread: it must be a number of seconds from 0',
    ],
    ['no folder', ['--state='], '--state: it is empty.'],
    [
      'a key as folder',
      ['--state', Buffer.alloc(48, 'k3Y').toString('base64')],
      '--state: it does not look like the path',
    ],
    ['a transport twice', ['--transport', 'mqtt,mqtt'], '--transport: it must be one of mqtt, mqtt-ws, amqp, amqp-ws,'],
    ['nothing between commas', ['--transport', 'mqtt,,https'], '--transport: it must be one of mqtt'],
    ['auto among others', ['--transport', 'auto,https'], '--transport: it must be one of mqtt'],
    ['another hub transport', ['--hub-transport', 'https'], '--hub-transport: it must be one of mqtt, mqtt-ws'],
    ['a value for a switch', ['--reprovision=yes'], '--reprovision takes no value'],
  ])('refuses %s', async (_, args, said) => {
    expect(await messageOf(args)).toContain(said);
  });
});

describe('--proxy', () => {
  it.each<[string, object | undefined]>([
    ['http://proxy.example:3128', { kind: 'http', host: 'proxy.example', port: 3128 }],
    ['HTTP://proxy.example/', { kind: 'http', host: 'proxy.example', port: 80 }],
    ['proxy.example:3128', { kind: 'http', host: 'proxy.example', port: 3128 }],
    ['socks5h://[2001:db8::1]', { kind: 'socks5', host: '2001:db8::1', port: 1080 }],
    ['none', undefined],
  ])('%s is understood', async (proxy, expected) => {
    expect(await proxyFor(['--proxy', proxy])).toEqual(expected);
  });

  it.each([
    'http://u:p@ss@proxy.example',
    'u:pass@proxy.example',
    'socks5://u:@proxy.example',
    'http://u@domain:pass@proxy.example',
    'http://u:pa/ss@proxy.example',
    'http:\\\\u:pass@proxy.example',
    'http:u:pass@proxy.example',
    'http://proxy.example?u:pass@',
  ])('%s has a password in it', async (proxy) => {
    const message = await messageOf(['--proxy', proxy]);
    expect(message).toBe(
      'UsageError: --proxy: a password does not belong into it: give the user name here, and the password as --proxy-password-file or DPS_PROXY_PASSWORD.',
    );
    const env = await messageOf([], { env: { DPS_PROXY: proxy } });
    expect(env).toMatch(/^ConfigurationError.*DPS_PROXY: a password does not belong/);
  });

  it.each([
    'ftp://proxy.example',
    'https://proxy.example',
    'socks5h://',
    'http://proxy.example:99999',
    'http://proxy.example/path',
    'http://domain\\user@proxy.example',
    'a b',
    '?',
    Buffer.alloc(48, 'k3Y').toString('base64'),
    Buffer.alloc(48, 'k3Y').toString('hex'),
    'proxy.example\nproxy.example',
  ])('%j is refused, and not repeated', async (proxy) => {
    const message = await messageOf(['--proxy', proxy]);
    expect(message).toMatch(/^UsageError: --proxy: it must be http:\/\/\[USER@\]HOST:PORT, /);
    expect(message).not.toContain(proxy);
  });
});

describe('--proxy-password-file', () => {
  const EXPECTED = { kind: 'http', host: 'proxy.example', port: 3128, username: 'u', password: 'p@s:s/w%41 ü' };
  const PROXY = ['--proxy', 'http://u@proxy.example:3128'];
  const { password } = EXPECTED;

  it('gives the password as it is, wherever it comes from', async () => {
    const credentials = temporaryFolder();
    const file = fileWith(`${password}\n`);
    const config = fileWith(JSON.stringify({ proxyPasswordFile: file }));
    writeFileSync(`${credentials}/dps-proxy-password`, `${password}\r\n`);
    const ways: readonly (readonly [string[], FakeIoOptions])[] = [
      [['--proxy-password-file', file], {}],
      [['--proxy-password-file', '-'], { stdin: `${password}\n` }],
      [['--config', config], {}],
      [[], { env: { DPS_PROXY_PASSWORD: password } }],
      [[], { env: { DPS_PROXY_PASSWORD_FILE: file } }],
      [[], { env: { CREDENTIALS_DIRECTORY: credentials } }],
    ];
    for (const [args, setup] of ways) expect(await proxyFor([...PROXY, ...args], setup)).toEqual(EXPECTED);
  });

  it('goes with every form of URL and user', async () => {
    const env = { DPS_PROXY_PASSWORD: 'secret' };
    const password = 'secret';
    expect(await proxyFor(['--proxy', 'u@proxy.example'], { env })).toMatchObject({ username: 'u', password });
    const corporate = await proxyFor(['--proxy', 'http://u@corp.example@proxy.example'], { env });
    expect(corporate).toMatchObject({ host: 'proxy.example', username: 'u@corp.example', password });
    const domain = await proxyFor(['--proxy', 'socks5://corp%5Cu@proxy.example'], { env });
    expect(domain).toMatchObject({ kind: 'socks5', username: 'corp\\u', password });
  });

  it.each(['none', 'None', 'NONE'])('is left alone where the proxy is to be %s', async (proxy) => {
    const { provision } = await settingsFor(['--proxy', proxy], { env: { DPS_PROXY_PASSWORD: 'secret' } });
    expect(provision.proxy).toBe(proxy);
    expect(proxyRule({ proxy, env: {} })).toBeUndefined();
  });

  it.each<[string, () => string[], FakeIoOptions, string]>([
    ['without --proxy', () => [], { env: { DPS_PROXY_PASSWORD: 'S3CRET' } }, 'DPS_PROXY_PASSWORD: there is no --proxy'],
    ['without a user', () => ['--proxy', 'h:1'], { env: { DPS_PROXY_PASSWORD: 'S3CRET' } }, '--proxy names no user'],
    ['as a flag', () => ['--proxy-password', 'S3CRET'], {}, 'every user of the machine can read a command line'],
    ['for others to read', () => [...PROXY, '--proxy-password-file', fileWith('S3CRET', 0o644)], {}, 'chmod 600'],
    ['that is nowhere', () => [...PROXY, '--proxy-password-file', '/nowhere/file'], {}, 'does not exist'],
    ['that is no text', () => [...PROXY, '--proxy-password-file', noText()], {}, 'is not UTF-8 text'],
  ])('is refused %s', async (_, args, setup, said) => {
    const message = await messageOf(args(), setup);
    expect(message).toContain(said);
    expect(message).not.toContain('S3CRET');
  });
});

function noText(): string {
  const path = fileWith('');
  writeFileSync(path, Uint8Array.of(0x53, 0xff));
  return path;
}
