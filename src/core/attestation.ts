import type { CancelSignal } from './cancel-signal.js';

/** The three ways DPS lets a device prove who it is, in the service's spelling. */
export type AttestationKind = 'symmetricKey' | 'x509' | 'tpm';

/** A TLS client identity: leaf first, then every intermediate, as PEM; the key as PEM, possibly encrypted. */
export interface TlsClientCredential {
  readonly certificateChainPem: string;
  readonly privateKeyPem: string;
  readonly passphrase?: string;
}

interface HsmBase {
  /** The name the device registers under. X.509: the leaf's common name; TPM: derived from the EK, or given. */
  registrationId(signal: CancelSignal): Promise<string>;
  /**
   * How many credentials there are to try in turn, e.g. 2 for a primary and a secondary key. Default 1.
   * The machine moves to the next slot only when the service refused the one before.
   */
  readonly slots?: number;
  /** The slot of a key that is staged beside the one in use, if there is one. */
  readonly stagedSlot?: number | undefined;
  /**
   * A name for the credential in each slot, in their order, that stays with it when it moves to another: 1 to 128 visible
   * characters each, no secret. It goes into the record, which then knows which one the hub had accepted.
   */
  readonly keyIds?: readonly string[];
  /** The hub has accepted the credential in `slot`: a key that was staged beside the one in use may take its place. */
  accepted?(slot: number, signal: CancelSignal): Promise<void>;
  /** Frees handles; called once by whoever created the HSM. */
  close?(): Promise<void>;
}

/** Holds a device key and only ever shows what it signs. */
export interface SymmetricKeyHsm extends HsmBase {
  readonly kind: 'symmetricKey';
  /** HMAC-SHA256 of `data` under the device key in `slot`. */
  sign(data: Uint8Array, slot: number, signal: CancelSignal): Promise<Uint8Array>;
  /** The device key itself as Base64, for a connection string. Left out where the key must not leave. */
  exportKey?(slot: number, signal: CancelSignal): Promise<string>;
}

/** Holds a certificate chain and its private key. */
export interface X509Hsm extends HsmBase {
  readonly kind: 'x509';
  tlsCredential(slot: number, signal: CancelSignal): Promise<TlsClientCredential>;
}

/** Holds an endorsement key; the hub identity is sealed to it by the service. */
export interface TpmHsm extends HsmBase {
  readonly kind: 'tpm';
  /** Marshalled `TPM2B_PUBLIC` of EK and SRK. */
  endorsement(signal: CancelSignal): Promise<{ endorsementKey: Uint8Array; storageRootKey: Uint8Array }>;
  /** Takes the registration nonce's key blob in; `sign` uses it until a hub identity is staged. */
  activate(challenge: Uint8Array, signal: CancelSignal): Promise<void>;
  sign(data: Uint8Array, slot: number, signal: CancelSignal): Promise<Uint8Array>;
  /** Takes the hub key blob in without giving up the identity in use. */
  stage(authenticationKey: Uint8Array, signal: CancelSignal): Promise<void>;
  /** Makes the staged identity the one in use: the hub has accepted it. */
  commit(signal: CancelSignal): Promise<void>;
  /** Drops the staged identity; the one in use stays. */
  discard(signal: CancelSignal): Promise<void>;
}

/**
 * What proves the device's identity. Does only what needs the secret; every method takes a signal and fails with
 * `HsmError`. Implement one of the three to bring your own secure element.
 */
export type Hsm = SymmetricKeyHsm | X509Hsm | TpmHsm;
