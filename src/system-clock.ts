import type { Clock } from './core/clock.js';

/** Node's timers cannot count further than this; longer waits are made of several. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The clocks of this process, for the device's side and the emulator's alike. */
export const systemClock: Clock = {
  // Not `performance`: Node loads half a millisecond's worth of modules when it is first named.
  monotonicMs: () => {
    const [seconds, nanoseconds] = process.hrtime();
    return seconds * 1000 + nanoseconds / 1e6;
  },
  wallMs: () => Date.now(),
  after(delayMs, fn) {
    let leftMs = Math.max(0, Math.ceil(delayMs));
    let timer: NodeJS.Timeout;
    const arm = (): void => {
      const stepMs = Math.min(leftMs, LONGEST_TIMER_MS);
      leftMs -= stepMs;
      timer = setTimeout(() => (leftMs > 0 ? arm() : fn()), stepMs);
    };
    arm();
    return () => clearTimeout(timer);
  },
};
