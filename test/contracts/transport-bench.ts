import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { DpsConnection, DpsCredential, DpsReply, DpsTransport } from '../../src/core/transport.js';
import type { DpsTransportOptions } from '../../src/transports/dps-endpoint.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startTlsPeer, type Wire, type WirePeer } from '../fakes/wire-peer.js';

/** A transport under contract, and a DPS to test it on that is written in bytes, not with the transport's own codec. */
export interface TransportRig {
  create(options: DpsTransportOptions): DpsTransport;
  readonly stages: Stages;
  /** Plays DPS on one connection until the client has gone. */
  play(wire: Wire, scene: Scene): Promise<void>;
}

/** Points in the conversation before each thing that the server sends, in order: until the transport is open, and after. */
export interface Stages {
  readonly opening: readonly string[];
  readonly exchange: readonly string[];
}

export interface Scene {
  /** Awaited before each thing that the server sends, when what it answers has come. */
  reach(stage: string): Promise<void>;
  answer(request: 'register' | 'operationStatus'): LiteralReply;
  /** Replies come before what acknowledges the request, where there is such a thing, and among replies to nobody. */
  readonly isJumbled?: boolean;
}

export interface LiteralReply {
  readonly status: number;
  readonly body: string;
  readonly retryAfter?: string;
}

const TOKEN = 'SharedAccessSignature sr=top-secret&sig=hush&se=1&skn=registration';
/** What no error may show of the credential below. */
export const SECRETS: readonly string[] = ['top-secret', 'hush'];
export const SAS: DpsCredential = { kind: 'sas', token: TOKEN };
export const REGISTER = { kind: 'register', body: Buffer.from('{"registrationId":"dev-1"}') } as const;
export const POLL = { kind: 'operationStatus', operationId: '5.71cf' } as const;
export const ASSIGNING: LiteralReply = {
  status: 202,
  body: '{"operationId":"5.71cf","status":"assigning"}',
  retryAfter: '3',
};
export const ASSIGNED: LiteralReply = {
  status: 200,
  body: '{"operationId":"5.71cf","status":"assigned","note":"größer 😀"}',
};

export const never: CancelSignal = new AbortController().signal;

export async function failureOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: Error) => error,
  );
}

/** All stages in order. */
export function stagesOf({ stages }: TransportRig): readonly string[] {
  return [...stages.opening, ...stages.exchange];
}

export interface Bench {
  readonly peer: WirePeer;
  readonly clock: ManualClock;
  readonly reached: string[];
  transport(overrides?: Partial<DpsTransportOptions>): DpsTransport;
  open(
    signal?: CancelSignal,
    overrides?: Partial<DpsTransportOptions>,
    credential?: DpsCredential,
  ): Promise<DpsConnection>;
}

export async function bench(
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
  const transport = (more: Partial<DpsTransportOptions> = {}): DpsTransport =>
    rig.create({
      ca: authority.certificatePem,
      clock,
      randomUuid: countingIds(),
      userAgent: 'dps-device/0.1.0',
      ...more,
    });
  return {
    peer,
    clock,
    reached,
    transport,
    open: (signal = never, more = {}, credential = SAS) => openAt(transport(more), peer.endpoint, signal, credential),
  };
}

/** Without a DPS at the other end. */
export function bareBench(rig: TransportRig, endpoint: string): Pick<Bench, 'clock' | 'open'> {
  const clock = new ManualClock();
  return {
    clock,
    open: (signal = never, more = {}) =>
      openAt(rig.create({ clock, randomUuid: countingIds(), ...more }), endpoint, signal, SAS),
  };
}

/** Opens and registers: through every stage. */
export async function openAndRegister({ open }: Pick<Bench, 'open'>, signal: CancelSignal = never): Promise<unknown> {
  const connection = await open(signal);
  return connection.exchange(REGISTER, signal).finally(() => connection.close());
}

export function asReply({ status, body, retryAfter }: LiteralReply): Partial<DpsReply> {
  return {
    kind: 'reply',
    status,
    body: new Uint8Array(Buffer.from(body)),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  };
}

function openAt(
  transport: DpsTransport,
  endpoint: string,
  signal: CancelSignal,
  credential: DpsCredential,
): Promise<DpsConnection> {
  return transport.open({ endpoint, idScope: '0ne00111111', registrationId: 'dev-1', credential }, signal);
}

function countingIds(): () => string {
  let count = 0;
  return () => {
    count += 1;
    return `request-${count}`;
  };
}
