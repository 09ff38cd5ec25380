import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { ConnectionEnd } from '../../src/net/connection-end.js';
import { ManualClock } from '../fakes/manual-clock.js';

const NEVER = new AbortController().signal;
const LAST_WORDS = Uint8Array.of(0xe0, 0x00);
const peer = 'peer.example:8883';

/** A socket that keeps what is written to it; with `isStuck` it takes nothing. */
class PlainSocket extends Duplex {
  readonly written: Buffer[] = [];
  readonly #isStuck: boolean;

  constructor(isStuck = false) {
    super();
    this.#isStuck = isStuck;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    if (this.#isStuck) return;
    this.written.push(chunk);
    callback();
  }
}

interface Line {
  readonly end: ConnectionEnd;
  readonly socket: PlainSocket;
  readonly clock: ManualClock;
  /** What `onEnd` was told. */
  readonly reasons: Error[];
}

function makeLine(socket: PlainSocket = new PlainSocket()): Line {
  const clock = new ManualClock();
  const reasons: Error[] = [];
  const here = () => ({ phase: 'established', peer, clock }) as const;
  const end = new ConnectionEnd({ socket, peer, clock, here, onEnd: (reason) => reasons.push(reason) });
  return { end, socket, clock, reasons };
}

describe('the end of a connection', () => {
  it('has the first reason, and everybody hears it, the engine first', async () => {
    const { end, socket, reasons } = makeLine();
    const journal: unknown[] = [];
    const pending = end.unlessOver(NEVER, () => () => journal.push(reasons.length)).catch((error) => error);
    const [first, second] = [new Error('first'), new Error('second')];
    end.end(() => first);
    end.end(() => second);
    expect(await pending).toBe(first);
    expect(reasons).toEqual([first]);
    expect(journal).toEqual([1]);
    expect(await end.closed).toBe(first);
    expect(socket.destroyed).toBe(true);
  });

  it.each([
    ['fails', (socket: Duplex) => socket.destroy(new Error('pulled out')), 'pulled out'],
    ['closes', (socket: Duplex) => socket.destroy(), undefined],
    ['ends', (socket: Duplex) => socket.push(null), undefined],
  ])('comes when the socket %s', async (_, happen, cause) => {
    const { end, socket } = makeLine();
    socket.resume();
    const pending = end.unlessOver(NEVER, () => () => {}).catch((error) => error);
    happen(socket);
    const error = await end.closed;
    expect(error).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', peer, phase: 'established' });
    expect((error?.cause as Error | undefined)?.message).toBe(cause);
    expect(await pending).toBe(error);
  });

  it('has come when the socket was dead before', async () => {
    const socket = new PlainSocket();
    socket.destroy();
    const { end, reasons } = makeLine(socket);
    expect(end.isOver).toBe(true);
    expect(reasons).toMatchObject([{ code: 'ERR_DPS_CONNECTION_LOST' }]);
    expect(socket.listenerCount('end')).toBe(0);
  });

  it('lets what was read before it be told first', async () => {
    const { end } = makeLine();
    let tell: (value: string) => void = () => {};
    const pending = end.unlessOver<string>(NEVER, (resolve) => {
      tell = resolve;
      return () => {};
    });
    end.endSoon(() => new Error('after the answer'));
    queueMicrotask(() => tell('the answer'));
    expect(await pending).toBe('the answer');
    expect((await end.closed)?.message).toBe('after the answer');
  });
});

describe('work on a connection', () => {
  it('is not begun when it is over', async () => {
    const { end } = makeLine();
    end.end(() => new Error('gone'));
    let starts = 0;
    const late = end.unlessOver(NEVER, () => {
      starts += 1;
      return () => {};
    });
    await expect(late).rejects.toThrow('gone');
    expect(starts).toBe(0);
  });

  it('is rejected also when its beginning ends the connection', async () => {
    const { end } = makeLine();
    const work = end.unlessOver(NEVER, () => {
      end.end(() => new Error('broken by it'));
      return () => {};
    });
    await expect(work).rejects.toThrow('broken by it');
  });

  it('is rejected with what its beginning throws, and the connection goes on', async () => {
    const { end } = makeLine();
    const work = end.unlessOver(NEVER, () => {
      throw new Error('not like that');
    });
    await expect(work).rejects.toThrow('not like that');
    expect(end.isOver).toBe(false);
  });
});

describe('close', () => {
  it('sends the last words, rejects what is under way, and leaves no timer', async () => {
    const { end, socket, clock } = makeLine();
    const pending = end.unlessOver(NEVER, () => () => {}).catch((error) => error);
    await Promise.all([end.close(LAST_WORDS), end.close(LAST_WORDS)]);
    expect(Buffer.concat(socket.written)).toEqual(Buffer.from(LAST_WORDS));
    expect(socket.destroyed).toBe(true);
    expect(await end.closed).toBeUndefined();
    expect(await pending).toMatchObject({ message: expect.stringContaining(peer) });
    expect(clock.pending).toBe(0);
  });

  it('waits a second for a socket that takes nothing, not longer', async () => {
    const { end, socket, clock } = makeLine(new PlainSocket(true));
    const closing = end.close(LAST_WORDS);
    clock.advance(999);
    expect(socket.destroyed).toBe(false);
    clock.advance(1);
    await closing;
    expect(await end.closed).toBeUndefined();
    expect(clock.pending).toBe(0);
  });
});
