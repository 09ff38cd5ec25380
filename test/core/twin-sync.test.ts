import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DesiredChange, type JsonObject, mergePatch, type Twin } from '../../src/core/twin.js';
import {
  knownTwin,
  MAX_BUFFERED_PUSHES,
  newTwinSync,
  stepTwinSync,
  type TwinSync,
  type TwinSyncInput,
} from '../../src/core/twin-sync.js';

const twinAt = (version: number, properties: JsonObject = {}, reportedVersion = 1): Twin => ({
  desired: { version, properties },
  reported: { version: reportedVersion, properties: {} },
});

/** Performs what the machine orders by writing it down. */
class Bench {
  sync: TwinSync = newTwinSync();
  readonly ordered: string[] = [];
  readonly changes: DesiredChange[] = [];
  ticket = 0;

  feed(input: TwinSyncInput): this {
    const step = stepTwinSync(this.sync, input);
    this.sync = step.sync;
    for (const effect of step.effects) {
      if (effect.type === 'ReadTwin') this.ticket = effect.ticket;
      if (effect.type === 'DeliverChange') this.changes.push(effect.change);
      this.ordered.push(
        effect.type === 'ReadTwin'
          ? `ReadTwin ${effect.putOffs}`
          : effect.type === 'DeliverChange'
            ? `DeliverChange ${effect.change.version}`
            : effect.type,
      );
    }
    return this;
  }

  connect(): this {
    return this.feed({ type: 'Connected' });
  }

  answer(twin: Twin): this {
    return this.feed({ type: 'TwinAnswered', ticket: this.ticket, twin });
  }

  fail(reason: 'silence' | 'putOff' | 'refused'): this {
    return this.feed({ type: 'ReadFailed', ticket: this.ticket, reason });
  }

  push(version: number, patch: JsonObject = { n: version }): this {
    return this.feed({ type: 'PushReceived', push: { version, patch } });
  }

  get desired(): Twin['desired'] | undefined {
    return knownTwin(this.sync)?.desired;
  }
}

