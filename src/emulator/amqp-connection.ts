/**
 * One AMQP 1.0 connection on the server's side: bytes to frames, the SASL layer where the client wants one, deadlines,
 * and the places where fault switches reach in. What links and messages mean is the handler's business.
 */
import type { Duplex } from 'node:stream';
import type { EventContext } from 'rhea';
import { decodeBase64 } from '../core/bytes.js';
import {
  AMQP_HEADER,
  AmqpFrameReader,
  protocolOf,
  readSaslFrame,
  SASL_HEADER,
  saslChallenge,
  saslMechanisms,
  saslOutcome,
} from './amqp-frames.js';
import { AmqpServerCodec } from './amqp-rhea.js';
import { SASL_MECHANISMS, SaslDialogue, type SaslIdentity, type SaslMove, type TpmOpening } from './amqp-sasl.js';
import type { Carrier } from './carrier.js';
import type { EmulatorContext } from './context.js';
import type { FaultPoint } from './fault.js';
import type { TakenFault } from './faults.js';
import type { StepName } from './mqtt-connection.js';
import type { TraceNote } from './trace.js';
import { makeGuid } from './world.js';

/** Whom the connection turned out to be. */
export interface AmqpSubject {
  readonly service: 'dps' | 'hub';
  readonly idScope?: string;
  readonly hub?: string;
  readonly device: string;
}

/** What the conversation means. */
export interface AmqpHandler {
  /** The key blob for a TPM; `undefined` when it is turned away. */
  wrapKey(opening: TpmOpening, storageRootKey: Uint8Array, fault: TakenFault | undefined): Uint8Array | undefined;
  /** Whether the SASL layer ends well. */
  admit(identity: SaslIdentity): boolean;
  attached(context: EventContext): void;
  detached(context: EventContext): void;
  message(context: EventContext): void;
  sendable(): void;
  settled(context: EventContext, outcome: 'accepted' | 'released' | 'rejected' | 'modified'): void;
  closed(): void;
}

/** From the first byte to the OPEN. */
const OPEN_DEADLINE_MS = 30_000;

/** What may wait in memory for a client that does not read. */
const MAX_UNSENT_BYTES = 8 * 1024 * 1024;

/** How long a client that was turned away may take to close. */
const LINGER_MS = 5_000;

const OUTCOME_OK = 0;
const OUTCOME_AUTH = 1;

export class AmqpConnection {
  readonly number: number;
  readonly certificateChain: () => readonly Uint8Array[];
  /** The host name of the client's OPEN; empty before it. */
  hostName = '';
  /** What the SASL layer found out; `undefined` where the client wanted none. */
  identity: SaslIdentity | undefined;
  readonly #context: EmulatorContext;
  readonly #stream: Duplex;
  readonly #handler: AmqpHandler;
  readonly #reader = new AmqpFrameReader();
  readonly #units: Uint8Array[] = [];
  readonly #tasks: (() => void)[] = [];
  readonly #cancelers = new Set<() => void>();
  #phase: 'header' | 'sasl' | 'amqp header' | 'amqp' = 'header';
  #dialogue = new SaslDialogue();
  #codec: AmqpServerCodec | undefined;
  #subject: AmqpSubject | undefined;
  #isHeld = false;
  #isOver = false;
  #closeReason: string | undefined;

  constructor(context: EmulatorContext, carrier: Carrier, makeHandler: (connection: AmqpConnection) => AmqpHandler) {
    const { stream } = carrier;
    this.number = carrier.number ?? context.nextConnection();
    this.certificateChain = carrier.certificateChain;
    this.#context = context;
    this.#stream = stream;
    this.#handler = makeHandler(this);
    stream.on('data', (chunk: Buffer) => this.#read(chunk));
    stream.on('error', (error) => this.drop(error.message));
    stream.on('end', () => stream.end());
    stream.on('close', () => this.#closed());
    const stopDeadline = this.after(OPEN_DEADLINE_MS, () => this.violate('no OPEN within 30 s'));
    this.#onOpened = stopDeadline;
  }

  /** From here on the connection belongs to somebody. */
  identify(subject: AmqpSubject): void {
    this.#subject = subject;
  }

  /** Does one step of the conversation in its turn, or what a fault switch makes of it. */
  step(name: StepName, perform: (fault: TakenFault | undefined) => void): void {
    this.#schedule(() => {
      const subject = this.#subject;
      if (subject === undefined) return;
      const point = `${subject.service}.${name}` as FaultPoint;
      const { service: _, ...who } = subject;
      const fault = this.#context.faults.take(point, { protocol: 'amqp', ...who });
      if (fault === undefined) {
        perform(undefined);
        return;
      }
      this.note({ event: 'fault', detail: `${point}: ${fault.kinds}` });
      this.#stepWithFault(fault, perform);
    });
  }

