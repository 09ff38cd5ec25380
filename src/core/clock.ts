/** Time and chance are inputs: everything that waits, dates or jitters gets them from here. */
export interface Clock {
  /** Milliseconds that never jump back; for waiting. The origin means nothing. */
  monotonicMs(): number;
  /** Milliseconds since 1970 by the device's clock, right or wrong; for tokens and dates only. */
  wallMs(): number;
  /** Calls `fn` once after `delayMs`; the returned function takes the order back. */
  after(delayMs: number, fn: () => void): () => void;
}

/** A number in [0, 1). */
export type Random = () => number;

/** What a machine's step is told of the world: one reading of each clock and one draw. */
export interface Now {
  readonly monotonicMs: number;
  readonly wallMs: number;
  readonly random: number;
}

/**
 * No device that runs this code was built before it was written: an earlier wall clock is a clock that was never set.
 * 2026-01-01T00:00:00Z.
 */
export const EARLIEST_PLAUSIBLE_WALL_MS: number = Date.UTC(2026, 0, 1);

/** A clock past the last second a four-byte counter would reach in 2106 is as wrong as one in 1970. */
export const LATEST_PLAUSIBLE_WALL_MS: number = 0xffff_ffff * 1000;

/** Whether tokens and certificate dates may be judged by this wall clock. */
export function isPlausibleWallMs(wallMs: number): boolean {
  return wallMs >= EARLIEST_PLAUSIBLE_WALL_MS && wallMs <= LATEST_PLAUSIBLE_WALL_MS;
}
