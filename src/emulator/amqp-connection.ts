/**
 * One AMQP 1.0 connection on the server's side: bytes to frames, the SASL layer where the client wants one, the deadline
 * of OPEN. What links and messages mean is the handler's business.
 */
import type { EventContext } from 'rhea';
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
import { ClientConnection } from './client-connection.js';
import type { EmulatorContext } from './context.js';
import type { TakenFault } from './faults.js';
import { makeGuid } from './world.js';

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

const OUTCOME_OK = 0;
const OUTCOME_AUTH = 1;

export class AmqpConnection extends ClientConnection<Uint8Array> {
  /** The host name of the client's OPEN; empty before it. */
  hostName = '';
  /** What the SASL layer found out; `undefined` where the client wanted none. */
  identity: SaslIdentity | undefined;
  readonly #handler: AmqpHandler;
  readonly #reader = new AmqpFrameReader();
  readonly #stopDeadline: () => void;
  #phase: 'header' | 'sasl' | 'amqp header' | 'amqp' = 'header';
  #dialogue = new SaslDialogue();
  #codec: AmqpServerCodec | undefined;

  constructor(context: EmulatorContext, carrier: Carrier, makeHandler: (connection: AmqpConnection) => AmqpHandler) {
    super(context, carrier, 'amqp');
    const { stream } = carrier;
    this.#handler = makeHandler(this);
    stream.on('end', () => stream.end());
    this.#stopDeadline = this.after(OPEN_DEADLINE_MS, () => this.violate('no OPEN within 30 s'));
  }

  /** The codec writes a little later. */
  protected override whenWritten(fn: () => void): void {
    setImmediate(fn);
  }

  protected override closed(): void {
    this.#codec?.end();
    this.#handler.closed();
  }

  protected override read(chunk: Buffer): void {
    this.guard(() => this.units.push(...this.#reader.push(chunk)));
  }

  protected override receive(unit: Uint8Array): void {
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
    this.write(AMQP_HEADER);
    this.end('only AMQP 1.0 is spoken here');
  }

  #beginSasl(): void {
    this.#phase = 'sasl';
    this.write(SASL_HEADER);
    this.write(saslMechanisms(SASL_MECHANISMS));
  }

  #receiveSasl(frame: Uint8Array): void {
    const read = readSaslFrame(frame);
    if (read === undefined) this.violate('a frame that has no place in the SASL layer');
    else this.#makeMove(this.#dialogue.next(read));
  }

  #makeMove(move: SaslMove): void {
    switch (move.kind) {
      case 'challenge':
        this.write(saslChallenge(move.bytes));
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
    this.write(saslOutcome(OUTCOME_OK));
  }

  #refuseSasl(): void {
    this.write(saslOutcome(OUTCOME_AUTH));
    this.end('turned away in the SASL layer');
  }

  #beginAmqp(): void {
    this.#phase = 'amqp';
    const guarded =
      <A extends unknown[]>(work: (...values: A) => void) =>
      (...values: A): void =>
        this.guard(() => work(...values));
    this.#codec = new AmqpServerCodec(makeGuid(this.context.world), {
      write: (bytes) => this.write(bytes),
      over: (reason) => {
        if (reason === undefined) this.#closedByClient();
        else this.violate(`not as AMQP allows: ${reason}`);
      },
      opened: (hostName) => {
        this.hostName = hostName;
        this.#stopDeadline();
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
    if (this.isOver) return;
    this.note({ event: 'disconnect' });
    this.end('the client closed the connection');
  }
}
