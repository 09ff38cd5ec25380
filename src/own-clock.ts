import type { Clock } from './core/clock.js';
import { ConfigurationError } from './errors.js';
import { kindOf } from './value-kind.js';

/**
 * A clock of the application's own, whose answers are looked at: a time that is no number, or an order that cannot be
 * taken back, would be found out much later, and far from its cause.
 *
 * Its methods throw a ConfigurationError, `ERR_DPS_CONFIG_OPTION`, instead of handing such an answer on.
 */
export function checkedClock(clock: Clock): Clock {
  return {
    monotonicMs: () => checkedMs('monotonicMs', clock.monotonicMs()),
    wallMs: () => checkedMs('wallMs', clock.wallMs()),
    after: (delayMs, fn) => checkedCancel(clock.after(delayMs, fn)),
  };
}

function checkedMs(method: string, ms: unknown): number {
  if (typeof ms === 'number' && Number.isFinite(ms)) return ms;
  throw wrongAnswer(method, 'milliseconds as a number', typeof ms === 'number' ? String(ms) : kindOf(ms));
}

function checkedCancel(cancel: unknown): () => void {
  if (typeof cancel === 'function') return cancel as () => void;
  throw wrongAnswer('after', 'the function that takes the order back', kindOf(cancel));
}

function wrongAnswer(method: string, expected: string, got: string): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    option: 'clock',
    message: `Option clock: its ${method}() must give ${expected}, not ${got}.`,
  });
}
