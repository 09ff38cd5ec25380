import { describe, expect, it } from 'vitest';
import { type JourneyConfig, journeyWakeAtMs, LOCAL_PATIENCE_MS } from '../../src/core/journey.js';
import { HsmError } from '../../src/errors.js';
import {
  ASSIGNED,
  assignedTo,
  CONFIG,
  diskFull,
  found,
  JourneyDriver,
  lost,
  RECORD,
  refused,
  TPM_ASSIGNED,
  TWIN,
} from './journey-driver.js';
import { CHANGED, KEEP, MINUTE_MS, moved, ROADS, tpm, type UnfinishedState } from './journey-roads.js';
import { WALL_MS } from './registration-driver.js';

const ONLY_ONCE: readonly UnfinishedState[] = ['AwaitingSave'];
const ONLY_KEPT: readonly UnfinishedState[] = ['Online', 'AwaitingReturn', 'AwaitingLastSave'];

describe.each(Object.entries(ROADS) as [UnfinishedState, (config: Partial<JourneyConfig>) => JourneyDriver][])(
  '%s',
  (name, road) => {
    const purposes = (['once', 'keep'] as const).filter(
      (purpose) => !(purpose === 'once' ? ONLY_KEPT : ONLY_ONCE).includes(name),
    );

    it.each(purposes)('is reached, and left at once when cancelled (%s)', (purpose) => {
      const driver = road({ purpose });
      expect(driver.state).toBe(name);
      driver.cancel();
      if (driver.state === 'AwaitingLastSave') driver.wake();
      expect(driver.error).toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: 'because' });
      expect(driver.names().at(-1)).toBe('FinishJourney');
      expect(journeyWakeAtMs(driver.journey)).toBeUndefined();
    });

    it('ignores what belongs to another order', () => {
      const driver = road({});
      const before = driver.journey.state;
      const ticket = driver.ticket + 7;
      driver.feed({ type: 'RecordLoaded', ticket, loaded: found() });
      driver.feed({ type: 'RecordSaved', ticket });
      driver.feed({ type: 'HubReached', ticket, twin: TWIN });
      driver.feed({ type: 'IdentityStaged', ticket });
      driver.feed({ type: 'IdentityCommitted', ticket });
      driver.feed({ type: 'OperationFailed', ticket, error: lost() });
      driver.feed({ type: 'Woke' });
      if (name !== 'Online')
        driver.feed({ type: 'HubLost', error: lost() }).feed({ type: 'TwinChanged', twin: CHANGED });
      expect(driver.journey.state).toEqual(before);
    });

    const ends = purposes.includes('once') && name !== 'Idle';
    if (ends)
      it('does not outlive the deadline of a journey', () => {
        const driver = road({});
        driver.nowMs = journeyDeadlineAtMs(driver);
        driver.feed({ type: 'Woke' });
        if (name === 'AwaitingSave') expect(driver.outcome?.kind).toBe('provisioned');
        else expect(driver.error.code).toBe('ERR_DPS_DEADLINE');
      });

    if (purposes.includes('keep'))
      it('has something to wait for in a life', () => {
        const wakeAtMs = journeyWakeAtMs(road({ purpose: 'keep' }).journey);
        if (name === 'Idle' || name === 'Online') expect(wakeAtMs).toBeUndefined();
        else expect(wakeAtMs).toBeLessThanOrEqual(60 * MINUTE_MS);
      });
  },
);

function journeyDeadlineAtMs(driver: JourneyDriver): number {
  return driver.journey.memory.deadlineAtMs;
}

it('told to stop while it waits for another try, says what failed', () => {
  const atDps = new JourneyDriver().start().feed({ type: 'CredentialReady', ticket: 2 });
  atDps.fails(lost()).cancel();
  expect(atDps.error.message).toBe(
    'Cancelled while waiting to try DPS again. The last failure before that: ERR_DPS_CONNECTION_LOST',
  );
  const atHub = new JourneyDriver().register().fails(lost()).cancel();
  expect(atHub.error.message).toBe(
    'Cancelled while waiting to try the assigned hub again. The last failure before that: ERR_DPS_CONNECTION_LOST',
  );
  const fine = new JourneyDriver().register().cancel();
  expect(fine.error.message).toBe('Cancelled while connecting to the assigned hub and reading the twin.');
});

