import { createHash, randomBytes } from 'node:crypto';
import type { TpmHsm } from '../../src/core/attestation.js';
import { concatBytes, encodeBase64 } from '../../src/core/bytes.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { throwIfCancelled } from '../../src/core/cancellation.js';
import { wordsOf } from '../../src/core/thrown-words.js';
import { type DpsError, HsmError, isDpsError } from '../../src/errors.js';
import { type ActivationBlob, readActivationBlob } from './activation-blob.js';
import { HubIdentity } from './hub-identity.js';
import { PrimaryKeys } from './primary-keys.js';
import { plain, TpmFormatError, tpm2b } from './structures.js';
import { Tpm, type TpmTurn } from './tpm.js';
import { explainRefusal, TpmCommandError, tpmError, wasReset } from './tpm-error.js';
import { readTpm2Options, type Tpm2HsmOptions, type Tpm2Settings } from './tpm2-options.js';
import { takeIn } from './wrapped-key.js';

/** A command that looks for primes. */
const CREATION_TIMEOUT_MS = 300_000;

/** What a factory hands to the operator, to enroll the device with. No secret; the EK identifies the device for life. */
export interface TpmIdentity {
  readonly registrationId: string;
  /** Base64 of the marshalled `TPM2B_PUBLIC`. */
  readonly endorsementKey: string;
  readonly storageRootKey: string;
  /** An individual enrollment, as the service's API takes it. The SRK is left out: it changes when the TPM is cleared. */
  readonly enrollment: {
    readonly registrationId: string;
    readonly attestation: { readonly type: 'tpm'; readonly tpm: { readonly endorsementKey: string } };
  };
}

export interface Tpm2Hsm extends TpmHsm {
  identity(signal: CancelSignal): Promise<TpmIdentity>;
  close(): Promise<void>;
}

/**
 * A TPM 2.0 as HSM. EK and SRK are read where they are expected, or made there; the hub key comes from the service,
 * sealed to them, and never leaves the TPM. The TPM is used from the first call on; between calls nothing is left in it
 * but the persistent keys, and the link is at rest.
 *
 * @throws {ConfigurationError} when an option is unknown, of the wrong type, or cannot be right.
 * @throws {HsmError} `ERR_DPS_HSM_REGISTRATION_ID`, or what `readSecretFile` throws. Its methods fail with
 *   `ERR_DPS_HSM_TPM_…`.
 * @throws {CancelledError} when the signal aborts.
 */
export async function tpm2Hsm(options: Tpm2HsmOptions = {}, signal?: CancelSignal): Promise<Tpm2Hsm> {
  return new TpmDevice(await readTpm2Options(options, signal));
}

const random = (bytes: number): Uint8Array => plain(randomBytes(bytes));

class TpmDevice implements Tpm2Hsm {
  readonly kind = 'tpm';
  readonly #tpm: Tpm;
  readonly #settings: Tpm2Settings;
  readonly #keys: PrimaryKeys;
  readonly #hubIdentity: HubIdentity;

  constructor(settings: Tpm2Settings) {
    const { link, clock, commandTimeoutMs, handles, ownerAuth, endorsementAuth, template } = settings;
    this.#settings = settings;
    this.#tpm = new Tpm({ link, clock, commandTimeoutMs, creationTimeoutMs: CREATION_TIMEOUT_MS });
    const isTransient = settings.transientPrimaries;
    this.#keys = new PrimaryKeys({ template, handles, isTransient, ownerAuth, endorsementAuth });
    this.#hubIdentity = new HubIdentity({ place: link.place, keys: this.#keys, handles, ownerAuth });
  }

