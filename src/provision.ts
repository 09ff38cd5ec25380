import { withinGrace } from './close-grace.js';
import type { Clock } from './core/clock.js';
import type { HubOpenParameters } from './core/hub.js';
import { registrationIdProblem } from './core/identifiers.js';
import type { Arrival, JourneyConfig } from './core/journey.js';
import { onCancel } from './core/on-cancel.js';
import type { ProgressEvent } from './core/progress.js';
import type { ProvisionedDevice } from './core/provisioned-device.js';
import { keyIdsProblem } from './core/record.js';
import { publishProgress } from './diagnostics.js';
import { CancelledError, ConfigurationError, DeadlineError, HsmError } from './errors.js';
import { hsmFailure } from './hsm-answers.js';
import { Performer } from './performer.js';
import type { ProgressLog } from './progress-log.js';
import { hubTransportOf, type ProvisioningParts } from './provisioning-parts.js';
import { kindOf } from './value-kind.js';

/** Provisions once. Settles after everything it opened is closed again. */
export async function provisionWith(parts: ProvisioningParts, log: ProgressLog): Promise<ProvisionedDevice> {
  try {
    const config = await journeyConfig(parts);
    const outcome = await new Performer(parts, config, { report: reporter(log) }).run();
    if (outcome.kind === 'failed') throw outcome.error;
    return provisionedDevice(parts, config, outcome);
  } catch (error) {
    await parts.closeHsm?.();
    throw error;
  } finally {
    log.end();
    await withinGrace(parts.clock, parts.release?.());
  }
}

/** Tells diagnostics first, then the log: the former's listeners are called at once. */
export function reporter(log: ProgressLog): (event: ProgressEvent) => void {
  return (event) => {
    // Waits are drawn from chance, and nobody reads fractions of milliseconds.
    const told = event.type === 'waiting' ? { ...event, forMs: Math.ceil(event.forMs) } : event;
    publishProgress(told);
    log.append(told);
  };
}

/** What the application gets of a hub that has accepted the device. */
export function provisionedDevice(
  parts: ProvisioningParts,
  { registrationId, attestation }: JourneyConfig,
  arrival: Arrival,
): ProvisionedDevice {
  const { result, slot, source, twin, transport } = arrival;
  const { assignedHub, deviceId } = result;
  const parameters: HubOpenParameters = { hostName: assignedHub, deviceId, hsm: parts.hsm, slot };
  const hub = hubTransportOf(parts, transport.hub);
  const info = hub.connectionInfo(parameters);
  return {
    assignment: result,
    registrationId,
    attestation,
    assignedHub,
    deviceId,
    source,
    transport,
    twin,
    mqttOptions: (signal) => info.mqttOptions(signal),
    connectionString: (signal) => info.connectionString(signal),
    openHub: (signal = new AbortController().signal) => hub.open(parameters, signal),
  };
}

/** Reads from the HSM what the machine must know before its first step, under the same deadline and signal. */
export async function journeyConfig(parts: ProvisioningParts): Promise<JourneyConfig> {
  const { hsm, clock, signal, deadlineMs } = parts;
  const startedAtMs = parts.startedAtMs ?? clock.monotonicMs();
  const leftMs = Math.max(0, startedAtMs + deadlineMs - clock.monotonicMs());
  const identity = await bounded({ clock, deadlineMs, leftMs, signal }, async (within) => ({
    registrationId: checkedRegistrationId(await hsm.registrationId(within)),
    tpm: hsm.kind === 'tpm' ? checkedEndorsement(await hsm.endorsement(within)) : undefined,
  }));
  return {
    idScope: parts.idScope,
    registrationId: identity.registrationId,
    attestation: hsm.kind,
    slots: checkedSlots(hsm.slots),
    ...(hsm.keyIds === undefined ? {} : { keyIds: checkedKeyIds(hsm.keyIds, checkedSlots(hsm.slots)) }),
    ...(parts.payload === undefined ? {} : { payload: parts.payload }),
    ...(identity.tpm === undefined ? {} : { tpm: identity.tpm }),
    transport: parts.dps.name,
    hubTransport: parts.hub.name,
    transports: [parts.dps, ...(parts.otherDps ?? [])].map(({ name }) => name),
    hubTransports: [parts.hub, ...(parts.otherHubs ?? [])].map(({ name }) => name),
    endpoint: parts.endpoint,
    hasStore: parts.store !== undefined,
    tellsAcceptance: hsm.kind !== 'tpm' && hsm.accepted !== undefined,
    ...(hsm.stagedSlot === undefined ? {} : { stagedSlot: hsm.stagedSlot }),
    reprovision: parts.reprovision ?? false,
    startSpreadMs: parts.startSpreadMs ?? 0,
    deadlineMs,
    // One bound over all, the reading of the identity included.
    deadlineFromMs: startedAtMs,
    connectTimeoutMs: parts.connectTimeoutMs,
    requestTimeoutMs: parts.requestTimeoutMs,
    hubTimeoutMs: parts.hubTimeoutMs,
    tokenLifeSeconds: parts.tokenLifeSeconds,
  };
}

