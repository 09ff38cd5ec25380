/** `dps-device/emulator`: an offline Device Provisioning Service with IoT hubs. */
export type { CloudToDeviceRequest, QueuedMessage } from './cloud-to-device.js';
export type { EmulatorConfig, HubConfig, LoadedConfig, ScopeConfig } from './config.js';
export { loadEmulatorConfig } from './config.js';
export type { Emulator, EmulatorEndpoints, EmulatorOptions } from './emulator.js';
export { startEmulator } from './emulator.js';
export type {
  AllocationPolicy,
  AttestationMechanism,
  CertificateSlot,
  CertificateSlots,
  EnrollmentGroup,
  IndividualEnrollment,
  InitialTwin,
  ReprovisionPolicy,
  SymmetricKeysGiven,
  SymmetricKeysMade,
} from './enrollment.js';
export type { Fault, FaultAction, FaultPoint, FaultResponse, FaultSubject } from './fault.js';
export type { FaultControls } from './faults.js';
export type { DeviceDescription, HubControls, ReceivedTelemetry } from './hub-controls.js';
export type { JsonObject, JsonValue } from './json.js';
export type { MethodResult } from './method-calls.js';
export type { PemSource } from './pem-source.js';
export type {
  AuthorityOptions,
  CertificateAuthority,
  CertificateOptions,
  IssuedCertificate,
  KeyAlgorithm,
  SelfSignedOptions,
} from './pki.js';
export { issueCertificate, makeAuthority, makeSelfSigned } from './pki.js';
export type { DeviceRegistrationState, RegistrationStatus, RegistrationSubstatus } from './registration-record.js';
export type { ScopeControls } from './scope.js';
export type { TpmBlobDamage } from './tpm-activation.js';
export type { TraceControls, TraceEntry, TraceEvent, TraceMatch } from './trace.js';
export type { TwinContent, TwinDocument, VersionedSection } from './twin-document.js';
export type { HubAuthentication } from './verify.js';
