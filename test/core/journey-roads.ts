import type { JourneyConfig, JourneyState } from '../../src/core/journey.js';
import { assignedTo, found, JourneyDriver, lost, TPM_ASSIGNED, TWIN } from './journey-driver.js';

export const MINUTE_MS = 60_000;
/** A life, with a store. */
export const KEEP = { purpose: 'keep', hasStore: true } as const;
/** A device with a TPM. */
export const tpm = (more: Partial<JourneyConfig> = {}): JourneyDriver =>
  new JourneyDriver({ attestation: 'tpm', ...more });

/** The hub's twin after the device has reported something. */
export const CHANGED = { ...TWIN, reported: { version: 10, properties: { on: true } } };

/** The states that a journey can be cancelled in. */
export type UnfinishedState = Exclude<JourneyState['name'], 'Done'>;

/** How each state is reached, once and for a life. */
export const ROADS: Record<UnfinishedState, (config: Partial<JourneyConfig>) => JourneyDriver> = {
  Idle: (config) => new JourneyDriver(config),
  AwaitingRecord: (config) => new JourneyDriver({ ...config, hasStore: true }).start(),
  AwaitingStart: (config) => {
    const driver = new JourneyDriver({ ...config, startSpreadMs: 1_000 });
    driver.random = 0.5;
    return driver.start();
  },
  Registering: (config) => new JourneyDriver(config).start(),
  AwaitingNote: (config) => moved({ ...config, hasStore: true }),
  AwaitingStaging: (config) => tpm(config).register(TPM_ASSIGNED),
  AwaitingHub: (config) => new JourneyDriver(config).register(),
  AwaitingHubRetry: (config) => new JourneyDriver(config).register().fails(lost()),
  AwaitingCommit: (config) => tpm(config).register(TPM_ASSIGNED).staged().hubReached(),
  AwaitingSave: () => new JourneyDriver({ hasStore: true }).load({ kind: 'none' }).answer().hubReached(),
  Online: () => new JourneyDriver({ purpose: 'keep' }).register().hubReached(),
  AwaitingReturn: () => new JourneyDriver({ purpose: 'keep' }).register({ operationId: 'o', status: 'disabled' }),
  AwaitingLastSave: () => new JourneyDriver(KEEP).load({ kind: 'none' }).answer().hubReached().cancel(),
};

/** A device that knows a hub, and that DPS sends to another. */
export function moved(config: Partial<JourneyConfig>): JourneyDriver {
  return new JourneyDriver({ ...config, reprovision: true }).load(found()).answer(assignedTo('other.example'));
}
