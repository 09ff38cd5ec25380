import { expect, onTestFinished } from 'vitest';
import type { SymmetricKeyHsm } from '../../src/core/attestation.js';
import { encodeUtf8 } from '../../src/core/bytes.js';
import type { HubTransport } from '../../src/core/hub.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import type { DeviceRecord } from '../../src/core/record.js';
import type { LoadedRecord, RecordStore } from '../../src/core/store.js';
import type { DpsReply, DpsTransport } from '../../src/core/transport.js';
import type { Twin } from '../../src/core/twin.js';
import type { TransportError } from '../../src/errors.js';
import { hubConnectionLost } from '../../src/hub/hub-errors.js';
import { LastingSession } from '../../src/hub/lasting-session.js';
import { ProgressLog } from '../../src/progress-log.js';
import type { ProvisioningParts } from '../../src/provisioning-parts.js';
import { type LifeSettings, type RunningDevice, runWith } from '../../src/run.js';
import { eventWords } from './event-words.js';
import { FakeHubSession, twinOf } from './fake-hub-session.js';
import { ManualClock } from './manual-clock.js';

/** Rejects when the signal aborts, and never otherwise. */
export function never(signal: { addEventListener(type: 'abort', fn: () => void): void }): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener('abort', () => reject(new Error('aborted'))));
}

