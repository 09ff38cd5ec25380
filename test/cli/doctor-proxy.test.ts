/** What doctor says of proxies: the real way to the emulator, by proxies of many minds. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { doctorCommand } from '../../src/cli/doctor.js';
import { main } from '../../src/cli/main.js';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { systemClock } from '../../src/system-clock.js';
import { startHttpProxy, startSocksProxy } from '../fakes/proxy-peer.js';
import { type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith } from './temporary-folder.js';

let emulator: Emulator;

beforeAll(async () => {
  emulator = await startEmulator();
});

afterAll(() => emulator.close());

interface Told {
  readonly check: string;
  readonly verdict: string;
  readonly message: string;
  readonly fix?: string;
  readonly code?: string;
}

async function examine(args: readonly string[], setup: FakeIoOptions = {}): Promise<{ status: number; told: Told[] }> {
  const io = fakeIo(setup);
  const commands = { doctor: { summary: '', load: async () => doctorCommand({ clock: systemClock }) } };
  const key = fileWith(Buffer.alloc(32, 5).toString('base64'));
  const device = ['--id-scope', emulator.idScope, '--registration-id', 'dev-1', '--symmetric-key-file', key];
  const service = ['--endpoint', emulator.endpoints.dps.mqtt, '--ca-file', fileWith(emulator.caPem)];
  const status = await main(['doctor', ...device, ...service, ...args], io, commands);
  const { findings } = JSON.parse(io.out()) as { findings: Told[] };
  return { status, told: findings };
}

function proxyFindings(told: readonly Told[]): Told[] {
  return told.filter(({ check }) => check === 'proxy');
}

describe('doctor', () => {
  it('says who named the proxy: the flag, the variable, the configuration', async () => {
    const { port } = await startHttpProxy();
    const proxy = `http://127.0.0.1:${port}`;
    const path = fileWith(JSON.stringify({ proxy }));
    const cases: [string[], FakeIoOptions, string][] = [
      [['--proxy', proxy], { env: { HTTPS_PROXY: 'http://192.0.2.1' } }, '--proxy'],
      [[], { env: { DPS_PROXY: proxy } }, 'DPS_PROXY'],
      [['--config', path], {}, `${path}: proxy`],
    ];
    for (const [args, setup, name] of cases) {
      const { status, told } = await examine(args, setup);
      expect([status, proxyFindings(told).map(({ message }) => message)]).toEqual([
        0,
        [`Connections go by the http proxy 127.0.0.1:${port}, as ${name} says; it looks up the names.`],
      ]);
    }
  });

  it('says that there is to be none', async () => {
    const { told } = await examine(['--proxy', 'none'], { env: { HTTPS_PROXY: 'http://192.0.2.1' } });
    expect(proxyFindings(told)).toMatchObject([
      { verdict: 'ok', message: 'Connections go directly, as --proxy says.' },
    ]);
  });

  it.each<[string, () => Promise<string>, number, string, RegExp, RegExp]>([
    [
      'HTTP 407',
      async () => `http://127.0.0.1:${(await startHttpProxy('HTTP/1.1 407 No\r\n\r\n')).port}`,
      78,
      'ERR_DPS_PROXY_AUTH',
      /does not let the device through to .* \(HTTP status 407\)\.$/,
      /^Give user name and password along with the proxy\..*--proxy http:\/\/USER@HOST:PORT, with the password in the file of --proxy-password-file\.$/,
    ],
    [
      'HTTP 403',
      async () => `http://127.0.0.1:${(await startHttpProxy('HTTP/1.1 403 No\r\n\r\n')).port}`,
      69,
      'ERR_DPS_PROXY_REFUSED',
      /opened no way to .* \(HTTP status 403\)\.$/,
      /^It does not allow this\. Have host and port \d+ allowed there, or use a transport over port 443\./,
    ],
    [
      'a SOCKS reply',
      async () => `socks5://127.0.0.1:${(await startSocksProxy({ reply: 2 })).port}`,
      69,
      'ERR_DPS_PROXY_REFUSED',
      /opened no way to .* \(SOCKS reply 2, not allowed by its rules\)\.$/,
      /^Have host and port \d+ allowed there/,
    ],
    [
      'SOCKS without a password',
      async () => `socks5://127.0.0.1:${(await startSocksProxy({ password: 'p' })).port}`,
      78,
      'ERR_DPS_PROXY_AUTH',
      /no way to authenticate is acceptable to it/,
      /^Give user name and password along with the proxy\./,
    ],
  ])('advises about the proxy that refuses: %s', async (_, start, expected, code, message, fix) => {
    const { status, told } = await examine(['--proxy', await start()]);
    expect(status).toBe(expected);
    expect(proxyFindings(told)[1]).toMatchObject({
      verdict: 'failed',
      code,
      message: expect.stringMatching(message),
      fix: expect.stringMatching(fix),
    });
    const others = told.filter(({ check }) => check !== 'proxy').flatMap(({ fix: other }) => other ?? []);
    expect(others.join()).not.toMatch(/firewall|Unset/);
  });

  it('says that the proxy’s URL cannot be used, and blames the flag, or who else gave it', async () => {
    const asFlag = await examine(['--proxy', 'http://u%zz@127.0.0.1:1']);
    expect([asFlag.status, proxyFindings(asFlag.told)]).toEqual([
      64,
      [expect.objectContaining({ code: 'ERR_DPS_USAGE', message: expect.stringMatching(/^--proxy cannot be used:/) })],
    ]);
    const given = await examine([], { env: { DPS_PROXY: 'http://u%zz@127.0.0.1:1' } });
    expect([given.status, proxyFindings(given.told)[0]?.code]).toEqual([78, 'ERR_DPS_CONFIG_OPTION']);
    const found = await examine([], { env: { HTTPS_PROXY: 'http://u%zz@127.0.0.1:1' } });
    expect([found.status, proxyFindings(found.told)[0]?.message]).toEqual([
      78,
      expect.stringMatching(/\(HTTPS_PROXY\)/),
    ]);
  });
});
