import { describe, expect, it } from 'vitest';
import {
  type JourneyConfig,
  journeyWakeAtMs,
  LAST_SAVE_MS,
  LOCAL_PATIENCE_MS,
  SAVE_INTERVAL_MS,
} from '../../src/core/journey.js';
import { ConfigurationError, HsmError } from '../../src/errors.js';
import {
  ASSIGNED,
  CONFIG,
  diskFull,
  found,
  JourneyDriver,
  lost,
  refused,
  TPM_ASSIGNED,
  TWIN,
  untrusted,
} from './journey-driver.js';
import { CHANGED, KEEP, MINUTE_MS, moved, ROADS, type UnfinishedState } from './journey-roads.js';

const online = (): JourneyDriver => new JourneyDriver(KEEP).load(found()).hubReached();

describe('told to ask DPS again', () => {
  const HEARD: readonly UnfinishedState[] = [
    'AwaitingStart',
    'AwaitingHub',
    'AwaitingHubRetry',
    'Online',
    'AwaitingReturn',
  ];

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

  it.each(
    (Object.keys(ROADS) as UnfinishedState[]).filter((name) => !HEARD.includes(name) && name !== 'AwaitingRecord'),
  )('it stays in %s, where DPS has just been asked, or nothing begins any more', (name) => {
    const driver = ROADS[name]({ purpose: 'keep' });
    const { state } = driver.journey;
    expect(driver.reprovision().journey.state).toEqual(state);
  });

  it('it goes back to the hub it had, soon, when DPS refuses, and not to DPS for half an hour', () => {
    const driver = online().reprovision().answer({ operationId: 'o', status: 'disabled' });
    expect(driver.state).toBe('AwaitingReturn');
    expect(journeyWakeAtMs(driver.journey)).toBeLessThanOrEqual(60_000);
    driver.wake();
    expect(driver.hubs()).toEqual(['hub.example', 'hub.example']);
    driver.fails(refused()).wake().fails(refused());
    expect(driver.state).toBe('AwaitingHubRetry');
    driver.until('Registering', () => (driver.state === 'AwaitingHub' ? driver.fails(refused()) : driver.wake()));
    expect(driver.nowMs).toBeGreaterThanOrEqual(30 * MINUTE_MS);
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

  it.each<[string, Partial<JourneyConfig>, string]>([
    ['goes back to the hub that DPS named last, though it was never there', {}, 'AwaitingHub'],
    ['does not, with a TPM, which has given up the key for that hub', { attestation: 'tpm' }, 'Registering'],
  ])('%s, while DPS cannot help', (_what, config, state) => {
    const isTpm = config.attestation === 'tpm';
    const driver = new JourneyDriver({ ...KEEP, ...config }).load({ kind: 'none' });
    driver.answer(isTpm ? TPM_ASSIGNED : ASSIGNED);
    if (isTpm) driver.staged();
    driver.pass(31 * MINUTE_MS).failUntilElsewhere(lost());
    expect(driver.state).toBe('Registering');
    const tried = driver.hubs().length;
    driver.answer({ operationId: 'o', status: 'failed' }).wake();
    expect([driver.state, driver.hubs().length - tried]).toEqual([state, isTpm ? 0 : 1]);
  });

  it('forgets old trouble after a session of a minute', () => {
    const driver = online();
    for (let count = 1; count < 30; count += 1) {
      driver.pass(60_000).lost().wake();
      expect(driver.state).toBe('AwaitingHub');
      driver.hubReached();
    }
    expect(driver.hubs()).toHaveLength(30);
    expect(driver.requests()).toEqual([]);
  });

  it('has its patience anew after a session of a minute, however long ago the trouble before it was', () => {
    const driver = online()
      .lost()
      .wake()
      .hubReached()
      .pass(31 * MINUTE_MS)
      .lost();
    expect([driver.state, driver.wake().state]).toEqual(['AwaitingHubRetry', 'AwaitingHub']);
  });

  it('forgets a refusal when the hub has let it in, however short the session', () => {
    const driver = new JourneyDriver(KEEP).load(found()).fails(refused()).wake().hubReached();
    expect(driver.pass(1_000).lost(refused()).state).toBe('AwaitingHubRetry');
    expect(driver.wake().fails(refused()).state).toBe('Registering');
  });

  it('forgets at the hub that DPS refused: refused there, too, it asks DPS at once', () => {
    const driver = online().reprovision().answer({ operationId: 'o', status: 'disabled' }).wake().hubReached();
    expect(driver.state).toBe('Online');
    driver.lost(refused()).wake().fails(refused());
    expect(driver.state).toBe('Registering');
    expect(driver.nowMs).toBeLessThan(30 * MINUTE_MS);
  });

  it('forgets at the hub how often DPS has failed: it comes back from the next failure as soon as from the first', () => {
    const driver = online();
    for (let count = 1; count < 6; count += 1) {
      // DPS does not answer within the time of a registration.
      driver.reprovision().wake();
      expect(driver.state).toBe('AwaitingReturn');
      driver.wake().hubReached();
    }
    driver.random = 1 - 2 ** -53;
    driver.reprovision().wake();
    expect(driver.state).toBe('AwaitingReturn');
    expect((journeyWakeAtMs(driver.journey) ?? 0) - driver.nowMs).toBeLessThan(2_000);
  });

  it('gives its hub the full share of tries again after DPS has failed', () => {
    const driver = new JourneyDriver(KEEP).load(found());
    driver.random = 0.5;
    expect(driver.failUntilElsewhere(lost())).toBe(10);
    expect(driver.wake().state).toBe('AwaitingReturn');
    driver.pass(31 * MINUTE_MS).wake();
    expect([driver.failUntilElsewhere(lost()), driver.state]).toEqual([10, 'Registering']);
  });

  it('that has noted a move saves nothing more when it is told to end before it is there', () => {
    const driver = moved(KEEP).saved();
    expect(driver.saves()).toMatchObject([{ movedTo: 'other.example' }]);
    expect(driver.cancel().error.code).toBe('ERR_DPS_CANCELLED');
    expect(driver.saves()).toHaveLength(1);
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

  it('gives up a save that never ends, says so, and tries again', () => {
    const driver = online().feed({ type: 'TwinChanged', twin: CHANGED }).wake();
    const late = driver.ticket;
    expect(
      driver
        .pass(LOCAL_PATIENCE_MS - 1)
        .feed({ type: 'Woke' })
        .records(),
    ).toEqual(['found']);
    driver.wake();
    expect(driver.events().at(-1)).toEqual({
      type: 'record',
      outcome: 'unsaved',
      detail: expect.stringContaining('time ran out while storing the record'),
    });
    driver.feed({ type: 'RecordSaved', ticket: late });
    expect(driver.records().at(-1)).toBe('unsaved');
    expect(driver.wake().saves()).toHaveLength(2);
    expect([driver.saved().state, driver.records().at(-1)]).toEqual(['Online', 'saved']);
  });

  it.each([
    ['was committed', (driver: JourneyDriver) => driver.committed()],
    ['could not be committed', (driver: JourneyDriver) => driver.fails(diskFull())],
  ])('asks DPS when somebody wanted it while a key %s, once', (_what, end) => {
    const driver = new JourneyDriver({ ...KEEP, tellsAcceptance: true }).load(found()).hubReached();
    expect([driver.reprovision().state, driver.requests()]).toEqual(['AwaitingCommit', []]);
    end(driver);
    expect(driver.events().at(-2)).toEqual({ type: 'reprovisioning', reason: 'asked', detail: 'operator' });
    end(driver.answer(ASSIGNED).hubReached());
    expect([driver.state, driver.requests()]).toEqual(['Online', ['register']]);
  });

  it('does not ask DPS again when somebody wants it while the key of a hub that DPS has just named is committed', () => {
    const driver = new JourneyDriver({ ...KEEP, tellsAcceptance: true }).load({ kind: 'none' }).answer(ASSIGNED);
    expect(driver.hubReached().reprovision().committed().state).toBe('Online');
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
    const driver = online().pass(10 * CONFIG.deadlineMs);
    const fromMs = driver.nowMs;
    driver.reprovision().until('AwaitingReturn', () => {
      const { state } = driver.journey;
      const isWaiting = state.name === 'Registering' && state.registration.state.name === 'AwaitingRetryTime';
      return isWaiting ? driver.wake() : driver.answer({}, 503);
    });
    expect(driver.nowMs - fromMs).toBeLessThanOrEqual(CONFIG.deadlineMs);
    expect(driver.requests().length).toBeGreaterThan(3);
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
