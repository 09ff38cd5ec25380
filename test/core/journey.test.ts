import { describe, expect, it } from 'vitest';
import {
  type JourneyConfig,
  type JourneyState,
  journeyWakeAtMs,
  LAST_SAVE_MS,
  LOCAL_PATIENCE_MS,
  SAVE_INTERVAL_MS,
} from '../../src/core/journey.js';
import { ConfigurationError, HsmError } from '../../src/errors.js';
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
  untrusted,
  WALL_MS,
} from './journey-driver.js';

const MINUTE_MS = 60_000;
const KEEP = { purpose: 'keep', hasStore: true } as const;
const tpm = (more: Partial<JourneyConfig> = {}): JourneyDriver => new JourneyDriver({ attestation: 'tpm', ...more });
const online = (): JourneyDriver => new JourneyDriver(KEEP).load(found()).hubReached();
const CHANGED = { ...TWIN, reported: { version: 10, properties: { on: true } } };

type State = Exclude<JourneyState['name'], 'Done'>;

/** How each state is reached, once and for a life. */
const ROADS: Record<State, (config: Partial<JourneyConfig>) => JourneyDriver> = {
  Idle: (config) => new JourneyDriver(config),
  AwaitingRecord: (config) => new JourneyDriver({ ...config, hasStore: true }).start(),
  AwaitingStart: (config) => {
    const driver = new JourneyDriver({ ...config, startSpreadMs: 1_000 });
    driver.random = 0.5;
    return driver.start();
  },
  Registering: (config) => new JourneyDriver(config).start(),
  AwaitingNote: (config) => moved({ ...config, hasStore: true }),
  AwaitingStaging: (config) => tpm(config).register(TPM_ASSIGNED),
  AwaitingHub: (config) => new JourneyDriver(config).register(),
  AwaitingHubRetry: (config) => new JourneyDriver(config).register().fails(lost()),
  AwaitingCommit: (config) => tpm(config).register(TPM_ASSIGNED).staged().hubReached(),
  AwaitingSave: () => new JourneyDriver({ hasStore: true }).load({ kind: 'none' }).answer().hubReached(),
  Online: () => new JourneyDriver({ purpose: 'keep' }).register().hubReached(),
  AwaitingReturn: () => new JourneyDriver({ purpose: 'keep' }).register({ operationId: 'o', status: 'disabled' }),
  AwaitingLastSave: () => new JourneyDriver(KEEP).load({ kind: 'none' }).answer().hubReached().cancel(),
};
const ONLY_ONCE: readonly State[] = ['AwaitingSave'];
const ONLY_KEPT: readonly State[] = ['Online', 'AwaitingReturn', 'AwaitingLastSave'];

/** A device that knows a hub, and that DPS sends to another. */
function moved(config: Partial<JourneyConfig>): JourneyDriver {
  return new JourneyDriver({ ...config, reprovision: true }).load(found()).answer(assignedTo('other.example'));
}

