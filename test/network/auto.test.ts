/*
 * `auto`, where a network drops what goes to 8883 and 5671, and where its proxy leads to 443 only: the built command line,
 * the service's real names and ports.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signal, TpmBench } from '../hsm/tpm2/tpm-bench.js';
import { arrivalOf, DPS, FactoryNetwork, HUB, PROXY } from './factory-network.js';
import type { Finished } from './own-network.js';
import { PROXY_USERS, type RealProxy } from './real-proxy.js';

const AUTO = ['--transport', 'auto', '--hub-transport', 'auto'];
/** Three transports share it at DPS, two at the hub: enough for one that leads somewhere, however busy the machine. */
const PATIENCE = ['--connect-timeout', '9'];

let tpm: TpmBench;
let factory: FactoryNetwork;

beforeAll(async () => {
  tpm = await TpmBench.start();
  const { enrollment } = await (await tpm.device()).identity(signal);
  factory = await FactoryNetwork.start({ rules: ['tcp dport { 8883, 5671 } drop'], enrollments: [enrollment] });
});
afterAll(async () => {
  await factory?.stop();
  await tpm?.stop();
});

/** What was given up on the way: protocol, service, reason. */
function givenUp({ stderr }: Finished): string[] {
  const lines = stderr.matchAll(/^(\S+) does not get through to (?:IoT )?(\S+) \((\w+):/gm);
  return [...lines].map(([, protocol, service, code]) => `${protocol} ${service} ${code}`);
}

// Most of their time is waiting. Each that gets to the hub is a device of its own: a hub keeps one connection of each.
describe.concurrent('where 8883 and 5671 are dropped', () => {
  it('lands on 443 with a certificate, after one try at 8883 each', async () => {
    const finished = await factory.provision([...AUTO, ...PATIENCE, ...factory.certificateFlags]);
    expect(arrivalOf(finished)).toEqual({ dps: 'mqtt-ws', hub: 'mqtt-ws', fan: 'on' });
    expect(givenUp(finished)).toEqual(['mqtt DPS ERR_DPS_CONNECT_TIMEOUT', 'mqtt hub ERR_DPS_CONNECT_TIMEOUT']);
  });

  it('lands on HTTPS with a TPM, or takes the order that it is given', async () => {
    const flags = ['--hub-transport', 'mqtt-ws,mqtt', '--tpm', tpm.swtpm.uri, ...PATIENCE];
    const finished = await factory.provision(['--transport', 'auto', ...flags]);
    expect(arrivalOf(finished)).toEqual({ dps: 'https', hub: 'mqtt-ws', fan: 'on' });
    expect(givenUp(finished)).toEqual([]);
    const ordered = await factory.provision(['--transport', 'amqp,amqp-ws', ...flags]);
    expect(arrivalOf(ordered)).toEqual({ dps: 'amqp-ws', hub: 'mqtt-ws', fan: 'on' });
    expect(givenUp(ordered)).toEqual(['amqp DPS ERR_DPS_CONNECT_TIMEOUT']);
  });

  it('lands on 443 with a key, and begins there next time, at the hub and at DPS', async () => {
    const flags = [...AUTO, ...PATIENCE, '--state', factory.folder('state')];
    const first = await factory.provision(flags);
    expect(arrivalOf(first)).toEqual({ dps: 'mqtt-ws', hub: 'mqtt-ws', fan: 'on' });
    expect(givenUp(first)).toHaveLength(2);
    for (const more of [[], ['--reprovision']]) {
      const again = await factory.provision([...flags, ...more]);
      expect(arrivalOf(again)).toEqual({ dps: 'mqtt-ws', hub: 'mqtt-ws', fan: 'on' });
      expect(givenUp(again)).toEqual([]);
    }
  });

  it('tries no other when the service has refused the key', async () => {
    const key = factory.file('wrong-key', Buffer.alloc(64, 1).toString('base64'));
    const flags = ['--registration-id', 'key-1', '--symmetric-key-file', key];
    const finished = await factory.provision([...AUTO, ...PATIENCE, ...flags]);
    expect(finished.code).toBe(77);
    expect(givenUp(finished)).toEqual(['mqtt DPS ERR_DPS_CONNECT_TIMEOUT']);
  });

  it('tells of all that were tried when time runs out', async () => {
    const flags = ['--transport', 'mqtt,amqp', '--connect-timeout', '1', '--timeout', '6'];
    const { code, stderr } = await factory.provision(flags);
    expect([69, 75]).toContain(code);
    expect(stderr).toMatch(new RegExp(`mqtt: ${DPS.host}:8883 could not .* amqp: ${DPS.host}:5671 could not `));
  });
});

describe('by a proxy that leads to 443 only', () => {
  let proxy: RealProxy;
  beforeAll(async () => {
    proxy = await factory.proxy('tinyproxy', 3128, { ports: [443] });
  });

  it('lands on 443 without waiting for anything', async () => {
    const { username, password } = PROXY_USERS.tinyproxy;
    const finished = await factory.provision(AUTO, {
      HTTPS_PROXY: `http://${username}:${password}@${PROXY.host}:3128`,
    });
    expect(arrivalOf(finished)).toEqual({ dps: 'mqtt-ws', hub: 'mqtt-ws', fan: 'on' });
    expect(givenUp(finished)).toEqual(['mqtt DPS ERR_DPS_PROXY_REFUSED', 'mqtt hub ERR_DPS_PROXY_REFUSED']);
    const hops = [DPS, HUB].flatMap(({ host }) => [`${host}:8883`, `${host}:443`]);
    expect(proxy.targets()).toEqual(hops);
  });

  it('tries no other when the proxy wants another password', async () => {
    const finished = await factory.provision(AUTO, { HTTPS_PROXY: `http://device:wrong@${PROXY.host}:3128` });
    expect(finished.code).toBe(78);
    expect(givenUp(finished)).toEqual([]);
    expect(finished.stderr).toContain('error ERR_DPS_PROXY_AUTH');
  });
});
