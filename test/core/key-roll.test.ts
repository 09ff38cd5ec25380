import { describe, expect, it } from 'vitest';
import { describeProgress } from '../../src/cli/progress-text.js';
import { found, JourneyDriver, lost, RECORD } from './journey-driver.js';

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

  it('is not told where it could not be committed', () => {
    const driver = new JourneyDriver({ ...KEEP, stagedSlot: 0 }).load(found()).hubReached().fails(lost());
    expect([driver.state, told(driver)]).toEqual(['Online', []]);
  });

  it('is told to people in a line', () => {
    expect(describeProgress({ type: 'key-rolled', slot: 0 })).toBe(
      'the hub accepted the staged key: it is the key in use from now on',
    );
  });
});
