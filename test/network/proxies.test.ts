/* Debian's tinyproxy, squid, microsocks and dante, and how they turn a device away. */
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Provisioning } from '../../src/compose.js';
import { proxyRule } from '../../src/net/proxy-choice.js';
import { openTlsSocket } from '../../src/net/socket.js';
import { systemClock } from '../../src/system-clock.js';
import { unusedPort } from '../fakes/wire-peer.js';
import { DESIRED, failureOf, firstWaitOf, NetworkBench } from './network-bench.js';
import { PROXY_USERS, type ProxyProgram, RealProxy, type RealProxyOptions } from './real-proxy.js';
import { HUB_PROTOCOLS, type HubProtocol, PROTOCOLS } from './ways.js';

let bench: NetworkBench;
const kept = new Map<string, RealProxy>();
/** Squid writes when a connection has ended; what others write has to come here first. */
const POLLING = { timeout: 15_000 };

/** One for all tests. */
async function keptAs(name: string, program: ProxyProgram, options: RealProxyOptions): Promise<RealProxy> {
  const proxy = kept.get(name) ?? (await RealProxy.start(program, options));
  kept.set(name, proxy);
  return proxy;
}

const guarded = (program: ProxyProgram): Promise<RealProxy> => keptAs(`guarded ${program}`, program, {});
const opened = (program: ProxyProgram): Promise<RealProxy> => keptAs(`open ${program}`, program, { isOpen: true });
/** It leads to port 443 and nowhere else, as squid's own configuration has it. */
const strict = (program: ProxyProgram): Promise<RealProxy> =>
  keptAs(`strict ${program}`, program, { isOpen: true, ports: [443] });

beforeAll(async () => {
  bench = await NetworkBench.start();
});
afterAll(async () => {
  for (const proxy of kept.values()) await proxy.stop();
  await bench?.stop();
});

/** Of the four, those that can ask for a password without users of the system. */
const GUARDED = ['tinyproxy', 'squid', 'microsocks'] as const;
/** Those that have rules. */
const STRICT = ['tinyproxy', 'squid', 'danted'] as const;

/** What stands for DPS over each protocol, and for the hub over each, once DPS was reached without a proxy. */
const LEGS = [
  ...PROTOCOLS.map((protocol) => ({ leg: 'DPS', protocol })),
  ...HUB_PROTOCOLS.map((protocol) => ({ leg: 'hub', protocol })),
] as const;

/** A journey whose named leg goes by the proxy, and where that leg leads. */
function journeyBy(proxy: string, { leg, protocol }: (typeof LEGS)[number]): [Provisioning, string] {
  if (leg === 'DPS') return [bench.provision({ protocol, proxy }), bench.endpointOf(protocol)];
  const hubTransport = protocol as HubProtocol;
  const journey = bench.provision({ protocol: 'https', isDirectToDps: true, hubTransport, proxy });
  return [journey, bench.hub];
}

describe.each(GUARDED)('%s with a password', (program) => {
  it.each(LEGS)('that is right lets $leg over $protocol through', async (leg) => {
    const proxy = await guarded(program);
    const before = proxy.targets().length;
    const [journey, target] = journeyBy(proxy.url(), leg);
    expect((await journey).twin.desired.properties).toEqual(DESIRED);
    await expect.poll(() => proxy.targets().slice(before), POLLING).toContain(target);
  });

  it.each(LEGS)('that is wrong ends $leg over $protocol at once', async (leg) => {
    const proxy = await guarded(program);
    const { username } = PROXY_USERS[program];
    bench.emulator.trace.clear();
    const [journey, target] = journeyBy(proxy.url({ username, password: 'not-this-one' }), leg);
    const error = await failureOf(journey);
    expect(error).toMatchObject({ code: 'ERR_DPS_PROXY_AUTH', phase: 'proxy', peer: proxy.address, retryable: false });
    expect(error.message).toContain(`The proxy ${proxy.address} does not let the device through to ${target} (`);
    expect(error.message).toContain('Check the user name and password. In a URL, ');
    expect(inspect(error, { depth: 9, showHidden: true })).not.toContain('not-this-one');
    expect(bench.emulator.trace.count({ service: leg.leg === 'DPS' ? 'dps' : 'hub' })).toBe(0);
  });

  it('that is missing is asked for', async () => {
    const proxy = await guarded(program);
    const error = await failureOf(bench.provision({ protocol: 'mqtt', proxy: proxy.url('none') }));
    expect(error).toMatchObject({ code: 'ERR_DPS_PROXY_AUTH', phase: 'proxy', peer: proxy.address, retryable: false });
    expect(error.message).toContain('Give user name and password along with the proxy.');
  });

  it('that reaches nobody is waited for', async () => {
    const { url } = await guarded(program).then((proxy) => ({ url: proxy.url() }));
    const endpoint = `localhost:${await unusedPort()}`;
    const wait = (signal: AbortSignal) => bench.provision({ protocol: 'mqtt', endpoint, proxy: url, signal });
    expect(await firstWaitOf(wait)).toBe('ERR_DPS_PROXY_REFUSED');
  });
});