describe('the order rule of hub-protocol section 2.6', () => {
  it('reads the twin once connected and hands out no change for the first answer', () => {
    const bench = new Bench().connect().answer(twinAt(4, { a: 1 }));
    expect(bench.ordered).toEqual(['ReadTwin 0']);
    expect(bench.desired).toEqual({ version: 4, properties: { a: 1 } });
  });

  it('buffers pushes until the answer, then drops what it covers and applies what comes after', () => {
    const bench = new Bench().connect().push(4, { a: 0 }).push(5, { b: 2 }).push(6, { a: null });
    expect(bench.ordered).toEqual(['ReadTwin 0']);
    bench.answer(twinAt(4, { a: 1 }));
    expect(bench.ordered).toEqual(['ReadTwin 0', 'DeliverChange 5', 'DeliverChange 6']);
    expect(bench.desired).toEqual({ version: 6, properties: { b: 2 } });
    expect(bench.changes[0]).toEqual({
      version: 5,
      patch: { b: 2 },
      desired: { version: 5, properties: { a: 1, b: 2 } },
    });
  });

  it('knows a version that changes nothing, and tells nobody of it', () => {
    const bench = new Bench()
      .connect()
      .answer(twinAt(4, { a: 1 }))
      .push(5, {})
      .push(6, { a: 2 });
    expect(bench.ordered).toEqual(['ReadTwin 0', 'DeliverChange 6']);
    bench.connect().answer(twinAt(9, { a: 2 }));
    expect(bench.ordered).toEqual(['ReadTwin 0', 'DeliverChange 6', 'ReadTwin 0']);
    expect(bench.desired).toEqual({ version: 9, properties: { a: 2 } });
    expect(bench.push(9, { a: 3 }).push(10, { a: 4 }).changes.at(-1)?.version).toBe(10);
    expect(bench.changes).toHaveLength(2);
  });

  it('drops a push it knows', () => {
    const bench = new Bench().connect().answer(twinAt(4)).push(5, { a: 1 }).push(5, { a: 9 }).push(3, { a: 9 });
    expect(bench.ordered).toEqual(['ReadTwin 0', 'DeliverChange 5']);
    expect(bench.desired?.properties).toEqual({ a: 1 });
  });

  it('reads again after a gap and delivers the difference', () => {
    const bench = new Bench()
      .connect()
      .answer(twinAt(4, { a: 1, b: 1 }))
      .push(6, { c: 3 });
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
    expect(bench.desired?.version).toBe(4);
    bench.answer(twinAt(6, { a: 1, c: 3 }));
    expect(bench.changes).toEqual([
      { version: 6, patch: { b: null, c: 3 }, desired: { version: 6, properties: { a: 1, c: 3 } } },
    ]);
  });

  it('reads again after a gap among buffered pushes, once', () => {
    const bench = new Bench().connect().push(6).push(9).answer(twinAt(4));
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
    expect(bench.answer(twinAt(9, { n: 9 })).ordered.slice(2)).toEqual(['DeliverChange 9']);
  });

  it('does not read for ever when an answer stays behind a push', () => {
    const bench = new Bench().connect().push(9).answer(twinAt(4)).answer(twinAt(4)).answer(twinAt(4));
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
  });

  it('treats a push that cannot be read as a lost one', () => {
    const bench = new Bench().connect().answer(twinAt(4)).feed({ type: 'PushUnreadable' });
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
    const buffered = new Bench().connect().feed({ type: 'PushUnreadable' }).answer(twinAt(4));
    expect(buffered.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
  });

  it('reads again after a reconnect and delivers only when the version differs', () => {
    const same = new Bench()
      .connect()
      .answer(twinAt(4, { a: 1 }))
      .connect()
      .answer(twinAt(4, { a: 1 }));
    expect(same.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
    const other = new Bench()
      .connect()
      .answer(twinAt(4, { a: 1 }))
      .connect()
      .answer(twinAt(7, { a: 2 }));
    expect(other.changes.map(({ version, patch }) => ({ version, patch }))).toEqual([{ version: 7, patch: { a: 2 } }]);
  });

  it('takes a lower version for the truth: the identity was made anew', () => {
    const bench = new Bench()
      .connect()
      .answer(twinAt(40, { a: 1 }))
      .connect()
      .answer(twinAt(2, { b: 2 }));
    expect(bench.changes[0]).toMatchObject({ version: 2, patch: { a: null, b: 2 } });
    expect(bench.push(3, { c: 3 }).desired).toEqual({ version: 3, properties: { b: 2, c: 3 } });
  });

  it('forgets the pushes of an earlier connection', () => {
    const bench = new Bench().connect().push(9).connect().answer(twinAt(1));
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
  });

  it('ignores the answer to a read that was given up', () => {
    const bench = new Bench().connect();
    const early = bench.ticket;
    bench.connect().feed({ type: 'TwinAnswered', ticket: early, twin: twinAt(1) });
    expect(bench.desired).toBeUndefined();
    bench.feed({ type: 'ReadFailed', ticket: early, reason: 'refused' });
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
  });

  it('repeats a read without an answer once, keeping what was pushed meanwhile', () => {
    const bench = new Bench().connect().push(5, { b: 1 }).fail('silence').answer(twinAt(4));
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0', 'DeliverChange 5']);
    expect(new Bench().connect().fail('silence').fail('silence').ordered.at(-1)).toBe('GiveUp');
  });

  it('delivers what a recreated identity says under the number that the old one had', () => {
    const bench = new Bench()
      .connect()
      .answer(twinAt(4, { a: 1 }))
      .connect()
      .answer(twinAt(4, { b: 2 }));
    expect(bench.ordered.at(-1)).toBe('DeliverChange 4');
    const same = new Bench()
      .connect()
      .answer(twinAt(4, { a: 1 }))
      .connect()
      .answer(twinAt(4, { a: 1 }));
    expect(same.ordered.at(-1)).toMatch(/^ReadTwin/);
  });

  it('counts silences per read, not per life', () => {
    const bench = new Bench().connect().fail('silence').answer(twinAt(4)).push(6).fail('silence');
    expect(bench.ordered).not.toContain('GiveUp');
  });

  it('gives up at once when the hub refuses, or before anything is known', () => {
    expect(new Bench().connect().fail('refused').ordered.at(-1)).toBe('GiveUp');
    expect(new Bench().connect().fail('putOff').ordered.at(-1)).toBe('GiveUp');
  });

  it('waits longer each time when a throttling hub puts off a later read', () => {
    const bench = new Bench().connect().answer(twinAt(4)).push(6).fail('putOff').fail('putOff');
    bench.answer(twinAt(6, { n: 6 }));
    expect(bench.ordered.slice(1)).toEqual(['ReadTwin 0', 'ReadTwin 1', 'ReadTwin 2', 'DeliverChange 6']);
  });

  it('keeps the reported section up to date, also while it waits for an answer', () => {
    const bench = new Bench().connect().answer(twinAt(4));
    bench.feed({ type: 'ReportAccepted', version: 2, patch: { fw: '1', old: null } });
    expect(knownTwin(bench.sync)?.reported).toEqual({ version: 2, properties: { fw: '1' } });
    bench.connect().feed({ type: 'ReportAccepted', version: 3, patch: { fw: '2' } });
    expect(knownTwin(bench.sync)?.reported).toEqual({ version: 3, properties: { fw: '2' } });
  });
});

describe('a hub that floods', () => {
  it('makes one more read out of more pushes than are kept', () => {
    const kept = new Bench().connect();
    for (let version = 5; version < 5 + MAX_BUFFERED_PUSHES; version += 1) kept.push(version);
    kept.answer(twinAt(4));
    expect(kept.ordered.filter((order) => order.startsWith('ReadTwin'))).toHaveLength(1);
    expect(kept.desired?.version).toBe(4 + MAX_BUFFERED_PUSHES);

    const flooded = new Bench().connect();
    for (let version = 5; version <= 5 + 10 * MAX_BUFFERED_PUSHES; version += 1) {
      flooded.push(version);
      expect(flooded.sync).toHaveProperty(
        'pushes.length',
        expect.toSatisfy((kept) => kept <= MAX_BUFFERED_PUSHES),
      );
    }
    flooded.answer(twinAt(4));
    expect(flooded.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0']);
    flooded.answer(twinAt(5 + 10 * MAX_BUFFERED_PUSHES, { a: 1 }));
    expect(flooded.desired?.properties).toEqual({ a: 1 });
  });

  it('takes 100,000 pushes before an answer in its stride', () => {
    const bench = new Bench().connect();
    for (let version = 5; version < 100_000; version += 1) bench.push(version);
    expect(bench.answer(twinAt(100_000)).desired?.version).toBe(100_000);
  });

  it('waits longer and longer with reads that do not bring what the pushes tell of', () => {
    const bench = new Bench().connect().answer(twinAt(4));
    for (let round = 0; round < 6; round += 1) bench.push(90 + round).answer(twinAt(4));
    expect(bench.ordered.filter((order) => order.startsWith('ReadTwin'))).toEqual([
      'ReadTwin 0',
      'ReadTwin 0',
      'ReadTwin 0',
      'ReadTwin 1',
      'ReadTwin 2',
      'ReadTwin 3',
      'ReadTwin 4',
    ]);
  });

  it('waits with reads after pushes that cannot be read, and for nothing new', () => {
    const bench = new Bench().connect().answer(twinAt(4));
    for (let round = 0; round < 4; round += 1) bench.feed({ type: 'PushUnreadable' }).answer(twinAt(4));
    expect(bench.ordered).toEqual(['ReadTwin 0', 'ReadTwin 0', 'ReadTwin 0', 'ReadTwin 1', 'ReadTwin 2']);
  });

  it('is read at once again when a read was worth it, or the connection is new', () => {
    const bench = new Bench().connect().answer(twinAt(4));
    for (let round = 0; round < 3; round += 1) bench.push(90).answer(twinAt(4));
    bench.push(91).answer(twinAt(91));
    bench.ordered.length = 0;
    expect(bench.push(95).ordered).toEqual(['ReadTwin 0']);

    const lagging = new Bench().connect().answer(twinAt(4));
    for (let round = 0; round < 3; round += 1) lagging.push(90).answer(twinAt(4));
    lagging.ordered.length = 0;
    expect(lagging.connect().ordered).toEqual(['ReadTwin 0']);
  });

  it('is not blamed for reads after every lost push that bring it', () => {
    const bench = new Bench().connect().answer(twinAt(4));
    for (let version = 6; version < 60; version += 2) bench.push(version).answer(twinAt(version));
    expect(bench.ordered.filter((order) => order.startsWith('ReadTwin') && order !== 'ReadTwin 0')).toEqual([]);
  });
});

/** A hub that loses pushes, mixes them up with answers, drops the connection and forgets the identity. */
class WildHub {
  version = 1;
  properties: JsonObject = {};
  readonly #inbox: TwinSyncInput[] = [];

  write(patch: JsonObject, isPushed: boolean): void {
    this.version += 1;
    this.properties = mergePatch(this.properties, patch);
    if (isPushed) this.#inbox.push({ type: 'PushReceived', push: { version: this.version, patch } });
  }

  read(ticket: number): void {
    this.#inbox.push({ type: 'TwinAnswered', ticket, twin: twinAt(this.version, this.properties) });
  }

  /** Pushes and answers come from different parts of a hub: any of the first three may arrive next. */
  next(choice: number): TwinSyncInput | undefined {
    return this.#inbox.splice(choice % Math.max(1, Math.min(3, this.#inbox.length)), 1)[0];
  }

  recreate(): void {
    this.#inbox.length = 0;
    this.version = 1;
    this.properties = {};
  }

  drop(): void {
    this.#inbox.length = 0;
  }
}

type Event =
  | { readonly kind: 'write'; readonly patch: JsonObject; readonly isPushed: boolean }
  | { readonly kind: 'arrive'; readonly choice: number }
  | { readonly kind: 'silence' | 'reconnect' | 'recreate' };

const patch: fc.Arbitrary<JsonObject> = fc.dictionary(
  fc.constantFrom('a', 'b', 'c'),
  fc.oneof(
    fc.constant(null),
    fc.integer({ min: 0, max: 9 }),
    fc.dictionary(fc.constantFrom('x', 'y'), fc.constantFrom(null, 1, 2)),
  ),
  { maxKeys: 3 },
);

const event: fc.Arbitrary<Event> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('write' as const), patch, isPushed: fc.boolean() }) },
  { weight: 8, arbitrary: fc.record({ kind: fc.constant('arrive' as const), choice: fc.nat(2) }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constantFrom('silence', 'reconnect', 'recreate') }) as fc.Arbitrary<Event>,
  },
);

