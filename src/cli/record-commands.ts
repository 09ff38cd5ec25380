import { stat } from 'node:fs/promises';
import type { DeviceRecord } from '../core/record.js';
import type { LoadedRecord } from '../core/store.js';
import { fileRecordStore, readStoredRecord } from '../state/file-store.js';
import type { Command, CommandContext } from './command.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
import type { CommandSpec } from './option-spec.js';
import { type Options, readOptions } from './options.js';
import { briefly, FORGET_SPEC, STATUS_SPEC } from './record-spec.js';
import { takeEnvironmentSecrets } from './secrets.js';

/** `dps-device status`: shows what the device remembers, also while another process uses it. */
export function statusCommand(): Command {
  return {
    spec: STATUS_SPEC,
    specFor: () => briefly(STATUS_SPEC),
    run: async (args, context) => {
      const directory = await readFolder(args, STATUS_SPEC, context);
      const loaded = await readStoredRecord({ directory }, context.interruption.signal);
      const document = { ...describe(loaded), state: directory };
      await handOver(`${JSON.stringify(document, undefined, 2)}\n`, context.io, {
        signal: context.interruption.signal,
      });
      return EXIT.ok;
    },
  };
}

/** `dps-device forget`: the next start begins at DPS. */
export function forgetCommand(): Command {
  return {
    spec: FORGET_SPEC,
    specFor: () => briefly(FORGET_SPEC),
    run: async (args, context) => {
      const { log, interruption } = context;
      const directory = await readFolder(args, FORGET_SPEC, context);
      if (await isMissing(directory)) {
        log.entry({ type: 'forgotten', state: directory }, `nothing is remembered: there is no folder ${directory}`);
        return EXIT.ok;
      }
      const isRemembered = await hasRecord(directory, interruption.signal);
      const store = fileRecordStore({ directory });
      try {
        await store.forget(interruption.signal);
      } finally {
        await store.close();
      }
      const text = isRemembered ? 'forgotten; the next start asks DPS' : 'nothing was remembered';
      log.entry({ type: 'forgotten', state: directory }, `${text}: ${directory}`);
      return EXIT.ok;
    },
  };
}

/** A store would make it. */
function isMissing(folder: string): Promise<boolean> {
  return stat(folder).then(
    () => false,
    (error: NodeJS.ErrnoException) => error.code === 'ENOENT',
  );
}

/** One that cannot be read is one, too. */
function hasRecord(directory: string, signal: AbortSignal): Promise<boolean> {
  return readStoredRecord({ directory }, signal).then(
    ({ kind }) => kind !== 'none',
    () => true,
  );
}

async function readFolder(args: readonly string[], spec: CommandSpec, context: CommandContext): Promise<string> {
  const { io, log, interruption } = context;
  // The secrets of a configuration are none of its business, and stay out of the environment of whatever it starts.
  takeEnvironmentSecrets(io.env, spec.secrets);
  const options: Options = await readOptions(args, spec, io, interruption.signal);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const folder = options.text('state');
  if (folder === undefined) {
    throw options.missing('state', '--state is missing: give the folder in which the device remembers its place.');
  }
  return folder;
}

function describe(loaded: LoadedRecord): object {
  if (loaded.kind !== 'record')
    return { status: loaded.kind, ...(loaded.kind === 'damaged' ? { what: loaded.what } : {}) };
  return {
    status: 'stored',
    ...shown(loaded.record),
    ...(loaded.damaged === undefined ? {} : { damaged: loaded.damaged }),
  };
}

/** Nothing in a record is secret, but not all of it tells an operator something. */
function shown(record: DeviceRecord): object {
  const { binding, assignment, slot, dpsTransport, hubTransport, twin, acceptedAtWallMs, movedTo } = record;
  const { assignedHub, deviceId, substatus, lastUpdatedDateTimeUtc } = assignment;
  return {
    ...binding,
    assignedHub,
    deviceId,
    ...(substatus === undefined ? {} : { substatus }),
    ...(lastUpdatedDateTimeUtc === undefined ? {} : { lastUpdatedDateTimeUtc }),
    ...(movedTo === undefined ? {} : { movedTo }),
    slot,
    transport: { dps: dpsTransport, hub: hubTransport },
    ...(acceptedAtWallMs === undefined ? {} : { acceptedAt: new Date(acceptedAtWallMs).toISOString() }),
    twin,
  };
}
