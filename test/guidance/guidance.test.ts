/*
 * Where a device ends when something happens to it: real processes, the built package, and the emulator in a process that
 * can be killed. Each row says what the guidance is (the reference's sections in brackets: H for the hub's protocol, D for
 * that of DPS), what happens, and what the device tells until it is where it should be.
 *
 * The device's clock is ACCELERATED, 50 times where a row does not say otherwise, and its draws of chance are all 0: each
 * wait is the shortest that the rules allow, and is told here in the device's own milliseconds.
 */
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { issueCertificate, makeAuthority } from '../../src/emulator/index.js';
import type { CuttingRelay } from './cutting-relay.js';
import { GuidanceBench, ServiceSide } from './guidance-bench.js';
import type { DeviceProcess } from './processes.js';

type Told = string | { readonly again: readonly Told[] };

interface Row {
  readonly what: string;
  readonly guidance: string;
  /** An earlier life left a record. */
  readonly hasRecord?: true;
  /** DPS and hubs that no other row has anything to do with. */
  readonly hasOwnSide?: true;
  /** Of the device's clock, and of its chance. */
  readonly speed?: number;
  readonly draw?: number;
  /** From power on to the last act. */
  readonly happens: (bench: GuidanceBench) => Promise<DeviceProcess>;
  /** All that the device tells, polls and the record aside; `again` is told once or more often. */
  readonly told: readonly Told[];
  /** Connections that came to DPS's door from power on; default: not looked at. */
  readonly connectionsToDps?: number;
  readonly endsAt: 'hub-a' | 'hub-b';
}

/** Of the link in the measurement. */
const ONE_WAY_MS = 25;
const IN_1970 = 86_400_000;
const REFUSED = 'ERR_DPS_CONNACK_UNAUTHORIZED';
const TO_DPS = ['connecting dps', 'registering'];
const TO_HUB = ['connecting hub', 'provisioned registered'];
const FROM_RECORD = ['connecting hub', 'provisioned stored'];
const LOST = ['offline ERR_DPS_CONNECTION_LOST', 'waiting network 1000', 'connecting hub'];
const ONCE_MORE_THEN_DPS = ['waiting refused 5000', 'connecting hub', `reprovisioning refused ${REFUSED}`, ...TO_DPS];

const side = new ServiceSide();
let authority: Awaited<ReturnType<typeof makeAuthority>>;

beforeAll(async () => {
  await side.start();
  authority = await makeAuthority({ commonName: 'Guidance CA' });
  await side.emulator.operate('enrollGroup', {
    enrollmentGroupId: 'certified',
    attestation: { x509: { signingCertificates: { primary: { certificate: authority.certificatePem } } } },
    iotHubs: ['hub-a'],
  });
});
afterAll(() => side.close());

type Act = (bench: GuidanceBench, device: DeviceProcess) => Promise<unknown>;

/** Boots and lives; then each act is done to it, and the words after it are waited for, so many times. */
const online =
  (...steps: readonly (readonly [act: Act, until: string, times?: number])[]) =>
  (bench: GuidanceBench): Promise<DeviceProcess> =>
    booted([async () => {}, 'provisioned'], ...steps)(bench);

/** The same, without waiting until it lives. */
const booted =
  (...steps: readonly (readonly [act: Act, until: string, times?: number])[]) =>
  async (bench: GuidanceBench): Promise<DeviceProcess> => {
    const device = await bench.boot();
    for (const [act, until, times] of steps) {
      const from = device.told.length;
      await act(bench, device);
      await device.until(until, times, from);
    }
    return device;
  };

/** The service falls silent at a step, and the cable is pulled. */
const cutAt = (at: 'dps.register' | 'dps.status' | 'hub.twinGet') => async (bench: GuidanceBench) => {
  const { registrationId: device, emulator } = bench;
  await emulator.fault({ at, action: { kind: 'silent' }, times: 1, when: { device } });
  const booting = await bench.boot();
  await emulator.waitFor({ event: 'fault', device });
  (at === 'hub.twinGet' ? side.hubs['hub-a'] : side.dps).cut();
  await booting.until('provisioned');
  return booting;
};

/** A connection is cut before a word was said. */
const cutAtOnce = (relay: CuttingRelay) => async (bench: GuidanceBench) => {
  relay.cutsNext = 1;
  return booted([async () => {}, 'provisioned'])(bench);
};

