import { describe, expect, it } from 'vitest';
import { TokenLife } from '../../src/hub/credentials.js';
import { TokenWatch } from '../../src/hub/token-watch.js';
import { ManualClock } from '../fakes/manual-clock.js';

interface Watched {
  readonly watch: TokenWatch;
  readonly clock: ManualClock;
  readonly journal: string[];
}

function makeWatch(renew: () => Promise<void>): Watched {
  const clock = new ManualClock();
  const journal: string[] = [];
  const watch = new TokenWatch({
    clock,
    renew: () => {
      journal.push('renew');
      return renew();
    },
    isOpen: () => true,
    onGiveUp: (error) => journal.push(`gave up: ${error.message}`),
    onStrayError: (_, origin) => journal.push(origin),
  });
  return { watch, clock, journal };
}

describe('a token watch', () => {
  it('tries again for the life of the token, then gives up', async () => {
    const { watch, clock, journal } = makeWatch(() => Promise.reject(new Error('no')));
    watch.start(new TokenLife(clock, () => 0, 100));
    clock.advance(79_999);
    expect(journal).toEqual([]);
    for (let tries = 0; tries < 10 && clock.advanceToNext(); tries += 1) await new Promise(setImmediate);
    // At 80 s, and every 5 s until 100 s have passed.
    expect(journal).toEqual([...Array(4).fill(['renew', 'token renewal']).flat(), 'renew', 'gave up: no']);
    expect(clock.pending).toBe(0);
  });

  it('has no timer once it has ended, also when it is started again', () => {
    const { watch, clock } = makeWatch(async () => {});
    watch.start(new TokenLife(clock, () => 0, 100));
    watch.end();
    expect(clock.pending).toBe(0);
    watch.start(new TokenLife(clock, () => 0, 100));
    expect(clock.pending).toBe(0);
  });
});
