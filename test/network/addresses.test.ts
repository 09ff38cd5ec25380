/* IPv6: as an address, by way of proxies, and as one of two families of which the other is dead. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { arrivalOf, DPS, FactoryNetwork, HUB, PROXY } from './factory-network.js';
import { DESIRED, NetworkBench } from './network-bench.js';
import { RealProxy } from './real-proxy.js';
import { HUB_PROTOCOLS, PROTOCOLS } from './ways.js';

const WAYS = PROTOCOLS.flatMap((protocol) => HUB_PROTOCOLS.map((hubTransport) => ({ protocol, hubTransport })));

describe('an emulator at ::1, by its address', () => {
  let bench: NetworkBench;
  const proxies: RealProxy[] = [];
  beforeAll(async () => {
    bench = await NetworkBench.start({ host: '::1', hostName: '[::1]' });
    for (const program of ['tinyproxy', 'squid', 'microsocks'] as const) proxies.push(await RealProxy.start(program));
  });
  afterAll(async () => {
    for (const proxy of proxies) await proxy.stop();
    await bench?.stop();
  });

  it.each(WAYS)('is reached over $protocol, and its hub over $hubTransport', async ({ protocol, hubTransport }) => {
    expect(bench.endpointOf(protocol)).toMatch(/^\[::1\]:\d+$/);
    for (const attestation of ['symmetricKey', 'x509'] as const) {
      const device = await bench.provision({ protocol, attestation, hubTransport });
      expect(device.twin.desired.properties).toEqual(DESIRED);
    }
  });

  it.each(WAYS)('is reached by proxies over $protocol, $hubTransport', async ({ protocol, hubTransport }) => {
    for (const proxy of proxies) {
      const before = proxy.targets().length;
      const device = await bench.provision({ protocol, hubTransport, proxy: proxy.url() });
      expect(device.twin.desired.properties).toEqual(DESIRED);
      // Microsocks writes addresses without brackets.
      const spelled = (target: string): string => target.replace(/^\[(.*)\]/, proxy.kind === 'http' ? '[$1]' : '$1');
      await expect
        .poll(() => proxy.targets().slice(before), { timeout: 15_000 })
        .toEqual(expect.arrayContaining([bench.endpointOf(protocol), bench.hub].map(spelled)));
    }
  });
});

describe('names of both families', () => {
  const IPV6 = { dps: '2001:db8::1', hub: '2001:db8::2', proxy: '2001:db8::3' };
  const IPV4 = { dps: DPS.address, hub: HUB.address, proxy: PROXY.address };
  /** In both orders, and where Node is told, or as old as, not to try a second address by itself. */
  const ORDERS = ['--dns-result-order=verbatim', '--dns-result-order=ipv4first', '--no-network-family-autoselection'];
  let factory: FactoryNetwork | undefined;

  /** Whatever comes to these addresses is dropped. */
  async function startWhereDead(dead: readonly string[]): Promise<FactoryNetwork> {
    await factory?.stop();
    factory = undefined;
    factory = await FactoryNetwork.start({
      addresses: Object.values(IPV6).map((address) => `${address}/128`),
      names: {
        [DPS.host]: [IPV6.dps, IPV4.dps],
        [HUB.host]: [IPV6.hub, IPV4.hub],
        [PROXY.host]: [IPV6.proxy, IPV4.proxy],
      },
      rules: dead.map((address) => `${address.includes(':') ? 'ip6' : 'ip'} daddr ${address} drop`),
      emulator: {
        host: '::',
        hostName: DPS.host,
        ports: { mqtt: 8883, amqp: 5671, https: 443 },
        hubs: [{ name: 'my-hub', hostName: `${HUB.host}:9443`, port: 9443 }],
        tls: { names: [IPV6.dps] },
      },
    });
    return factory;
  }
  afterAll(() => factory?.stop());

  describe.each([
    ['IPv6', Object.values(IPV6)],
    ['IPv4', Object.values(IPV4)],
  ])('%s dead', (_family, dead) => {
    beforeAll(async () => {
      await startWhereDead(dead);
    });

    it.each(ORDERS)('leads to the living one with %s', async (NODE_OPTIONS) => {
      const journeys = ['mqtt', 'mqtt-ws', 'https'].map(async (transport) => {
        const finished = await factory?.provision(['--transport', transport], { NODE_OPTIONS });
        expect(finished && arrivalOf(finished)).toEqual({ dps: transport, hub: 'mqtt', fan: 'on' });
      });
      await Promise.all(journeys);
    });
  });

  it('a proxy of which one family is dead is found, too', async () => {
    const network = await startWhereDead([IPV6.proxy]);
    const proxy = await network.proxy('tinyproxy', 3128, { isOpen: true });
    const finished = await network.provision([], { HTTPS_PROXY: `http://${PROXY.host}:3128` });
    expect(arrivalOf(finished)).toEqual({ dps: 'mqtt', hub: 'mqtt', fan: 'on' });
    expect(proxy.targets()).toEqual([`${DPS.host}:8883`, `${HUB.host}:9443`]);
  });

  it('an IPv6 address is an endpoint, at the usual port', async () => {
    const network = await startWhereDead([]);
    for (const transport of ['mqtt', 'https']) {
      const finished = await network.provision(['--transport', transport, '--endpoint', `[${IPV6.dps}]`]);
      expect(arrivalOf(finished)).toEqual({ dps: transport, hub: 'mqtt', fan: 'on' });
    }
  });
});
