import type { Duplex } from 'node:stream';
import { decodeBase64 } from '../core/bytes.js';
import type { Carrier } from './carrier.js';
import type { EmulatorContext } from './context.js';
import type { FaultPoint } from './fault.js';
import type { TakenFault } from './faults.js';
import type { TraceNote } from './trace.js';

/** What may wait in memory for a client that does not read. */
const MAX_UNSENT_BYTES = 8 * 1024 * 1024;

/** How long a client that was turned away may take to close. */
const LINGER_MS = 5_000;

/** Whom the connection turned out to be. */
export interface ConnectionSubject {
  readonly service: 'dps' | 'hub';
  readonly idScope?: string;
  readonly hub?: string;
  readonly device: string;
}

/** The part of a fault point after the service. */
export type StepName = FaultPoint extends `${'dps' | 'hub'}.${infer Name}` ? Name : never;

/**
 * One client's connection on the server's side, whatever is spoken on it: whose it is, what is done in its turn, the
 * places where fault switches reach in, and how it ends. Its protocol makes units of the bytes, and knows what each means.
 */
export abstract class ClientConnection<Unit> {
  readonly number: number;
  readonly certificateChain: Carrier['certificateChain'];
  protected readonly context: EmulatorContext;
  /** What has been read and waits for its turn. */
  protected readonly units: Unit[] = [];
  readonly #protocol: 'mqtt' | 'amqp';
  readonly #stream: Duplex;
  readonly #listeners = [
    ['data', (chunk: Buffer) => this.#read(chunk)],
    ['error', (error: Error) => this.drop(error.message)],
    ['close', () => this.#closed()],
  ] as const;
  readonly #tasks: (() => void)[] = [];
  readonly #cancelers = new Set<() => void>();
  #subject: ConnectionSubject | undefined;
  #isHeld = false;
  #isOver = false;
  #closeReason: string | undefined;

  constructor(context: EmulatorContext, carrier: Carrier, protocol: 'mqtt' | 'amqp') {
    const { stream, number, certificateChain } = carrier;
    this.number = number ?? context.nextConnection();
    this.certificateChain = certificateChain;
    this.context = context;
    this.#protocol = protocol;
    this.#stream = stream;
    for (const [event, listener] of this.#listeners) stream.on(event, listener);
  }

  /** Makes units of what came in. */
  protected abstract read(chunk: Buffer): void;
  protected abstract receive(unit: Unit): void;
  /** Calls `fn` when all that has been said is written to the stream. */
  protected abstract whenWritten(fn: () => void): void;
  /** The stream is gone. */
  protected abstract closed(): void;

  /** From here on the connection belongs to somebody. */
  identify(subject: ConnectionSubject): void {
    this.#subject = subject;
  }

  /** Does one step of the conversation in its turn, or what a fault switch makes of it. */
  step(name: StepName, perform: (fault: TakenFault | undefined) => void): void {
    this.#schedule(() => {
      const subject = this.#subject;
      if (subject === undefined) return;
      const point = `${subject.service}.${name}` as FaultPoint;
      const { service: _, ...who } = subject;
      const fault = this.context.faults.take(point, { protocol: this.#protocol, ...who });
      if (fault === undefined) {
        perform(undefined);
        return;
      }
      this.note({ event: 'fault', detail: `${point}: ${fault.kinds}` });
      this.#stepWithFault(fault, perform);
    });
  }

  /** Ends the connection without a word. */
  drop(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeReason = reason;
    this.#stream.destroy();
  }

  /** Ends the connection because of what the client did. */
  violate(reason: string): void {
    if (this.#isOver) return;
    this.note({ event: 'violation', detail: reason });
    this.drop(reason);
  }

  /** Calls `fn` after a time, unless the connection is gone by then. */
  after(delayMs: number, fn: () => void): () => void {
    const cancel = this.context.clock.after(delayMs, () => {
      this.#cancelers.delete(cancel);
      if (!this.#isOver) this.guard(fn);
    });
    this.#cancelers.add(cancel);
    return cancel;
  }

  note(note: Omit<TraceNote, 'service' | 'protocol' | 'connection'>): void {
    const subject = this.#subject ?? { service: 'none' as const };
    this.context.note({ ...subject, protocol: this.#protocol, connection: this.number, ...note });
  }

  protected get isOver(): boolean {
    return this.#isOver;
  }

  protected write(bytes: Uint8Array): void {
    if (this.#isOver || this.#stream.destroyed) return;
    this.#stream.write(bytes);
    if (this.#stream.writableLength > MAX_UNSENT_BYTES) this.violate('the client does not read');
  }

  /** Sends what is on its way and closes; the client may close first, so that nothing it still sends resets the line. */
  protected end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeReason = reason;
    this.#stream.end();
    this.#stream.resume();
    this.#cancelers.add(this.context.clock.after(LINGER_MS, () => this.#stream.destroy()));
  }

  /** Lets go of the stream as it is, for somebody else to go on with. */
  protected leave(): Duplex {
    this.#isOver = true;
    this.#cancelAll();
    for (const [event, listener] of this.#listeners) this.#stream.off(event, listener);
    return this.#stream;
  }

  /** Nothing that comes in may take the process down, whatever is in it. */
  protected guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.violate(`cannot be handled: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #read(chunk: Buffer): void {
    if (this.#isOver) return;
    this.read(chunk);
    this.#work();
  }

  #work(): void {
    while (!this.#isHeld && !this.#isOver) {
      const task = this.#tasks.shift();
      const unit = task === undefined ? this.units.shift() : undefined;
      if (task !== undefined) this.guard(task);
      else if (unit !== undefined) this.guard(() => this.receive(unit));
      else return;
    }
  }

  #schedule(task: () => void): void {
    if (this.#isHeld) this.#tasks.push(task);
    else if (!this.#isOver) this.guard(task);
  }

  #stepWithFault(fault: TakenFault, perform: (fault: TakenFault) => void): void {
    const cut = fault.find('cut');
    const wait = fault.find('wait');
    const proceed = (): void => {
      const raw = fault.find('raw');
      if (cut !== undefined && cut.when !== 'after') this.drop('fault: cut');
      else if (raw !== undefined) this.write(decodeBase64(raw.base64) ?? new Uint8Array());
      else if (fault.find('silent') === undefined) perform(fault);
      if (cut !== undefined) this.whenWritten(() => this.#finish('fault: cut'));
    };
    if (wait === undefined) proceed();
    else this.#hold(wait.ms, proceed);
  }

  /** Nothing else happens on this connection until `fn` has run; what comes meanwhile waits in order. */
  #hold(delayMs: number, fn: () => void): void {
    this.#isHeld = true;
    this.#stream.pause();
    this.after(delayMs, () => {
      this.#isHeld = false;
      fn();
      this.#work();
      if (!this.#isHeld && !this.#isOver) this.#stream.resume();
    });
  }

  /** Sends what is on its way and closes at once. */
  #finish(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeReason = reason;
    this.#stream.end(() => this.#stream.destroy());
  }

  #closed(): void {
    this.#isOver = true;
    this.#cancelAll();
    this.guard(() => this.closed());
    this.note({ event: 'close', detail: this.#closeReason ?? 'the client closed' });
  }

  #cancelAll(): void {
    for (const cancel of this.#cancelers) cancel();
    this.#cancelers.clear();
  }
}
