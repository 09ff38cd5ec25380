import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { ClientConnection } from '../../src/emulator/client-connection.js';
import type { EmulatorContext } from '../../src/emulator/context.js';
import { FaultSwitches } from '../../src/emulator/faults.js';
import type { TraceNote } from '../../src/emulator/trace.js';
import { ManualClock } from '../fakes/manual-clock.js';

/** The server's end of a connection whose other end is the test. */
class ServerStream extends Duplex {
  readonly sent: string[] = [];
  readonly #isStuck: boolean;

  constructor({ isStuck = false }: { readonly isStuck?: boolean } = {}) {
    super({ allowHalfOpen: true });
    this.#isStuck = isStuck;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    if (this.#isStuck) return;
    this.sent.push(chunk.toString());
    callback();
  }
}

/** A protocol of words: each is done as a step that answers with the same word. */
class WordConnection extends ClientConnection<string> {
  onClosed: () => void = () => {};

  protected override read(chunk: Buffer): void {
    this.units.push(...chunk.toString().split(' '));
  }

  protected override receive(word: string): void {
    if (word === 'quit') this.step('twinGet', () => this.end('it said so'));
    else if (word === 'bang') throw new Error('bang');
    else this.step('twinGet', () => this.write(Buffer.from(word)));
  }

  protected override whenWritten(fn: () => void): void {
    fn();
  }

  protected override closed(): void {
    this.onClosed();
  }

  say(bytes: Uint8Array): void {
    this.write(bytes);
  }

  letGo(): Duplex {
    return this.leave();
  }
}

interface Talk {
  readonly stream: ServerStream;
  readonly connection: WordConnection;
  readonly clock: ManualClock;
  readonly faults: FaultSwitches;
  readonly notes: TraceNote[];
  readonly closed: Promise<void>;
  /** What the client says, and what became of it. */
  hear(words: string): Promise<readonly string[]>;
}

function talk(stream: ServerStream = new ServerStream()): Talk {
  const clock = new ManualClock();
  const faults = new FaultSwitches();
  const notes: TraceNote[] = [];
  const context: EmulatorContext = {
    clock,
    world: { wallMs: () => clock.wallMs(), randomBytes: (count) => new Uint8Array(count) },
    scopes: new Map(),
    hubs: [],
    faults,
    unknownTopic: 'close',
    note: (note) => notes.push(note),
    nextConnection: () => 1,
  };
  const connection = new WordConnection(context, { stream, certificateChain: () => [] }, 'mqtt');
  connection.identify({ service: 'hub', hub: 'hub-a', device: 'dev-1' });
  const closed = new Promise<void>((resolve) => stream.once('close', resolve));
  const settle = (): Promise<void> => new Promise(setImmediate);
  const hear = async (words: string): Promise<readonly string[]> => {
    stream.push(words);
    await settle();
    return stream.sent.splice(0);
  };
  return { stream, connection, clock, faults, notes, closed, hear };
}

describe('a connection that ends', () => {
  it('leaves the client time to close, then cuts, and hears nothing more', async () => {
    const { stream, clock, notes, closed, hear } = talk();
    expect(await hear('one quit two')).toEqual(['one']);
    expect(await hear('three')).toEqual([]);
    // Read all the same: what lies unread in the socket would reset the line.
    expect(stream.readableLength).toBe(0);
    clock.advance(4_999);
    expect(stream.destroyed).toBe(false);
    clock.advance(1);
    await closed;
    expect(notes.at(-1)).toMatchObject({ event: 'close', detail: 'it said so', service: 'hub', device: 'dev-1' });
    expect(clock.pending).toBe(0);
  });

  it('has no timer left, and tells its protocol and the trace', async () => {
    const { stream, connection, clock, notes, closed } = talk();
    let fired = 0;
    let told = 0;
    connection.after(1000, () => {
      fired += 1;
    });
    connection.onClosed = () => {
      told += 1;
      throw new Error('of no use to anybody');
    };
    stream.destroy(new Error('reset'));
    await closed;
    expect([told, clock.pending]).toEqual([1, 0]);
    clock.advance(1000);
    expect(fired).toBe(0);
    expect(notes.map(({ event, detail }) => [event, detail])).toEqual([['close', 'reset']]);
  });

  it('is cut for what cannot be handled', async () => {
    const { notes, closed, hear } = talk();
    expect(await hear('bang one')).toEqual([]);
    await closed;
    expect(notes).toMatchObject([{ event: 'violation', detail: 'cannot be handled: bang' }, { event: 'close' }]);
  });

  it('is cut when its client does not read', async () => {
    const { connection, notes, closed } = talk(new ServerStream({ isStuck: true }));
    connection.say(new Uint8Array(8 * 1024 * 1024));
    expect(notes).toEqual([]);
    connection.say(Uint8Array.of(0));
    await closed;
    expect(notes).toMatchObject([{ event: 'violation', detail: 'the client does not read' }, { event: 'close' }]);
  });
});

describe('a connection that is left', () => {
  it('is the next one’s, without a trace or a timer of the first', async () => {
    const { stream, connection, clock, notes, closed, hear } = talk();
    connection.after(1000, () => connection.drop('too late'));
    const before = stream.listenerCount('data');
    expect(connection.letGo()).toBe(stream);
    expect([before, stream.listenerCount('data'), stream.listenerCount('error')]).toEqual([1, 0, 0]);
    expect(clock.pending).toBe(0);
    expect(await hear('one')).toEqual([]);
    stream.destroy();
    await closed;
    expect(notes).toEqual([]);
  });
});

describe('a fault switch', () => {
  it('that waits for an end lets the client be heard out, so that it can close', async () => {
    const { stream, clock, faults, hear } = talk();
    faults.add({ at: 'hub.twinGet', action: { kind: 'wait', ms: 500 } });
    await hear('quit');
    clock.advance(500);
    expect(stream.isPaused()).toBe(false);
    expect(await hear('one')).toEqual([]);
    expect(stream.readableLength).toBe(0);
  });

  it('that waits holds everything else back, in order', async () => {
    const { stream, clock, faults, hear } = talk();
    faults.add({ at: 'hub.twinGet', action: { kind: 'wait', ms: 500 }, times: 1 });
    expect(await hear('one two')).toEqual([]);
    expect(stream.isPaused()).toBe(true);
    clock.advance(500);
    expect(stream.sent.splice(0)).toEqual(['one', 'two']);
    expect(await hear('three')).toEqual(['three']);
  });

  it('that waits also holds back what the service says of its own', async () => {
    const { stream, connection, clock, faults, hear } = talk();
    faults.add({ at: 'hub.twinGet', action: { kind: 'wait', ms: 500 }, times: 1 });
    await hear('one');
    connection.step('desiredPush', () => connection.say(Buffer.from('pushed')));
    expect(stream.sent).toEqual([]);
    clock.advance(500);
    expect(stream.sent).toEqual(['one', 'pushed']);
  });

  it('that cuts ends the connection before the answer, or right behind it', async () => {
    for (const [when, answer] of [
      ['before', []],
      ['after', ['one']],
    ] as const) {
      const { stream, clock, faults, notes, closed, hear } = talk();
      faults.add({ at: 'hub.twinGet', action: { kind: 'cut', when } });
      expect(await hear('one')).toEqual(answer);
      await closed;
      expect(stream.destroyed).toBe(true);
      expect(notes.at(-1)).toMatchObject({ event: 'close', detail: 'fault: cut' });
      expect(clock.pending).toBe(0);
    }
  });
});