/** Lets promises settle. */
export async function turns(count = 10): Promise<void> {
  for (let turn = 0; turn < count; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

/** DPS has assigned `dev-1` to this hub. */
export function assignedTo(assignedHub: string, more: object = {}): DpsReply {
  const place = { registrationId: 'dev-1', assignedHub, deviceId: 'dev-1', status: 'assigned', ...more };
  const body = { operationId: 'op', status: 'assigned', registrationState: place };
  return { kind: 'reply', status: 200, body: encodeUtf8(JSON.stringify(body)) };
}

/** A store in memory. */
export class FakeStore implements RecordStore {
  loaded: LoadedRecord | 'hang' | Error = { kind: 'none' };
  readonly saved: DeviceRecord[] = [];
  /** What the next save does instead. */
  saving: 'hang' | Error | undefined;

  async load(signal: AbortSignal): Promise<LoadedRecord> {
    if (this.loaded === 'hang') return never(signal);
    if (this.loaded instanceof Error) throw this.loaded;
    return this.loaded;
  }

  async save(record: DeviceRecord, signal: AbortSignal): Promise<void> {
    if (this.saving === 'hang') return never(signal);
    if (this.saving !== undefined) throw this.saving;
    this.saved.push(record);
  }

  async forget(): Promise<void> {}
}

/** DPS, hubs, store, time: all that a life is lived in, and told by. */
export class RunWorld {
  readonly clock: ManualClock = new ManualClock();
  readonly journal: string[] = [];
  readonly events: ProgressEvent[] = [];
  readonly sessions: FakeHubSession[] = [];
  readonly store: FakeStore = new FakeStore();
  /** Where DPS sends the device. */
  assignedHub = 'hub.example';
  /** What the hub holds. */
  twin: Twin = twinOf(1, {});
  /** What DPS, and the hub, do next instead of what they should. */
  readonly dpsFailures: ('hang open' | 'hang' | Error)[] = [];
  readonly hubFailures: ('hang' | Error)[] = [];
  /** Gives what the hub's `open` gives. */
  newSession: () => unknown = () => new FakeHubSession(this.twin, this.assignedHub);
  /** Connections and sessions that were opened and not closed. */
  open = 0;
  releases = 0;

  start(settings: Partial<LifeSettings> & { readonly parts?: Partial<ProvisioningParts> } = {}): RunningDevice {
    const { parts, ...rest } = settings;
    const log = new ProgressLog();
    const running = runWith({
      makeParts: async (signal) => ({ ...this.#parts(), ...parts, signal }),
      makeHandle: (onTwin, onClose) => {
        const session = new LastingSession({ onTwin, onClose });
        return { session, attach: (next) => session.attach(next), end: (error) => session.end(error) };
      },
      log,
      signal: undefined,
      triggers: {},
      ...rest,
    });
    void this.#read(running);
    return running;
  }

  /** The session of the moment. */
  get session(): FakeHubSession {
    const last = this.sessions.at(-1);
    if (last === undefined) throw new Error('no session was opened');
    return last;
  }

  /** Passes time, timer by timer, until `isThere` says so. */
  async until(isThere: () => boolean): Promise<void> {
    for (let round = 0; round < 300; round += 1) {
      await turns();
      if (isThere()) return;
      this.clock.advanceToNext();
    }
    throw new Error(`it never came to that: ${this.told().slice(-20).join(', ')}`);
  }

  /** Passes time until there is a session that was handed out, or another one than before. */
  async untilOnline(sessions: number = this.sessions.length + 1): Promise<void> {
    await this.until(() => this.sessions.length >= sessions && this.told().at(-1)?.startsWith('provisioned') === true);
  }

  /** The events since the last `forget`, shortened. */
  told(): string[] {
    return this.events.filter(({ type }) => type !== 'record').map(eventWords);
  }

  forgetEvents(): void {
    this.events.length = 0;
  }

  async #read(running: RunningDevice): Promise<void> {
    for await (const event of running.events) this.events.push(event);
  }

  #parts(): ProvisioningParts {
    return {
      idScope: '0ne00111111',
      endpoint: 'dps.example',
      hsm: this.#hsm(),
      dps: this.#dps(),
      hub: this.#hub(),
      clock: this.clock,
      random: () => 0,
      store: this.store,
      deadlineMs: 100_000,
      connectTimeoutMs: 20_000,
      requestTimeoutMs: 10_000,
      hubTimeoutMs: 50_000,
      tokenLifeSeconds: 3_600,
      release: async () => {
        this.releases += 1;
      },
    };
  }

  #hsm(): SymmetricKeyHsm {
    return {
      kind: 'symmetricKey',
      registrationId: async () => 'dev-1',
      sign: async () => new Uint8Array(32),
    };
  }

  #dps(): DpsTransport {
    return {
      name: 'fake',
      open: async (_, signal) => {
        this.journal.push('dps');
        if (this.dpsFailures[0] === 'hang open') return never(signal);
        this.open += 1;
        return {
          exchange: async (_request, within) => {
            const failure = this.dpsFailures.shift();
            if (failure === 'hang') return never(within);
            if (failure instanceof Error) throw failure;
            return assignedTo(this.assignedHub);
          },
          close: async () => {
            this.open -= 1;
          },
        };
      },
    };
  }

  #hub(): HubTransport {
    return {
      name: 'fake',
      open: async ({ hostName }, signal) => {
        this.journal.push(hostName);
        const failure = this.hubFailures.shift();
        if (failure === 'hang') return never(signal as AbortSignal);
        if (failure !== undefined) throw failure;
        const session = this.newSession() as FakeHubSession;
        if (session instanceof FakeHubSession) {
          this.sessions.push(session);
          this.open += 1;
          const isClosed = (): void => {
            this.open -= 1;
          };
          session.closed.then(isClosed, isClosed);
        }
        return session;
      },
      connectionInfo: ({ hostName, deviceId }) => ({
        mqttOptions: async () => ({ host: hostName }) as never,
        connectionString: async () => `HostName=${hostName};DeviceId=${deviceId}`,
      }),
    };
  }
}

/** How a hub connection ends that was cut. */
export const LOST: TransportError = hubConnectionLost('hub.example:8883', 'was cut');

/** Collects rejections that nobody handles. */
export function watchUnhandled(): unknown[] {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): unknown => unhandled.push(reason);
  process.on('unhandledRejection', note);
  onTestFinished(() => void process.off('unhandledRejection', note));
  return unhandled;
}

/** No timer, no connection, and the parts given back once. */
export function expectNothingLeft(world: RunWorld): void {
  expect({ timers: world.clock.pending, open: world.open, releases: world.releases }).toEqual({
    timers: 0,
    open: 0,
    releases: 1,
  });
}
