import { getEventListeners } from 'node:events';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { DpsConnection, DpsCredential, DpsReply, DpsTransport } from '../../src/core/transport.js';
import { ProtocolError, TransportError } from '../../src/errors.js';
import type { DpsTransportOptions } from '../../src/transports/dps-endpoint.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startTcpPeer, startTlsPeer, unusedPort, type Wire, type WirePeer } from '../fakes/wire-peer.js';

/** A transport under contract, and a DPS to test it on that is written in bytes, not with the transport's own codec. */
export interface TransportRig {
  create(options: DpsTransportOptions): DpsTransport;
  /** Points in the conversation before each thing that the server sends, in order. */
  readonly stages: readonly string[];
  /** Plays DPS on one connection until the client has gone. */
  play(wire: Wire, scene: Scene): Promise<void>;
}

export interface Scene {
  /** Awaited before each thing that the server sends. */
  reach(stage: string): Promise<void>;
  answer(request: 'register' | 'operationStatus'): LiteralReply;
}

export interface LiteralReply {
  readonly status: number;
  readonly body: string;
  readonly retryAfter?: string;
}

const TOKEN = 'SharedAccessSignature sr=top-secret&sig=hush&se=1&skn=registration';
const SAS: DpsCredential = { kind: 'sas', token: TOKEN };
const REGISTER = { kind: 'register', body: Buffer.from('{"registrationId":"dev-1"}') } as const;
const POLL = { kind: 'operationStatus', operationId: '5.71cf' } as const;
const ASSIGNING: LiteralReply = { status: 202, body: '{"operationId":"5.71cf","status":"assigning"}', retryAfter: '3' };
const ASSIGNED: LiteralReply = { status: 200, body: '{"operationId":"5.71cf","status":"assigned","note":"größer 😀"}' };

const never = new AbortController().signal;

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: Error) => error,
  );
}

interface Bench {
  readonly peer: WirePeer;
  readonly clock: ManualClock;
  readonly reached: string[];
  open(
    signal?: CancelSignal,
    overrides?: Partial<DpsTransportOptions>,
    credential?: DpsCredential,
  ): Promise<DpsConnection>;
}

async function bench(
  rig: TransportRig,
  overrides: Partial<Scene> = {},
  prepare: (wire: Wire) => void = () => {},
): Promise<Bench> {
  const { authority, server } = await benchCertificates();
  const clock = new ManualClock();
  const reached: string[] = [];
  const scene: Scene = {
    reach: async () => {},
    answer: (request) => (request === 'register' ? ASSIGNING : ASSIGNED),
    ...overrides,
  };
  const peer = await startTlsPeer(
    { ...server, ca: authority.certificatePem, requestCert: true, rejectUnauthorized: false },
    (wire) => {
      prepare(wire);
      const reach = async (stage: string): Promise<void> => {
        reached.push(stage);
        await scene.reach(stage);
      };
      return rig.play(wire, { ...scene, reach });
    },
  );
  let requests = 0;
  const options: DpsTransportOptions = {
    ca: authority.certificatePem,
    clock,
    randomUuid: () => {
      requests += 1;
      return `request-${requests}`;
    },
    userAgent: 'dps-device/0.1.0',
  };
  return {
    peer,
    clock,
    reached,
    open: (signal = never, more = {}, credential = SAS) =>
      rig
        .create({ ...options, ...more })
        .open({ endpoint: peer.endpoint, idScope: '0ne00111111', registrationId: 'dev-1', credential }, signal),
  };
}

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

function asReply({ status, body, retryAfter }: LiteralReply): Partial<DpsReply> {
  return {
    kind: 'reply',
    status,
    body: new Uint8Array(Buffer.from(body)),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  };
}

/** Opens and registers: through every stage. */
async function openAndRegister({ open }: Bench, signal: CancelSignal = never): Promise<unknown> {
  const connection = await open(signal);
  return connection.exchange(REGISTER, signal).finally(() => connection.close());
}

/** What every transport promises. */
export function describeDpsTransport(rig: TransportRig): void {
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

      it.each(rig.stages)('while the server keeps silent (before %s)', async (name) => {
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
            if (!isSilent || stage !== rig.stages.at(-1)) return;
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
      it.each(rig.stages)('when the connection breaks off (before %s)', async (name) => {
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

      it.each(rig.stages)('when the server says nonsense (before %s)', async (name) => {
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

      it.each(rig.stages)('that shows no secret (before %s)', async (name) => {
        const rigged: Bench = await bench(rig, {
          reach: async (stage) => {
            if (stage !== name) return;
            for (const wire of rigged.peer.wires) wire.end();
            await new Promise(() => {});
          },
        });
        const shown = inspect(await failureOf(openAndRegister(rigged)), { depth: 9, showHidden: true });
        for (const secret of ['top-secret', 'hush']) expect(shown).not.toContain(secret);
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
        const { scene, reached } = stallAt(rig.stages.at(-1) ?? '');
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
  });
}

/** Without a DPS at the other end. */
function bareBench(rig: TransportRig, endpoint: string): Pick<Bench, 'clock' | 'open'> {
  const clock = new ManualClock();
  const transport = rig.create({ clock, randomUuid: () => 'request-1' });
  return {
    clock,
    open: (signal = never) =>
      transport.open({ endpoint, idScope: '0ne00111111', registrationId: 'dev-1', credential: SAS }, signal),
  };
}
