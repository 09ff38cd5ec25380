import { encodeBase64 } from '../core/bytes.js';
import { makeActivationBlob, type TpmBlobDamage, type TpmKeys } from './tpm-activation.js';
import type { World } from './world.js';

/** A key that was handed out for a TPM to prove itself with. */
export interface IssuedChallenge {
  readonly keyBase64: string;
  /** Whom it was made for. */
  readonly keys: TpmKeys;
  readonly expiresAtMs: number;
}

/** How long a token of a TPM lasts, as clients make it; the real key's lifetime is not known. */
const LIFETIME_MS = 3_600_000;

/** Anybody may ask for a challenge. */
const MAX_CHALLENGES = 1000;

const KEY_BYTES = 32;

/** The challenges of one scope, one for each registration id: the latest. */
export class TpmChallenges {
  readonly #world: World;
  readonly #issued = new Map<string, IssuedChallenge>();

  constructor(world: World) {
    this.#world = world;
  }

  /** A fresh key, wrapped for this TPM. */
  issue(registrationId: string, keys: TpmKeys, uri: string, damage?: TpmBlobDamage): Uint8Array {
    const hmacKey = this.#world.randomBytes(KEY_BYTES);
    const id = registrationId.toLowerCase();
    // Deleted first, so that the order of the map is that of the issuing.
    this.#issued.delete(id);
    const expiresAtMs = this.#world.wallMs() + LIFETIME_MS;
    this.#issued.set(id, { keyBase64: encodeBase64(hmacKey), keys, expiresAtMs });
    const [oldest] = this.#issued.keys();
    if (oldest !== undefined && this.#issued.size > MAX_CHALLENGES) this.#issued.delete(oldest);
    return makeActivationBlob({
      ...keys,
      hmacKey,
      uri,
      damage,
      randomBytes: (size) => this.#world.randomBytes(size),
    });
  }

  /** The challenge that tokens of this device are to be verified with, if there is one. */
  current(registrationId: string): IssuedChallenge | undefined {
    const challenge = this.#issued.get(registrationId.toLowerCase());
    return challenge !== undefined && challenge.expiresAtMs >= this.#world.wallMs() ? challenge : undefined;
  }
}