/** Boots at a time before time, and is set right after `until`. */
const bornIn1970 = (until: string) => async (bench: GuidanceBench) => {
  const { accepted } = side.hubs['hub-a'];
  const device = await bench.boot({ wallMs: IN_1970 });
  await device.until(until);
  expect([side.dps.accepted, side.hubs['hub-a'].accepted - accepted]).toEqual([0, 0]);
  await device.call('setWall');
  await device.until('provisioned');
  return device;
};

const moveToHubB = (bench: GuidanceBench): Promise<void> => bench.change({ iotHubs: ['hub-b'] });

const ROWS: readonly Row[] = [
  // ── boot ──
  {
    what: 'nothing is known',
    guidance: 'register, then the hub and its twin',
    happens: booted([async () => {}, 'provisioned']),
    told: [...TO_DPS, ...TO_HUB],
    connectionsToDps: 1,
    endsAt: 'hub-a',
  },
  {
    what: 'DPS is down at boot, and there is a record',
    guidance: 'cached data first [H6.1, D9.3.1]',
    hasRecord: true,
    happens: async (bench) => {
      await side.dps.down();
      const device = await bench.boot();
      await device.until('provisioned');
      await side.dps.up();
      return device;
    },
    told: FROM_RECORD,
    connectionsToDps: 0,
    endsAt: 'hub-a',
  },
  {
    what: 'DPS is down at boot, and there is no record',
    guidance: 'back-off with jitter until it is there [D9.3.3]',
    happens: async (bench) => {
      await side.dps.down();
      const device = await bench.boot();
      await device.until('waiting network', 3);
      await side.dps.up();
      await device.until('provisioned');
      return device;
    },
    told: [{ again: ['connecting dps', 'waiting network 1000'] }, ...TO_DPS, ...TO_HUB],
    endsAt: 'hub-a',
  },
  {
    what: 'the clock says 1970, with a key and a record',
    guidance: 'rule out the clock first [H6.2]: nothing is sent until it is right, and then not to DPS',
    hasRecord: true,
    speed: 200,
    happens: bornIn1970('waiting refused 60000'),
    told: [{ again: ['connecting hub', 'waiting refused 60000'] }, ...FROM_RECORD],
    connectionsToDps: 0,
    endsAt: 'hub-a',
  },
  {
    what: 'the clock says 1970, with a key and no record',
    guidance: 'the same: no token can be dated',
    speed: 200,
    happens: bornIn1970('waiting'),
    told: [{ again: ['waiting unavailable <ms>'] }, ...TO_DPS, ...TO_HUB],
    endsAt: 'hub-a',
  },
  {
    what: 'the clock says 1970, with a certificate',
    guidance: 'an implausible clock condemns no certificate',
    happens: async (bench) => {
      const { registrationId: commonName } = bench;
      const { chainPem, privateKeyPem } = await issueCertificate(authority, { commonName, usage: 'client' });
      await bench.certify(chainPem, privateKeyPem);
      const device = await bench.boot({ wallMs: IN_1970 });
      await device.until('provisioned');
      return device;
    },
    told: [...TO_DPS, ...TO_HUB],
    endsAt: 'hub-a',
  },

  // ── the hub does not want the device any more ──
  {
    what: 'the device is disabled at its hub',
    guidance: 'once more after 5 to 30 s, then DPS once; then the hub slowly, DPS not within half an hour [H6.2]',
    hasRecord: true,
    speed: 100,
    happens: online(
      [(bench) => bench.atHub('setDeviceEnabled', false), 'waiting refused 60000', 2],
      [(bench) => bench.atHub('setDeviceEnabled', true), 'provisioned'],
    ),
    told: [
      ...FROM_RECORD,
      ...LOST,
      ...ONCE_MORE_THEN_DPS,
      'connecting hub',
      'waiting refused 5000',
      { again: ['connecting hub', 'waiting refused 60000'] },
      ...TO_HUB,
    ],
    connectionsToDps: 1,
    endsAt: 'hub-a',
  },
  {
    what: 'the identity is deleted at the hub, while the device is off',
    guidance: 'unauthorized: once more, then DPS, which makes it anew [H6.2, D9.3.5]',
    hasRecord: true,
    happens: async (bench) => {
      await bench.atHub('removeDevice');
      return booted([async () => {}, 'provisioned'])(bench);
    },
    told: ['connecting hub', ...ONCE_MORE_THEN_DPS, ...TO_HUB],
    connectionsToDps: 1,
    endsAt: 'hub-a',
  },
  {
    what: 'the device was moved: somebody registered it elsewhere',
    guidance: 'seen as a refusal by the old hub: once more, then DPS, then the new hub [H6.2]',
    hasRecord: true,
    happens: online([
      async (bench) => {
        await moveToHubB(bench);
        await bench.registerElsewhere();
      },
      'provisioned',
    ]),
    told: [...FROM_RECORD, ...LOST, ...ONCE_MORE_THEN_DPS, ...TO_HUB],
    endsAt: 'hub-b',
  },
  {
    what: 'the device is to move, and is told by a direct method',
    guidance: 'a user-triggered re-provision [D9.3.6]',
    hasRecord: true,
    happens: online([
      async (bench, device) => {
        await moveToHubB(bench);
        // It subscribes to methods when it is provisioned; what comes back for this came after that.
        await device.call('telemetry', { body: 'here' });
        expect(await bench.atHub('invokeMethod', 'reprovision')).toMatchObject({ status: 202 });
      },
      'provisioned',
    ]),
    told: [...FROM_RECORD, 'reprovisioning asked direct method reprovision', ...TO_DPS, ...TO_HUB],
    connectionsToDps: 1,
    endsAt: 'hub-b',
  },
  {
    what: 'the device is to move, and is told by a desired property while it is off',
    guidance: 'the same, by the record',
    hasRecord: true,
    happens: async (bench) => {
      await moveToHubB(bench);
      await bench.atHub('patchDesired', { again: 1 });
      return online([async () => {}, 'provisioned registered'])(bench);
    },
    told: [...FROM_RECORD, 'reprovisioning asked desired property again', ...TO_DPS, ...TO_HUB],
    connectionsToDps: 1,
    endsAt: 'hub-b',
  },
  {
    what: 'the primary key is rolled, in the enrollment and at the hub',
    guidance: 'once more, then DPS: with the primary key, and with the secondary [H6.2, D7]',
    hasRecord: true,
    happens: async (bench) => {
      await bench.rollPrimaryKey();
      return booted([async () => {}, 'provisioned'])(bench);
    },
    told: ['connecting hub', ...ONCE_MORE_THEN_DPS, 'next-credential 1', ...TO_DPS, ...TO_HUB],
    endsAt: 'hub-a',
  },
  {
    what: 'the enrollment is disabled, and the identity gone',
    guidance: 'no automatic retry but by a long interval [D9.3.4]: the hub slowly, DPS again after half an hour',
    hasRecord: true,
    speed: 1_000,
    happens: async (bench) => {
      await bench.change({ provisioningStatus: 'disabled' });
      await bench.atHub('removeDevice');
      return booted(
        [async () => {}, 'waiting refused 60000', 2],
        [() => bench.change({ provisioningStatus: 'enabled' }), 'provisioned'],
      )(bench);
    },
    told: [
      'connecting hub',
      ...ONCE_MORE_THEN_DPS,
      {
        again: [
          'waiting refused 1000',
          { again: ['connecting hub', 'waiting refused 60000'] },
          'connecting hub',
          `reprovisioning refused ${REFUSED}`,
          ...TO_DPS,
        ],
      },
      ...TO_HUB,
    ],
    endsAt: 'hub-a',
  },
  {
    what: 'the enrollment is disabled, and nothing was known',
    guidance: 'no automatic retry but by a long interval [D9.3.4]: half an hour at least',
    speed: 1_000,
    happens: async (bench) => {
      await bench.change({ provisioningStatus: 'disabled' });
      return booted(
        [async () => {}, 'waiting refused', 1],
        [() => bench.change({ provisioningStatus: 'enabled' }), 'provisioned'],
      )(bench);
    },
    told: [...TO_DPS, { again: ['waiting refused 1800000', ...TO_DPS] }, ...TO_HUB],
    endsAt: 'hub-a',
  },
  {
    what: 'the enrollment is disabled, and the device is told to ask DPS',
    guidance: 'what was known is kept until DPS has answered: back to the hub it had',
    hasRecord: true,
    happens: online([
      async (bench, device) => {
        await bench.change({ provisioningStatus: 'disabled' });
        await device.call('reprovision');
      },
      'provisioned',
    ]),
    told: [...FROM_RECORD, 'reprovisioning asked the application', ...TO_DPS, 'waiting refused 1000', ...FROM_RECORD],
    connectionsToDps: 1,
    endsAt: 'hub-a',
  },

  // ── the network ──
  {
    what: 'the connection to DPS is cut at once',
    guidance: 'the same again, with back-off [D9.3.3]',
    happens: cutAtOnce(side.dps),
    told: ['connecting dps', 'waiting network 1000', ...TO_DPS, ...TO_HUB],
    endsAt: 'hub-a',
  },
  {
    what: 'the cable is pulled while DPS registers the device',
    guidance: 'the same again',
    happens: cutAt('dps.register'),
    told: [...TO_DPS, 'waiting network 1000', ...TO_DPS, ...TO_HUB],
    endsAt: 'hub-a',
  },
  {
    what: 'the cable is pulled while DPS is polled',
    guidance: 'the operation is known: it is asked for again, and not registered twice [D9.3.3]',
    happens: cutAt('dps.status'),
    told: [...TO_DPS, 'waiting network 1000', 'connecting dps', ...TO_HUB],
    endsAt: 'hub-a',
  },
  {
    what: 'the connection to the hub is cut at once',
    guidance: 'close before CONNACK is transient: the same hub [H6.2]',
    happens: cutAtOnce(side.hubs['hub-a']),
    told: [...TO_DPS, 'connecting hub', 'waiting network 1000', ...TO_HUB],
    connectionsToDps: 1,
    endsAt: 'hub-a',
  },
  {
    what: 'the cable is pulled while the twin is read',
    guidance: 'the same hub [H6.2]',
    happens: cutAt('hub.twinGet'),
    told: [...TO_DPS, 'connecting hub', 'waiting network 1000', ...TO_HUB],
    connectionsToDps: 1,
    endsAt: 'hub-a',
  },
  {
    what: 'the cable is pulled, time and again, from a device that lives',
    guidance: 'the same hub [H6.2]',
    hasRecord: true,
    happens: online(...Array.from({ length: 3 }, () => [async () => side.hubs['hub-a'].cut(), 'provisioned'] as const)),
    told: [...FROM_RECORD, { again: ['offline ERR_DPS_CONNECTION_LOST', 'waiting network 1000', ...FROM_RECORD] }],
    connectionsToDps: 0,
    endsAt: 'hub-a',
  },
  {
    what: 'the hub is too busy to hand out the twin',
    guidance: 'twin 429: the same hub, 10 to 60 s later [H6.2]',
    hasRecord: true,
    speed: 100,
    happens: async (bench) => {
      const { emulator, registrationId: device } = bench;
      await emulator.fault({ at: 'hub.twinGet', action: { kind: 'respond', status: 429 }, times: 2, when: { device } });
      return booted([async () => {}, 'provisioned'])(bench);
    },
    told: [...Array(2).fill(['connecting hub', 'waiting throttled 10000']).flat(), ...FROM_RECORD],
    connectionsToDps: 0,
    endsAt: 'hub-a',
  },
  {
    what: 'somebody answers in the place of the hub',
    guidance: 'a certificate that is not trusted: slowly the same hub, never DPS for it [H6.2]',
    hasRecord: true,
    speed: 200,
    happens: async (bench) => {
      const impostor = await startOwnSide();
      const { target } = side.hubs['hub-a'];
      side.hubs['hub-a'].target = impostor.hubs['hub-a'].address;
      return booted(
        [async () => {}, 'waiting refused 60000', 2],
        [
          async () => {
            side.hubs['hub-a'].target = target;
          },
          'provisioned',
        ],
      )(bench);
    },
    told: [{ again: ['connecting hub', 'waiting refused 60000'] }, ...FROM_RECORD],
    connectionsToDps: 0,
    endsAt: 'hub-a',
  },
  {
    what: 'the power fails at DPS and at the hub',
    guidance: 'the same hub with back-off, fewer than ten times [H6.1]',
    hasRecord: true,
    speed: 20,
    draw: 0.999,
    happens: online([
      async () => {
        await side.kill();
        await side.start();
      },
      'provisioned',
    ]),
    told: [
      ...FROM_RECORD,
      'offline ERR_DPS_CONNECTION_LOST',
      { again: ['waiting network <ms>', 'connecting hub'] },
      'provisioned stored',
    ],
    connectionsToDps: 0,
    endsAt: 'hub-a',
  },
  {
    what: 'the hub is deleted',
    guidance: 'ten failures in a row, then DPS, which names another [H6.1]',
    hasRecord: true,
    hasOwnSide: true,
    happens: async (bench) => {
      await moveToHubB(bench);
      await bench.side.restart(['hub-b']);
      return booted([async () => {}, 'provisioned'])(bench);
    },
    told: [
      ...Array(9).fill(['connecting hub', 'waiting network 1000']).flat(),
      'connecting hub',
      'reprovisioning unreachable ERR_DPS_CONNECT',
      ...TO_DPS,
      ...TO_HUB,
    ],
    connectionsToDps: 1,
    endsAt: 'hub-b',
  },
];

