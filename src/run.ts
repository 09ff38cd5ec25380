import { withinGrace } from './close-grace.js';
import type { HubSession } from './core/hub.js';
import type { Arrival, JourneyConfig } from './core/journey.js';
import { onCancel } from './core/on-cancel.js';
import type { ProgressEvent } from './core/progress.js';
import type { ProvisionedDevice } from './core/provisioned-device.js';
import { asError } from './core/thrown-words.js';
import { diffPatch, type JsonObject, type Twin } from './core/twin.js';
import type { DpsError } from './errors.js';
import { CancelledError, isDpsError } from './errors.js';
import { checkedWholeSession } from './part-answers.js';
import { Performer } from './performer.js';
import type { ProgressLog } from './progress-log.js';
import { journeyConfig, provisionedDevice, reporter } from './provision.js';
import type { ProvisioningParts } from './provisioning-parts.js';

/** A device that is kept provisioned until `close()`. */
export interface RunningDevice {
  /** Settles when a hub has accepted the device for the first time; rejects when the run ended before. */
  readonly ready: Promise<ProvisionedDevice>;
  /**
   * One handle for as long as the device runs, through lost connections, renewed tokens and moved hubs. Listeners may be
   * added before the first connection; what is sent while there is none waits for it.
   */
  readonly session: HubSession;
  /** Every step, from the first on, for any number of readers; ends with the run. */
  readonly events: AsyncIterable<ProgressEvent>;
  /**
   * Settles when the run is over: with undefined after `close()` or the signal, else with what only a person can mend.
   * Rejects only with what a part of the application's own threw that is no error of this package.
   */
  readonly closed: Promise<DpsError | undefined>;
  /** Sends the device to DPS now. `by` is shown in the events. What was known is kept until DPS has answered. */
  reprovision(by?: string): void;
  /** Saves what is unsaved, closes the connection, and ends. Never fails; may be called twice. */
  close(): Promise<void>;
}

/** The handle that outlives sessions; `hub/lasting-session.ts` has it. */
export interface LastingHandle {
  readonly session: HubSession;
  attach(session: HubSession): void;
  end(error: Error | undefined): void;
}

/** Makes the handle; `onTwin` hears of every change of the twin, `onClose` ends the run. */
export type MakeHandle = (onTwin: (twin: Twin) => void, onClose: () => Promise<void>) => LastingHandle;

/** What, beside the application's word, sends the device to DPS. */
export interface ReprovisionTriggers {
  /** A direct method of this name; it is answered with 202 first. */
  readonly method?: string;
  /** Any new value of this desired property, also one set while the device was off, if there is a record to tell by. */
  readonly desiredProperty?: string;
}

/** What a life is made of. */
export interface LifeSettings {
  /** Reads keys, loads modules. */
  readonly makeParts: (signal: AbortSignal) => Promise<ProvisioningParts>;
  readonly makeHandle: MakeHandle;
  readonly log: ProgressLog;
  readonly signal: AbortSignal | undefined;
  readonly triggers: ReprovisionTriggers;
}

/** Begins a life. Everything that goes wrong is in the promises. */
export function runWith(settings: LifeSettings): RunningDevice {
  return new Life(settings);
}

/** The answer to the method that orders it leaves before the device leaves its hub. */
const ANSWER_FIRST_MS = 1_000;

class Life implements RunningDevice {
  readonly ready: Promise<ProvisionedDevice>;
  readonly closed: Promise<DpsError | undefined>;
  readonly events: ProgressLog;
  readonly #settings: LifeSettings;
  readonly #stop: AbortController = new AbortController();
  readonly #handle: LastingHandle;
  #performer: Performer | undefined;
  #wasReady = false;
  /** What was asked for before the journey could hear it. */
  #reprovisionBy: string | undefined;
  /** Runs while the answer to the method that orders it is on its way. */
  #stopTimer: (() => void) | undefined;
  #resolveReady: (device: ProvisionedDevice) => void = () => {};
  #rejectReady: (error: unknown) => void = () => {};

