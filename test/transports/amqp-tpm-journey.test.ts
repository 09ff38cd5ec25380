import { createHmac, randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { TpmHsm } from '../../src/core/attestation.js';
import type { FaultAction, FaultPoint } from '../../src/emulator/index.js';
import { provision } from '../../src/index.js';
import { type AmqpCarrier, amqpTlsCarrier } from '../../src/net/amqp-carrier.js';
import { amqpWebSocketCarrier } from '../../src/net/amqp-websocket.js';
import { systemClock } from '../../src/system-clock.js';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import { SoftwareTpm } from '../emulator/software-tpm.js';
import { startBench } from '../interop/emulator-bench.js';

/** The TPM of the vectors: one key at a time, and one that is staged. */
function softwareTpmHsm(): TpmHsm {
  const tpm = new SoftwareTpm();
  let key: Buffer = Buffer.alloc(0);
  let staged: Buffer | undefined;
  return {
    kind: 'tpm',
    registrationId: async () => 'tpm-1',
    endorsement: async () => ({
      endorsementKey: tpm.endorsementKey,
      storageRootKey: tpm.storageRootKey,
    }),
    activate: async (challenge) => {
      key = tpm.activate(challenge);
    },
    sign: async (data) =>
      new Uint8Array(
        createHmac('sha256', staged ?? key)
          .update(data)
          .digest(),
      ),
    stage: async (blob) => {
      staged = tpm.activate(blob);
    },
    commit: async () => {
      key = staged ?? key;
    },
    discard: async () => {
      staged = undefined;
    },
  };
}

async function journey(
  carrier: AmqpCarrier,
  fault?: {
    readonly at: FaultPoint;
    readonly action: FaultAction | readonly FaultAction[];
  },
) {
  const emulator = await startBench();
  const { endorsementKey } = new SoftwareTpm().tpm;
  emulator.enroll({
    registrationId: 'tpm-1',
    attestation: { type: 'tpm', tpm: { endorsementKey } },
    initialTwin: { properties: { desired: { fan: 'on' } } },
  });
  if (fault !== undefined) emulator.faults.add({ ...fault, times: 1 });
  const { amqp, https } = emulator.endpoints.dps;
  const device = await provision({
    endpoint: carrier.name === 'amqp' ? amqp : https,
    idScope: emulator.idScope,
    ca: emulator.caPem,
    hsm: softwareTpmHsm(),
    transport: amqpDpsTransport({
      ca: emulator.caPem,
      clock: systemClock,
      randomUuid: randomUUID,
      carrier,
    }),
    random: () => 0,
  });
  return { emulator, device };
}

describe.each([amqpTlsCarrier, amqpWebSocketCarrier])('a TPM over $name', (carrier) => {
  it('comes to its twin, by one connection to DPS', async () => {
    const { emulator, device } = await journey(carrier);
    expect(device).toMatchObject({
      deviceId: 'tpm-1',
      twin: { desired: { properties: { fan: 'on' } } },
    });
    const connections = emulator.trace.entries({
      service: 'dps',
      event: 'close',
    }).length;
    expect(connections).toBe(1);
  });

  it.each<FaultPoint>(['dps.register', 'dps.status'])(
    'is challenged again when the connection is lost at %s',
    async (at) => {
      const { emulator, device } = await journey(carrier, {
        at,
        action: { kind: 'cut' },
      });
      expect(device).toMatchObject({
        deviceId: 'tpm-1',
        twin: { desired: { properties: { fan: 'on' } } },
      });
      expect(emulator.trace.count({ event: 'challenge' })).toBe(2);
    },
  );

  it('polls on after a lost connection, with the operation it knows', async () => {
    const { emulator } = await journey(carrier, {
      at: 'dps.status',
      action: { kind: 'cut' },
    });
    expect(emulator.trace.count({ event: 'register' })).toBe(1);
  });
});
