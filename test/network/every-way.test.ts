/*
 * Everything with everything, and nothing pretended: each protocol of DPS with each kind of identity, without a proxy and
 * by Debian's squid and microsocks with a password, from nothing to the twin over either hub protocol. TPMs are swtpm.
 * The table of docs/networks.md is made from the same list; `UPDATE_DOCS=1 npx vitest run test/network/every-way.test.ts`
 * writes it anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DESIRED, NetworkBench } from './network-bench.js';
import { RealProxy } from './real-proxy.js';
import { exists, PROTOCOLS, type ProxyChoice, WAYS, withTable } from './ways.js';

const DOCUMENT = new URL('../../docs/networks.md', import.meta.url);

let bench: NetworkBench;
const proxies = new Map<ProxyChoice, RealProxy>();

beforeAll(async () => {
  bench = await NetworkBench.start();
  await bench.addTpm();
  proxies.set('http', await RealProxy.start('squid'));
  proxies.set('socks5', await RealProxy.start('microsocks'));
});
afterAll(async () => {
  for (const proxy of proxies.values()) await proxy.stop();
  await bench?.stop();
});

describe('from nothing to the twin', () => {
  it.each(WAYS)('$protocol, $attestation, proxy $proxy, hub $hubProtocol', async (way) => {
    const { protocol, attestation, hubProtocol } = way;
    const proxy = proxies.get(way.proxy);
    const before = proxy?.targets().length;
    bench.emulator.trace.clear();
    const device = await bench.provision({
      protocol,
      attestation,
      hubTransport: hubProtocol,
      proxy: proxy?.url() ?? 'none',
    });
    expect(device.twin.desired.properties).toEqual(DESIRED);
    const [wire = ''] = protocol.split('-', 1);
    const spoken = bench.emulator.trace.entries({ service: 'dps' }).map((entry) => entry.protocol);
    expect([...new Set(spoken)]).toEqual([wire]);
    expect(bench.emulator.trace.count({ event: 'twinGet' })).toBe(1);
    // Squid writes when a connection has ended.
    await expect
      .poll(() => [...new Set(proxy?.targets().slice(before))].sort(), { timeout: 15_000 })
      .toEqual(proxy === undefined ? [] : [bench.endpointOf(protocol), bench.hub].sort());
  });

  it.each(PROTOCOLS.filter((protocol) => !exists(protocol, 'tpm')))(
    '%s says that it is not for TPMs',
    async (protocol) => {
      const error = await bench
        .provision({ protocol, attestation: 'tpm', proxy: 'none' })
        .catch((reason: unknown) => reason);
      expect(error).toMatchObject({
        name: 'ConfigurationError',
        code: 'ERR_DPS_CONFIG_UNSUPPORTED',
        option: 'transport',
      });
      expect(String(error)).toMatch(/https|amqp/);
    },
  );
});

describe('docs/networks.md', () => {
  it('has the table that these cases make', () => {
    const document = readFileSync(DOCUMENT, 'utf8');
    if (process.env.UPDATE_DOCS === '1') writeFileSync(DOCUMENT, withTable(document, WAYS));
    else expect(document).toBe(withTable(document, WAYS));
  });
});
