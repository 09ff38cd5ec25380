/** What becomes of a registration: which hub, which identity there, and what of an earlier assignment. */
import { decodeBase64 } from '../core/bytes.js';
import { chooseHub } from './allocation.js';
import type { AllocationPolicy, EnrollmentEntry } from './enrollment.js';
import type { JsonObject } from './json.js';
import type { HubIdentity, LinkedHub } from './linked-hub.js';
import type { RegistrationRecord, RegistrationSubstatus } from './registration-record.js';
import type { TpmBlobDamage } from './tpm-activation.js';
import type { AdmittedAuthentication, HubAuthentication } from './verify.js';

/** Departures from the ordinary course of one operation. */
export interface OperationScript {
  /** Polls that are answered with `assigning` before anything happens. */
  readonly delayPolls?: number;
  /** The register reply already is the result. */
  readonly isImmediate?: boolean;
  readonly outcome?: {
    readonly status: 'failed' | 'disabled';
    readonly errorCode?: number;
    readonly errorMessage?: string;
  };
  /** What a custom allocation webhook would have returned. */
  readonly payload?: JsonObject;
  /** What is wrong with the blob that a TPM gets its hub key in. */
  readonly tpmBlob?: TpmBlobDamage;
}

/** A device that was let in, and how. */
export interface AdmittedDevice {
  readonly registrationId: string;
  readonly apiVersion: string;
  readonly entry: EnrollmentEntry;
  readonly authentication: AdmittedAuthentication;
  readonly script: OperationScript;
}

export interface HubChoice {
  readonly hubs: readonly LinkedHub[];
  /** For enrollments that do not say. */
  readonly defaultPolicy: AllocationPolicy;
  /** Whether the device was a TPM already when it was assigned before: then its hub key stays. */
  readonly wasTpm: boolean;
  /** A hub key, Base64. */
  makeKey(): string;
}

type Assignment = NonNullable<RegistrationRecord['assignment']>;

/** The part of the record that this registration decides; the hubs know the device when it returns. */
export function decideOutcome(
  device: AdmittedDevice,
  previous: Assignment | undefined,
  choice: HubChoice,
): Pick<RegistrationRecord, 'status'> & Partial<RegistrationRecord> {
  // An assignment outlives failures and times of being disabled.
  const kept = previous && { assignment: previous };
  const { outcome, payload } = device.script;
  if (!device.entry.isEnabled || outcome?.status === 'disabled') {
    return { status: 'disabled', ...kept, ...(outcome?.errorMessage && { error: { message: outcome.errorMessage } }) };
  }
  if (outcome?.status === 'failed') {
    const message = outcome.errorMessage ?? 'Custom allocation failed with status code: 400';
    return { status: 'failed', ...kept, error: { code: outcome.errorCode ?? 400207, message } };
  }
  const hub = selectHub(device, previous, choice);
  if (hub === undefined) {
    return { status: 'failed', ...kept, error: { code: 400208, message: 'No IoT hub is available for allocation.' } };
  }
  return { status: 'assigned', assignment: settle(device, previous, hub, choice), ...(payload && { payload }) };
}

function selectHub(
  device: AdmittedDevice,
  previous: Assignment | undefined,
  { hubs, defaultPolicy }: HubChoice,
): LinkedHub | undefined {
  const { entry } = device;
  // Before there were policies, a device stayed where it was.
  const sticksToHub =
    entry.reprovision === undefined ? device.apiVersion <= '2018-04-01' : !entry.reprovision.updateHubAssignment;
  const current = previous && hubs.find((hub) => hub.name === previous.hubName);
  if (sticksToHub && current !== undefined) return current;
  const candidates = hubs.filter((hub) =>
    entry.hubs.length > 0 ? entry.hubs.includes(hub.name) : hub.takesAllocations,
  );
  return chooseHub(entry.allocationPolicy ?? defaultPolicy, candidates, device.registrationId);
}

/** Makes the hub know the device, moving its data from the hub before where the policy says so. */
function settle(
  device: AdmittedDevice,
  previous: Assignment | undefined,
  hub: LinkedHub,
  choice: HubChoice,
): Assignment {
  const { entry } = device;
  const { hubs } = choice;
  // The device id of a record stays, whatever the enrollment says by now, until the record is deleted.
  const deviceId = previous?.deviceId ?? entry.deviceId ?? device.registrationId;
  const authentication = hubAuthentication(device, hub.authenticationOf(deviceId), choice);
  const identity: HubIdentity = { deviceId, isEdge: entry.isEdge, authentication };
  const initial = { tags: entry.initialTwin.tags, desired: entry.initialTwin.desired, reported: {} };
  const done = (substatus: RegistrationSubstatus): Assignment => ({ hubName: hub.name, deviceId, substatus });
  if (previous === undefined) {
    hub.putDevice(identity, initial, { overwrite: true });
    return done('initialAssignment');
  }
  if (previous.hubName === hub.name) {
    hub.putDevice(identity, initial, { overwrite: false });
    return done('reprovisionedToInitialAssignment');
  }
  const former = hubs.find((each) => each.name === previous.hubName);
  const migrates = entry.reprovision?.migrateDeviceData ?? true;
  hub.putDevice(identity, (migrates ? former?.contentOf(deviceId) : undefined) ?? initial, { overwrite: true });
  former?.removeDevice(deviceId);
  return done(migrates ? 'deviceDataMigrated' : 'deviceDataReset');
}

/** A TPM that comes again gets the key again that its hub knows it by, as long as it can take it. */
function hubAuthentication(
  { authentication }: AdmittedDevice,
  current: HubAuthentication | undefined,
  { wasTpm, makeKey }: HubChoice,
): HubAuthentication {
  if (authentication.type !== 'tpm') return authentication;
  const fits = wasTpm && current?.type === 'sas' && isTpmKey(current.primaryKey);
  return fits ? current : { type: 'sas', primaryKey: makeKey(), secondaryKey: makeKey() };
}

/** More than a block of SHA-256 no TPM takes for an HMAC key. */
function isTpmKey(keyBase64: string): boolean {
  const length = decodeBase64(keyBase64)?.length ?? 0;
  return length >= 1 && length <= 64;
}
