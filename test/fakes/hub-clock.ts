import { ManualClock } from './manual-clock.js';

/** A manual clock whose wall can be set without time passing, as NTP does it. */
export class HubClock extends ManualClock {
  #wallOffsetMs = 0;

  override wallMs(): number {
    return super.wallMs() + this.#wallOffsetMs;
  }

  stepWall(byMs: number): void {
    this.#wallOffsetMs += byMs;
  }
}
