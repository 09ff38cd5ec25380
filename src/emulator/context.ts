import type { Clock } from '../core/clock.js';
import type { FaultSwitches } from './faults.js';
import type { Hub } from './hub.js';
import type { ProvisioningScope } from './service.js';
import type { TraceNote } from './trace.js';
import type { World } from './world.js';

/** What every endpoint works with. */
export interface EmulatorContext {
  readonly clock: Clock;
  readonly world: World;
  readonly scopes: ReadonlyMap<string, ProvisioningScope>;
  readonly hubs: readonly Hub[];
  readonly faults: FaultSwitches;
  /** What happens to a device that publishes where nothing is. The real reaction is not known. */
  readonly unknownTopic: 'close' | 'ignore';
  note(note: TraceNote): void;
  /** Numbers connections, from 1. */
  nextConnection(): number;
}