describe('the order rule under any interleaving', () => {
  it('brings the application to the hub’s state, each version once and in order', () => {
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), (events) => {
        const hub = new WildHub();
        let sync = newTwinSync();
        let app: Twin['desired'] | undefined;
        let isRecreated = false;
        let deliveries = 0;

        const feed = (input: TwinSyncInput): void => {
          const step = stepTwinSync(sync, input);
          sync = step.sync;
          for (const effect of step.effects) {
            if (effect.type === 'ReadTwin') hub.read(effect.ticket);
            if (effect.type === 'GiveUp') reconnect();
            if (effect.type !== 'DeliverChange') continue;
            const { change } = effect;
            deliveries += 1;
            // Before the initial twin is handed out nobody listens: what came with it is in it.
            if (app === undefined) continue;
            if (!isRecreated) expect(change.version).toBeGreaterThan(app.version);
            isRecreated = false;
            expect(mergePatch(app.properties, change.patch)).toEqual(change.desired.properties);
            app = change.desired;
          }
          app ??= knownTwin(sync)?.desired;
        };
        const reconnect = (): void => {
          hub.drop();
          feed({ type: 'Connected' });
        };
        feed({ type: 'Connected' });
        for (const happening of events) {
          if (happening.kind === 'write') hub.write(happening.patch, happening.isPushed);
          if (happening.kind === 'arrive') {
            const input = hub.next(happening.choice);
            if (input !== undefined) feed(input);
          }
          if (happening.kind === 'silence') feed({ type: 'ReadFailed', ticket: sync.ticket, reason: 'silence' });
          if (happening.kind === 'reconnect') reconnect();
          if (happening.kind === 'recreate') {
            hub.recreate();
            isRecreated = true;
            reconnect();
          }
        }
        // A push that is the last of all and lost can only be caught up with by the next push.
        hub.write({ last: 1 }, true);
        for (let input = hub.next(0); input !== undefined; input = hub.next(0)) feed(input);

        expect(app?.version).toBe(hub.version);
        expect(knownTwin(sync)?.desired).toEqual({ version: hub.version, properties: hub.properties });
        expect(deliveries).toBeLessThanOrEqual(events.length + 1);
      }),
      { numRuns: 500 },
    );
  });
});
