/**
 * Switches that make the emulator misbehave on purpose. One mechanism: a fault says where, what, how often and for whom;
 * at every step the first fault in order of adding that fits is applied, so several make a script.
 */
import type { Fault, FaultAction, FaultPoint, FaultSubject } from './fault.js';
import { readFault } from './fault-reader.js';

export interface FaultControls {
  /** @throws {ConfigurationError} when an action cannot happen at that step. @returns what takes the fault back. */
  add(fault: Fault): () => void;
  clear(): void;
  /** Faults that still wait for their step. */
  pending(): readonly Fault[];
}

/** The actions that apply to one step. */
export class TakenFault {
  readonly #actions: readonly FaultAction[];

  constructor(actions: readonly FaultAction[]) {
    this.#actions = actions;
  }

  find<K extends FaultAction['kind']>(kind: K): Extract<FaultAction, { kind: K }> | undefined {
    return this.#actions.find((action): action is Extract<FaultAction, { kind: K }> => action.kind === kind);
  }

  get kinds(): string {
    return this.#actions.map((action) => action.kind).join('+');
  }
}

interface ArmedFault {
  readonly fault: Fault;
  readonly actions: readonly FaultAction[];
  skip: number;
  left: number;
}

export class FaultSwitches implements FaultControls {
  #armed: ArmedFault[] = [];

  add(fault: Fault): () => void {
    const checked = readFault(fault, 'fault');
    const actions = actionsOf(checked);
    const armed = { fault: checked, actions, skip: checked.skip ?? 0, left: checked.times ?? Number.POSITIVE_INFINITY };
    this.#armed.push(armed);
    return () => {
      this.#armed = this.#armed.filter((other) => other !== armed);
    };
  }

  clear(): void {
    this.#armed = [];
  }

  pending(): readonly Fault[] {
    return this.#armed.map((armed) => armed.fault);
  }

  /** The first fault that fits this step, counted down. */
  take(point: FaultPoint, subject: FaultSubject): TakenFault | undefined {
    const armed = this.#armed.find((candidate) => candidate.fault.at === point && fits(candidate.fault.when, subject));
    if (armed === undefined) return undefined;
    if (armed.skip > 0) {
      armed.skip -= 1;
      return undefined;
    }
    armed.left -= 1;
    if (armed.left <= 0) this.#armed = this.#armed.filter((other) => other !== armed);
    return new TakenFault(armed.actions);
  }
}

function actionsOf(fault: Fault): readonly FaultAction[] {
  return Array.isArray(fault.action) ? (fault.action as readonly FaultAction[]) : [fault.action as FaultAction];
}

function fits(when: FaultSubject | undefined, subject: FaultSubject): boolean {
  if (when === undefined) return true;
  return (
    (when.protocol === undefined || when.protocol === subject.protocol) &&
    (when.idScope === undefined || when.idScope === subject.idScope) &&
    (when.hub === undefined || when.hub === subject.hub) &&
    (when.device === undefined || when.device.toLowerCase() === subject.device?.toLowerCase())
  );
}
