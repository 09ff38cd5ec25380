import { type SymmetricKeyHsmOptions, symmetricKeyHsm } from '../hsm/symmetric-key.js';
import { type X509FileHsmOptions, x509FileHsm } from '../hsm/x509-file.js';
import type { Hsm } from './core/attestation.js';
import type { Clock } from './core/clock.js';
import { resolveDpsEndpoint } from './core/identifiers.js';
import type { ProgressEvent } from './core/progress.js';
import type { ProvisionedDevice } from './core/provisioned-device.js';
import type { RecordStore } from './core/store.js';
import { type ConfigurationError, isDpsError } from './errors.js';
import { LastingSession } from './hub/lasting-session.js';
import { dpsTransports, hubTransports, type TransportSettings } from './named-transports.js';
import { proxyRule } from './net/proxy-choice.js';
import { checkedClock, checkedRandom } from './own-clock.js';
import { ProgressLog } from './progress-log.js';
import { bounded as boundedIdentity, provisionWith } from './provision.js';
import {
  type HsmDescription,
  isHsmObject,
  type ProvisionOptions,
  type RunOptions,
  readProvisionOptions,
  readRunOptions,
} from './provision-options.js';
import type { ProvisioningParts } from './provisioning-parts.js';
import { type RunningDevice, runWith } from './run.js';
import { systemClock } from './system-clock.js';
import { PACKAGE_VERSION } from './version.js';

/** A journey under way: a promise of the device, and every step as an event. */
export interface Provisioning extends Promise<ProvisionedDevice> {
  /** All events from the first on, for any number of readers; ends when the journey ends, however it ends. */
  readonly events: AsyncIterable<ProgressEvent>;
}

const DEFAULT_DEADLINE_MS = 300_000;
const DEFAULT_CONNECT_TIMEOUT_MS = 60_000;
const DEFAULT_REQUEST_TIMEOUT_MS = 30_000;
const DEFAULT_TOKEN_LIFE_SECONDS = 3_600;

/**
 * Takes a device from its ID scope and identity to its hub and initial twin. The hub connection used to read the twin
 * is closed before the promise settles.
 *
 * @throws ConfigurationError, HsmError, ClockError, TransportError, ProtocolError, ServiceError,
 *   RegistrationRejectedError, CancelledError, DeadlineError – through the promise, never synchronously.
 */
export function provision(options: ProvisionOptions): Provisioning {
  const log = new ProgressLog();
  const device = composeParts(readProvisionOptions(options)).then(
    (parts) => provisionWith(parts, log),
    (error: unknown) => {
      log.end();
      throw error;
    },
  );
  return Object.defineProperty(device, 'events', {
    get: () => {
      // Whoever reads events to the end learns of a failure there first, maybe long before awaiting the device: until
      // then it must not count as unhandled.
      device.catch(() => {});
      return log;
    },
  }) as Provisioning;
}

/**
 * Keeps a device provisioned: connects, comes back after lost connections, follows a moved hub and a rolled key, until
 * `close()`. Everything that goes wrong is in the promises of what it returns, never thrown.
 */
export function run(options: RunOptions): RunningDevice {
  const given = readRunOptions(options);
  const { reprovisionOn, onStrayError, signal } = isDpsError(given) ? ({} as Partial<RunOptions>) : given;
  return runWith({
    makeParts: (ownSignal) => composeParts(given, ownSignal),
    makeHandle: (onTwin, onClose) => {
      const session = new LastingSession({ onTwin, onClose, onStrayError, orderMethod: reprovisionOn?.method });
      return { session, attach: (next) => session.attach(next), end: (error) => session.end(error) };
    },
    log: new ProgressLog(),
    signal,
    triggers: reprovisionOn ?? {},
  });
}

