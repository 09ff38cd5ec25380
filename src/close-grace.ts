import type { Clock } from './core/clock.js';

/** What a part of the application's own, or a disk, may take to close. */
const CLOSE_GRACE_MS = 5_000;

/** Waits for the end of `closing`, whatever it is, but not for ever: what never closes must not keep a journey from ending. */
export function withinGrace(
  clock: Pick<Clock, 'after'>,
  closing: Promise<unknown> | undefined,
  onLate: () => void = () => {},
): Promise<void> {
  return new Promise((resolve) => {
    const stopTimer = clock.after(CLOSE_GRACE_MS, () => {
      onLate();
      resolve();
    });
    void Promise.allSettled([closing]).then(() => {
      stopTimer();
      resolve();
    });
  });
}
