import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { DpsChallenge, DpsConnection, DpsCredential, DpsReply } from '../../src/core/transport.js';
import type { Emulator } from '../../src/emulator/index.js';
import { systemClock } from '../../src/system-clock.js';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import type { DpsTransportOptions } from '../../src/transports/dps-endpoint.js';
import { describeDpsTransport } from '../contracts/dps-transport.js';
import { bench as playedBench, type Scene } from '../contracts/transport-bench.js';
import { SoftwareTpm } from '../emulator/software-tpm.js';
import { dpsToken } from '../emulator/tokens.js';
import { binary, saslFrame } from '../fakes/amqp-bytes.js';
import { answeringChallenges } from '../fakes/answering-challenges.js';
import { AMQP_TPM_STAGES, playDps, playSaslTpm, TPM_KEY } from '../fakes/dps-over-amqp.js';
import type { Wire } from '../fakes/wire-peer.js';
import { makeKey, startBench } from '../interop/emulator-bench.js';

const never = new AbortController().signal;
const REGISTRATION_ID = 'tpm-1';
const device = new SoftwareTpm();
const opening = {
  kind: 'tpm',
  endorsementKey: device.endorsementKey,
  storageRootKey: device.storageRootKey,
} as const;
const REGISTER = {
  kind: 'register',
  body: Buffer.from(JSON.stringify({ registrationId: REGISTRATION_ID, tpm: device.tpm })),
} as const;

interface Bench {
  readonly emulator: Emulator;
  open(credential?: DpsCredential, challenged?: DpsConnection, signal?: AbortSignal): Promise<DpsConnection>;
  /** A token for the challenge that the connection gives. */
  answer(parked: DpsConnection, key?: Buffer): Promise<DpsCredential>;
}

async function bench(): Promise<Bench> {
  const emulator = await startBench();
  emulator.enroll({
    registrationId: REGISTRATION_ID,
    attestation: { type: 'tpm', tpm: { endorsementKey: device.tpm.endorsementKey } },
  });
  const { idScope } = emulator;
  const transport = amqpDpsTransport({ ca: emulator.caPem, clock: systemClock, randomUuid: randomUUID });
  return {
    emulator,
    open: (credential = opening, challenged = undefined, signal = never) =>
      transport.open(
        {
          endpoint: emulator.endpoints.dps.amqp,
          idScope,
          registrationId: REGISTRATION_ID,
          credential,
          ...(challenged === undefined ? {} : { challenged }),
        },
        signal,
      ),
    answer: async (parked, key) => {
      const challenge = await parked.exchange(REGISTER, never);
      expect(challenge.kind).toBe('challenge');
      const hmacKey = key ?? device.activate((challenge as DpsChallenge).authenticationKey);
      const expiry = Math.floor(systemClock.wallMs() / 1000) + 3600;
      return { ...opening, token: dpsToken(idScope, REGISTRATION_ID, hmacKey.toString('base64'), expiry) };
    },
  };
}

function json(reply: DpsReply | DpsChallenge): Record<string, unknown> {
  return JSON.parse(Buffer.from((reply as DpsReply).body).toString()) as Record<string, unknown>;
}