describe('the way to the twin', () => {
  it('closes DPS, opens the hub, reads the twin, closes the hub', () => {
    const driver = new JourneyDriver().register().hubReached();
    expect(driver.names()).toEqual([
      'PrepareCredential',
      'OpenConnection',
      'SendRequest',
      'CloseConnection',
      'OpenHub',
      'CloseHub',
      'FinishJourney',
    ]);
    expect(driver.outcome).toMatchObject({
      kind: 'provisioned',
      twin: TWIN,
      slot: 0,
      source: 'registered',
      result: { assignedHub: 'hub.example' },
    });
  });

  it('reports a failed registration as it is, without touching the hub', () => {
    const driver = new JourneyDriver().register({ operationId: 'o', status: 'disabled' });
    expect(driver.error.code).toBe('ERR_DPS_REGISTRATION_DISABLED');
    expect(driver.names()).not.toContain('OpenHub');
    expect(driver.events().at(-1)?.type).toBe('ended');
  });

  it('counts what goes to DPS across registrations', () => {
    const driver = new JourneyDriver({ purpose: 'keep' }).register().hubReached();
    driver.reprovision().answer().hubReached().reprovision().answer();
    expect(driver.requests()).toHaveLength(2);
    expect(driver.events().at(-1)).toMatchObject({ type: 'waiting', reason: 'budget', forMs: 1_000 });
  });
});

describe('a TPM', () => {
  it('stages before the hub and commits after the hub has taken it', () => {
    const driver = ROADS.AwaitingCommit({}).committed();
    expect(driver.names().slice(3)).toEqual([
      'CloseConnection',
      'StageIdentity',
      'OpenHub',
      'CommitIdentity',
      'CloseHub',
      'FinishJourney',
    ]);
  });

  it('discards when the hub does not take it', () => {
    const driver = tpm().register(TPM_ASSIGNED).staged().fails(refused()).wake().fails(refused());
    expect(driver.error.code).toBe('ERR_DPS_CONNACK_UNAUTHORIZED');
    expect(driver.names()).toContain('DiscardIdentity');
    expect(driver.names()).not.toContain('CommitIdentity');
  });

  it.each(['AwaitingStaging', 'AwaitingCommit'] as const)('that fails in %s ends a journey', (name) => {
    const error = new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message: 'no', operation: 'stage hub identity' });
    expect(ROADS[name]({}).fails(error).error).toBe(error);
    expect(ROADS[name]({ purpose: 'keep' }).fails(error).error).toBe(error);
  });

  it('is rid of the nonce key before its hub is opened again', () => {
    const driver = tpm(KEEP).load(found({ ...RECORD, binding: { ...RECORD.binding, attestation: 'tpm' } }));
    driver.hubReached().reprovision();
    driver.feed({ type: 'CredentialReady', ticket: driver.ticket });
    driver.feed({ type: 'ConnectionOpened', ticket: driver.ticket });
    const reply = { kind: 'challenge', authenticationKey: Uint8Array.of(1) } as const;
    driver.feed({ type: 'ReplyReceived', ticket: driver.ticket, reply });
    driver.feed({ type: 'ChallengeActivated', ticket: driver.ticket }).answer({}, 401);
    expect(driver.state).toBe('AwaitingReturn');
    expect(driver.names()).toContain('DiscardIdentity');
    expect(driver.wake().names().at(-1)).toBe('OpenHub');
  });

  it('that stays busy does not make a life ask DPS each minute', () => {
    const busy = new HsmError({ code: 'ERR_DPS_HSM_TPM_BUSY', message: 'busy', operation: 'stage', retryable: true });
    const driver = tpm({ purpose: 'keep' }).register(TPM_ASSIGNED);
    const waitsMs = [1, 2, 3, 4].map(() => {
      const fromMs = driver.fails(busy).nowMs;
      const forMs = (journeyWakeAtMs(driver.journey) ?? 0) - fromMs;
      driver.wake().pass(2_000).answer(TPM_ASSIGNED);
      return forMs;
    });
    expect(waitsMs.slice(0, 3).every((ms) => ms <= 60_000)).toBe(true);
    expect(waitsMs[3]).toBe(30 * MINUTE_MS);
  });

  it('that says nothing is not waited for for ever', () => {
    const driver = ROADS.AwaitingStaging({ purpose: 'keep' });
    expect(journeyWakeAtMs(driver.journey)).toBe(LOCAL_PATIENCE_MS);
    expect(driver.wake().state).toBe('AwaitingReturn');
    expect(driver.names()).toContain('DiscardIdentity');
  });
});

