import { describe, expect, it } from 'vitest';
import { createPrimary, getProperty, OWNER } from '../../../hsm/tpm2/commands.js';
import type { TpmLink } from '../../../hsm/tpm2/links/link.js';
import { linkClosed } from '../../../hsm/tpm2/links/link-error.js';
import { password } from '../../../hsm/tpm2/sessions.js';
import { Tpm, type TpmTurn } from '../../../hsm/tpm2/tpm.js';
import { provision, run } from '../../../src/index.js';
import { ManualClock } from '../../fakes/manual-clock.js';

/** Takes commands, and says nothing until it is closed. */
class SilentLink implements TpmLink {
  readonly place = 'the silence';
  closedAtMs: number | undefined;
  readonly clock = new ManualClock();
  readonly asked: Promise<void>;
  #tellAsked: () => void = () => undefined;
  #fail: (error: Error) => void = () => undefined;

  constructor() {
    this.asked = new Promise((resolve) => {
      this.#tellAsked = resolve;
    });
  }

  transceive(): Promise<Uint8Array> {
    this.#tellAsked();
    return new Promise((_, reject) => {
      this.#fail = reject;
    });
  }

  rest(): void {}

  async close(): Promise<void> {
    this.closedAtMs ??= this.clock.monotonicMs();
    this.#fail(linkClosed(this.place));
  }
}

const ask = (turn: TpmTurn): Promise<unknown> => turn.execute(getProperty(0x10d));
const makeKey = (turn: TpmTurn): Promise<unknown> => turn.execute(createPrimary(OWNER, new Uint8Array()), password());

/** Lets time pass until the work is over. */
async function letTimePass(clock: ManualClock, work: Promise<unknown>): Promise<void> {
  let isOver = false;
  const done = work.then(
    () => undefined,
    () => undefined,
  );
  void done.then(() => {
    isOver = true;
  });
  while (!isOver) {
    await new Promise((resolve) => setImmediate(resolve));
    clock.advanceToNext();
  }
}

describe('a TPM that never answers, when it is closed,', () => {
  it.each([
    ['at once, gets the whole grace', 0, 3_000, ask],
    ['after a while, gets what is left of the grace', 2_000, 3_000, ask],
    ['after longer than the grace, gets no more time', 5_000, 5_000, ask],
    ['while it makes a key, gets the whole grace', 5_000, 8_000, makeKey],
  ])('%s', async (_, afterMs, closedAtMs, work) => {
    const link = new SilentLink();
    const { clock } = link;
    const tpm = new Tpm({ link, clock, commandTimeoutMs: 60_000, creationTimeoutMs: 300_000 });
    const asking = tpm.run(undefined, 'asking', work).catch((error: unknown) => error);
    await link.asked;
    clock.advance(afterMs);
    await letTimePass(clock, tpm.close());
    expect(link.closedAtMs).toBe(closedAtMs);
    expect(await asking).toMatchObject({ name: 'HsmError' });
    expect(clock.pending).toBe(0);
  });
});

describe('a TPM that never answers, made from a description,', () => {
  const options = (link: SilentLink): Parameters<typeof provision>[0] => ({
    idScope: '0ne00111111',
    endpoint: 'localhost:1',
    hsm: { kind: 'tpm', link, clock: link.clock },
    clock: link.clock,
    deadlineMs: 7_000,
  });

  it('is closed at the deadline of provision(), which waits for it no longer', async () => {
    const link = new SilentLink();
    const journey = provision(options(link));
    await link.asked;
    await letTimePass(link.clock, journey);
    await expect(journey).rejects.toMatchObject({ code: 'ERR_DPS_DEADLINE' });
    expect([link.closedAtMs, link.clock.monotonicMs()]).toEqual([7_000, 7_000]);
    expect(link.clock.pending).toBe(0);
  });

  it('is closed with a run() that no hub has taken yet', async () => {
    const link = new SilentLink();
    const device = run(options(link));
    await link.asked;
    link.clock.advance(4_000);
    await letTimePass(link.clock, device.close());
    expect(await device.closed).toBeUndefined();
    expect(link.closedAtMs).toBe(4_000);
    expect(link.clock.pending).toBe(0);
  });
});
