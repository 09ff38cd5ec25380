import { describe, expect, it } from 'vitest';
import { createPrimary, getProperty, OWNER, readPublic, startAuthSession } from '../../../hsm/tpm2/commands.js';
import type { TpmLink } from '../../../hsm/tpm2/links/link.js';
import { timedOut } from '../../../hsm/tpm2/links/link-error.js';
import { type CommandSession, EncryptingSession, makeSessionSalt, password } from '../../../hsm/tpm2/sessions.js';
import { readTpmtPublic } from '../../../hsm/tpm2/structures.js';
import { Tpm } from '../../../hsm/tpm2/tpm.js';
import { ManualClock } from '../../fakes/manual-clock.js';
import { bytesOf, hexOf, VECTORS } from './vectors.js';

const RETRY = '80010000000a00000922';
const PROPERTY = '80010000001b00000000010000000600000001000001 0d00000400'.replace(' ', '');
const SESSION = '80010000002000000000030000010010'.concat('22'.repeat(16));
const OK = '80010000000a00000000';
const startSession = startAuthSession({ type: 'policy', nonceCaller: new Uint8Array(16) });

/** Answers in order, and keeps what it was asked. */
class ScriptedLink implements TpmLink {
  readonly place = 'the script';
  readonly asked: string[] = [];
  readonly timeoutsMs: number[] = [];
  rests = 0;
  #isBusy = false;
  readonly #answers: (string | Error)[];
  readonly #onAsked: () => void;

  constructor(answers: readonly (string | Error)[], onAsked: () => void = () => undefined) {
    this.#answers = [...answers];
    this.#onAsked = onAsked;
  }