describe('an HSM that wants to hear of acceptance', () => {
  const told = (config: Partial<JourneyConfig>): JourneyDriver =>
    new JourneyDriver({ ...config, tellsAcceptance: true }).register().hubReached();

  it('hears which credential it was, before the application hears of the hub', () => {
    const driver = told({});
    expect(driver.effects.at(-1)).toEqual({ type: 'CommitIdentity', ticket: driver.ticket, slot: 0 });
    expect(driver.committed().outcome?.kind).toBe('provisioned');
  });

  it.each(['once', 'keep'] as const)(
    'and fails, or is silent: the device is at its hub all the same (%s)',
    (purpose) => {
      const error = new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message: 'no', operation: 'accepted' });
      for (const driver of [told({ purpose }).fails(error), told({ purpose }).wake()]) {
        expect(driver.outcome?.kind ?? driver.state).toBe(purpose === 'once' ? 'provisioned' : 'Online');
        expect(driver.records()).toEqual([]);
        expect(driver.events().map(({ type }) => type)).toContain('commit-failed');
      }
    },
  );
});

describe('what the store gives', () => {
  it('a record for this configuration: the hub, and not a packet to DPS', () => {
    const driver = new JourneyDriver({ hasStore: true }).load(found()).hubReached();
    expect(driver.names()).toEqual(['LoadRecord', 'OpenHub', 'CloseHub', 'FinishJourney']);
    expect(driver.outcome).toMatchObject({ kind: 'provisioned', source: 'stored' });
    expect(driver.records()).toEqual(['found']);
  });

  it.each([
    ['none', { kind: 'none' }, ['none']],
    ['a damaged one', { kind: 'damaged', what: 'rot' }, ['damaged']],
    ['that of another scope', found({ ...RECORD, binding: { ...RECORD.binding, idScope: '0ne2' } }), ['foreign']],
    ['that of another key', found({ ...RECORD, binding: { ...RECORD.binding, attestation: 'x509' } }), ['foreign']],
    ['one that was moved', found({ ...RECORD, movedTo: 'other.example' }), ['found']],
  ] as const)('%s: DPS', (_what, loaded, told) => {
    const driver = new JourneyDriver({ hasStore: true }).load(loaded);
    expect(driver.state).toBe('Registering');
    expect(driver.records()).toEqual(told);
    expect(driver.answer(assignedTo('other.example')).hubs()).toEqual(['other.example']);
  });

  it('one copy, the other damaged: it is used, and the damage told', () => {
    const driver = new JourneyDriver({ hasStore: true }).load({ kind: 'record', record: RECORD, damaged: 'rot' });
    expect(driver.records()).toEqual(['damaged', 'found']);
    expect(driver.state).toBe('AwaitingHub');
  });

  it('whatever it is, an order to ask DPS goes first', () => {
    expect(new JourneyDriver({ hasStore: true, reprovision: true }).load(found()).state).toBe('Registering');
  });

  it('an error: the end', () => {
    const error = diskFull();
    expect(ROADS.AwaitingRecord({}).fails(error).error).toBe(error);
    expect(ROADS.AwaitingRecord({ purpose: 'keep' }).fails(error).error).toBe(error);
  });

  it('nothing at all, for ten minutes: the end of a life', () => {
    expect(ROADS.AwaitingRecord({ purpose: 'keep' }).wake().error).toMatchObject({
      code: 'ERR_DPS_DEADLINE',
      message: 'Not finished within 600000 ms: time ran out while reading the stored record. Allow more time.',
    });
  });
});

describe('a status lookup comes first', () => {
  const damaged = { kind: 'damaged', what: 'rot' } as const;
  const https = { hasStore: true, transport: 'https' };

  it('only over HTTPS, without a TPM, after damage', () => {
    const first = (config: Partial<JourneyConfig>, loaded: Parameters<JourneyDriver['load']>[0]): unknown =>
      new JourneyDriver({ ...config, hasStore: true }).load(loaded).answer({}, 503).requests()[0];
    expect(first({ transport: 'https' }, damaged)).toBe('statusLookup');
    expect(first({ transport: 'https', attestation: 'x509' }, damaged)).toBe('statusLookup');
    expect(first({ transport: 'https', attestation: 'tpm' }, damaged)).toBe('register');
    expect(first({ transport: 'mqtt' }, damaged)).toBe('register');
    expect(first({ transport: 'https' }, { kind: 'none' })).toBe('register');
  });

  it('and saves the registration', () => {
    const driver = new JourneyDriver(https).load(damaged).answer(ASSIGNED.registrationState).hubReached().saved();
    expect(driver.requests()).toEqual(['statusLookup']);
    expect(driver.outcome?.kind).toBe('provisioned');
  });

  it('unless the hub it names does not want the device: then DPS registers it, without half an hour between', () => {
    const driver = new JourneyDriver(https).load(damaged).answer(ASSIGNED.registrationState);
    driver.fails(refused()).wake().fails(refused()).answer(assignedTo('other.example'));
    expect(driver.requests()).toEqual(['statusLookup', 'register']);
    expect(driver.hubs()).toEqual(['hub.example', 'hub.example', 'other.example']);
  });
});