describe.each(Object.entries(ROADS) as [State, (config: Partial<JourneyConfig>) => JourneyDriver][])(
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

describe('told to ask DPS again', () => {
  const HEARD: readonly State[] = ['AwaitingStart', 'AwaitingHub', 'AwaitingHubRetry', 'Online', 'AwaitingReturn'];

  it.each(HEARD)('it goes there from %s', (name) => {
    const driver = ROADS[name]({ purpose: 'keep' }).reprovision();
    expect(driver.state).toBe('Registering');
    expect(driver.names().slice(-2)).toEqual(['CloseHub', 'PrepareCredential']);
    expect(driver.events().at(-2)).toEqual({ type: 'reprovisioning', reason: 'asked', detail: 'operator' });
  });

  it('while the record is read, it remembers', () => {
    const driver = ROADS.AwaitingRecord({}).reprovision().feed({ type: 'RecordLoaded', ticket: 1, loaded: found() });
    expect(driver.state).toBe('Registering');
  });

  it.each((Object.keys(ROADS) as State[]).filter((name) => !HEARD.includes(name) && name !== 'AwaitingRecord'))(
    'it stays in %s, where DPS has just been asked, or nothing begins any more',
    (name) => {
      const driver = ROADS[name]({ purpose: 'keep' });
      const { state } = driver.journey;
      expect(driver.reprovision().journey.state).toEqual(state);
    },
  );

  it('it goes back to the hub it had, soon, when DPS refuses, and not to DPS for half an hour', () => {
    const driver = online().reprovision().answer({ operationId: 'o', status: 'disabled' });
    expect(driver.state).toBe('AwaitingReturn');
    expect(journeyWakeAtMs(driver.journey)).toBeLessThanOrEqual(60_000);
    driver.wake();
    expect(driver.hubs()).toEqual(['hub.example', 'hub.example']);
    driver.fails(refused()).wake().fails(refused());
    expect(driver.state).toBe('AwaitingHubRetry');
    while (driver.state !== 'Registering') driver.state === 'AwaitingHub' ? driver.fails(refused()) : driver.wake();
    expect(driver.nowMs).toBeGreaterThanOrEqual(30 * MINUTE_MS);
  });
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
        expect(driver.records()).toEqual(['unsaved']);
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
    expect(ROADS.AwaitingRecord({ purpose: 'keep' }).wake().error.code).toBe('ERR_DPS_DEADLINE');
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
    expect(driver.reprovision().answer({ operationId: 'o', status: 'disabled' }).wake().hubs()).toEqual([
      'other.example',
    ]);
  });

  it('that is marked stays so while neither DPS nor the new hub can help', () => {
    const driver = moved(KEEP).saved();
    driver.pass(31 * MINUTE_MS).failUntilElsewhere(lost());
    driver.answer({ operationId: 'o', status: 'failed' });
    expect(driver.wake().state).toBe('Registering');
    expect(new Set(driver.hubs())).toEqual(new Set(['other.example']));
  });
});

