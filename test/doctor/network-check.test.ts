import { describe, expect, it } from 'vitest';
import type { Finding } from '../../src/doctor/finding.js';
import { checkNetwork, type Network, type ServerFacts, type Service } from '../../src/doctor/network-check.js';
import { type DpsErrorCode, TransportError, type TransportPhase } from '../../src/errors.js';
import { ManualClock } from '../fakes/manual-clock.js';

const NOW_MS = Date.UTC(2026, 10, 21);
const MQTT: Service = { transport: 'mqtt', host: 'dps.example', port: 8883 };
const AMQP: Service = { transport: 'amqp', host: 'dps.example', port: 5671 };
const HTTPS: Service = { transport: 'https', host: 'dps.example', port: 443 };
const FACTS: ServerFacts = {
  tlsVersion: 'TLSv1.3',
  subject: 'dps.example',
  authority: 'Root',
  validToMs: Date.UTC(2027, 0, 1),
  dateMs: undefined,
};

const CODES: Partial<Record<TransportPhase, DpsErrorCode>> = {
  resolve: 'ERR_DPS_DNS',
  tls: 'ERR_DPS_TLS_UNTRUSTED',
  proxy: 'ERR_DPS_PROXY_REFUSED',
};

function failure(phase: TransportPhase, code: DpsErrorCode = CODES[phase] ?? 'ERR_DPS_CONNECT'): TransportError {
  return new TransportError({ code, message: 'No. Mend it.', phase, peer: 'p', retryable: phase !== 'tls' });
}

type Outcome = ServerFacts | TransportError;

interface Outcomes {
  readonly resolve?: TransportError;
  readonly mqtt?: Outcome;
  readonly amqp?: Outcome;
  readonly https?: Outcome;
}

function networkOf(outcomes: Outcomes): Network {
  return {
    resolve: async (host) => {
      if (outcomes.resolve !== undefined) throw outcomes.resolve;
      return host === MQTT.host ? ['192.0.2.1', '2001:db8::1'] : ['192.0.2.9'];
    },
    connect: async ({ transport }) => {
      const outcome = outcomes[transport] ?? FACTS;
      if (outcome instanceof Error) throw outcome;
      return outcome;
    },
  };
}

async function check(network: Network, other?: Service, wallMs = NOW_MS, hop?: { host: string }): Promise<string[]> {
  const { signal } = new AbortController();
  const findings = await checkNetwork(network, {
    chosen: MQTT,
    others: other === undefined ? [] : [other],
    hop,
    clock: new ManualClock(wallMs),
    signal,
  });
  return told(findings);
}

/** All but the look at the name, where `provision` would try one after the other. */
async function checkInTurn(outcomes: Outcomes, others: readonly Service[]): Promise<string[]> {
  const { signal } = new AbortController();
  const check = { chosen: MQTT, others, areOthersTried: true, hop: undefined, clock: new ManualClock(NOW_MS), signal };
  return told(await checkNetwork(networkOf(outcomes), check)).slice(1);
}

function told(findings: readonly Finding[]): string[] {
  return findings.map(({ check: name, verdict, message, fix = '' }) => `${name} ${verdict}: ${message} ${fix}`.trim());
}

