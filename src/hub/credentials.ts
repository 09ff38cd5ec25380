import type { Hsm, TlsClientCredential } from '../core/attestation.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { type Clock, isPlausibleWallMs, type Random } from '../core/clock.js';
import type { HubOpenParameters } from '../core/hub.js';
import { formatSasToken, hubResource, textToSign } from '../core/sas.js';
import { ClockError, HsmError } from '../errors.js';
import { askHsm, checkedExportedKey, checkedSignature, checkedTlsCredential } from '../hsm-answers.js';

/** How long a token is good for: what Microsoft's clients use. */
export const TOKEN_LIFE_SECONDS = 3600;

/** Renewed after 80 to 85 percent of its life: a fleet that started together does not come back together. */
export const RENEWAL_FRACTION = 0.8;
export const RENEWAL_JITTER_FRACTION = 0.05;

/** How far the wall clock may run ahead of the monotonic one before that counts as a step. */
export const CLOCK_STEP_TOLERANCE_MS = 30_000;

/** What a connection to the hub is opened with. */
export type HubCredential =
  | { readonly kind: 'sas'; readonly token: string; readonly expirySeconds: number; readonly life: TokenLife }
  | { readonly kind: 'x509'; readonly tls: TlsClientCredential };

export interface CredentialSources {
  readonly clock: Clock;
  readonly random: Random;
  readonly tokenLifeSeconds: number;
}

/**
 * Makes the credential for one connection: a fresh token signed by the HSM, or the HSM's certificate.
 *
 * @throws {ClockError} `ERR_DPS_CLOCK_IMPLAUSIBLE` when a token would be born expired.
 * @throws {HsmError} when the HSM fails or gives something else; whatever a foreign HSM throws becomes one.
 */
export async function makeHubCredential(
  { hostName, deviceId, hsm, slot }: HubOpenParameters,
  { clock, random, tokenLifeSeconds }: CredentialSources,
  signal: CancelSignal,
): Promise<HubCredential> {
  if (hsm.kind === 'x509') {
    const tls = await askHsm('load the certificate', () => hsm.tlsCredential(slot, signal));
    return { kind: 'x509', tls: checkedTlsCredential(tls) };
  }
  requirePlausibleClock(clock);
  const life = new TokenLife(clock, random, tokenLifeSeconds);
  const expirySeconds = Math.floor(clock.wallMs() / 1000) + tokenLifeSeconds;
  const resource = hubResource(hostName, deviceId);
  const data = textToSign(resource, expirySeconds);
  const signature = checkedSignature(await askHsm('sign the hub token', () => hsm.sign(data, slot, signal)));
  return { kind: 'sas', token: formatSasToken({ resource, signature, expirySeconds }), expirySeconds, life };
}

/**
 * The device key in Base64, for a connection string.
 *
 * @throws {HsmError} `ERR_DPS_HSM_NOT_EXPORTABLE` where the key cannot leave its store.
 */
export async function exportHubKey(
  hsm: Exclude<Hsm, { kind: 'x509' }>,
  slot: number,
  signal: CancelSignal,
): Promise<string> {
  const exportKey = hsm.kind === 'symmetricKey' ? hsm.exportKey?.bind(hsm) : undefined;
  if (exportKey !== undefined) return checkedExportedKey(await askHsm('export the key', () => exportKey(slot, signal)));
  const holder = hsm.kind === 'tpm' ? 'the TPM' : 'its key store';
  throw new HsmError({
    code: 'ERR_DPS_HSM_NOT_EXPORTABLE',
    message: `The device key cannot leave ${holder}, so there is no connection string. Use mqttOptions(), whose tokens ${holder} signs.`,
    operation: 'export the key',
  });
}

/** When a token has to be replaced. Waits go by the monotonic clock; a wall clock set forward ages the token at once. */
export class TokenLife {
  readonly lifeMs: number;
  readonly renewAfterMs: number;
  readonly #clock: Clock;
  readonly #signedAtMonotonicMs: number;
  readonly #signedAtWallMs: number;

  constructor(clock: Clock, random: Random, lifeSeconds: number) {
    this.#clock = clock;
    this.#signedAtMonotonicMs = clock.monotonicMs();
    this.#signedAtWallMs = clock.wallMs();
    this.lifeMs = lifeSeconds * 1000;
    this.renewAfterMs = Math.floor(this.lifeMs * (RENEWAL_FRACTION + RENEWAL_JITTER_FRACTION * random()));
  }

  /** Milliseconds until it should be renewed; 0 or less when that is due. */
  untilRenewalMs(): number {
    return this.renewAfterMs - this.#elapsedMs() - this.#stepMs();
  }

  /** Whether it ended by the only clock that cannot be set. */
  isOver(): boolean {
    return this.#elapsedMs() >= this.lifeMs;
  }

  #elapsedMs(): number {
    return this.#clock.monotonicMs() - this.#signedAtMonotonicMs;
  }

  /**
   * A clock that was behind when the token was signed made it expire early by the hub's clock; once it is set right, the
   * step shows by how much. A clock set back has made the token last longer, and one set to nonsense says nothing.
   */
  #stepMs(): number {
    const wallMs = this.#clock.wallMs();
    const stepMs = wallMs - this.#signedAtWallMs - this.#elapsedMs();
    return isPlausibleWallMs(wallMs) && stepMs > CLOCK_STEP_TOLERANCE_MS ? stepMs : 0;
  }
}

/** The wall clock as text, whatever it says. */
export function clockText(clock: Clock): string {
  const wallMs = clock.wallMs();
  return Math.abs(wallMs) <= 8.64e15 ? new Date(wallMs).toISOString() : `${wallMs} ms after 1970`;
}

function requirePlausibleClock(clock: Clock): void {
  if (isPlausibleWallMs(clock.wallMs())) return;
  throw new ClockError({
    code: 'ERR_DPS_CLOCK_IMPLAUSIBLE',
    message: `The device's clock says ${clockText(clock)}, so a hub token made now would be refused as expired. Set the clock (NTP, RTC) and try again.`,
  });
}
