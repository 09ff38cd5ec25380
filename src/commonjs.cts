/** The front door for CommonJS: a thin shim, because the package itself is ESM and loads its engines lazily. */
import type {
  DpsError,
  ProgressEvent,
  Provisioning,
  ProvisionOptions,
  RunningDevice,
  RunOptions,
} from './index.js' with { 'resolution-mode': 'import' };

/** All types of the ESM door. Its error classes are types here: recognise an error with `isDpsError` and its `code`. */
export type * from './index.js' with { 'resolution-mode': 'import' };

/** See `PROGRESS_CHANNEL` of the ESM door. */
export const PROGRESS_CHANNEL = 'dps-device:progress';

/** See `provision` of the ESM door. */
export function provision(options: ProvisionOptions): Provisioning {
  // Wrapped in an object: a promise that resolves with a promise would wait for the device.
  const started = import('./index.js').then((door) => ({ journey: door.provision(options) }));
  const device = started.then(({ journey }) => journey);
  const events: AsyncIterable<ProgressEvent> = {
    async *[Symbol.asyncIterator]() {
      yield* (await started).journey.events;
    },
  };
  return Object.assign(device, { events });
}

/** See `run` of the ESM door, which returns at once; here the module has to be loaded first. */
export async function run(options: RunOptions): Promise<RunningDevice> {
  return (await import('./index.js')).run(options);
}

/** True for every error of this package; then read `code`. */
export function isDpsError(value: unknown): value is DpsError {
  return (
    typeof value === 'object' &&
    value !== null &&
    (value as Record<symbol, unknown>)[Symbol.for('dps-device.error')] === true
  );
}