describe('the start', () => {
  it('is spread by chance, and the time of the journey begins with it', () => {
    const driver = new JourneyDriver({ startSpreadMs: 600_000 });
    driver.random = 0.5;
    driver.start();
    expect(driver.events()).toEqual([{ type: 'waiting', forMs: 300_000, reason: 'spread' }]);
    expect(driver.names()).toEqual([]);
    expect(driver.wake().state).toBe('Registering');
    expect(driver.nowMs).toBe(300_000);
    driver.pass(CONFIG.deadlineMs - 1).feed({ type: 'Woke' });
    expect(driver.state).toBe('Registering');
    expect(driver.pass(1).feed({ type: 'Woke' }).error.code).toBe('ERR_DPS_DEADLINE');
  });

  it('is spread to a known hub, too', () => {
    const driver = new JourneyDriver({ hasStore: true, startSpreadMs: 600_000 });
    driver.random = 0.1;
    expect(driver.load(found()).state).toBe('AwaitingStart');
    expect(driver.wake().state).toBe('AwaitingHub');
  });
});

describe('the record', () => {
  it('is saved when the hub has accepted the device, not before', () => {
    const driver = new JourneyDriver({ hasStore: true }).load({ kind: 'none' }).answer();
    expect(driver.saves()).toEqual([]);
    driver.hubReached();
    expect(driver.saves()).toEqual([expect.objectContaining({ twin: TWIN, acceptedAtWallMs: WALL_MS })]);
    expect(driver.outcome).toBeUndefined();
    expect(driver.saved().outcome?.kind).toBe('provisioned');
    expect(driver.records()).toEqual(['none', 'saved']);
  });

  it('that cannot be saved is told, and the journey goes on', () => {
    const driver = ROADS.AwaitingSave({}).fails(diskFull());
    expect(driver.outcome?.kind).toBe('provisioned');
    expect(driver.events()).toContainEqual({ type: 'record', outcome: 'unsaved', detail: 'no room' });
  });

  it('is saved only when something has changed', () => {
    expect(new JourneyDriver({ hasStore: true }).load(found()).hubReached().saves()).toEqual([]);
    const changed = new JourneyDriver({ hasStore: true }).load(found()).hubReached(CHANGED);
    expect(changed.saves()).toEqual([expect.objectContaining({ twin: CHANGED })]);
    const nextDay = new JourneyDriver({ hasStore: true });
    nextDay.wallMs += 24 * 60 * MINUTE_MS;
    expect(nextDay.load(found()).hubReached().saves()).toHaveLength(1);
  });

  it('is marked before another hub is approached, and whole again after it', () => {
    const driver = moved({ hasStore: true });
    expect(driver.saves()).toEqual([{ ...RECORD, movedTo: 'other.example' }]);
    expect(driver.hubs()).toEqual([]);
    driver.saved();
    expect(driver.hubs()).toEqual(['other.example']);
    driver.hubReached();
    const [, last] = driver.saves();
    expect(last?.assignment.assignedHub).toBe('other.example');
    expect(last).not.toHaveProperty('movedTo');
  });

  it.each([
    ['fails', (driver: JourneyDriver) => driver.fails(diskFull())],
    ['never ends', (driver: JourneyDriver) => driver.wake()],
  ])('whose marking %s is no reason to stay with the old hub', (_how, go) => {
    const driver = go(moved(KEEP));
    expect(driver.hubs()).toEqual(['other.example']);
    expect(driver.records()).toContain('unsaved');
    driver.fails(lost());
    driver.reprovision().answer({ operationId: 'o', status: 'disabled' }).wake();
    expect(new Set(driver.hubs())).toEqual(new Set(['other.example']));
  });

  it('that is marked stays so while neither DPS nor the new hub can help', () => {
    const driver = moved(KEEP).saved();
    driver.pass(31 * MINUTE_MS).failUntilElsewhere(lost());
    driver.answer({ operationId: 'o', status: 'failed' });
    expect(driver.wake().state).toBe('AwaitingHub');
    expect(driver.journey.memory.record?.movedTo).toBe('other.example');
    expect(new Set(driver.hubs())).toEqual(new Set(['other.example']));
  });
});
