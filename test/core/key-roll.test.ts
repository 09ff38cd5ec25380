import { describe, expect, it } from 'vitest';
import { describeProgress } from '../../src/cli/progress-text.js';
import type { DeviceRecord } from '../../src/core/record.js';
import { diskFull, found, JourneyDriver, RECORD, refused } from './journey-driver.js';

const KEEP = { hasStore: true, purpose: 'keep', tellsAcceptance: true, slots: 2 } as const;

/** What was told of the key, in order. */
function told(driver: JourneyDriver): unknown[] {
  return driver.effects.flatMap((effect) =>
    effect.type === 'ReportProgress' && effect.event.type === 'key-rolled' ? [effect.event] : [],
  );
}

describe('a staged key that the hub has accepted', () => {
  it('is told when it has been committed, not before, and once in a life', () => {
    const driver = new JourneyDriver({ ...KEEP, stagedSlot: 0 }).load(found()).hubReached();
    expect([driver.state, told(driver)]).toEqual(['AwaitingCommit', []]);
    driver.committed();
    expect([driver.state, told(driver)]).toEqual(['Online', [{ type: 'key-rolled', slot: 0 }]]);
    driver.lost().wake().hubReached().committed();
    expect([driver.state, told(driver)]).toEqual(['Online', [{ type: 'key-rolled', slot: 0 }]]);
  });

  it('is told by a journey that ends with the twin, too', () => {
    const driver = new JourneyDriver({ tellsAcceptance: true, stagedSlot: 0 }).register().hubReached().committed();
    expect([driver.state, told(driver)]).toEqual(['Done', [{ type: 'key-rolled', slot: 0 }]]);
  });

  it.each([
    ['the key in use was accepted', { stagedSlot: 0 }, { ...RECORD, slot: 1 }],
    ['there is none', {}, RECORD],
  ])('is not told where %s', (_, config, record) => {
    const driver = new JourneyDriver({ ...KEEP, ...config }).load(found(record)).hubReached().committed();
    expect([driver.state, told(driver)]).toEqual(['Online', []]);
  });

  it('is not told where it could not be committed, until it is', () => {
    const driver = new JourneyDriver({ ...KEEP, stagedSlot: 0 }).load(found()).hubReached().fails(diskFull());
    expect([driver.state, told(driver)]).toEqual(['Online', []]);
    driver.lost().wake().hubReached().committed();
    expect([driver.state, told(driver)]).toEqual(['Online', [{ type: 'key-rolled', slot: 0 }]]);
  });

  it('and could not be committed is told with the reason and what comes of it, and not as a record', () => {
    const driver = new JourneyDriver({ ...KEEP, stagedSlot: 0 }).load(found()).hubReached().fails(diskFull());
    const failures = driver.events().filter(({ type }) => type === 'commit-failed');
    expect(failures).toEqual([
      {
        type: 'commit-failed',
        slot: 0,
        code: 'ERR_DPS_STORE_FULL',
        message:
          'The hub accepted the staged key, but the HSM could not commit it. Both keys are kept, and the next connection to the hub tries it again. The reason: no room',
      },
    ]);
    expect(driver.records()).toEqual(['found']);
  });

  it('and could not be committed in time is told so, too', () => {
    const driver = new JourneyDriver({ tellsAcceptance: true, stagedSlot: 0 }).register().hubReached().wake();
    expect(driver.outcome?.kind).toBe('provisioned');
    expect(driver.events()).toContainEqual({
      type: 'commit-failed',
      slot: 0,
      code: 'ERR_DPS_DEADLINE',
      message: expect.stringMatching(
        /could not commit it\..* while making the key that the hub accepted the key in use\./,
      ),
    });
  });

  it('is not spoken of where an HSM could not be told of the key in use', () => {
    const driver = new JourneyDriver(KEEP)
      .load(found({ ...RECORD, slot: 1 }))
      .hubReached()
      .fails(diskFull());
    expect(driver.events()).toContainEqual({
      type: 'commit-failed',
      slot: 1,
      code: 'ERR_DPS_STORE_FULL',
      message:
        'The hub accepted the credential in slot 1, but the HSM could not take that in. Its keys stay as they are, and the next connection to the hub tries it again. The reason: no room',
    });
  });

  it('is told to people in a line', () => {
    expect(describeProgress({ type: 'key-rolled', slot: 0 })).toBe(
      'the hub accepted the staged key: it is the key in use from now on',
    );
    expect(describeProgress({ type: 'commit-failed', slot: 0, code: 'c', message: 'Why.' })).toBe(
      'the accepted key is not committed: Why.',
    );
  });
});