describe('amqpDpsTransport with a TPM', () => {
  describeDpsTransport({
    create: (options) =>
      answeringChallenges(amqpDpsTransport(options), opening, ({ authenticationKey }) =>
        expect(authenticationKey).toEqual(new Uint8Array(TPM_KEY)),
      ),
    stages: AMQP_TPM_STAGES,
    play: (wire, scene) => playDps(wire, scene, playSaslTpm),
  });

  it('does not take a second challenge', async () => {
    const rig = {
      create: (options: DpsTransportOptions) => answeringChallenges(amqpDpsTransport(options), opening),
      stages: AMQP_TPM_STAGES,
      play: (wire: Wire, scene: Scene) =>
        playDps(wire, scene, async (saslWire, saslScene) => {
          const reach = async (stage: string): Promise<void> => {
            if (stage === 'outcome') await wire.write(saslFrame(0x42, [binary(Buffer.of(0xc1, 1, 2))]));
          };
          await playSaslTpm(saslWire, { ...saslScene, reach });
        }),
    };
    const { open: openAgainst } = await playedBench(rig);
    await expect(openAgainst()).rejects.toMatchObject({ code: 'ERR_DPS_PROTOCOL_AMQP' });
  });

  it('parks at the challenge, and registers on the same connection', async () => {
    const { emulator, open, answer } = await bench();
    const parked = await open();
    const connection = await open(await answer(parked), parked);
    const accepted = await connection.exchange(REGISTER, never);
    expect(accepted).toMatchObject({ kind: 'reply', status: 202 });
    const operationId = String(json(accepted).operationId);
    const result = await connection.exchange({ kind: 'operationStatus', operationId }, never);
    expect(json(result)).toMatchObject({ status: 'assigned', registrationState: { deviceId: REGISTRATION_ID } });
    await connection.close();
    expect(new Set(emulator.trace.entries({ protocol: 'amqp' }).map((entry) => entry.connection)).size).toBe(1);
    expect(emulator.trace.count({ event: 'challenge' })).toBe(1);
  });

  it('has its token refused as a reply with status 401', async () => {
    const { open, answer } = await bench();
    const parked = await open();
    const connection = await open(await answer(parked, Buffer.from(makeKey(), 'base64')), parked);
    expect(await connection.exchange(REGISTER, never)).toMatchObject({ kind: 'reply', status: 401 });
    await connection.close();
  });

  it('is challenged anew when the parked connection is lost', async () => {
    const { emulator, open, answer } = await bench();
    const parked = await open();
    const credential = await answer(parked);
    await parked.close();
    await emulator.trace.waitFor({ event: 'close', connection: 1 });
    await expect(parked.exchange(REGISTER, never)).rejects.toMatchObject({ code: 'ERR_DPS_SESSION_CLOSED' });
    const second = await open(credential);
    const connection = await open(await answer(second), second);
    expect(await connection.exchange(REGISTER, never)).toMatchObject({ status: 202 });
    await connection.close();
  });

  it('says so when the connection was lost while it was parked', async () => {
    const { emulator, open, answer } = await bench();
    const parked = await open();
    const credential = await answer(parked);
    await emulator.close();
    await expect(open(credential, parked)).rejects.toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', retryable: true });
    await expect(parked.exchange(REGISTER, never)).rejects.toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
  });

  it('is cancelled before the challenge, and while its token is judged', async () => {
    const { emulator, open, answer } = await bench();
    emulator.faults.add({ at: 'dps.challenge', times: 1, action: { kind: 'silent' } });
    const caller = new AbortController();
    const stuck = open(opening, undefined, caller.signal);
    await emulator.trace.waitFor({ event: 'fault' });
    caller.abort('enough');
    await expect(stuck).rejects.toBe('enough');
    await emulator.trace.waitFor({ event: 'close', connection: 1 });

    const parked = await open();
    const credential = await answer(parked);
    const late = new AbortController();
    const resumed = open(credential, parked, late.signal);
    late.abort('later');
    await expect(resumed).rejects.toBe('later');
    await emulator.trace.waitFor({ event: 'close', connection: 2 });
  });

  it('closes parked, and leaves nothing', async () => {
    const { emulator, open } = await bench();
    const parked = await open();
    await Promise.all([parked.close(), parked.close()]);
    await emulator.trace.waitFor({ event: 'close', connection: 1 });
  });

  it('learns at its first request that it was turned away before the challenge', async () => {
    const { emulator, open } = await bench();
    emulator.faults.add({ at: 'dps.challenge', action: { kind: 'respond', status: 401 } });
    const connection = await open();
    expect(await connection.exchange(REGISTER, never)).toMatchObject({ kind: 'reply', status: 401 });
    await connection.close();
  });
});
