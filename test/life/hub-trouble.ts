import type { JourneyInput, JourneyState } from '../../src/core/journey.js';
import type { DpsError } from '../../src/errors.js';

const STEADY_MS = 60_000;

/** What a failure at the hub is, by the table in docs/life.md; written down here once more, not taken from the client. */
export type HubFailure = 'refused' | 'refusedForGood' | 'throttled' | 'untrusted' | 'unreachable';

const KINDS: ReadonlyMap<string, HubFailure> = new Map([
  ['ERR_DPS_CONNACK_UNAUTHORIZED', 'refused'],
  ['ERR_DPS_HSM_TPM_NO_IDENTITY', 'refusedForGood'],
  ['ERR_DPS_SERVICE_THROTTLED', 'throttled'],
  ['ERR_DPS_TLS_UNTRUSTED', 'untrusted'],
  ['ERR_DPS_CLOCK_IMPLAUSIBLE', 'untrusted'],
]);

/** One input, and the states around it. */
export interface Heard {
  readonly input: JourneyInput;
  readonly before: JourneyState['name'];
  readonly state: JourneyState;
  readonly monotonicMs: number;
}

/** How often a device's hub has failed it, as somebody counts who looks on. */
export class HubTrouble {
  refusals = 0;
  failures = 0;
  #firstFailureMs: number | undefined;
  #arrivedMs = 0;
  /** The last failure; undefined: none since a hub was named, or has accepted the device. */
  last: HubFailure | undefined;

  /** For how long the hub has been failing. */
  failingForMs(monotonicMs: number): number {
    return this.#firstFailureMs === undefined ? 0 : monotonicMs - this.#firstFailureMs;
  }

  /** DPS has named a hub, or a process begins. */
  clear(): void {
    this.refusals = 0;
    this.last = undefined;
    this.#clearFailures();
  }

  arrived(monotonicMs: number): void {
    this.refusals = 0;
    this.last = undefined;
    this.#arrivedMs = monotonicMs;
  }

  /** Gives the failure that this was, if it was one. */
  hear({ input, before, state, monotonicMs }: Heard): HubFailure | undefined {
    // DPS could not help: the hub has its tries anew, but one that refused stays one that refused.
    if (before === 'AwaitingReturn') this.#clearFailures();
    const error = failureAtHub(input, before, state.name);
    if (error === undefined) return undefined;
    if (input.type === 'HubLost' && monotonicMs - this.#arrivedMs >= STEADY_MS) this.clear();
    this.last = error === 'silence' ? 'unreachable' : (KINDS.get(error.code) ?? 'unreachable');
    if (this.last === 'throttled') this.clear();
    if (this.last === 'refused' || this.last === 'refusedForGood') this.refusals += 1;
    if (this.last === 'unreachable') {
      this.failures += 1;
      this.#firstFailureMs ??= monotonicMs;
    }
    return this.last ?? 'throttled';
  }

  #clearFailures(): void {
    this.failures = 0;
    this.#firstFailureMs = undefined;
  }
}

function failureAtHub(
  input: JourneyInput,
  before: JourneyState['name'],
  after: JourneyState['name'],
): DpsError | 'silence' | undefined {
  if (before === 'Online') return input.type === 'HubLost' ? input.error : undefined;
  if (before !== 'AwaitingHub') return undefined;
  if (input.type === 'OperationFailed') return input.error;
  return input.type === 'Woke' && after !== 'AwaitingHub' ? 'silence' : undefined;
}