describe('a second boot', () => {
  it('goes to hub and twin with no packet to DPS, as the emulator’s trace shows', async () => {
    const own = await startOwnSide();
    for (const relay of [own.dps, own.hubs['hub-a']]) relay.oneWayMs = ONE_WAY_MS;
    const bench = new GuidanceBench(own, { registrationId: 'twice' });
    await bench.enroll();
    const first = await bench.boot();
    await first.until('provisioned');
    await first.kill('SIGTERM');
    const [packets, connections] = [await bench.packetsToDps(), own.dps.accepted];
    expect(packets).toBeGreaterThan(0);
    const second = await bench.boot();
    await second.until('provisioned stored');
    expect((await second.twin()).desired).toMatchObject({ properties: { interval: 60 } });
    expect([await bench.packetsToDps(), own.dps.accepted]).toEqual([packets, connections]);
    expect(await bench.emulator.count({ service: 'hub', event: 'twinGet', device: 'twice' })).toBe(2);
    const [firstMs = 0, secondMs = 0] = [first.onlineAfterMs, second.onlineAfterMs];
    const ratio = (firstMs / secondMs).toFixed(1);
    console.log(
      `run() to twin over ${2 * ONE_WAY_MS} ms round trips: first boot ${firstMs.toFixed(0)} ms, second ${secondMs.toFixed(0)} ms: ${ratio} times as fast`,
    );
  });
});