describe('a device that comes back with its record', () => {
  const ROLLING = { ...KEEP, stagedSlot: 0, keyIds: ['new', 'old'] };
  const with_ = (keyIds: readonly string[], slot: number): DeviceRecord => ({ ...RECORD, keyIds, slot });
  const slotsAtHub = (driver: JourneyDriver): number[] =>
    driver.effects.flatMap((effect) => (effect.type === 'OpenHub' ? [effect.slot] : []));

  it('goes to DPS with a key that was staged since, of which the hub cannot know', () => {
    const driver = new JourneyDriver(ROLLING).load(found(with_(['old'], 0)));
    expect([driver.state, slotsAtHub(driver)]).toEqual(['Registering', []]);
    expect(driver.events().map(({ type }) => type)).toEqual(['record', 'reprovisioning', 'started']);
    expect(driver.events()[1]).toEqual({ type: 'reprovisioning', reason: 'new-key', detail: '' });
    driver.answer().hubReached().committed();
    expect([driver.state, slotsAtHub(driver)]).toEqual(['Online', [0]]);
    expect(driver.saves().at(-1)).toMatchObject({ slot: 0, keyIds: ['new', 'old'] });
  });

  it('once: a staged key that DPS has refused waits until DPS is asked again', () => {
    const driver = new JourneyDriver(ROLLING).load(found(with_(['new', 'old'], 1)));
    expect([driver.state, slotsAtHub(driver)]).toEqual(['AwaitingHub', [1]]);
    driver.fails(refused()).wake().fails(refused());
    expect(driver.effects.at(-1)).toMatchObject({ type: 'PrepareCredential', slot: 0 });
  });

  it('goes to its hub with the key in use when DPS refuses both', () => {
    const driver = new JourneyDriver(ROLLING).load(found(with_(['old'], 0)));
    const no = { errorCode: 401002, message: 'Unauthorized' };
    driver.answer(no, 401).answer(no, 401).wake();
    expect([driver.state, slotsAtHub(driver)]).toEqual(['AwaitingHub', [1]]);
  });

  it.each([
    ['committed by hand', ['new'], with_(['new', 'old'], 1), 0],
    ['committed, and the power failed before the record was saved', ['new'], with_(['old'], 0), 0],
    ['dropped', ['old'], with_(['new', 'old'], 1), 0],
    ['not named then', ['a', 'b'], { ...RECORD, slot: 1 }, 1],
    ['not named now', undefined, with_(['new', 'old'], 1), 1],
    ['one of fewer', undefined, with_(['a', 'b', 'c'], 2), 0],
  ])('goes straight to its hub with a key that was %s', (_what, keyIds, record, slot) => {
    const slots = keyIds?.length ?? 2;
    const driver = new JourneyDriver({ ...KEEP, slots, ...(keyIds === undefined ? {} : { keyIds }) });
    expect(slotsAtHub(driver.load(found(record)))).toEqual([slot]);
  });

  it('asks DPS, and says why, when somebody wants that anyway', () => {
    const driver = new JourneyDriver({ ...ROLLING, reprovision: true }).load(found(with_(['old'], 0)));
    expect(driver.events().map(({ type }) => type)).toEqual(['record', 'started']);
  });

  it('asks DPS because it was moved, not because of the new key, where both are so', () => {
    const record: DeviceRecord = { ...with_(['old'], 0), movedTo: 'other.example' };
    const driver = new JourneyDriver(ROLLING).load(found(record));
    expect([driver.state, slotsAtHub(driver)]).toEqual(['Registering', []]);
    expect(driver.events().map(({ type }) => type)).toEqual(['record', 'started']);
  });

  it('waits out its start spread first', () => {
    const driver = new JourneyDriver({ ...ROLLING, startSpreadMs: 60_000 });
    driver.random = 0.5;
    expect([driver.load(found(with_(['old'], 0))).state, driver.wake().state]).toEqual([
      'AwaitingStart',
      'Registering',
    ]);
  });
});
