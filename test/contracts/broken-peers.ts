import { getEventListeners } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { HubTransport } from '../../src/core/hub.js';
import type { DpsTransport } from '../../src/core/transport.js';
import { isDpsError, TransportError } from '../../src/errors.js';
import { ProgressLog } from '../../src/progress-log.js';
import { provisionWith } from '../../src/provision.js';
import type { ManualClock } from '../fakes/manual-clock.js';
import { startTcpPeer, type Wire } from '../fakes/wire-peer.js';
import {
  type Bench,
  bareBench,
  bench,
  failureOf,
  never,
  openAndRegister,
  REGISTER,
  stagesOf,
  type TransportRig,
} from './transport-bench.js';

/** What a server sends in an exchange that goes well. */
interface Recording {
  readonly totalBytes: number;
  /** Of its first byte, by stage. */
  readonly starts: ReadonlyMap<string, number>;
}

/** How a server goes. */
const WAYS_TO_GO = ['end', 'cut'] as const;

/** What every transport makes of a server that goes, or falls silent, at whatever byte. */
export function describeBrokenPeers(rig: TransportRig): void {
  const stages = stagesOf(rig);

  describe('with a server that goes after any byte', () => {
    it.each(stages.flatMap((stage) => WAYS_TO_GO.map((way) => [way, stage] as const)))(
      'fails with a typed error each time, and leaves nothing (%s in %s)',
      async (way, stage) => {
        const { start, end } = spanOf(await record(rig), stage);
        let bytes = start;
        const rigged = await bench(rig, {}, (wire) => {
          wire.limit = { bytes, onReached: () => wire[way]() };
        });
        const code = 'ERR_DPS_CONNECTION_LOST';
        const expected = { code, retryable: true, peer: rigged.peer.endpoint };
        for (; bytes < end; bytes += 1) {
          const { signal } = new AbortController();
          const error = await failureOf(openAndRegister(rigged, signal));
          expect(error, `after ${bytes} bytes`).toBeInstanceOf(TransportError);
          expect(error, `after ${bytes} bytes`).toMatchObject(expected);
          await closedByClient(rigged);
          expect(getEventListeners(signal, 'abort')).toHaveLength(0);
        }
        expect(rigged.peer.wires.length).toBe(end - start);
        expect(end).toBeGreaterThan(start);
      },
    );
  });

  describe('with a server that falls silent', () => {
    const pointsIn = (some: readonly string[]): (readonly [words: string, stage: string, share: number])[] =>
      some.flatMap((stage) => [
        [`before ${stage}`, stage, 0],
        [`half-way through ${stage}`, stage, 0.5],
      ]);

    it.each(pointsIn(stages))('can be cancelled %s', async (_words, stage, share) => {
      const { rigged, silent } = await silentBench(rig, stage, share);
      const caller = new AbortController();
      const failure = failureOf(openAndRegister(rigged, caller.signal));
      await silent;
      caller.abort('enough');
      expect(await failure).toBe('enough');
      await closedByClient(rigged);
    });

    it.each(pointsIn(rig.stages.opening))('gives up by itself %s', async (_words, stage, share) => {
      const { rigged, silent } = await silentBench(rig, stage, share);
      const failure = failureOf(rigged.open(undefined, { connectTimeoutMs: 7000 }));
      await silent;
      rigged.clock.advance(7000);
      expect(await failure).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', retryable: true });
      await closedByClient(rigged);
    });

    it.each(['TLS', 'proxy'] as const)('gives up by itself before it has said a word of %s', async (layer) => {
      const { port } = await startTcpPeer(async () => {});
      const endpoint = layer === 'TLS' ? `127.0.0.1:${port}` : 'dps.invalid';
      const { open, clock } = bareBench(rig, endpoint);
      const proxyFor = () => ({ kind: 'http', host: '127.0.0.1', port }) as const;
      const timeout = { connectTimeoutMs: 7000, ...(layer === 'proxy' ? { proxyFor } : {}) };
      const failure = failureOf(open(undefined, timeout));
      clock.advance(7000);
      expect(await failure).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', retryable: true });
      expect(clock.pending).toBe(0);
    });

    it.each(pointsIn(stages))('holds no registration up beyond its deadline %s', async (_words, stage, share) => {
      const { rigged, silent } = await silentBench(rig, stage, share);
      const { peer, clock } = rigged;
      const registration = failureOf(register(rigged.transport(), peer.endpoint, clock));
      await silent;
      const error = await untilSettled(registration, clock);
      expect(isDpsError(error), String(error)).toBe(true);
      expect(clock.monotonicMs()).toBeLessThanOrEqual(DEADLINE_MS);
      await closedByClient(rigged);
    });
  });
}

async function record(rig: TransportRig): Promise<Recording> {
  let wire: Wire | undefined;
  const starts = new Map<string, number>();
  const reach = async (stage: string): Promise<void> => {
    starts.set(stage, wire?.sentBytes ?? 0);
  };
  const rigged = await bench(rig, { reach }, (taken) => {
    wire = taken;
  });
  const connection = await rigged.open();
  await connection.exchange(REGISTER, never);
  const totalBytes = wire?.sentBytes ?? 0;
  await connection.close();
  return { totalBytes, starts };
}

/** Where the bytes of a stage begin, and those of the next one. */
function spanOf({ starts, totalBytes }: Recording, stage: string): { readonly start: number; readonly end: number } {
  const start = starts.get(stage) ?? totalBytes;
  const next = [...starts.keys()].indexOf(stage) + 1;
  return { start, end: [...starts.values()][next] ?? totalBytes };
}

/** A server that says so much of what belongs to a stage, and no more. */
async function silentBench(
  rig: TransportRig,
  stage: string,
  share: number,
): Promise<{ readonly rigged: Bench; readonly silent: Promise<void> }> {
  const { start, end } = spanOf(await record(rig), stage);
  const bytes = start + Math.ceil((end - start) * share);
  let onReached: () => void = () => {};
  const silent = new Promise<void>((resolve) => {
    onReached = resolve;
  });
  const rigged = await bench(rig, {}, (wire) => {
    wire.limit = { bytes, onReached };
  });
  return { rigged, silent };
}

async function closedByClient({ peer, clock }: Bench): Promise<void> {
  await Promise.all(peer.wires.map((wire) => wire.closed));
  expect(clock.pending).toBe(0);
}

const DEADLINE_MS = 60_000;

/** A device's whole journey, which never gets as far as the hub. */
function register(dps: DpsTransport, endpoint: string, clock: ManualClock): Promise<unknown> {
  return provisionWith(
    {
      idScope: '0ne00111111',
      endpoint,
      hsm: { kind: 'symmetricKey', registrationId: async () => 'dev-1', sign: async () => new Uint8Array(32) },
      dps,
      hub: { name: 'unused' } as HubTransport,
      clock,
      random: () => 0,
      deadlineMs: DEADLINE_MS,
      connectTimeoutMs: 20_000,
      requestTimeoutMs: 10_000,
      hubTimeoutMs: 50_000,
      tokenLifeSeconds: 3_600,
    },
    new ProgressLog(),
  );
}

/** Lets time pass whenever there is nothing else to do. */
async function untilSettled<T>(work: Promise<T>, clock: ManualClock): Promise<T> {
  let isOver = false;
  const done = (): void => {
    isOver = true;
  };
  work.then(done, done);
  while (!isOver) {
    await new Promise((resolve) => setImmediate(resolve));
    if (!isOver) clock.advanceToNext();
  }
  return work;
}
