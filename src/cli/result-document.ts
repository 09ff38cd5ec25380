import type { AttestationKind } from '../core/attestation.js';
import type { ProvisionedDevice } from '../core/provisioned-device.js';
import type { JsonObject, JsonValue, TwinSection } from '../core/twin.js';

/** What `provision` prints on standard output. No secret is in it. Members without a value are left out. */
export interface ResultDocument {
  readonly status: 'provisioned';
  readonly idScope: string;
  readonly registrationId: string;
  readonly attestation: AttestationKind;
  /** What got through. */
  readonly transport: { readonly dps: string; readonly hub: string };
  readonly assignedHub: string;
  readonly deviceId: string;
  /** `registered` just now, or taken from a `stored` record. */
  readonly source: 'registered' | 'stored';
  /** The service's word on this assignment, e.g. `initialAssignment`. */
  readonly substatus?: string;
  readonly enrollmentGroupId?: string;
  readonly createdDateTimeUtc?: string;
  readonly lastUpdatedDateTimeUtc?: string;
  readonly etag?: string;
  readonly connectionProfile?: string;
  /** What a custom allocation webhook returned. */
  readonly payload?: JsonValue;
  /** Base64 DER, leaf first. */
  readonly issuedCertificateChain?: readonly string[];
  readonly twin: { readonly desired: TwinSection; readonly reported: TwinSection };
  /** Where `--write-connection` put the connection string. */
  readonly connectionFile?: string;
}

/** What is known of the journey beside its outcome. */
export interface JourneyFacts {
  readonly idScope: string;
  readonly connectionFile: string | undefined;
}

export function makeResultDocument(device: ProvisionedDevice, facts: JourneyFacts): ResultDocument {
  const { assignment, registrationId, attestation, transport, assignedHub, deviceId, source, twin } = device;
  const { idScope, connectionFile } = facts;
  const enrollmentGroupId = groupOf(assignment.symmetricKey) ?? groupOf(assignment.x509);
  const { substatus, createdDateTimeUtc, lastUpdatedDateTimeUtc, etag, connectionProfile } = assignment;
  const { payload, issuedCertificateChain } = assignment;
  return {
    status: 'provisioned',
    idScope,
    registrationId,
    attestation,
    transport,
    assignedHub,
    deviceId,
    source,
    ...(substatus === undefined ? {} : { substatus }),
    ...(enrollmentGroupId === undefined ? {} : { enrollmentGroupId }),
    ...(createdDateTimeUtc === undefined ? {} : { createdDateTimeUtc }),
    ...(lastUpdatedDateTimeUtc === undefined ? {} : { lastUpdatedDateTimeUtc }),
    ...(etag === undefined ? {} : { etag }),
    ...(connectionProfile === undefined ? {} : { connectionProfile }),
    ...(payload === undefined ? {} : { payload }),
    ...(issuedCertificateChain === undefined ? {} : { issuedCertificateChain }),
    twin: { desired: twin.desired, reported: twin.reported },
    ...(connectionFile === undefined ? {} : { connectionFile }),
  };
}

/** Only the group's name: what else the service may put there one day has not been judged. */
function groupOf(attestation: JsonObject | undefined): string | undefined {
  const group = attestation?.enrollmentGroupId;
  return typeof group === 'string' ? group : undefined;
}