describe('a life', () => {
  it('hands out the session, with the twin as it was known before', () => {
    const driver = new JourneyDriver(KEEP).load(found()).hubReached(CHANGED);
    expect(driver.effects).toContainEqual(
      expect.objectContaining({
        type: 'HandOutSession',
        before: TWIN,
        arrival: expect.objectContaining({ twin: CHANGED }),
      }),
    );
    expect(driver.names()).not.toContain('CloseHub');
  });

  it('comes back to its hub when the session is lost', () => {
    const driver = online().pass(90_000).lost();
    expect(driver.events().slice(-2)).toMatchObject([{ type: 'offline' }, { type: 'waiting', reason: 'network' }]);
    expect(driver.names().at(-1)).toBe('CloseHub');
    driver.wake().hubReached();
    expect(driver.state).toBe('Online');
    expect(driver.hubs()).toEqual(['hub.example', 'hub.example']);
  });

  it('goes to DPS from a hub that accepts it and throws it out again and again', () => {
    const driver = online();
    for (let count = 1; count < 10; count += 1) driver.pass(1_000).lost().wake().hubReached();
    expect(driver.pass(1_000).lost().state).toBe('Registering');
  });

  it('forgets old trouble after a session of a minute', () => {
    const driver = online();
    for (let count = 1; count < 30; count += 1) driver.pass(60_000).lost().wake().hubReached();
    expect(driver.state).toBe('Online');
    expect(driver.requests()).toEqual([]);
  });

  it('saves a twin that keeps changing once a minute', () => {
    const driver = online();
    driver.feed({ type: 'TwinChanged', twin: CHANGED });
    expect(driver.saves()).toEqual([]);
    driver.pass(30_000).feed({ type: 'TwinChanged', twin: { ...CHANGED, desired: { version: 5, properties: {} } } });
    expect(journeyWakeAtMs(driver.journey)).toBe(SAVE_INTERVAL_MS);
    driver.wake();
    expect(driver.saves()).toMatchObject([{ twin: { desired: { version: 5 } } }]);
    driver.saved();
    expect(journeyWakeAtMs(driver.journey)).toBeUndefined();
    expect(driver.records()).toEqual(['found', 'saved']);
  });

  it('tries a save that failed again after a minute', () => {
    const driver = online().feed({ type: 'TwinChanged', twin: CHANGED }).wake().fails(diskFull());
    expect(driver.state).toBe('Online');
    expect(driver.wake().saves()).toHaveLength(2);
  });

  it('saves what changed meanwhile after the save under way', () => {
    const driver = online().feed({ type: 'TwinChanged', twin: CHANGED }).wake();
    driver.feed({ type: 'TwinChanged', twin: { ...CHANGED, desired: { version: 5, properties: {} } } }).saved();
    expect(driver.wake().saves().at(-1)?.twin.desired.version).toBe(5);
  });

  it.each<[string, (driver: JourneyDriver) => JourneyDriver]>([
    ['at its hub', (driver) => driver],
    ['on the way back to it', (driver) => driver.lost()],
    ['at DPS', (driver) => driver.reprovision()],
  ])('that is told to end %s first saves what it knows', (_where, go) => {
    const driver = go(online().feed({ type: 'TwinChanged', twin: CHANGED })).cancel();
    expect(driver.names().at(-1)).toBe('SaveRecord');
    expect(driver.saves()).toMatchObject([{ twin: CHANGED }]);
    expect(driver.outcome).toBeUndefined();
    expect(driver.saved().error.code).toBe('ERR_DPS_CANCELLED');
  });

  it.each([
    ['waits so long for that', (driver: JourneyDriver) => driver.wake(), LAST_SAVE_MS],
    ['does not mind when that fails', (driver: JourneyDriver) => driver.fails(diskFull()), 0],
    ['and not longer when told twice', (driver: JourneyDriver) => driver.cancel().wake(), LAST_SAVE_MS],
  ])('%s', (_what, go, ms) => {
    const driver = go(online().feed({ type: 'TwinChanged', twin: CHANGED }).cancel());
    expect(driver.error.code).toBe('ERR_DPS_CANCELLED');
    expect(driver.nowMs).toBe(ms);
  });

  it('ends at once when there is nothing to save', () => {
    expect(online().cancel().names().slice(-2)).toEqual(['CloseHub', 'FinishJourney']);
  });

  it('gives each registration its own deadline, then tries what was there before', () => {
    const driver = online().reprovision();
    while (driver.state === 'Registering') {
      if (driver.journey.state.name !== 'Registering') break;
      const { name } = driver.journey.state.registration.state;
      if (name === 'AwaitingRetryTime') driver.wake();
      else driver.answer({}, 503);
    }
    expect(driver.nowMs).toBeLessThanOrEqual(CONFIG.deadlineMs);
    expect(driver.state).toBe('AwaitingReturn');
    expect(driver.wake().hubs()).toEqual(['hub.example', 'hub.example']);
  });

  it('ends only by what a person must mend', () => {
    const option = new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message: 'no' });
    const key = new HsmError({ code: 'ERR_DPS_HSM_KEY_INVALID', message: 'no', operation: 'sign' });
    for (const error of [option, key]) {
      expect(ROADS.AwaitingHub({ purpose: 'keep' }).fails(error).error).toBe(error);
      expect(ROADS.Registering({ purpose: 'keep' }).fails(error).error).toBe(error);
    }
    for (const error of [refused(), lost(), untrusted()]) {
      expect(ROADS.AwaitingHub({ purpose: 'keep' }).fails(error).state).toBe('AwaitingHubRetry');
      expect(ROADS.Registering({ purpose: 'keep' }).fails(error).outcome).toBeUndefined();
    }
  });
});
