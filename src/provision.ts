import type { Hsm } from './core/attestation.js';
import { decodeBase64 } from './core/bytes.js';
import type { Clock, Now, Random } from './core/clock.js';
import type { HubOpenParameters, HubSession, HubTransport } from './core/hub.js';
import { registrationIdProblem } from './core/identifiers.js';
import {
  type Journey,
  type JourneyConfig,
  type JourneyEffect,
  type JourneyInput,
  type JourneyOutcome,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from './core/journey.js';
import type { ProgressEvent } from './core/progress.js';
import type { ProvisionedDevice } from './core/provisioned-device.js';
import { formatSasToken, textToSign } from './core/sas.js';
import type { DpsConnection, DpsCredential, DpsTransport } from './core/transport.js';
import type { JsonValue } from './core/twin.js';
import { publishProgress } from './diagnostics.js';
import { CancelledError, DeadlineError, HsmError, isDpsError, ProtocolError } from './errors.js';
import type { ProgressLog } from './progress-log.js';
import { kindOf } from './value-kind.js';

const HMAC_SHA256_BYTES = 32;

/** All that a journey needs, ready made. `compose.ts` fills it from names. */
export interface ProvisioningParts {
  readonly idScope: string;
  readonly endpoint: string;
  readonly hsm: Hsm;
  readonly dps: DpsTransport;
  readonly hub: HubTransport;
  readonly clock: Clock;
  readonly random: Random;
  readonly payload?: JsonValue;
  readonly deadlineMs: number;
  /** When the deadline began to run, if that was before `provisionWith`. */
  readonly startedAtMs?: number;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly hubTimeoutMs: number;
  readonly tokenLifeSeconds: number;
  readonly signal?: AbortSignal;
}

/** Provisions once. Settles after everything it opened is closed again. */
export async function provisionWith(parts: ProvisioningParts, log: ProgressLog): Promise<ProvisionedDevice> {
  const report = (event: ProgressEvent): void => {
    publishProgress(event);
    log.append(event);
  };
  const startedAtMs = parts.startedAtMs ?? parts.clock.monotonicMs();
  try {
    const config = await journeyConfig(parts, startedAtMs);
    const outcome = await new Performer(parts, config, report).run();
    if (outcome.kind === 'failed') throw outcome.error;
    return provisionedDevice(parts, outcome);
  } finally {
    log.end();
  }
}

function provisionedDevice(
  { hub, hsm }: ProvisioningParts,
  { result, slot, twin }: Extract<JourneyOutcome, { kind: 'provisioned' }>,
): ProvisionedDevice {
  const { assignedHub, deviceId } = result;
  const parameters: HubOpenParameters = { hostName: assignedHub, deviceId, hsm, slot };
  const info = hub.connectionInfo(parameters);
  return {
    assignment: result,
    assignedHub,
    deviceId,
    source: 'registered',
    twin,
    mqttOptions: (signal) => info.mqttOptions(signal),
    connectionString: (signal) => info.connectionString(signal),
    openHub: (signal = new AbortController().signal) => hub.open(parameters, signal),
  };
}

/** Reads from the HSM what the machine must know before its first step, under the same deadline and signal. */
async function journeyConfig(parts: ProvisioningParts, startedAtMs: number): Promise<JourneyConfig> {
  const { hsm, clock, signal, deadlineMs } = parts;
  const identity = await bounded(clock, deadlineMs, signal, async (within) => ({
    registrationId: checkedRegistrationId(await hsm.registrationId(within)),
    tpm: hsm.kind === 'tpm' ? await hsm.endorsement(within) : undefined,
  }));
  return {
    idScope: parts.idScope,
    registrationId: identity.registrationId,
    attestation: hsm.kind,
    slots: hsm.slots ?? 1,
    ...(parts.payload === undefined ? {} : { payload: parts.payload }),
    ...(identity.tpm === undefined ? {} : { tpm: identity.tpm }),
    transport: parts.dps.name,
    endpoint: parts.endpoint,
    // One bound over all: what reading the identity took is gone.
    deadlineMs: Math.max(0, Math.floor(deadlineMs - (clock.monotonicMs() - startedAtMs))),
    connectTimeoutMs: parts.connectTimeoutMs,
    requestTimeoutMs: parts.requestTimeoutMs,
    hubTimeoutMs: parts.hubTimeoutMs,
    tokenLifeSeconds: parts.tokenLifeSeconds,
  };
}

/** Reads what an HSM gives within the deadline, also from one that never answers. */
export function bounded<T>(
  clock: Clock,
  deadlineMs: number,
  signal: AbortSignal | undefined,
  read: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const state = 'reading the identity';
  return new Promise<T>((resolve, reject) => {
    const controller = new AbortController();
    const leave = (settle: () => void): void => {
      stopTimer();
      signal?.removeEventListener('abort', cancel);
      settle();
      controller.abort();
    };
    const cancel = (): void => leave(() => reject(new CancelledError({ state, cause: signal?.reason })));
    const stopTimer = clock.after(deadlineMs, () => leave(() => reject(new DeadlineError({ state, deadlineMs }))));
    if (signal?.aborted) {
      cancel();
      return;
    }
    signal?.addEventListener('abort', cancel, { once: true });
    read(controller.signal).then(
      (value) => leave(() => resolve(value)),
      (error) => leave(() => reject(hsmFailure(error, 'read identity'))),
    );
  });
}

/** What a part of the application's own may take to close. */
const CLOSE_GRACE_MS = 5_000;

/** The one loop that performs what the core orders. It decides nothing: it does, waits, and tells the machine what happened. */
class Performer {
  readonly #parts: ProvisioningParts;
  readonly #report: (event: ProgressEvent) => void;
  #journey: Journey;
  #credential: DpsCredential | undefined;
  #connection: DpsConnection | undefined;
  #session: HubSession | undefined;
  #operation: AbortController | undefined;
  #stopTimer: (() => void) | undefined;
  readonly #closings: Promise<void>[] = [];
  /** The one being performed, and those that wait for it. */
  readonly #inputs: JourneyInput[] = [];
  #settle: ((outcome: JourneyOutcome) => void) | undefined;
  #crash: ((error: unknown) => void) | undefined;

  constructor(parts: ProvisioningParts, config: JourneyConfig, report: (event: ProgressEvent) => void) {
    this.#parts = parts;
    this.#report = report;
    this.#journey = newJourney(config);
  }

  async run(): Promise<JourneyOutcome> {
    const { signal } = this.#parts;
    const cancel = (): void => this.#feed({ type: 'CancelRequested', reason: signal?.reason });
    try {
      return await new Promise<JourneyOutcome>((resolve, reject) => {
        this.#settle = resolve;
        this.#crash = reject;
        signal?.addEventListener('abort', cancel, { once: true });
        this.#feed(signal?.aborted ? { type: 'CancelRequested', reason: signal.reason } : { type: 'Started' });
      });
    } finally {
      signal?.removeEventListener('abort', cancel);
      this.#stopTimer?.();
      this.#abandon();
      this.#closeConnection();
      this.#closeHub();
      await this.#closed();
    }
  }

  /** A part of the application's own may never finish closing: the journey ends all the same. */
  #closed(): Promise<void> {
    return new Promise((resolve) => {
      const stopTimer = this.#parts.clock.after(CLOSE_GRACE_MS, resolve);
      void Promise.allSettled(this.#closings).then(() => {
        stopTimer();
        resolve();
      });
    });
  }

  #now(): Now {
    const { clock, random } = this.#parts;
    return { monotonicMs: clock.monotonicMs(), wallMs: clock.wallMs(), random: random() };
  }

  /** An input that comes while effects are performed (a listener or an HSM that cancels) waits until they are. */
  #feed(input: JourneyInput): void {
    this.#inputs.push(input);
    if (this.#inputs.length > 1) return;
    try {
      for (let next: JourneyInput | undefined = input; next !== undefined; next = this.#inputs[0]) {
        const step = stepJourney(this.#journey, next, this.#now());
        this.#journey = step.journey;
        for (const effect of step.effects) this.#perform(effect);
        this.#inputs.shift();
      }
      this.#arm();
    } catch (error) {
      this.#inputs.length = 0;
      this.#crash?.(error);
    }
  }

  #arm(): void {
    this.#stopTimer?.();
    this.#stopTimer = undefined;
    const wakeAtMs = journeyWakeAtMs(this.#journey);
    if (wakeAtMs === undefined || wakeAtMs === Number.POSITIVE_INFINITY) return;
    const { clock } = this.#parts;
    this.#stopTimer = clock.after(wakeAtMs - clock.monotonicMs(), () => this.#feed({ type: 'Woke' }));
  }

  #perform(effect: JourneyEffect): void {
    switch (effect.type) {
      case 'PrepareCredential':
        this.#begin(effect.ticket, (signal) => this.#prepareCredential(effect, signal));
        break;
      case 'OpenConnection':
        this.#begin(effect.ticket, (signal) => this.#openConnection(effect.ticket, signal));
        break;
      case 'SendRequest':
        this.#begin(effect.ticket, (signal) => this.#sendRequest(effect, signal));
        break;
      case 'ActivateChallenge':
        this.#begin(effect.ticket, (signal) => this.#activate(effect, signal));
        break;
      case 'StageIdentity':
        this.#begin(effect.ticket, (signal) => this.#stage(effect, signal));
        break;
      case 'CommitIdentity':
        this.#begin(effect.ticket, (signal) => this.#commit(effect.ticket, signal));
        break;
      case 'DiscardIdentity':
        this.#discard();
        break;
      case 'OpenHub':
        this.#begin(effect.ticket, (signal) => this.#openHub(effect, signal));
        break;
      case 'CloseConnection':
        this.#abandon();
        this.#closeConnection();
        break;
      case 'CloseHub':
        this.#abandon();
        this.#closeHub();
        break;
      case 'ReportProgress':
        this.#report(effect.event);
        break;
      case 'FinishJourney':
        this.#settle?.(effect.outcome);
        break;
      default:
        unreachable(effect);
    }
  }

  /** Starts the ticketed work; whatever was under way before is abandoned. */
  #begin(ticket: number, work: (signal: AbortSignal) => Promise<JourneyInput>): void {
    this.#abandon();
    const operation = new AbortController();
    this.#operation = operation;
    work(operation.signal).then(
      (input) => {
        if (!operation.signal.aborted) this.#feed(input);
      },
      (error: unknown) => {
        if (operation.signal.aborted) return;
        // A foreign error is a bug, here or in an injected part: it must surface as it is, not as a network problem.
        if (isDpsError(error)) this.#feed({ type: 'OperationFailed', ticket, error });
        else this.#crash?.(error);
      },
    );
  }

  #abandon(): void {
    this.#operation?.abort(new Error('abandoned'));
    this.#operation = undefined;
  }

  async #prepareCredential(
    { ticket, slot, token }: Extract<JourneyEffect, { type: 'PrepareCredential' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    try {
      this.#credential = await makeCredential(this.#parts.hsm, slot, token, signal);
      return { type: 'CredentialReady', ticket };
    } catch (error) {
      throw hsmFailure(error, 'sign');
    }
  }

  async #openConnection(ticket: number, signal: AbortSignal): Promise<JourneyInput> {
    const { dps, endpoint, idScope } = this.#parts;
    if (this.#credential === undefined) throw new TypeError('OpenConnection before PrepareCredential');
    const { registrationId } = this.#journey.config;
    const connection = await dps.open({ endpoint, idScope, registrationId, credential: this.#credential }, signal);
    if (signal.aborted) this.#closings.push(connection.close());
    else this.#connection = connection;
    return { type: 'ConnectionOpened', ticket };
  }

  async #sendRequest(
    { ticket, request }: Extract<JourneyEffect, { type: 'SendRequest' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    if (this.#connection === undefined) throw new TypeError('SendRequest without a connection');
    return { type: 'ReplyReceived', ticket, reply: await this.#connection.exchange(request, signal) };
  }

  async #activate(
    { ticket, authenticationKey }: Extract<JourneyEffect, { type: 'ActivateChallenge' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    try {
      await asTpm(this.#parts.hsm).activate(authenticationKey, signal);
      return { type: 'ChallengeActivated', ticket };
    } catch (error) {
      throw hsmFailure(error, 'activate challenge');
    }
  }

  async #stage(
    { ticket, authenticationKey }: Extract<JourneyEffect, { type: 'StageIdentity' }>,
    signal: AbortSignal,
  ): Promise<JourneyInput> {
    const blob = decodeBase64(authenticationKey);
    if (blob === undefined) {
      throw new ProtocolError({
        code: 'ERR_DPS_PROTOCOL_BODY',
        message: 'The service assigned the device, but registrationState.tpm.authenticationKey is not Base64.',
        expected: 'Base64',
        got: `${authenticationKey.length} other characters`,
      });
    }
    try {
      await asTpm(this.#parts.hsm).stage(blob, signal);
      return { type: 'IdentityStaged', ticket };
    } catch (error) {
      throw hsmFailure(error, 'stage hub identity');
    }
  }

  async #commit(ticket: number, signal: AbortSignal): Promise<JourneyInput> {
    try {
      await asTpm(this.#parts.hsm).commit(signal);
      return { type: 'IdentityCommitted', ticket };
    } catch (error) {
      throw hsmFailure(error, 'commit hub identity');
    }
  }

  #discard(): void {
    const { hsm } = this.#parts;
    if (hsm.kind === 'tpm') this.#closings.push(hsm.discard(new AbortController().signal));
  }

  async #openHub(effect: Extract<JourneyEffect, { type: 'OpenHub' }>, signal: AbortSignal): Promise<JourneyInput> {
    const { hub, hsm } = this.#parts;
    const parameters: HubOpenParameters = {
      hostName: effect.assignedHub,
      deviceId: effect.deviceId,
      hsm,
      slot: effect.slot,
    };
    const session = await hub.open(parameters, signal);
    if (signal.aborted) this.#closings.push(session.close());
    else this.#session = session;
    return { type: 'HubReached', ticket: effect.ticket, twin: session.twin };
  }

  #closeConnection(): void {
    if (this.#connection !== undefined) this.#closings.push(this.#connection.close());
    this.#connection = undefined;
  }

  #closeHub(): void {
    if (this.#session !== undefined) this.#closings.push(this.#session.close());
    this.#session = undefined;
  }
}

async function makeCredential(
  hsm: Hsm,
  slot: number,
  token: { readonly resource: string; readonly expirySeconds: number } | undefined,
  signal: AbortSignal,
): Promise<DpsCredential> {
  if (hsm.kind === 'x509') return { kind: 'x509', tls: await hsm.tlsCredential(slot, signal) };
  const sas =
    token === undefined
      ? undefined
      : formatSasToken({
          resource: token.resource,
          signature: checkedSignature(await hsm.sign(textToSign(token.resource, token.expirySeconds), slot, signal)),
          expirySeconds: token.expirySeconds,
          keyName: 'registration',
        });
  if (hsm.kind === 'tpm')
    return { kind: 'tpm', ...(await hsm.endorsement(signal)), ...(sas === undefined ? {} : { token: sas }) };
  if (sas === undefined) throw new TypeError('A symmetric key needs a token order');
  return { kind: 'sas', token: sas };
}

function checkedRegistrationId(registrationId: unknown): string {
  const problem =
    typeof registrationId === 'string'
      ? registrationIdProblem(registrationId)
      : `registrationId() of the HSM must give a text, not ${typeof registrationId}.`;
  if (problem === undefined) return registrationId as string;
  throw new HsmError({ code: 'ERR_DPS_HSM_REGISTRATION_ID', message: problem, operation: 'read identity' });
}

/** A token with anything else in it comes back from the service as "wrong key", which nobody would look for here. */
function checkedSignature(signature: unknown): Uint8Array {
  if (signature instanceof Uint8Array && signature.length === HMAC_SHA256_BYTES) return signature;
  const got = signature instanceof Uint8Array ? `${signature.length} bytes` : typeof signature;
  throw new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    message: `sign() of the HSM must give the ${HMAC_SHA256_BYTES} bytes of an HMAC-SHA256 as a Uint8Array, not ${got}.`,
    operation: 'sign',
  });
}

function asTpm(hsm: Hsm): Extract<Hsm, { kind: 'tpm' }> {
  if (hsm.kind !== 'tpm') throw new TypeError(`A TPM order for an HSM of kind ${hsm.kind}`);
  return hsm;
}

/** An HSM may be the application's own code: what it throws becomes an HsmError, with the original as cause. */
function hsmFailure(error: unknown, operation: string): unknown {
  if (isDpsError(error)) return error;
  return new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    message: `The HSM failed to ${operation}: ${wordsOf(error)}`,
    operation,
    cause: error,
  });
}

/** What was thrown may be anything, also something that has no text form. */
function wordsOf(error: unknown): string {
  if (error instanceof Error) return error.message;
  return typeof error === 'string' ? error : `it threw ${kindOf(error)}`;
}

function unreachable(value: never): never {
  throw new TypeError(`Unreachable: ${JSON.stringify(value)}`);
}
