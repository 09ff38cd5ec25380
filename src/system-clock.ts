import type { Clock } from './core/clock.js';

/** Longer delays make Node's timers fire at once. */
const MAX_TIMER_MS = 0x7fff_ffff;

/** The clocks of this process. `after` may call early for delays beyond 24 days; whoever waits looks at the time again. */
export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  after(delayMs, fn) {
    const timer = setTimeout(fn, Math.min(Math.max(Math.ceil(delayMs), 0), MAX_TIMER_MS));
    return () => clearTimeout(timer);
  },
};
