import type { X509Certificate } from 'node:crypto';
import { encodeBase64 } from '../core/bytes.js';
import type { JsonObject } from './json.js';
import type { PemSource } from './pem-source.js';
import type { StorageKey } from './tpm-storage-key.js';

export type AllocationPolicy = 'hashed' | 'geoLatency' | 'static';

export interface ReprovisionPolicy {
  readonly updateHubAssignment?: boolean;
  readonly migrateDeviceData?: boolean;
}

export interface InitialTwin {
  readonly tags?: JsonObject;
  readonly properties?: { readonly desired?: JsonObject };
}

/** One certificate slot, as the service nests it; read-only `info` is tolerated. */
export interface CertificateSlot {
  readonly certificate: PemSource;
  readonly info?: JsonObject;
}

export interface CertificateSlots {
  readonly primary?: CertificateSlot;
  readonly secondary?: CertificateSlot;
}

/** How devices of an enrollment prove who they are. Exactly one of the members; `type` may be left out. */
export interface AttestationMechanism {
  readonly type?: 'symmetricKey' | 'x509' | 'tpm';
  /** Keys that are left out are generated: 64 random bytes. */
  readonly symmetricKey?: { readonly primaryKey?: string; readonly secondaryKey?: string };
  readonly x509?: {
    /** Individual enrollments: the device certificates themselves. */
    readonly clientCertificates?: CertificateSlots;
    /** Groups: the certificates that sign the devices' certificates. */
    readonly signingCertificates?: CertificateSlots;
    /** Names of the scope's verified CA certificates. */
    readonly caReferences?: { readonly primary?: string; readonly secondary?: string };
  };
  /** Individual enrollments: Base64 of TPM2B_PUBLIC. The storage root key is the device's, unless it sends none. */
  readonly tpm?: { readonly endorsementKey: string; readonly storageRootKey?: string };
}

/** Mixed into an enrollment that is given with symmetric keys, whichever of them. */
export interface SymmetricKeysGiven {
  readonly attestation: { readonly symmetricKey: NonNullable<AttestationMechanism['symmetricKey']> };
}

/** Mixed into such an enrollment as it comes back: with both keys, generated ones included. */
export interface SymmetricKeysMade {
  readonly attestation: { readonly symmetricKey: { readonly primaryKey: string; readonly secondaryKey: string } };
}

interface EnrollmentCommon {
  readonly attestation: AttestationMechanism;
  readonly capabilities?: { readonly iotEdge?: boolean };
  readonly initialTwin?: InitialTwin;
  readonly provisioningStatus?: 'enabled' | 'disabled';
  readonly reprovisionPolicy?: ReprovisionPolicy;
  /** Default: the scope's. */
  readonly allocationPolicy?: AllocationPolicy;
  /** Candidates, by hub name or host name. Default: all hubs that take part in allocation. */
  readonly iotHubs?: readonly string[];
  /** Legacy form of `iotHubs` with one member. */
  readonly iotHubHostName?: string;
}

/** In the service's own spelling (service API 2021-10-01). */
export interface IndividualEnrollment extends EnrollmentCommon {
  readonly registrationId: string;
  /** Default: the registration id. */
  readonly deviceId?: string;
  readonly optionalDeviceInformation?: JsonObject;
}

/** In the service's own spelling (service API 2021-10-01). */
export interface EnrollmentGroup extends EnrollmentCommon {
  readonly enrollmentGroupId: string;
}

/** What an entry accepts as proof. */
export type EntryAttestation =
  | { readonly type: 'symmetricKey'; readonly primaryKey: string; readonly secondaryKey: string }
  | {
      readonly type: 'x509';
      /** `client`: these very certificates. `signing`: certificates issued by one of these. */
      readonly role: 'client' | 'signing';
      readonly certificates: readonly X509Certificate[];
      /** Set when the certificates were named by reference. */
      readonly references?: readonly string[];
    }
  | { readonly type: 'tpm'; readonly endorsementKey: StorageKey; readonly storageRootKey: StorageKey | undefined };

/** An enrollment that passed all checks. */
export interface EnrollmentEntry {
  readonly kind: 'individual' | 'group';
  readonly id: string;
  readonly deviceId: string | undefined;
  readonly attestation: EntryAttestation;
  readonly isEnabled: boolean;
  readonly isEdge: boolean;
  readonly initialTwin: { readonly tags: JsonObject; readonly desired: JsonObject };
  /** `undefined` when the enrollment does not say: old callers then stick to their hub. */
  readonly reprovision: { readonly updateHubAssignment: boolean; readonly migrateDeviceData: boolean } | undefined;
  readonly allocationPolicy: AllocationPolicy | undefined;
  /** Hub names; empty: all that take part in allocation. */
  readonly hubs: readonly string[];
  readonly optionalDeviceInformation: JsonObject | undefined;
  readonly createdMs: number;
  readonly updatedMs: number;
  readonly etag: string;
}

/** An individual entry as the service would spell it, with its keys: it can be read back. */
export function describeIndividual(entry: EnrollmentEntry): IndividualEnrollment {
  return {
    registrationId: entry.id,
    ...(entry.deviceId !== undefined && { deviceId: entry.deviceId }),
    ...describeCommon(entry),
    ...(entry.optionalDeviceInformation && { optionalDeviceInformation: entry.optionalDeviceInformation }),
  };
}

/** A group entry as the service would spell it, with its keys: it can be read back. */
export function describeGroup(entry: EnrollmentEntry): EnrollmentGroup {
  return { enrollmentGroupId: entry.id, ...describeCommon(entry) };
}

function describeCommon(entry: EnrollmentEntry): EnrollmentCommon {
  return {
    attestation: describeAttestation(entry.attestation),
    capabilities: { iotEdge: entry.isEdge },
    initialTwin: { tags: entry.initialTwin.tags, properties: { desired: entry.initialTwin.desired } },
    provisioningStatus: entry.isEnabled ? 'enabled' : 'disabled',
    ...(entry.reprovision && { reprovisionPolicy: entry.reprovision }),
    ...(entry.allocationPolicy && { allocationPolicy: entry.allocationPolicy }),
    ...(entry.hubs.length > 0 && { iotHubs: entry.hubs }),
  };
}

function describeAttestation(attestation: EntryAttestation): AttestationMechanism {
  if (attestation.type === 'symmetricKey') {
    const { type, primaryKey, secondaryKey } = attestation;
    return { type, symmetricKey: { primaryKey, secondaryKey } };
  }
  if (attestation.type === 'tpm') {
    const { type, endorsementKey, storageRootKey } = attestation;
    return {
      type,
      tpm: {
        endorsementKey: encodeBase64(endorsementKey.bytes),
        ...(storageRootKey && { storageRootKey: encodeBase64(storageRootKey.bytes) }),
      },
    };
  }
  if (attestation.references !== undefined) {
    const [primary, secondary] = attestation.references;
    return { type: 'x509', x509: { caReferences: { ...(primary && { primary }), ...(secondary && { secondary }) } } };
  }
  const slots = describeSlots(attestation.certificates);
  return {
    type: 'x509',
    x509: attestation.role === 'client' ? { clientCertificates: slots } : { signingCertificates: slots },
  };
}

function describeSlots(certificates: readonly X509Certificate[]): CertificateSlots {
  const [primary, secondary] = certificates.map((certificate) => ({ certificate: certificate.toString() }));
  return { ...(primary && { primary }), ...(secondary && { secondary }) };
}
