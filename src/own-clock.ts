import type { Clock, Random } from './core/clock.js';
import { ConfigurationError } from './errors.js';
import { kindOf } from './value-kind.js';

/** Time and chance of the application's own, whose answers are looked at before they are used. */

/**
 * A clock of the application's own: a time that is no number, an order that cannot be taken back, or one that is carried
 * out while it is given, would be found out much later, and far from its cause.
 *
 * Its methods throw a ConfigurationError, `ERR_DPS_CONFIG_OPTION`, instead of handing such an answer on.
 */
export function checkedClock(clock: Clock): Clock {
  return {
    monotonicMs: () => checkedMs('monotonicMs', clock.monotonicMs()),
    wallMs: () => checkedMs('wallMs', clock.wallMs()),
    after: (delayMs, fn) => {
      let isGiven = false;
      let isEarly = false;
      const cancel = clock.after(delayMs, () => {
        if (!isGiven) isEarly = true;
        if (!isEarly) fn();
      });
      isGiven = true;
      // Whoever gave the order is in the midst of it, and time that passes at once would go round for ever.
      if (isEarly) throw wrongOption('clock', 'its after() must call back later, not before it returns.');
      return checkedCancel(cancel);
    },
  };
}

/**
 * Chance of the application's own: all waits are made of it, and what is not in [0, 1) makes one that never ends.
 *
 * What it returns throws a ConfigurationError, `ERR_DPS_CONFIG_OPTION`, instead of handing another number on.
 */
export function checkedRandom(random: Random): Random {
  return () => {
    const drawn: unknown = random();
    if (typeof drawn === 'number' && drawn >= 0 && drawn < 1) return drawn;
    throw wrongOption('random', `it must give a number from 0 to below 1, not ${shownNumber(drawn)}.`);
  };
}

function checkedMs(method: string, ms: unknown): number {
  if (typeof ms === 'number' && Number.isFinite(ms)) return ms;
  throw wrongAnswer(method, 'milliseconds as a number', shownNumber(ms));
}

function checkedCancel(cancel: unknown): () => void {
  if (typeof cancel === 'function') return cancel as () => void;
  throw wrongAnswer('after', 'the function that takes the order back', kindOf(cancel));
}

function shownNumber(value: unknown): string {
  return typeof value === 'number' ? String(value) : kindOf(value);
}

function wrongAnswer(method: string, expected: string, got: string): ConfigurationError {
  return wrongOption('clock', `its ${method}() must give ${expected}, not ${got}.`);
}

function wrongOption(option: string, wrong: string): ConfigurationError {
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', option, message: `Option ${option}: ${wrong}` });
}