async function composeParts(
  options: RunOptions | ConfigurationError,
  ownSignal?: AbortSignal,
): Promise<ProvisioningParts> {
  if (isDpsError(options)) throw options;
  const signal = ownSignal ?? options.signal;
  const clock = options.clock === undefined ? systemClock : checkedClock(options.clock);
  const random = options.random === undefined ? Math.random : checkedRandom(options.random);
  const connectTimeoutMs = options.connectTimeoutMs ?? DEFAULT_CONNECT_TIMEOUT_MS;
  const requestTimeoutMs = options.requestTimeoutMs ?? DEFAULT_REQUEST_TIMEOUT_MS;
  const tokenLifeSeconds = options.tokenLifeSeconds ?? DEFAULT_TOKEN_LIFE_SECONDS;
  const deadlineMs = options.deadlineMs ?? DEFAULT_DEADLINE_MS;
  const startedAtMs = clock.monotonicMs();
  const proxyFor = proxyRule({ proxy: options.proxy, env: process.env });
  const shared: TransportSettings = {
    clock,
    random,
    connectTimeoutMs,
    requestTimeoutMs,
    tokenLifeSeconds,
    userAgent: `dps-device/${PACKAGE_VERSION}`,
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ...(options.modelId === undefined ? {} : { modelId: options.modelId }),
    ...(options.onStrayError === undefined ? {} : { onStrayError: options.onStrayError }),
    ...(proxyFor === undefined ? {} : { proxyFor }),
  };
  const store = await resolveStore(options.state);
  const [hsm, dps] = await Promise.all([
    // Keys may be read from pipes: the deadline holds there, too.
    boundedIdentity({ clock, deadlineMs, leftMs: deadlineMs, signal }, (within) =>
      resolveHsm(options.hsm, clock, within),
    ),
    dpsTransports(options.transport, options.hsm.kind === 'tpm', shared),
  ]);
  const hub = hubTransports(options.hubTransport, shared);
  return {
    idScope: options.idScope,
    endpoint: resolveDpsEndpoint(options.endpoint ?? 'public'),
    hsm,
    ...(isHsmObject(options.hsm) ? {} : { closeHsm: async () => hsm.close?.().catch(() => undefined) }),
    dps: dps.first,
    otherDps: dps.others,
    hub: hub.first,
    otherHubs: hub.others,
    clock,
    random,
    ...(options.payload === undefined ? {} : { payload: options.payload }),
    ...store,
    reprovision: options.reprovision ?? false,
    startSpreadMs: options.startSpreadMs ?? 0,
    deadlineMs,
    startedAtMs,
    // Of several transports each bounds its own way, WebSocket and welcome; this is the belt over all those braces.
    connectTimeoutMs: dps.others.length === 0 ? connectTimeoutMs : (3 + dps.others.length) * connectTimeoutMs,
    requestTimeoutMs,
    // The session bounds its own connect and its two tries at the twin; a belt again, over each transport.
    hubTimeoutMs: (hub.others.length === 0 ? 1 : 2) * connectTimeoutMs + 3 * requestTimeoutMs,
    tokenLifeSeconds,
    ...(signal === undefined ? {} : { signal }),
  };
}

/** A folder's store is made for this journey, and closed after it. */
async function resolveStore(
  state: string | RecordStore | undefined,
): Promise<Pick<ProvisioningParts, 'store' | 'release'>> {
  if (state === undefined) return {};
  if (typeof state === 'object') return { store: state };
  const { fileRecordStore } = await import('./state/index.js');
  const store = fileRecordStore({ directory: state });
  return { store, release: () => store.close() };
}

/** The HSM of a description. Whoever makes one closes it, if it can be closed. */
export function makeHsm(description: HsmDescription, signal: AbortSignal): Promise<Hsm> {
  return resolveHsm(description, systemClock, signal);
}

async function resolveHsm(hsm: Hsm | HsmDescription, clock: Clock, signal: AbortSignal | undefined): Promise<Hsm> {
  if (isHsmObject(hsm)) return hsm;
  switch (hsm.kind) {
    case 'symmetricKey': {
      const { kind: _, ...options } = hsm;
      return symmetricKeyHsm(options as SymmetricKeyHsmOptions, signal);
    }
    case 'x509': {
      const { kind: _, ...options } = hsm;
      return x509FileHsm({ clock, ...options } as X509FileHsmOptions, signal);
    }
    case 'keyStore': {
      const { kind: _, ...options } = hsm;
      return (await import('../hsm/software-key-store.js')).keyStoreHsm({ clock, ...options }, signal);
    }
    case 'tpm': {
      const { kind: _, ...options } = hsm;
      return (await import('../hsm/tpm2.js')).tpm2Hsm({ clock, ...options }, signal);
    }
    default:
      return unreachable(hsm);
  }
}

/** Not the core's, which prints its value: here that may hold a key. */
function unreachable(value: never): never {
  throw new TypeError(`Unreachable: ${String(value)}`);
}
