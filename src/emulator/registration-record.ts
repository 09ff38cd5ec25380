import type { JsonObject } from './json.js';
import { formatTimestamp } from './world.js';

export type RegistrationStatus = 'unassigned' | 'assigning' | 'assigned' | 'failed' | 'disabled';
export type RegistrationSubstatus =
  | 'initialAssignment'
  | 'deviceDataMigrated'
  | 'deviceDataReset'
  | 'reprovisionedToInitialAssignment';

/** What the service remembers of a device; plain data, so that it can be stored. */
export interface RegistrationRecord {
  readonly registrationId: string;
  readonly createdMs: number;
  readonly lastUpdatedMs: number;
  readonly etag: string;
  readonly status: RegistrationStatus;
  /** The last assignment; stays while a later registration fails or is disabled. */
  readonly assignment?: {
    readonly hubName: string;
    readonly deviceId: string;
    readonly substatus: RegistrationSubstatus;
  };
  readonly error?: { readonly code?: number; readonly message: string };
  readonly payload?: JsonObject;
  readonly attestation: 'symmetricKey' | 'x509' | 'tpm';
  readonly enrollmentGroupId?: string;
  /** The entry this came from, `individual:{id}` or `group:{id}`, in lower case. */
  readonly entryKey: string;
}

/** `DeviceRegistrationState` of the service API. */
export interface DeviceRegistrationState {
  readonly registrationId: string;
  readonly createdDateTimeUtc: string;
  readonly lastUpdatedDateTimeUtc: string;
  readonly status: RegistrationStatus;
  readonly substatus?: RegistrationSubstatus;
  readonly assignedHub?: string;
  readonly deviceId?: string;
  readonly errorCode?: number;
  readonly errorMessage?: string;
  readonly etag: string;
  readonly payload?: JsonObject;
}

type HostNameOf = (hubName: string) => string;

/** What the service side is shown: with the real substatus. */
export function describeRecord(record: RegistrationRecord, hostNameOf: HostNameOf): DeviceRegistrationState {
  return {
    registrationId: record.registrationId,
    createdDateTimeUtc: formatTimestamp(record.createdMs),
    ...describeAssignment(record, hostNameOf),
    ...describeError(record),
    lastUpdatedDateTimeUtc: formatTimestamp(record.lastUpdatedMs),
    etag: record.etag,
    ...(record.payload && { payload: record.payload }),
  };
}

/**
 * What the device is shown. Absent members are left out and never null, and callers of 2019-03-31 and before are told
 * `initialAssignment` where the truth is `reprovisionedToInitialAssignment`.
 *
 * @param authenticationKey Base64 of the blob with the hub key of a TPM.
 */
export function describeForDevice(
  record: RegistrationRecord,
  apiVersion: string,
  hostNameOf: HostNameOf,
  authenticationKey?: string,
): JsonObject {
  const state = describeRecord(record, hostNameOf);
  const isOldCaller = apiVersion.slice(0, 10) <= '2019-03-31';
  const isHidden = isOldCaller && state.substatus === 'reprovisionedToInitialAssignment';
  return {
    ...(authenticationKey !== undefined && { tpm: { authenticationKey } }),
    ...(record.status === 'assigned' && describeAttestation(record)),
    ...state,
    ...(isHidden && { substatus: 'initialAssignment' }),
  };
}

function describeAssignment(
  record: RegistrationRecord,
  hostNameOf: HostNameOf,
): Pick<DeviceRegistrationState, 'status' | 'substatus' | 'assignedHub' | 'deviceId'> {
  if (record.status !== 'assigned' || record.assignment === undefined) return { status: record.status };
  return {
    assignedHub: hostNameOf(record.assignment.hubName),
    deviceId: record.assignment.deviceId,
    status: record.status,
    substatus: record.assignment.substatus,
  };
}

function describeError(record: RegistrationRecord): Pick<DeviceRegistrationState, 'errorCode' | 'errorMessage'> {
  if (record.error === undefined) return {};
  const { code, message } = record.error;
  return { ...(code !== undefined && { errorCode: code }), errorMessage: message };
}

/** An individual symmetric-key device has no attestation member, an individual X.509 device an empty one. */
function describeAttestation(record: RegistrationRecord): JsonObject {
  const group = record.enrollmentGroupId === undefined ? {} : { enrollmentGroupId: record.enrollmentGroupId };
  if (record.attestation === 'x509') return { x509: group };
  return record.enrollmentGroupId === undefined ? {} : { symmetricKey: group };
}
