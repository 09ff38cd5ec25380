/** The core's door, for ports to other hosts: the pure machines, codecs and contracts. Re-exports only. */
export type { AttestationKind, Hsm, SymmetricKeyHsm, TlsClientCredential, TpmHsm, X509Hsm } from './attestation.js';
export * from './bytes.js';
export type { CancelSignal } from './cancel-signal.js';
export * from './clock.js';
export * from './hub.js';
export * from './identifiers.js';
export * from './journey.js';
export * from './messages.js';
export type { ProgressEvent } from './progress.js';
export type { ProvisionedDevice } from './provisioned-device.js';
export * from './registration.js';
export * from './retry.js';
export * from './sas.js';
export * from './tpm-challenge.js';
export * from './transport.js';
export * from './twin.js';
export * from './wire/dps-mqtt.js';
export * from './wire/hub-mqtt.js';