describe('checkNetwork', () => {
  it('tells each step of the way', async () => {
    expect(await check(networkOf({}))).toEqual([
      'dns ok: dps.example is at 192.0.2.1, 2001:db8::1.',
      'port ok: dps.example:8883 (MQTT) can be reached.',
      "tls ok: TLSv1.3; the server's certificate (dps.example, by Root) is trusted, and valid until 2027-01-01T00:00:00.000Z.",
    ]);
  });

  it('tries nothing more where the name has no address', async () => {
    const [dns, ...rest] = await check(networkOf({ resolve: failure('resolve') }), HTTPS);
    expect(dns).toBe('dns failed: No. Mend it.');
    expect(rest.map((line) => line.split(':')[0])).toEqual(['port skipped', 'tls skipped']);
  });

  it('tells a port that is closed from a server that is not trusted', async () => {
    expect((await check(networkOf({ mqtt: failure('connect') }))).slice(1)).toEqual([
      'port failed: No. Mend it.',
      'tls skipped: dps.example:8883 (MQTT) could not be reached.',
    ]);
    expect((await check(networkOf({ mqtt: failure('tls') }))).slice(1)).toEqual([
      'port ok: dps.example:8883 (MQTT) can be reached.',
      'tls failed: No. Mend it.',
    ]);
  });

  it('looks up the proxy where there is one, and leaves the rest to it', async () => {
    const lines = await check(networkOf({ mqtt: failure('proxy') }), undefined, NOW_MS, { host: 'proxy.example' });
    expect(lines).toEqual([
      'dns ok: proxy.example is at 192.0.2.9.',
      'proxy failed: No. Mend it.',
      'tls skipped: dps.example:8883 (MQTT) could not be reached.',
    ]);
  });

  it('says of a proxy that is not found whose way it is on', async () => {
    const asked: unknown[] = [];
    const network: Network = {
      ...networkOf({}),
      resolve: async (host, _signal, wayTo) => {
        asked.push([host, wayTo]);
        return [];
      },
    };
    await check(network, undefined, NOW_MS, { host: 'proxy.example' });
    await check(network);
    expect(asked).toEqual([
      ['proxy.example', 'dps.example:8883'],
      ['dps.example', undefined],
    ]);
  });

  it.each(['192.0.2.7', '2001:db8::7', 'fe80::1%eth0'])('looks up no address: %s', async (host) => {
    const network: Network = { ...networkOf({}), resolve: () => Promise.reject(new TypeError('not asked for')) };
    expect((await check(network, undefined, NOW_MS, { host })).map((line) => line.split(':')[0])).toEqual([
      'port ok',
      'tls ok',
    ]);
  });

  it.each<[string, TransportError, string]>([
    ['refuses', failure('proxy'), 'the proxy proxy.example lets it through.'],
    [
      'wants a password',
      failure('proxy', 'ERR_DPS_PROXY_AUTH'),
      'the proxy proxy.example gets the user name and password that it wants.',
    ],
    ['is down', failure('connect'), 'the proxy proxy.example can be reached.'],
    ['leads to a server that is not trusted', failure('tls'), 'a firewall lets it through.'],
  ])('advises about the proxy where it %s', async (_, error, expected) => {
    const lines = await check(networkOf({ https: error }), HTTPS, NOW_MS, { host: 'proxy.example' });
    expect(lines.at(-1)).toContain(`Stay away from --transport https, or see to it that ${expected}`);
  });

  it('advises the other transport, which fails nothing', async () => {
    expect((await check(networkOf({ mqtt: failure('connect') }), HTTPS)).at(-1)).toBe(
      'port ok: dps.example:443 (HTTPS) can be reached, too: --transport https would work.',
    );
    expect((await check(networkOf({ https: failure('connect') }), HTTPS)).at(-1)).toMatch(
      /^port warning: dps\.example:443 \(HTTPS\) cannot be used from here \(ERR_DPS_CONNECT\)\. Stay away from/,
    );
  });

  it('does not take for a fault what provision goes round by itself', async () => {
    expect(await checkInTurn({ mqtt: failure('connect') }, [HTTPS])).toEqual([
      expect.stringMatching(
        /^port warning: .*:8883 \(MQTT\) cannot be used from here \(ERR_DPS_CONNECT\)\. provision tries/,
      ),
      'port ok: dps.example:443 (HTTPS) can be reached.',
      expect.stringMatching(/^tls ok/),
    ]);
    const mended = [{ mqtt: failure('tls') }, { mqtt: failure('connect'), https: failure('connect') }];
    for (const outcomes of mended) {
      expect((await checkInTurn(outcomes, [HTTPS])).join()).toMatch(/failed: No\. Mend it\./);
    }
  });

  it('follows provision to the third transport and further', async () => {
    const shut = { mqtt: failure('connect'), amqp: failure('connect') };
    const heads = async (outcomes: Outcomes, others: readonly Service[]): Promise<string[]> =>
      (await checkInTurn(outcomes, others)).map((line) => line.split(' ', 4).join(' '));
    const blocked = ['port warning: dps.example:8883 (MQTT)', 'port warning: dps.example:5671 (AMQP)'];
    const reached = ['port ok: dps.example:443 (HTTPS)', 'tls ok: TLSv1.3; the'];
    expect(await heads(shut, [AMQP, HTTPS])).toEqual([...blocked, ...reached]);
    expect(await heads({ mqtt: failure('connect') }, [HTTPS, AMQP])).toEqual([
      ...blocked.slice(0, 1),
      ...reached,
      'port ok: dps.example:5671 (AMQP)',
    ]);
    // What the network lets through has the last word, whatever lies behind it.
    expect(await heads({ ...shut, amqp: failure('tls') }, [AMQP, HTTPS])).toEqual([
      ...blocked.slice(0, 1),
      'port ok: dps.example:5671 (AMQP)',
      'tls failed: No. Mend',
      'port ok: dps.example:443 (HTTPS)',
    ]);
    expect((await heads({ ...shut, https: failure('connect') }, [AMQP, HTTPS]))[0]).toBe('port failed: No. Mend');
  });

  it('compares the clocks where a server tells its own, unless this one is not set', async () => {
    const dated = networkOf({ https: { ...FACTS, dateMs: NOW_MS - 7_200_000 } });
    expect((await check(dated, HTTPS)).at(-1)).toMatch(/^server-clock warning: The clock is 2 hours ahead/);
    const unset = await check(dated, HTTPS, 0);
    expect(unset.some((line) => line.startsWith('server-clock'))).toBe(false);
    expect(unset.find((line) => line.startsWith('tls'))).toContain('judged by a clock that is not set');
  });
});
