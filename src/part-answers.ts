import type { HubSession } from './core/hub.js';
import { checkRecord } from './core/record.js';
import type { LoadedRecord } from './core/store.js';
import { wordsOf } from './core/thrown-words.js';
import type { DpsChallenge, DpsConnection, DpsReply } from './core/transport.js';
import { ConfigurationError, isDpsError, StoreError } from './errors.js';
import { kindOf } from './value-kind.js';

/** Parts of the application's own may answer anything: what they give is looked at before it is used. */

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what cannot carry a request. */
export function checkedConnection(connection: unknown): DpsConnection {
  if (hasMethods(connection, ['exchange', 'close'])) return connection as DpsConnection;
  throw wrongPart('transport', 'open()', 'a connection with exchange() and close()', connection);
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what is neither a reply nor a challenge. */
export function checkedReply(reply: unknown): DpsReply | DpsChallenge {
  if (isObject(reply)) {
    if (reply.kind === 'challenge' && reply.authenticationKey instanceof Uint8Array) return reply as never;
    if (reply.kind === 'reply' && Number.isInteger(reply.status) && reply.body instanceof Uint8Array)
      return reply as never;
  }
  const wanted = "{ kind: 'reply', status, body } with the body as a Uint8Array, or { kind: 'challenge', … }";
  throw wrongPart('transport', 'exchange()', wanted, reply);
}

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what is no session with a twin. */
export function checkedSession(session: unknown): HubSession {
  if (
    isObject(session) &&
    isTwin(session.twin) &&
    hasMethods(session, ['close']) &&
    hasMethods(session.closed, ['then'])
  )
    return session as never;
  throw wrongPart('hubTransport', 'open()', 'a session with twin, closed and close()', session);
}

const SESSION_METHODS = ['onDesiredChange', 'report', 'sendTelemetry', 'onMessage', 'onMethod', 'close'];

/** @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for a session that cannot do all that applications ask of one. */
export function checkedWholeSession(session: HubSession): HubSession {
  const absent = SESSION_METHODS.find((name) => !hasMethods(session, [name]));
  if (absent === undefined) return session;
  throw wrongPart('hubTransport', 'open()', `a session with ${absent}()`, session);
}

/**
 * A record that cannot be used is a damaged one: the device registers anew, as it does when bytes are damaged.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what is no finding of a store.
 */
export function checkedLoad(loaded: unknown): LoadedRecord {
  if (isObject(loaded)) {
    if (loaded.kind === 'none') return loaded as never;
    if (loaded.kind === 'damaged' && typeof loaded.what === 'string') return loaded as never;
    if (loaded.kind === 'record' && isObject(loaded.record)) return readRecord(loaded.record, loaded.damaged);
  }
  throw wrongPart(
    'state',
    'load()',
    "{ kind: 'record', record }, { kind: 'none' } or { kind: 'damaged', what }",
    loaded,
  );
}

/**
 * Asks a store for something that it may fail to do.
 *
 * @throws {StoreError} `ERR_DPS_STORE_UNREADABLE`, `_UNWRITABLE` for whatever it throws that is no error of this package.
 */
export async function askStore<T>(operation: 'read' | 'write', ask: () => Promise<T>): Promise<T> {
  try {
    return await ask();
  } catch (error) {
    if (isDpsError(error)) throw error;
    const [code, method] = STORE_FAILURES[operation];
    const message = `${method} of the object given as state failed: ${wordsOf(error)}`;
    throw new StoreError({ code, message, operation, path: 'record', cause: error });
  }
}

const STORE_FAILURES = {
  read: ['ERR_DPS_STORE_UNREADABLE', 'load()'],
  write: ['ERR_DPS_STORE_UNWRITABLE', 'save()'],
} as const;

function readRecord(record: object, beside: unknown): LoadedRecord {
  const reading = checkRecord(record);
  if (reading.kind === 'record') return { ...reading, ...(typeof beside === 'string' ? { damaged: beside } : {}) };
  const what = reading.kind === 'damaged' ? reading.what : 'The record is of a later format.';
  return { kind: 'damaged', what: typeof beside === 'string' ? `${what} ${beside}` : what };
}

function isTwin(twin: unknown): boolean {
  return isObject(twin) && [twin.desired, twin.reported].every(isTwinSection);
}

function isTwinSection(section: unknown): boolean {
  return isObject(section) && typeof section.version === 'number' && isObject(section.properties);
}

function hasMethods(value: unknown, names: readonly string[]): boolean {
  return isObject(value) && names.every((name) => typeof value[name] === 'function');
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function wrongPart(option: string, method: string, wanted: string, got: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    option,
    message: `Option ${option}: ${method} of an object of your own must give ${wanted}, not ${kindOf(got)}.`,
  });
}
