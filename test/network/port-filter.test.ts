/*
 * A network that drops what goes to 8883 and 5671, as many do: nobody is refused, nothing comes back. The built command
 * line, the service's real names and ports.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { signal, TpmBench } from '../hsm/tpm2/tpm-bench.js';
import { arrivalOf, DPS, FactoryNetwork, HUB } from './factory-network.js';

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

describe('where 8883 and 5671 are dropped', () => {
  it.each(['mqtt-ws', 'amqp-ws', 'https'])('%s comes through on 443', async (transport) => {
    for (const identity of [[], factory.certificateFlags]) {
      const flags = ['--transport', transport, '--hub-transport', 'mqtt-ws', ...identity];
      expect(arrivalOf(await factory.provision(flags))).toEqual({ dps: transport, hub: 'mqtt-ws', fan: 'on' });
    }
  });

  it.each(['amqp-ws', 'https'])('so does a TPM over %s', async (transport) => {
    const flags = ['--transport', transport, '--hub-transport', 'mqtt-ws', '--tpm', tpm.swtpm.uri];
    expect(arrivalOf(await factory.provision(flags))).toEqual({ dps: transport, hub: 'mqtt-ws', fan: 'on' });
  });

  // Most of their time is waiting.
  it.concurrent.each([
    [DPS.host, 'mqtt'],
    [DPS.host, 'amqp'],
    [HUB.host, 'https'],
  ])('%s is waited for as long as allowed, and named (%s)', async (host, transport) => {
    const flags = ['--transport', transport, '--connect-timeout', '4', '--timeout', '10'];
    const { code, stdout, stderr } = await factory.provision(flags);
    // Time is up in the midst of an attempt, or is too short for another one.
    expect([69, 75]).toContain(code);
    expect(stderr).toMatch(new RegExp(`ERR_DPS_CONNECT_TIMEOUT: ${host}.* within 4000 ms`));
    expect(stdout).toBe('');
  });

  it('the doctor knows the way out', async () => {
    const { code, stderr } = await factory.command('doctor', ['--connect-timeout', '4']);
    expect(code).toBe(69);
    expect(stderr).toMatch(new RegExp(`^FAILED +port +${DPS.host}:8883 could not be connected to within 4000 ms`, 'm'));
    expect(stderr).toMatch(new RegExp(`^ok +port +${DPS.host}:443 .*can be reached`, 'm'));
  });
});