  async transceive(command: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    this.timeoutsMs.push(timeoutMs);
    if (this.#isBusy) throw new Error('two commands at once');
    this.#isBusy = true;
    this.asked.push(hexOf(command));
    await new Promise((resolve) => setImmediate(resolve));
    this.#isBusy = false;
    this.#onAsked();
    const answer = this.#answers.shift() ?? OK;
    if (answer instanceof Error) throw answer;
    return new Uint8Array(bytesOf(answer));
  }

  rest(): void {
    this.rests += 1;
  }

  async close(): Promise<void> {}
}

function tpmOn(link: TpmLink, clock = new ManualClock()): Tpm {
  return new Tpm({ link, clock, commandTimeoutMs: 1_000, creationTimeoutMs: 9_000 });
}

/** Lets time pass whenever somebody waits for it. */
async function letTimePass<T>(clock: ManualClock, work: Promise<T>): Promise<T> {
  let isOver = false;
  const done = work.finally(() => {
    isOver = true;
  });
  done.catch(() => undefined);
  while (!isOver) {
    await new Promise((resolve) => setImmediate(resolve));
    clock.advanceToNext();
  }
  return done;
}

describe('a TPM that is busy', () => {
  it.each([0x922, 0x90a, 0x908])(
    'is asked again with the same bytes, after longer and longer pauses: %i',
    async (code) => {
      const clock = new ManualClock();
      const times: number[] = [];
      const busy = `80010000000a00000${code.toString(16)}`;
      const link = new ScriptedLink([busy, busy, busy, busy, PROPERTY], () => times.push(clock.monotonicMs()));
      const value = await letTimePass(
        clock,
        tpmOn(link, clock).run(undefined, 'asking', (turn) => turn.execute(getProperty(0x10d))),
      );
      expect(value).toBe(1024);
      expect(new Set(link.asked).size).toBe(1);
      expect(times).toEqual([0, 20, 60, 140, 300]);
    },
  );

  it('is given up after five seconds', async () => {
    const clock = new ManualClock();
    const link = new ScriptedLink(Array.from({ length: 99 }, () => RETRY));
    const asking = tpmOn(link, clock).run(undefined, 'asking', (turn) => turn.execute(getProperty(0x10d)));
    await expect(letTimePass(clock, asking)).rejects.toMatchObject({ command: 'GetCapability', code: 0x922 });
    expect(clock.monotonicMs()).toBe(20 * (2 ** 8 - 1));
    expect(link.asked).toHaveLength(9);
    expect(clock.pending).toBe(0);
  });

  it('is not asked again once the work is cancelled', async () => {
    const clock = new ManualClock();
    const controller = new AbortController();
    const link = new ScriptedLink([RETRY, RETRY], () => setImmediate(() => controller.abort()));
    const tpm = tpmOn(link, clock);
    const asking = tpm.run(controller.signal, 'asking', (turn) => turn.execute(getProperty(0x10d)));
    await expect(asking).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED', state: 'asking' });
    await tpm.close();
    expect(link.asked).toHaveLength(1);
    expect(clock.pending).toBe(0);
  });

  it('is asked only once when it refuses for good', async () => {
    const link = new ScriptedLink(['80010000000a00000921']);
    const asking = tpmOn(link).run(undefined, 'asking', (turn) => turn.execute(getProperty(0x10d)));
    await expect(asking).rejects.toMatchObject({ code: 0x921 });
    expect(link.asked).toHaveLength(1);
  });
});

describe('a turn', () => {
  it('ends with everything flushed, last first, also after an error', async () => {
    const second = SESSION.replace('03000001', '03000002');
    const link = new ScriptedLink([SESSION, second, '80010000000a0000018b']);
    const work = tpmOn(link).run(undefined, 'asking', async (turn) => {
      await turn.execute(startSession);
      await turn.execute(startSession);
      await turn.execute(readPublic(0x8101_0001));
    });
    await expect(work).rejects.toMatchObject({ command: 'ReadPublic' });
    expect(link.asked.slice(3)).toEqual(['80010000000e0000016503000002', '80010000000e0000016503000001']);
    expect(link.rests).toBe(1);
  });

  it('flushes what came with a response that is broken otherwise', async () => {
    const link = new ScriptedLink(['80010000000f000000000300000199']);
    const work = tpmOn(link).run(undefined, 'asking', (turn) => turn.execute(startSession));
    await expect(work).rejects.toThrow('nonceTPM');
    expect(link.asked[1]).toBe('80010000000e0000016503000001');
  });

  it('flushes after its signal aborted, and is not interrupted in that', async () => {
    const controller = new AbortController();
    const link = new ScriptedLink([SESSION], () => controller.abort());
    const tpm = tpmOn(link);
    const work = tpm.run(controller.signal, 'asking', async (turn) => {
      await turn.execute(startSession);
      await turn.execute(readPublic(1));
    });
    await expect(work).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
    await tpm.close();
    expect(link.asked).toHaveLength(2);
    expect(link.asked[1]).toBe('80010000000e0000016503000001');
  });

  it('goes on flushing when one flush is refused', async () => {
    const second = SESSION.replace('03000001', '03000002');
    const link = new ScriptedLink([SESSION, second, '80010000000a000001cb']);
    await tpmOn(link).run(undefined, 'asking', async (turn) => {
      await turn.execute(startSession);
      await turn.execute(startSession);
    });
    expect(link.asked).toHaveLength(4);
  });

  it('comes after the one before, in order, and the link rests when none is waiting', async () => {
    const link = new ScriptedLink(Array.from({ length: 8 }, () => PROPERTY));
    const tpm = tpmOn(link);
    const order: number[] = [];
    await Promise.all(
      [0, 1, 2, 3].map((index) =>
        tpm.run(undefined, 'asking', async (turn) => {
          await turn.execute(getProperty(0x10d));
          await turn.execute(getProperty(0x10d));
          order.push(index);
        }),
      ),
    );
    expect(order).toEqual([0, 1, 2, 3]);
    expect(link.rests).toBe(1);
  });

  it('starts the TPM once if it has to be', async () => {
    const link = new ScriptedLink(['80010000000a00000100', OK, PROPERTY]);
    expect(await tpmOn(link).run(undefined, 'asking', (turn) => turn.execute(getProperty(0x10d)))).toBe(1024);
    expect(link.asked[1]).toBe('80010000000c000001440000');
    // Another program was faster.
    const raced = new ScriptedLink(['80010000000a00000100', '80010000000a00000100', PROPERTY]);
    expect(await tpmOn(raced).run(undefined, 'asking', (turn) => turn.execute(getProperty(0x10d)))).toBe(1024);
  });
});

describe('an encrypting session', () => {
  const srk = readTpmtPublic(bytesOf(VECTORS.recordedExchange.storageRootKey_TPM2B_PUBLIC).subarray(2), 'it');
  const random = (bytes: number): Uint8Array => new Uint8Array(bytes).fill(7);

  function session(): EncryptingSession {
    if (srk.type !== 'rsa') throw new Error('no RSA key');
    return new EncryptingSession({ handle: 0x0200_0000, nonceTpm: random(32) }, makeSessionSalt(srk, random), random);
  }

  it('hides the first parameter of a command', () => {
    const { encrypt, authorize } = session().forCommand();
    const secret = new Uint8Array(16).fill(9);
    const hidden = encrypt?.(secret) ?? secret;
    expect(hidden).toHaveLength(16);
    expect(hexOf(hidden)).not.toBe(hexOf(secret));
    expect(hexOf(authorize(() => new Uint8Array(32)))).toMatch(/^020000000010(07){16}200020/);
  });

  it('refuses a response that was changed on its way', () => {
    const receiving: CommandSession = session().forResponse();
    receiving.authorize(() => new Uint8Array(32));
    const answer = { nonceTpm: random(32), attributes: 0x41, hmac: new Uint8Array(32) };
    expect(() => receiving.acknowledge?.(answer, () => new Uint8Array(32))).toThrow('changed on its way');
  });
});

describe('time', () => {
  it('is not waited for again and again by what is flushed, when the TPM says nothing any more', async () => {
    const link = new ScriptedLink([SESSION, SESSION, timedOut('the script', 1_000)]);
    await tpmOn(link).run(undefined, 'x', async (turn) => {
      await turn.execute(startSession);
      await turn.execute(startSession);
    });
    expect(link.asked).toHaveLength(3);
  });

  it('is longer for what looks for primes', async () => {
    const link = new ScriptedLink([RETRY.replace('922', '101'), PROPERTY]);
    const failing = tpmOn(link).run(undefined, 'x', (turn) =>
      turn.execute(createPrimary(OWNER, new Uint8Array()), password()),
    );
    await expect(failing).rejects.toThrow('TPM_RC_FAILURE');
    await tpmOn(link).run(undefined, 'x', (turn) => turn.execute(getProperty(0x10d)));
    expect(link.timeoutsMs).toEqual([9_000, 1_000]);
  });
});
