import { describe, expect, it } from 'vitest';
import { abortable, eitherSignal } from '../../src/net/abortable.js';

describe('abortable', () => {
  it('releases exactly once, before the outcome is seen', async () => {
    for (const settle of ['resolve', 'reject', 'abort'] as const) {
      const journal: string[] = [];
      const caller = new AbortController();
      let controls: { resolve: (value: string) => void; reject: (reason: unknown) => void } | undefined;
      const outcome = abortable<string>(caller.signal, (resolve, reject) => {
        controls = { resolve, reject };
        return () => journal.push('released');
      }).then(
        (value) => journal.push(value),
        (reason) => journal.push(reason),
      );
      if (settle === 'abort') caller.abort('abort');
      else controls?.[settle](settle);
      controls?.resolve('too late');
      caller.abort('too late');
      await outcome;
      expect(journal).toEqual(['released', settle]);
    }
  });

  it('releases also what settled before it could say how to', async () => {
    let released = 0;
    const value = await abortable<number>(new AbortController().signal, (resolve) => {
      resolve(7);
      return () => {
        released += 1;
      };
    });
    expect([value, released]).toEqual([7, 1]);
  });

  it('does not begin with a signal that has aborted, and passes on what is thrown at the start', async () => {
    const begin = (): never => {
      throw new Error('begun');
    };
    await expect(abortable(AbortSignal.abort('enough'), begin)).rejects.toBe('enough');
    await expect(abortable(new AbortController().signal, begin)).rejects.toThrow('begun');
  });
});

describe('eitherSignal', () => {
  it('aborts with either, for the reason of the one that did', async () => {
    for (const which of [0, 1]) {
      const callers = [new AbortController(), new AbortController()] as const;
      const either = eitherSignal(callers[0].signal, callers[1].signal);
      expect(either.aborted).toBe(false);
      const pending = abortable(either, () => () => {});
      callers[which === 0 ? 0 : 1].abort(`reason ${which}`);
      await expect(pending).rejects.toBe(`reason ${which}`);
      expect(either.aborted).toBe(true);
    }
  });
});