  constructor(settings: LifeSettings) {
    this.#settings = settings;
    this.events = settings.log;
    this.#handle = settings.makeHandle(
      (twin) => this.#performer?.feed({ type: 'TwinChanged', twin }),
      () => this.close(),
    );
    this.ready = new Promise((resolve, reject) => {
      this.#resolveReady = resolve;
      this.#rejectReady = reject;
    });
    this.closed = this.#live();
    // Whoever reads one of the two learns of a failure there: the other must not count as unhandled.
    this.ready.catch(() => {});
    this.closed.catch(() => {});
  }

  get session(): HubSession {
    return this.#handle.session;
  }

  reprovision(by = 'the application'): void {
    if (this.#performer === undefined) this.#reprovisionBy = by;
    else this.#performer.feed({ type: 'ReprovisionRequested', by });
  }

  async close(): Promise<void> {
    this.#stop.abort(new Error('close() was called'));
    await this.closed.catch(() => {});
  }

  async #live(): Promise<DpsError | undefined> {
    const ending = await this.#untilStopped().catch((error: unknown) => error);
    this.#stopTimer?.();
    this.events.end();
    const isWanted = ending instanceof CancelledError && this.#stop.signal.aborted;
    this.#rejectReady(ending);
    this.#handle.end(isWanted ? undefined : asError(ending));
    if (isWanted) return undefined;
    if (isDpsError(ending)) return ending;
    throw ending;
  }

  /** The journey, which ends when the signal does; that is the application's own, and may throw whatever it is asked. */
  async #untilStopped(): Promise<unknown> {
    const { signal } = this.#settings;
    const stop = (): void => this.#stop.abort(signal?.reason);
    if (signal?.aborted) stop();
    const stopListening = signal === undefined ? (): void => {} : onCancel(signal, stop);
    try {
      return await this.#journey();
    } finally {
      stopListening();
    }
  }

  /** Gives what ended it. */
  async #journey(): Promise<unknown> {
    const parts: ProvisioningParts = {
      ...(await this.#settings.makeParts(this.#stop.signal)),
      signal: this.#stop.signal,
    };
    try {
      const config = await journeyConfig(parts);
      const isAsked = config.reprovision === true || this.#reprovisionBy !== undefined;
      // `deadlineMs` bounds each registration; a life is bounded by its end alone.
      const performer = new Performer(
        parts,
        { ...config, purpose: 'keep', reprovision: isAsked },
        {
          report: reporter(this.events),
          handOut: (session, arrival, before) => this.#arrived(parts, config, session, arrival, before),
        },
      );
      this.#performer = performer;
      this.#listenForOrders(parts);
      const outcome = await performer.run();
      return outcome.kind === 'failed' ? outcome.error : undefined;
    } finally {
      if (!this.#wasReady) await parts.closeHsm?.();
      await withinGrace(parts.clock, parts.release?.());
    }
  }

  #arrived(
    parts: ProvisioningParts,
    config: JourneyConfig,
    session: HubSession,
    arrival: Arrival,
    before: Twin | undefined,
  ): void {
    this.#handle.attach(checkedWholeSession(session));
    this.#resolveReady(provisionedDevice(parts, config, arrival));
    this.#wasReady = true;
    const { desiredProperty } = this.#settings.triggers;
    if (desiredProperty === undefined || before === undefined) return;
    const patch = diffPatch(before.desired.properties, arrival.twin.desired.properties);
    this.#obeyProperty(desiredProperty, patch);
  }

  #listenForOrders({ clock }: ProvisioningParts): void {
    const { method, desiredProperty } = this.#settings.triggers;
    if (method !== undefined) {
      this.session.onMethod(method, () => {
        this.#stopTimer ??= clock.after(ANSWER_FIRST_MS, () => {
          this.#stopTimer = undefined;
          this.reprovision(`direct method ${method}`);
        });
        return { status: 202 };
      });
    }
    if (desiredProperty !== undefined) {
      this.session.onDesiredChange(({ patch }) => this.#obeyProperty(desiredProperty, patch));
    }
  }

  #obeyProperty(name: string, patch: JsonObject): void {
    if (Object.hasOwn(patch, name) && patch[name] !== null) this.reprovision(`desired property ${name}`);
  }
}
