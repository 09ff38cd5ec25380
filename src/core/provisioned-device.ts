import type { AttestationKind } from './attestation.js';
import type { CancelSignal } from './cancel-signal.js';
import type { HubConnectionInfo, HubSession } from './hub.js';
import type { RegistrationResult } from './messages.js';
import type { Twin } from './twin.js';

/** What provisioning ends in. Its hub connection is closed, so that it never fights the application's own. */
export interface ProvisionedDevice extends HubConnectionInfo {
  /** The service's own words: hub, device id, substatus, payload, dates, issued chain, and members not known here. */
  readonly assignment: RegistrationResult;
  /** The name it registered under. */
  readonly registrationId: string;
  readonly attestation: AttestationKind;
  readonly assignedHub: string;
  readonly deviceId: string;
  /** Registered just now, or taken from a stored record. */
  readonly source: 'registered' | 'stored';
  /** What got through to DPS, now or when it was last asked, and to the hub. */
  readonly transport: { readonly dps: string; readonly hub: string };
  /** The initial device twin with its versions. */
  readonly twin: Twin;
  /** Opens a session of this package at the assigned hub; not beside a client of another library, the hub keeps one connection per device. */
  openHub(signal?: CancelSignal): Promise<HubSession>;
}
