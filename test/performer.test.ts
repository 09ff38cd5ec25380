/** In what order a journey orders its parts about, and what it leaves of them. */
import { describe, expect, it } from 'vitest';
import type { TpmHsm } from '../src/core/attestation.js';
import type { HubSession, HubTransport } from '../src/core/hub.js';
import type { DpsReply, DpsTransport } from '../src/core/transport.js';
import { TransportError } from '../src/errors.js';
import { type ProvisionOptions, provision } from '../src/index.js';
import { FakeHubSession } from './fakes/fake-hub-session.js';
import { assignedTo, never, turns } from './fakes/run-world.js';

const TPM_ASSIGNED = assignedTo('hub.example', { tpm: { authenticationKey: 'AAEC' } });
const CHALLENGE = { kind: 'challenge', authenticationKey: Uint8Array.of(1) } as const;
const REFUSED = new TransportError({
  code: 'ERR_DPS_TLS_UNTRUSTED',
  message: 'not trusted',
  phase: 'connect',
  peer: 'dps.example:443',
  retryable: false,
});

/** Says what it is asked. */
function tpm(journal: string[]): TpmHsm {
  const note = (what: string) => async (): Promise<void> => void journal.push(what);
  return {
    kind: 'tpm',
    registrationId: async () => 'dev-1',
    endorsement: async () => ({ endorsementKey: Uint8Array.of(1), storageRootKey: Uint8Array.of(2) }),
    sign: async () => new Uint8Array(32),
    activate: note('activate'),
    stage: note('stage'),
    commit: note('commit'),
    discard: note('discard'),
  };
}

/** Each connection gives one answer; an error fails its opening. */
function dps(journal: string[], answers: readonly (DpsReply | typeof CHALLENGE | Error)[]): DpsTransport {
  const left = [...answers];
  let count = 0;
  return {
    name: 'https',
    open: async () => {
      const answer = left.shift();
      count += 1;
      const number = count;
      if (answer instanceof Error) throw answer;
      journal.push(`open ${number}`);
      return {
        exchange: async (_request, signal) => answer ?? never(signal),
        close: async () => void journal.push(`close ${number}`),
      };
    },
  };
}

function hub(open: HubTransport['open']): HubTransport {
  return { name: 'mqtt', open, connectionInfo: () => ({}) as never };
}

function options(parts: Pick<ProvisionOptions, 'hsm' | 'transport' | 'hubTransport'>): ProvisionOptions {
  return { idScope: '0ne00111111', proxy: 'none', ...parts };
}

describe('a TPM', () => {
  const start = (journal: string[], open: HubTransport['open'], signal?: AbortSignal): Promise<unknown> =>
    provision({
      ...options({
        hsm: tpm(journal),
        transport: dps(journal, [CHALLENGE, TPM_ASSIGNED]),
        hubTransport: hub((parameters, within) => {
          journal.push('hub');
          return open(parameters, within);
        }),
      }),
      ...(signal === undefined ? {} : { signal }),
    });
  const BEFORE_THE_HUB = ['activate', 'stage', 'hub'];
  const orders = (journal: string[]): string[] => journal.filter((entry) => !/^(open|close) /.test(entry));

  it('commits once the hub has accepted the device, not before', async () => {
    const journal: string[] = [];
    await start(journal, async () => {
      await turns();
      journal.push('accepted');
      return new FakeHubSession();
    });
    expect(orders(journal)).toEqual([...BEFORE_THE_HUB, 'accepted', 'commit']);
  });

  it('discards what it has staged where the hub was never reached', async () => {
    const journal: string[] = [];
    const abort = new AbortController();
    const journey = start(
      journal,
      async (_, within) => {
        abort.abort();
        return never(within as AbortSignal);
      },
      abort.signal,
    );
    await expect(journey).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    expect(orders(journal)).toEqual([...BEFORE_THE_HUB, 'discard']);
  });

  it.each([
    ['that is followed by another', TPM_ASSIGNED],
    ['whose follower fails to open', REFUSED],
  ])('has the connection of its challenge closed, %s', async (_, next) => {
    const journal: string[] = [];
    const parts = options({
      hsm: tpm(journal),
      transport: dps(journal, [CHALLENGE, next]),
      hubTransport: hub(async () => new FakeHubSession()),
    });
    await provision(parts).catch((error: unknown) => expect(error).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED' }));
    const numbers = (verb: string): Set<string> =>
      new Set(journal.flatMap((entry) => (entry.startsWith(`${verb} `) ? [entry.slice(verb.length + 1)] : [])));
    expect(numbers('close')).toEqual(numbers('open'));
    expect(numbers('close')).toContain('1');
  });
});

describe('the session at the hub', () => {
  it('has been closed when the device is handed over', async () => {
    const session = new FakeHubSession();
    let isClosed = false;
    session.close = async () => {
      await turns();
      isClosed = true;
    };
    await provision(
      options({
        hsm: { kind: 'symmetricKey', registrationId: async () => 'dev-1', sign: async () => new Uint8Array(32) },
        transport: dps([], [assignedTo('hub.example')]),
        hubTransport: hub(async () => session),
      }),
    );
    expect(isClosed).toBe(true);
  });
});

describe('a session that comes when nobody wants it any more', () => {
  it('is closed', async () => {
    const abort = new AbortController();
    const late = new FakeHubSession();
    let arrive: (session: HubSession) => void = () => {};
    const journey = provision({
      ...options({
        hsm: { kind: 'symmetricKey', registrationId: async () => 'dev-1', sign: async () => new Uint8Array(32) },
        transport: dps([], [assignedTo('hub.example')]),
        hubTransport: hub(() => {
          abort.abort();
          return new Promise((resolve) => {
            arrive = resolve;
          });
        }),
      }),
      signal: abort.signal,
    });
    await expect(journey).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    expect(late.closeCalls).toBe(0);
    arrive(late);
    await turns();
    expect(late.closeCalls).toBe(1);
  });
});