/** Reads what an HSM gives within the time that is left, also from one that never answers. */
export function bounded<T>(
  bounds: {
    readonly clock: Clock;
    /** As configured, for the error. */
    readonly deadlineMs: number;
    readonly leftMs: number;
    readonly signal: AbortSignal | undefined;
  },
  read: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { clock, deadlineMs, leftMs, signal } = bounds;
  const state = 'reading the identity';
  return new Promise<T>((resolve, reject) => {
    const controller = new AbortController();
    let stopListening = (): void => {};
    const leave = (settle: () => void): void => {
      stopTimer();
      stopListening();
      settle();
      controller.abort();
    };
    const cancel = (): void => leave(() => reject(new CancelledError({ state, cause: signal?.reason })));
    const stopTimer = clock.after(leftMs, () => leave(() => reject(new DeadlineError({ state, deadlineMs }))));
    if (signal?.aborted) {
      cancel();
      return;
    }
    if (signal !== undefined) stopListening = onCancel(signal, cancel);
    read(controller.signal).then(
      (value) => leave(() => resolve(value)),
      (error) => leave(() => reject(hsmFailure(error, 'read identity'))),
    );
  });
}

function checkedRegistrationId(registrationId: unknown): string {
  const problem =
    typeof registrationId === 'string'
      ? registrationIdProblem(registrationId)
      : `registrationId() of the HSM must give a text, not ${kindOf(registrationId)}.`;
  if (problem === undefined) return registrationId as string;
  throw new HsmError({ code: 'ERR_DPS_HSM_REGISTRATION_ID', message: problem, operation: 'read identity' });
}

function checkedEndorsement(keys: unknown): { endorsementKey: Uint8Array; storageRootKey: Uint8Array } {
  const { endorsementKey, storageRootKey } = (typeof keys === 'object' && keys !== null ? keys : {}) as {
    [name: string]: unknown;
  };
  if (endorsementKey instanceof Uint8Array && storageRootKey instanceof Uint8Array)
    return { endorsementKey, storageRootKey };
  throw new HsmError({
    code: 'ERR_DPS_HSM_OPERATION',
    message: `endorsement() of the HSM must give endorsementKey and storageRootKey as Uint8Array, not ${kindOf(keys)}.`,
    operation: 'read identity',
  });
}

function checkedSlots(slots: unknown = 1): number {
  if (Number.isSafeInteger(slots) && Number(slots) >= 1) return Number(slots);
  const got = typeof slots === 'number' ? slots : kindOf(slots);
  throw wrongMember(`slots of an object of your own must be a whole number from 1 on, not ${got}.`);
}

function checkedKeyIds(keyIds: readonly string[], slots: number): readonly string[] {
  const problem = keyIdsProblem(keyIds);
  if (problem !== undefined) throw wrongMember(`keyIds of an object of your own cannot be used. ${problem}`);
  if (keyIds.length === slots) return [...keyIds];
  throw wrongMember(`keyIds of an object of your own must be as many as its slots, ${slots}, not ${keyIds.length}.`);
}

function wrongMember(problem: string): ConfigurationError {
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', option: 'hsm', message: `Option hsm: ${problem}` });
}