describe.each(['tinyproxy', 'squid', 'microsocks', 'danted'] as const)('%s without a password', (program) => {
  it.each(['without', 'with'])('lets a device through that comes %s one', async (how) => {
    const proxy = await opened(program);
    const url = proxy.url(how === 'with' ? { username: 'any', password: 'body' } : 'none');
    const device = await bench.provision({ protocol: 'mqtt', proxy: url });
    expect(device.twin.desired.properties).toEqual(DESIRED);
    // Dante writes down the address that it found for the name.
    const hubPort = /:\d+$/.exec(bench.hub)?.[0] ?? '';
    await expect.poll(() => proxy.targets().some((target) => target.endsWith(hubPort)), POLLING).toBe(true);
  });
});

describe.each(STRICT)('%s with rules', (program) => {
  it.each(LEGS)('turns $leg over $protocol away, and says which port', async (leg) => {
    const proxy = await strict(program);
    const [journey, target] = journeyBy(proxy.url(), leg);
    const error = await failureOf(journey);
    expect(error).toMatchObject({
      code: 'ERR_DPS_PROXY_REFUSED',
      phase: 'proxy',
      peer: proxy.address,
      retryable: false,
    });
    const said = proxy.kind === 'http' ? 'HTTP status 403' : 'SOCKS reply 2, not allowed by its rules';
    expect(error.message).toContain(`The proxy ${proxy.address} opened no way to ${target} (${said}).`);
    const port = target.slice(target.lastIndexOf(':') + 1);
    expect(error.message).toMatch(
      new RegExp(`Have host and port ${port} allowed there, or use a transport over port 443`),
    );
    await expect.poll(() => proxy.targets(), POLLING).toContain(target);
  });
});

describe('a proxy that is not there', () => {
  it.each(['http', 'socks5'])('is waited for (%s)', async (scheme) => {
    const proxy = `${scheme}://127.0.0.1:${await unusedPort()}`;
    for (const protocol of PROTOCOLS) {
      const wait = (signal: AbortSignal) => bench.provision({ protocol, proxy, signal });
      expect(await firstWaitOf(wait)).toBe('ERR_DPS_CONNECT');
    }
  });
});

describe('a proxy of the other kind', () => {
  it('is told by what it answers (microsocks as http)', async () => {
    const proxy = await guarded('microsocks');
    const error = await failureOf(bench.provision({ protocol: 'mqtt', proxy: `http://${proxy.address}` }));
    expect(error).toMatchObject({ code: 'ERR_DPS_PROXY_PROTOCOL', peer: proxy.address, retryable: false });
    expect(error.message).toContain('Check the scheme and the port in the URL of the proxy.');
  });

  /** They wait for the rest of a request line, until one side gives up. */
  it.each(['tinyproxy', 'squid'] as const)('is told when time runs out (%s as socks5)', async (program) => {
    const proxy = await guarded(program);
    const journey = openTlsSocket(
      {
        ...{ host: 'localhost', port: 1, clock: systemClock, connectTimeoutMs: 2_000 },
        proxyFor: proxyRule({ proxy: `socks5://${proxy.address}`, env: {} }),
      },
      new AbortController().signal,
    );
    const error = await failureOf(journey);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', phase: 'proxy', peer: proxy.address });
    expect(error.message).toContain('Check that it is an HTTP or SOCKS5 proxy, as its URL says.');
  });
});
