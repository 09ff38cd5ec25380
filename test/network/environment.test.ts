/*
 * Proxies that the environment names, and the option that wins over it. The built command line in a network of its own,
 * because what goes to loopback never takes a proxy that the environment names. The log of the proxy says who went by it.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { arrivalOf, DPS, FactoryNetwork, HUB, PROXY } from './factory-network.js';
import { PROXY_USERS, type RealProxy } from './real-proxy.js';

const [TO_DPS, TO_HUB] = [`${DPS.host}:443`, `${HUB.host}:8883`];
const BY_PROXY = [TO_DPS, TO_HUB];
const HTTP = `http://${PROXY.host}:3128`;
const SOCKS = `socks5://${PROXY.host}:1080`;
const NOWHERE = `http://${PROXY.host}:9`;

/** What they write has to come here first. */
const POLLING = { timeout: 15_000 };

let factory: FactoryNetwork;
let http: RealProxy;
let socks: RealProxy;

beforeAll(async () => {
  factory = await FactoryNetwork.start();
  http = await factory.proxy('tinyproxy', 3128, { isOpen: true });
  socks = await factory.proxy('microsocks', 1080, { isOpen: true });
});
afterAll(() => factory?.stop());

let seen = { http: 0, socks: 0 };
beforeEach(() => {
  seen = { http: http.targets().length, socks: socks.targets().length };
});

/** Who went by which proxy since the test began. */
function went(): { http: readonly string[]; socks: readonly string[] } {
  const since = (proxy: RealProxy, before: number): string[] => [...new Set(proxy.targets().slice(before))].sort();
  return { http: since(http, seen.http), socks: since(socks, seen.socks) };
}

async function arrive(env: Readonly<Record<string, string>>, args: readonly string[] = []) {
  const finished = await factory.provision(['--transport', 'https', ...args], env);
  expect(arrivalOf(finished)).toEqual({ dps: 'https', hub: 'mqtt', fan: 'on' });
}

describe('the environment', () => {
  it.each<[string, Record<string, string>, readonly string[], readonly string[]]>([
    ['names no proxy', {}, [], []],
    ['names one for HTTPS', { HTTPS_PROXY: HTTP }, BY_PROXY, []],
    ['names one for all', { ALL_PROXY: SOCKS }, [], BY_PROXY],
    ['names one for HTTPS and one for all', { HTTPS_PROXY: HTTP, ALL_PROXY: SOCKS }, BY_PROXY, []],
    ['spells a name in lower case, too', { HTTPS_PROXY: NOWHERE, https_proxy: HTTP }, BY_PROXY, []],
    ['names one for HTTP', { HTTP_PROXY: NOWHERE, http_proxy: NOWHERE }, [], []],
    ['exempts all', { HTTPS_PROXY: NOWHERE, NO_PROXY: '*' }, [], []],
    ['exempts the domain of hubs', { HTTPS_PROXY: HTTP, NO_PROXY: `localhost,.azure-devices.net` }, [TO_DPS], []],
    ['exempts DPS by name', { HTTPS_PROXY: HTTP, no_proxy: DPS.host }, [TO_HUB], []],
    ['exempts another port', { HTTPS_PROXY: HTTP, NO_PROXY: `${HUB.host}:443` }, BY_PROXY, []],
    ['exempts what is elsewhere', { HTTPS_PROXY: HTTP, NO_PROXY: 'azure-devices.com,10.0.0.0/8' }, BY_PROXY, []],
  ])('%s', async (_what, env, byHttp, bySocks) => {
    await arrive(env);
    await expect.poll(went, POLLING).toEqual({ http: byHttp, socks: bySocks });
  });

  it('exempts addresses by block', async () => {
    await arrive({ HTTPS_PROXY: HTTP, NO_PROXY: '10.77.0.0/24' }, ['--endpoint', DPS.address]);
    await expect.poll(went, POLLING).toEqual({ http: [TO_HUB], socks: [] });
  });

  it('is told when its proxy cannot be used, without the password', async () => {
    const { code, stderr } = await factory.provision([], { HTTPS_PROXY: 'https://u:top-secret@proxy.example' });
    expect(code).toBe(78);
    expect(stderr).toContain('The proxy in the environment (HTTPS_PROXY) cannot be used: https:// is not supported');
    expect(stderr).not.toContain('top-secret');
  });
});

describe('--proxy', () => {
  it('wins over the environment and its exemptions', async () => {
    await arrive({ HTTPS_PROXY: NOWHERE, ALL_PROXY: NOWHERE, NO_PROXY: '*' }, ['--proxy', SOCKS]);
    await expect.poll(went, POLLING).toEqual({ http: [], socks: BY_PROXY });
  });

  it('can be none', async () => {
    await arrive({ HTTPS_PROXY: NOWHERE, ALL_PROXY: NOWHERE }, ['--proxy', 'none']);
    expect(went()).toEqual({ http: [], socks: [] });
  });
});

describe('--proxy-password-file', () => {
  let guarded: RealProxy;
  const { username, password } = PROXY_USERS.microsocks;
  const url = `socks5://${encodeURIComponent(username)}@${PROXY.host}:1081`;
  beforeAll(async () => {
    guarded = await factory.proxy('microsocks', 1081);
  });

  it('holds the password as it is', async () => {
    await arrive({}, ['--proxy', url, '--proxy-password-file', factory.file('proxy-password', `${password}\n`)]);
    await expect.poll(() => guarded.targets(), POLLING).toEqual(expect.arrayContaining(BY_PROXY));
  });

  it('is named when the password is wrong, and the password is not shown', async () => {
    const file = factory.file('wrong-password', 'not-this-one');
    const { code, stdout, stderr } = await factory.provision(['--proxy', url, '--proxy-password-file', file]);
    expect(code).toBe(78);
    expect(stderr).toContain(`error ERR_DPS_PROXY_AUTH: The proxy ${PROXY.host}:1081 does not let the device through`);
    expect(stderr).toContain('--proxy-password-file');
    expect(stdout + stderr).not.toContain('not-this-one');
  });
});
