import type { Connection } from 'rhea';

/** Fields that are counted with: rhea does so whatever type they came in. */
const NUMBERS: Readonly<Record<string, readonly string[]>> = {
  open: ['max_frame_size', 'channel_max', 'idle_time_out'],
  begin: ['remote_channel', 'next_outgoing_id', 'incoming_window', 'outgoing_window', 'handle_max'],
  attach: ['handle', 'initial_delivery_count'],
  flow: [
    'next_incoming_id',
    'incoming_window',
    'next_outgoing_id',
    'outgoing_window',
    'handle',
    'delivery_count',
    'link_credit',
  ],
  transfer: ['handle', 'delivery_id', 'message_format'],
  disposition: ['first', 'last'],
  detach: ['handle'],
};

/** AMQP 1.0, part 2, section 2.7.1: what every peer takes. rhea would cut a message into smaller pieces for ever. */
const MIN_MAX_FRAME_BYTES = 512;

/** rhea visits each delivery that is settled; there could be four billion. */
const MAX_VISITS = 4096;

type Performative = Readonly<Record<string, unknown>>;
type Handler = (frame: { readonly performative: Performative }) => void;

interface Internals {
  readonly socket?: { end(): void };
  _process(): void;
  dispatch(name: string, error: unknown): boolean;
}

/**
 * Has rhea take no frame that it would never come to an end with. It says `error` then; and also where it would throw in a
 * tick of its own, which ends the process.
 */
export function guardConnection(connection: Connection): void {
  const handlers = connection as unknown as Record<string, Handler>;
  for (const name of Object.keys(NUMBERS)) {
    const handle = handlers[`on_${name}`];
    handlers[`on_${name}`] = (frame) => {
      const problem = problemWith(name, frame.performative);
      if (problem !== undefined) throw new Error(problem);
      handle?.call(connection, frame);
    };
  }
  const internals = connection as unknown as Internals;
  const work = internals._process;
  internals._process = () => {
    try {
      work.call(internals);
    } catch (error) {
      internals.dispatch('error', error);
      internals.socket?.end();
    }
  };
}

function problemWith(name: string, performative: Performative): string | undefined {
  if (!Array.isArray(performative.value)) return `${name} without a list of fields`;
  const field = NUMBERS[name]?.find((each) => !isAbsent(performative[each]) && !isUint(performative[each]));
  if (field !== undefined) return `${name} whose ${field} is no number`;
  const { max_frame_size: frameBytes, first, last } = performative;
  if (isUint(frameBytes) && frameBytes < MIN_MAX_FRAME_BYTES) return `frames of at most ${frameBytes} bytes`;
  if (isUint(first) && isUint(last) && last - first > MAX_VISITS) return `${last - first} deliveries settled at once`;
  return undefined;
}

function isAbsent(value: unknown): value is undefined | null {
  return value === undefined || value === null;
}

function isUint(value: unknown): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
}