  /** Ends the connection without a frame. */
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
    const cancel = this.#context.clock.after(delayMs, () => {
      this.#cancelers.delete(cancel);
      if (!this.#isOver) this.#guard(fn);
    });
    this.#cancelers.add(cancel);
    return cancel;
  }

  note(note: Omit<TraceNote, 'service' | 'protocol' | 'connection'>): void {
    const subject = this.#subject ?? { service: 'none' as const };
    this.#context.note({ ...subject, protocol: 'amqp', connection: this.number, ...note });
  }

  #onOpened: () => void;

  #read(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#guard(() => this.#units.push(...this.#reader.push(chunk)));
    this.#work();
  }

  #work(): void {
    while (!this.#isHeld && !this.#isOver) {
      const task = this.#tasks.shift();
      const unit = task === undefined ? this.#units.shift() : undefined;
      if (task !== undefined) this.#guard(task);
      else if (unit !== undefined) this.#guard(() => this.#receive(unit));
      else return;
    }
  }

  #receive(unit: Uint8Array): void {
    const protocol = protocolOf(unit);
    if (this.#phase === 'amqp' && protocol === undefined) this.#codec?.push(unit);
    else if (this.#phase === 'sasl' && protocol === undefined) this.#receiveSasl(unit);
    else if (this.#phase === 'header' && protocol === 'sasl') this.#beginSasl();
    else if ((this.#phase === 'header' || this.#phase === 'amqp header') && protocol === 'amqp') this.#beginAmqp();
    else if (this.#phase === 'header' && protocol === 'unknown') this.#refuseProtocol();
    else this.violate(`a ${protocol === undefined ? 'frame' : 'protocol header'} is out of place`);
  }

  /** Part 2, section 2.2: an answer with the header that is spoken, and the end. */
  #refuseProtocol(): void {
    this.#write(AMQP_HEADER);
    this.#end('only AMQP 1.0 is spoken here');
  }

  #beginSasl(): void {
    this.#phase = 'sasl';
    this.#write(SASL_HEADER);
    this.#write(saslMechanisms(SASL_MECHANISMS));
  }

  #receiveSasl(frame: Uint8Array): void {
    const read = readSaslFrame(frame);
    if (read === undefined) this.violate('a frame that has no place in the SASL layer');
    else this.#makeMove(this.#dialogue.next(read));
  }

  #makeMove(move: SaslMove): void {
    switch (move.kind) {
      case 'challenge':
        this.#write(saslChallenge(move.bytes));
        break;
      case 'wrapKey':
        this.#wrapKey(move.opening, move.storageRootKey);
        break;
      case 'verify':
        if (this.#handler.admit(move.identity)) this.#endSasl(move.identity);
        else this.#refuseSasl();
        break;
      case 'refuse':
        this.note({ event: 'refused', detail: move.reason });
        this.#refuseSasl();
        break;
    }
  }

  #wrapKey(opening: TpmOpening, storageRootKey: Uint8Array): void {
    const { idScope, registrationId } = opening;
    this.identify({ service: 'dps', idScope, device: registrationId });
    this.step('challenge', (fault) => {
      const blob = this.#handler.wrapKey(opening, storageRootKey, fault);
      if (blob === undefined) this.#refuseSasl();
      else this.#makeMove(this.#dialogue.sendKey(blob));
    });
  }

  #endSasl(identity: SaslIdentity): void {
    this.identity = identity;
    this.#phase = 'amqp header';
    this.#write(saslOutcome(OUTCOME_OK));
  }

  #refuseSasl(): void {
    this.#write(saslOutcome(OUTCOME_AUTH));
    this.#end('turned away in the SASL layer');
  }

  #beginAmqp(): void {
    this.#phase = 'amqp';
    const guarded =
      <A extends unknown[]>(work: (...values: A) => void) =>
      (...values: A): void =>
        this.#guard(() => work(...values));
    this.#codec = new AmqpServerCodec(makeGuid(this.#context.world), {
      write: (bytes) => this.#write(bytes),
      over: (reason) => {
        if (reason === undefined) this.#closedByClient();
        else this.violate(`not as AMQP allows: ${reason}`);
      },
      opened: (hostName) => {
        this.hostName = hostName;
        this.#onOpened();
      },
      attached: guarded((context: EventContext) => this.#handler.attached(context)),
      detached: guarded((context: EventContext) => this.#handler.detached(context)),
      sendable: guarded(() => this.#handler.sendable()),
      message: guarded((context: EventContext) => this.#handler.message(context)),
      settled: guarded((context: EventContext, outcome) => this.#handler.settled(context, outcome)),
    });
    this.#codec.push(AMQP_HEADER);
  }

  #closedByClient(): void {
    if (this.#isOver) return;
    this.note({ event: 'disconnect' });
    this.#end('the client closed the connection');
  }

  #stepWithFault(fault: TakenFault, perform: (fault: TakenFault) => void): void {
    const cut = fault.find('cut');
    const wait = fault.find('wait');
    const proceed = (): void => {
      const raw = fault.find('raw');
      if (cut !== undefined && cut.when !== 'after') this.drop('fault: cut');
      else if (raw !== undefined) this.#write(decodeBase64(raw.base64) ?? new Uint8Array());
      else if (fault.find('silent') === undefined) perform(fault);
      // The codec writes a little later.
      if (cut !== undefined) setImmediate(() => this.#finish('fault: cut'));
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

  #schedule(task: () => void): void {
    if (this.#isHeld) this.#tasks.push(task);
    else if (!this.#isOver) this.#guard(task);
  }

  #write(bytes: Uint8Array): void {
    if (this.#isOver || this.#stream.destroyed) return;
    this.#stream.write(bytes);
    if (this.#stream.writableLength > MAX_UNSENT_BYTES) this.violate('the client does not read');
  }

  /** Sends what is on its way and closes; the client may close first. */
  #end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#closeReason = reason;
    this.#stream.end();
    this.#stream.resume();
    this.#cancelers.add(this.#context.clock.after(LINGER_MS, () => this.#stream.destroy()));
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
    for (const cancel of this.#cancelers) cancel();
    this.#cancelers.clear();
    this.#codec?.end();
    try {
      this.#handler.closed();
    } finally {
      this.note({ event: 'close', detail: this.#closeReason ?? 'the client closed' });
    }
  }

  /** No frame may take the process down, whatever is in it. */
  #guard(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.violate(`cannot be handled: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
}
