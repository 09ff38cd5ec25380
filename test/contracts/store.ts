import { getEventListeners } from 'node:events';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { encodeRecord } from '../../src/core/record.js';
import type { LoadedRecord, RecordStore } from '../../src/core/store.js';
import { sampleRecord } from '../durable/sample-record.js';

export interface StoreUnderTest {
  /** A store at the same place each time, as the next start of the device would make it. */
  readonly open: () => RecordStore;
  readonly dispose?: () => Promise<void>;
}

/** What every `RecordStore` owes to the journey. Run it on each implementation; each test gets an empty place. */
export function describeStoreContract(name: string, setUp: () => Promise<StoreUnderTest>): void {
  describe(`${name} fulfils the store contract`, () => {
    let subject: StoreUnderTest;
    let store: RecordStore;
    beforeEach(async () => {
      subject = await setUp();
      store = subject.open();
    });
    afterEach(async () => {
      await store.close?.();
      await subject.dispose?.();
    });

    it('has none at first, and forgetting none is no failure', async () => {
      expect(await store.load(signalThatStays())).toEqual({ kind: 'none' });
      await store.forget(signalThatStays());
      expect(await store.load(signalThatStays())).toEqual({ kind: 'none' });
    });

    it('gives back what was saved last, also to the next start', async () => {
      await store.save(sampleRecord(1), signalThatStays());
      expect(textOf(await store.load(signalThatStays()))).toBe(textOfSample(1));
      await store.save(sampleRecord(2, 5000), signalThatStays());
      expect(textOf(await store.load(signalThatStays()))).toBe(textOfSample(2, 5000));
      await store.close?.();
      store = subject.open();
      expect(textOf(await store.load(signalThatStays()))).toBe(textOfSample(2, 5000));
    });

    it('takes saves in the order they are asked for', async () => {
      const saves = [1, 2, 3, 4].map((number) => store.save(sampleRecord(number), signalThatStays()));
      const loaded = store.load(signalThatStays());
      await Promise.all(saves);
      expect(textOf(await loaded)).toBe(textOfSample(4));
    });

    it('forgets for good', async () => {
      await store.save(sampleRecord(1), signalThatStays());
      await store.save(sampleRecord(2), signalThatStays());
      await store.forget(signalThatStays());
      expect(await store.load(signalThatStays())).toEqual({ kind: 'none' });
      await store.close?.();
      store = subject.open();
      expect(await store.load(signalThatStays())).toEqual({ kind: 'none' });
    });

    it('keeps the record through a save that cannot be', async () => {
      await store.save(sampleRecord(1), signalThatStays());
      const tooLong = sampleRecord(2, 2_000_000);
      await expect(store.save(tooLong, signalThatStays())).rejects.toMatchObject({ name: 'StoreError' });
      expect(textOf(await store.load(signalThatStays()))).toBe(textOfSample(1));
    });

    it('does nothing for a signal that has aborted', async () => {
      await store.save(sampleRecord(1), signalThatStays());
      const aborted = AbortSignal.abort(new Error('enough'));
      const calls = [
        () => store.load(aborted),
        () => store.save(sampleRecord(2), aborted),
        () => store.forget(aborted),
      ];
      for (const call of calls) {
        await expect(call()).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: { message: 'enough' } });
      }
      expect(textOf(await store.load(signalThatStays()))).toBe(textOfSample(1));
    });

    it('rejects at once when the signal aborts, and has the old record or the new afterwards', async () => {
      await store.save(sampleRecord(1), signalThatStays());
      const controller = new AbortController();
      const save = store.save(sampleRecord(2), controller.signal);
      controller.abort();
      await expect(save).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
      expect([textOfSample(1), textOfSample(2)]).toContain(textOf(await store.load(signalThatStays())));
    });

    it('leaves no listener on a signal', async () => {
      const { signal } = new AbortController();
      await store.save(sampleRecord(1), signal);
      await store.load(signal);
      await store.forget(signal);
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    });
  });
}

function signalThatStays(): AbortSignal {
  return new AbortController().signal;
}

function textOf(loaded: LoadedRecord): string {
  return loaded.kind === 'record' ? Buffer.from(encodeRecord(loaded.record)).toString() : loaded.kind;
}

function textOfSample(number: number, fillerBytes?: number): string {
  return Buffer.from(encodeRecord(sampleRecord(number, fillerBytes))).toString();
}