  async registrationId(signal: CancelSignal): Promise<string> {
    const state = 'reading the registration id';
    throwIfCancelled(signal, state);
    return (
      this.#settings.registrationId ??
      this.#perform('read identity', state, signal, async (turn) => {
        const ek = await this.#keys.endorsementKey(turn);
        return registrationIdOf(tpm2b(ek.publicArea));
      })
    );
  }

  endorsement(signal: CancelSignal): Promise<{ endorsementKey: Uint8Array; storageRootKey: Uint8Array }> {
    return this.#perform('read identity', 'reading the identity', signal, async (turn) => {
      const ek = await this.#keys.endorsementKey(turn);
      await this.#keys.release(turn, ek);
      const srk = await this.#keys.storageRootKey(turn);
      return { endorsementKey: tpm2b(ek.publicArea), storageRootKey: tpm2b(srk.publicArea) };
    });
  }

  async identity(signal: CancelSignal): Promise<TpmIdentity> {
    const keys = await this.endorsement(signal);
    const registrationId = this.#settings.registrationId ?? registrationIdOf(keys.endorsementKey);
    const endorsementKey = encodeBase64(keys.endorsementKey);
    return {
      registrationId,
      endorsementKey,
      storageRootKey: encodeBase64(keys.storageRootKey),
      enrollment: { registrationId, attestation: { type: 'tpm', tpm: { endorsementKey } } },
    };
  }

  async activate(challenge: Uint8Array, signal: CancelSignal): Promise<void> {
    const operation = 'activate challenge';
    await this.#perform(operation, 'activating the challenge', signal, async (turn) => {
      this.#hubIdentity.useNonceKey(await this.#takeIn(turn, readBlob(challenge, operation)));
    });
  }

  async sign(data: Uint8Array, slot: number, signal: CancelSignal): Promise<Uint8Array> {
    return this.#perform('sign', 'signing', signal, (turn) => {
      if (slot === 0) return this.#hubIdentity.sign(turn, data);
      const message = `A TPM holds one identity, in slot 0; there is no slot ${slot}.`;
      throw tpmError('ERR_DPS_HSM_OPERATION', 'sign', message);
    });
  }

  async stage(authenticationKey: Uint8Array, signal: CancelSignal): Promise<void> {
    const operation = 'stage hub identity';
    await this.#perform(operation, 'staging the hub identity', signal, async (turn) => {
      await this.#hubIdentity.stage(turn, await this.#takeIn(turn, readBlob(authenticationKey, operation)));
    });
  }

  commit(signal: CancelSignal): Promise<void> {
    return this.#perform('commit hub identity', 'committing the hub identity', signal, (turn) =>
      this.#hubIdentity.commit(turn),
    );
  }

  discard(signal: CancelSignal): Promise<void> {
    return this.#perform('discard hub identity', 'discarding the hub identity', signal, (turn) =>
      this.#hubIdentity.discard(turn),
    );
  }

  close(): Promise<void> {
    return this.#tpm.close();
  }

  #takeIn(turn: TpmTurn, blob: ActivationBlob): ReturnType<typeof takeIn> {
    const { endorsementAuth, encryptParameters } = this.#settings;
    return takeIn(turn, blob, { keys: this.#keys, endorsementAuth, encryptParameters, random });
  }

  async #perform<T>(
    operation: string,
    state: string,
    signal: CancelSignal | undefined,
    work: (turn: TpmTurn) => Promise<T>,
  ): Promise<T> {
    try {
      return await this.#tpm.run(signal, state, work).catch((error: unknown) => {
        // All work can be done again from its beginning, and after a reset that is what it takes.
        if (wasReset(error)) return this.#tpm.run(signal, state, work);
        throw error;
      });
    } catch (error) {
      throw explain(error, operation, this.#tpm.place);
    }
  }
}

/** The whole `TPM2B_PUBLIC` is hashed, size prefix and all: 52 letters and digits. */
export function registrationIdOf(endorsementKey: Uint8Array): string {
  return base32(createHash('sha256').update(endorsementKey).digest());
}

const BASE32_ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';

/** RFC 4648 in lower case, without padding. */
function base32(bytes: Uint8Array): string {
  const padded = concatBytes(bytes, new Uint8Array(5));
  return Array.from({ length: Math.ceil((bytes.length * 8) / 5) }, (_, index) => {
    const bit = index * 5;
    const pair = ((padded[bit >> 3] ?? 0) << 8) | (padded[(bit >> 3) + 1] ?? 0);
    return BASE32_ALPHABET[(pair >> (11 - (bit & 7))) & 31];
  }).join('');
}

function readBlob(bytes: Uint8Array, operation: string): ActivationBlob {
  try {
    return readActivationBlob(bytes);
  } catch (error) {
    if (!(error instanceof TpmFormatError)) throw error;
    const message = `What the service sent for the TPM is no key that one can take in: ${error.message}. Register again; if it stays so, look for what changes it on its way.`;
    throw tpmError('ERR_DPS_HSM_TPM_BLOB', operation, message);
  }
}

/** As it leaves the provider. */
export function explain(error: unknown, operation: string, place: string): DpsError {
  if (isDpsError(error)) return error;
  if (error instanceof TpmCommandError) return explainRefusal(error, operation, place);
  if (error instanceof TpmFormatError) {
    const message = `What the TPM at ${place} answered cannot be used: ${error.message}. Check that this is a TPM 2.0, and the right kind of link to it.`;
    return tpmError('ERR_DPS_HSM_TPM_RESPONSE', operation, message, error);
  }
  const message = `The TPM at ${place} could not be used to ${operation}: ${wordsOf(error)}`;
  return new HsmError({ code: 'ERR_DPS_HSM_OPERATION', operation, message, cause: error });
}
