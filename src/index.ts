/** The front door: re-exports only. */
export type { KeyStoreHsmOptions } from '../hsm/key-store/key-store-options.js';
export type { SymmetricKeyHsmOptions } from '../hsm/symmetric-key.js';
export type { Tpm2HsmOptions } from '../hsm/tpm2/tpm2-options.js';
export type { X509FileHsmOptions } from '../hsm/x509-file.js';
export type { Provisioning } from './compose.js';
export { provision, run } from './compose.js';
export type {
  AttestationKind,
  Hsm,
  SymmetricKeyHsm,
  TlsClientCredential,
  TpmHsm,
  X509Hsm,
} from './core/attestation.js';
export type { CancelSignal } from './core/cancel-signal.js';
export type { Clock, Random } from './core/clock.js';
export type {
  CloudToDeviceMessage,
  HubConnectionInfo,
  HubOpenParameters,
  HubSession,
  HubTransport,
  MethodResponse,
  MqttClientOptions,
  TelemetryMessage,
  Unsubscribe,
} from './core/hub.js';
export type { RegistrationResult } from './core/messages.js';
export type { ProgressEvent } from './core/progress.js';
export type { ProvisionedDevice } from './core/provisioned-device.js';
export type { DeviceRecord, RecordBinding } from './core/record.js';
export type { LoadedRecord, RecordStore } from './core/store.js';
export type {
  DpsChallenge,
  DpsConnection,
  DpsCredential,
  DpsOpenParameters,
  DpsReply,
  DpsRequest,
  DpsTransport,
} from './core/transport.js';
export type { DesiredChange, JsonObject, JsonValue, Twin, TwinSection } from './core/twin.js';
export { PROGRESS_CHANNEL } from './diagnostics.js';
export type { DpsErrorCode, StoreOperation, TransportPhase } from './errors.js';
export {
  CancelledError,
  ClockError,
  ConfigurationError,
  DeadlineError,
  DpsError,
  HsmError,
  isDpsError,
  ProtocolError,
  RegistrationRejectedError,
  ServiceError,
  StoreError,
  TransportError,
} from './errors.js';
export type { HsmDescription, ProvisionOptions, RunOptions } from './provision-options.js';
export type { ReprovisionTriggers, RunningDevice } from './run.js';
export type { DpsTransportName, HubTransportName } from './transport-names.js';