describe('where a device ends when', () => {
  it.each(ROWS.map((row, index) => [row.what, row.guidance, index, row] as const))('%s: %s', async (...given) => {
    const [, , index, { speed = 50, draw = 0, ...row }] = given;
    const own = row.hasOwnSide ? await startOwnSide() : side;
    const bench = new GuidanceBench(own, { registrationId: `row-${index}`, speed, draw });
    await bench.enroll();
    if (row.hasRecord) await bench.leaveRecord();
    own.dps.accepted = 0;
    const device = await row.happens(bench);
    expect(`${device.told.join('\n')}\n`).toMatch(patternOf(row.told));
    if (row.connectionsToDps !== undefined) expect(own.dps.accepted).toBe(row.connectionsToDps);
    await device.call('telemetry', { body: 'still alive' });
    expect(await bench.lastTelemetry(row.endsAt)).toBe('"still alive"');
    // Asked to end, it does, and nothing is left that would keep its process alive.
    expect([await device.kill('SIGTERM'), device.closed]).toEqual([0, null]);
  });
});

describe('what only a person can mend', () => {
  it('ends the run, with its code and a status of its own', async () => {
    const bench = new GuidanceBench(side, { registrationId: 'damaged' });
    bench.damageKey();
    const device = await bench.boot();
    expect([await device.ended, device.closed]).toEqual([1, 'ERR_DPS_HSM_KEY_INVALID']);
  });
});

async function startOwnSide(): Promise<ServiceSide> {
  const own = new ServiceSide();
  onTestFinished(() => own.close());
  await own.start();
  return own;
}

function patternOf(told: readonly Told[]): RegExp {
  return new RegExp(`^${sourceOf(told)}$`);
}

function sourceOf(told: readonly Told[]): string {
  const line = (words: string): string => `${words.replace(/[.()]/g, '\\$&').replace('<ms>', '\\d+')}\n`;
  return told.map((each) => (typeof each === 'string' ? line(each) : `(?:${sourceOf(each.again)})+`)).join('');
}
