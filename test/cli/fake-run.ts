import type { run } from '../../src/compose.js';
import type { HubSession } from '../../src/core/hub.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import type { DesiredChange } from '../../src/core/twin.js';
import type { DpsError } from '../../src/errors.js';
import { ProgressLog } from '../../src/progress-log.js';
import type { RunOptions } from '../../src/provision-options.js';
import { fakeDevice } from './fake-provision.js';

/** A stand-in for `run()` that lives as it is told. */
export interface FakeRun {
  readonly run: typeof run;
  readonly calls: readonly RunOptions[];
  /** Who has sent the device to DPS. */
  readonly reprovisionedBy: readonly (string | undefined)[];
  /** A hub has accepted the device. */
  arrive(): void;
  change(change: DesiredChange): void;
  /** A step on the way. */
  step(event: ProgressEvent): void;
  /** It is over: by an error, or without one. */
  end(error?: DpsError): void;
}

export function fakeRun(): FakeRun {
  const calls: RunOptions[] = [];
  const reprovisionedBy: (string | undefined)[] = [];
  const listeners = new Set<(change: DesiredChange) => void>();
  const events = new ProgressLog();
  let resolveReady: (device: ProvisionedDevice) => void = () => undefined;
  let rejectReady: (error: unknown) => void = () => undefined;
  let resolveClosed: (error: DpsError | undefined) => void = () => undefined;
  const ready = new Promise<ProvisionedDevice>((resolve, reject) => {
    resolveReady = resolve;
    rejectReady = reject;
  });
  ready.catch(() => undefined);
  const closed = new Promise<DpsError | undefined>((resolve) => {
    resolveClosed = resolve;
  });
  const end = (error?: DpsError): void => {
    events.end();
    rejectReady(error ?? new Error('closed'));
    resolveClosed(error);
  };
  const session: Pick<HubSession, 'onDesiredChange'> = {
    onDesiredChange(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return {
    calls,
    reprovisionedBy,
    arrive: () => resolveReady(fakeDevice()),
    change: (change) => {
      for (const listener of listeners) listener(change);
    },
    step: (event) => events.append(event),
    end,
    run: (options) => {
      calls.push(options);
      const { signal } = options;
      if (signal?.aborted) end();
      signal?.addEventListener('abort', () => end());
      return {
        ready,
        closed,
        events,
        session: session as HubSession,
        reprovision: (by) => void reprovisionedBy.push(by),
        close: async () => end(),
      };
    },
  };
}
