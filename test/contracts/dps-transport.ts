import { getEventListeners } from 'node:events';
import type { LookupFunction } from 'node:net';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { ProtocolError, TransportError } from '../../src/errors.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { startTcpPeer, unusedPort } from '../fakes/wire-peer.js';
import { describeBrokenPeers } from './broken-peers.js';
import {
  ASSIGNED,
  ASSIGNING,
  asReply,
  type Bench,
  bareBench,
  bench,
  failureOf,
  never,
  openAndRegister,
  POLL,
  REGISTER,
  type Scene,
  SECRETS,
  stagesOf,
  type TransportRig,
} from './transport-bench.js';

/** Says when a stage is reached, and stays there. */
function stallAt(stage: string): { readonly scene: Partial<Scene>; readonly reached: Promise<void> } {
  let announce: () => void = () => {};
  const reached = new Promise<void>((resolve) => {
    announce = resolve;
  });
  const reach = async (name: string): Promise<void> => {
    if (name !== stage) return;
    announce();
    await new Promise(() => {});
  };
  return { scene: { reach }, reached };
}

/** What every transport promises. */
export function describeDpsTransport(rig: TransportRig): void {
  const stages = stagesOf(rig);
  describe('as every DPS transport', () => {
    describe('brings requests and replies across', () => {
      it.each([false, true])('over one connection (server sends byte by byte: %s)', async (isBytewise) => {
        const rigged = await bench(rig, {}, (wire) => {
          wire.isBytewise = isBytewise;
        });
        const { signal } = new AbortController();
        const connection = await rigged.open(signal);
        expect(await connection.exchange(REGISTER, signal)).toMatchObject(asReply(ASSIGNING));
        const reply = await connection.exchange(POLL, signal);
        expect(reply).toMatchObject(asReply(ASSIGNED));
        expect(reply).not.toHaveProperty('retryAfter');
        expect(rigged.peer.wires).toHaveLength(1);
        expect(getEventListeners(signal, 'abort')).toHaveLength(0);
        await connection.close();
      });

      it('in whatever order they come, and among replies to nobody', async () => {
        const { open, peer } = await bench(rig, { isJumbled: true });
        const connection = await open();
        for (let round = 0; round < 3; round += 1) {
          expect(await connection.exchange(REGISTER, never)).toMatchObject(asReply(ASSIGNING));
          expect(await connection.exchange(POLL, never)).toMatchObject(asReply(ASSIGNED));
        }
        await connection.close();
        await Promise.all(peer.wires.map((wire) => wire.closed));
      });

      it('also replies that tell of errors, unread', async () => {
        const page = {
          status: 503,
          body: '<html>Service Unavailable</html>',
          retryAfter: 'Wed, 21 Oct 2026 07:28:00 GMT',
        };
        const { open } = await bench(rig, { answer: () => page });
        const connection = await open();
        expect(await connection.exchange(REGISTER, never)).toMatchObject({ status: 503, body: asReply(page).body });
        await connection.close();
      });

      it('with a device certificate', async () => {
        const { device } = await benchCertificates();
        const { open } = await bench(rig);
        const connection = await open(never, {}, { kind: 'x509', tls: device });
        expect(await connection.exchange(REGISTER, never)).toMatchObject({ status: 202 });
        await connection.close();
      });
    });

    describe('cancels', () => {
      it('before anything has begun', async () => {
        const rigged = await bench(rig);
        expect(await failureOf(rigged.open(AbortSignal.abort('enough')))).toBe('enough');
        expect(rigged.clock.pending).toBe(0);
        expect(rigged.peer.wires).toHaveLength(0);
      });

      it('while the name is looked up', async () => {
        const { open, clock } = await bench(rig);
        const caller = new AbortController();
        const opening = failureOf(open(caller.signal, { lookup: () => {} }));
        caller.abort('enough');
        expect(await opening).toBe('enough');
        expect(clock.pending).toBe(0);
      });

      it('while TCP connects', async () => {
        const { open, clock, peer } = await bench(rig);
        const caller = new AbortController();
        const lookup: LookupFunction = (_host, _options, onAddress) => {
          onAddress(null, [{ address: '127.0.0.1', family: 4 }]);
          caller.abort('enough');
        };
        expect(await failureOf(open(caller.signal, { lookup }))).toBe('enough');
        expect(clock.pending).toBe(0);
        await Promise.all(peer.wires.map((wire) => wire.closed));
      });

      it('while a proxy keeps silent', async () => {
        const proxy = await startTcpPeer(async () => {});
        const { open, clock } = bareBench(rig, 'dps.invalid');
        const caller = new AbortController();
        const proxyFor = () => ({ kind: 'socks5', host: '127.0.0.1', port: proxy.port }) as const;
        const opening = failureOf(open(caller.signal, { proxyFor }));
        const wire = await proxy.wire(0);
        await wire.readBytes(3);
        caller.abort('enough');
        expect(await opening).toBe('enough');
        await wire.closed;
        expect(clock.pending).toBe(0);
      });

      it('during the TLS handshake', async () => {
        const silent = await startTcpPeer(async () => {});
        const { open, clock } = bareBench(rig, `127.0.0.1:${silent.port}`);
        const caller = new AbortController();
        const opening = failureOf(open(caller.signal));
        const wire = await silent.wire(0);
        await wire.readBytes(1);
        caller.abort('enough');
        expect(await opening).toBe('enough');
        await wire.closed;
        expect(clock.pending).toBe(0);
      });

      it.each(stages)('while the server keeps silent (before %s)', async (name) => {
        const { scene, reached } = stallAt(name);
        const rigged = await bench(rig, scene);
        const caller = new AbortController();
        const failure = failureOf(openAndRegister(rigged, caller.signal));
        await reached;
        caller.abort('enough');
        expect(await failure).toBe('enough');
        await (await rigged.peer.wire(0)).closed;
        expect(rigged.clock.pending).toBe(0);
      });

      it('an exchange, and the next one works', async () => {
        let isSilent = true;
        let wake: () => void = () => {};
        const silent = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const caller = new AbortController();
        const rigged = await bench(rig, {
          answer: (request) => (request === 'register' ? { status: 500, body: 'too late' } : ASSIGNED),
          reach: async (stage) => {
            if (!isSilent || stage !== stages.at(-1)) return;
            isSilent = false;
            caller.abort('enough');
            await silent;
          },
        });
        const connection = await rigged.open();
        expect(await failureOf(connection.exchange(REGISTER, caller.signal))).toBe('enough');
        const next = connection.exchange(POLL, never);
        wake();
        expect(await next).toMatchObject(asReply(ASSIGNED));
        await connection.close();
      });
    });

    describe('fails with a typed error', () => {
      it.each(stages)('when the connection breaks off (before %s)', async (name) => {
        const rigged: Bench = await bench(rig, {
          reach: async (stage) => {
            if (stage !== name) return;
            for (const wire of rigged.peer.wires) wire.cut();
            await new Promise(() => {});
          },
        });
        const error = await failureOf(openAndRegister(rigged));
        expect(error).toBeInstanceOf(TransportError);
        expect(error).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', retryable: true, peer: rigged.peer.endpoint });
        expect(rigged.clock.pending).toBe(0);
      });

      it.each(stages)('when the server says nonsense (before %s)', async (name) => {
        const rigged: Bench = await bench(rig, {
          reach: async (stage) => {
            if (stage !== name) return;
            for (const wire of rigged.peer.wires)
              await wire.write('\u0001 nonsense, and not one line of it ever comes to an end');
            await new Promise(() => {});
          },
        });
        const error = await failureOf(openAndRegister(rigged));
        expect(error).toBeInstanceOf(ProtocolError);
        expect(error).toMatchObject({ retryable: false });
        await (await rigged.peer.wire(0)).closed;
        expect(rigged.clock.pending).toBe(0);
      });

      it('when nobody listens', async () => {
        const endpoint = `127.0.0.1:${await unusedPort()}`;
        const { open, clock } = bareBench(rig, endpoint);
        const error = await failureOf(open());
        expect(error).toMatchObject({ code: 'ERR_DPS_CONNECT', phase: 'connect', peer: endpoint, retryable: true });
        expect(clock.pending).toBe(0);
      });

      it('when the server is not to be trusted', async () => {
        const { open, clock } = await bench(rig);
        const error = await failureOf(open(never, { ca: undefined }));
        expect(error).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED', retryable: false });
        const misnamed = await failureOf(open(never, { servername: 'other.example' }));
        expect(misnamed).toMatchObject({ code: 'ERR_DPS_TLS_UNTRUSTED', retryable: false });
        expect(clock.pending).toBe(0);
      });

      it('when TLS is not done in time', async () => {
        const { open, clock } = await bench(rig);
        const opening = failureOf(open(never, { lookup: () => {}, connectTimeoutMs: 7000 }));
        clock.advance(7000);
        expect(await opening).toMatchObject({ code: 'ERR_DPS_CONNECT_TIMEOUT', retryable: true });
        expect(clock.pending).toBe(0);
      });

      it.each(['', 'https://dps.example', 'dps.example:0'])('when the endpoint is none (%j)', async (endpoint) => {
        const error = await failureOf(bareBench(rig, endpoint).open());
        expect(error).toMatchObject({ code: 'ERR_DPS_CONFIG_OPTION', option: 'endpoint' });
      });

      it.each(stages)('that shows no secret (before %s)', async (name) => {
        const rigged: Bench = await bench(rig, {
          reach: async (stage) => {
            if (stage !== name) return;
            for (const wire of rigged.peer.wires) wire.end();
            await new Promise(() => {});
          },
        });
        const shown = inspect(await failureOf(openAndRegister(rigged)), { depth: 9, showHidden: true });
        for (const secret of SECRETS) expect(shown).not.toContain(secret);
      });
    });

    describe('closes', () => {
      it('twice, and leaves nothing', async () => {
        const { open, peer, clock } = await bench(rig);
        const connection = await open();
        await connection.exchange(REGISTER, never);
        await Promise.all([connection.close(), connection.close()]);
        await (await peer.wire(0)).closed;
        expect(clock.pending).toBe(0);
        expect(await failureOf(connection.exchange(POLL, never))).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED' });
        await connection.close();
      });

      it('without a single exchange', async () => {
        const { open, peer, clock } = await bench(rig);
        const connection = await open();
        const wire = await peer.wire(0);
        await connection.close();
        await wire.closed;
        expect(clock.pending).toBe(0);
      });

      it('under a running exchange', async () => {
        const { scene, reached } = stallAt(stages.at(-1) ?? '');
        const { open, peer, clock } = await bench(rig, scene);
        const connection = await open();
        const exchange = failureOf(connection.exchange(REGISTER, never));
        await reached;
        await connection.close();
        expect(await exchange).toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED' });
        await (await peer.wire(0)).closed;
        expect(clock.pending).toBe(0);
      });
    });

    describeBrokenPeers(rig);
  });
}
