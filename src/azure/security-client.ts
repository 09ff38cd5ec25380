import type { SymmetricKeyHsm, X509Hsm } from '../core/attestation.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { type Clock, isPlausibleWallMs } from '../core/clock.js';
import { idScopeProblem } from '../core/identifiers.js';
import { DPS_KEY_NAME, dpsResource, formatSasToken, textToSign } from '../core/sas.js';
import { ClockError } from '../errors.js';
import { systemClock } from '../system-clock.js';
import { boundedCall, type CallBounds, DEFAULT_CALL_TIMEOUT_MS } from './bounded-call.js';
import { checkOptionNames, checkPositive, optionError, unsupported } from './option-bag.js';

/** How Microsoft's packages are answered. */
export type AzureCallback<T> = (error?: Error, value?: T) => void;

/** A token for DPS; a secret until it expires, so only `toString()` shows it. */
export interface AzureSharedAccessToken {
  toString(): string;
}

/** For `ProvisioningDeviceClient.create()`, with a key behind it. */
export interface AzureSymmetricKeySecurityClient {
  getRegistrationId(): Promise<string>;
  getRegistrationId(callback: AzureCallback<string>): void;
  createSharedAccessSignature(idScope: string): Promise<AzureSharedAccessToken>;
  createSharedAccessSignature(idScope: string, callback: AzureCallback<AzureSharedAccessToken>): void;
}

/** For `ProvisioningDeviceClient.create()`, with a certificate behind it. */
export interface AzureX509SecurityClient {
  getRegistrationId(): string;
  getCertificate(callback: AzureCallback<AzureX509Credential>): void;
}

/** A certificate chain and its key as PEM. */
export interface AzureX509Credential {
  cert: string;
  key: string;
  passphrase?: string;
}

export interface AzureSecurityClientOptions {
  /** Which of the HSM's credentials to use. Default 0; Microsoft's client knows of one only. */
  readonly slot?: number;
  /** Life of the DPS tokens. Default 3,600. */
  readonly tokenLifeSeconds?: number;
  /** Bounds each call of the HSM. Default 30,000. */
  readonly timeoutMs?: number;
  /** Time for tokens and bounds, for tests. */
  readonly clock?: Clock;
}

const OPTION_NAMES = ['slot', 'tokenLifeSeconds', 'timeoutMs', 'clock'];
const DEFAULT_TOKEN_LIFE_SECONDS = 3_600;

/**
 * Makes an HSM of this package a security client for Microsoft's `ProvisioningDeviceClient.create()`.
 *
 * `signal` ends the making, and later every call of the client that is under way. What fails later comes to Microsoft's
 * callback as a typed error of this package.
 *
 * @throws {ConfigurationError} for an option that is wrong, or an HSM of another kind.
 * @throws {HsmError} when the HSM has no registration id to give.
 * @throws {CancelledError} when the signal aborts.
 */
export function azureSecurityClient(
  hsm: X509Hsm,
  options?: AzureSecurityClientOptions,
  signal?: CancelSignal,
): Promise<AzureX509SecurityClient>;
export function azureSecurityClient(
  hsm: SymmetricKeyHsm,
  options?: AzureSecurityClientOptions,
  signal?: CancelSignal,
): Promise<AzureSymmetricKeySecurityClient>;
export async function azureSecurityClient(
  hsm: X509Hsm | SymmetricKeyHsm,
  options: AzureSecurityClientOptions = {},
  signal?: CancelSignal,
): Promise<AzureX509SecurityClient | AzureSymmetricKeySecurityClient> {
  checkOptionNames(options, OPTION_NAMES, 'azureSecurityClient()');
  checkPositive('tokenLifeSeconds', options.tokenLifeSeconds);
  checkPositive('timeoutMs', options.timeoutMs);
  requireSupported(hsm);
  const settings = settingsOf(options, signal);
  const registrationId = await askHsm(settings, 'give the registration id', (within) => hsm.registrationId(within));
  return hsm.kind === 'x509'
    ? certificateClient(hsm, registrationId, settings)
    : keyClient(hsm, registrationId, settings);
}

interface Settings {
  readonly slot: number;
  readonly tokenLifeSeconds: number;
  readonly bounds: Omit<CallBounds, 'operation'>;
}

function settingsOf(options: AzureSecurityClientOptions, signal: CancelSignal | undefined): Settings {
  const { slot = 0, tokenLifeSeconds = DEFAULT_TOKEN_LIFE_SECONDS, timeoutMs = DEFAULT_CALL_TIMEOUT_MS } = options;
  return { slot, tokenLifeSeconds, bounds: { who: 'the HSM', clock: options.clock ?? systemClock, timeoutMs, signal } };
}

function askHsm<T>({ bounds }: Settings, operation: string, ask: (signal: AbortSignal) => Promise<T>): Promise<T> {
  return boundedCall({ ...bounds, operation }, ask);
}

function certificateClient(hsm: X509Hsm, registrationId: string, settings: Settings): AzureX509SecurityClient {
  const read = async (): Promise<AzureX509Credential> => {
    const credential = await askHsm(settings, 'give the certificate', (within) =>
      hsm.tlsCredential(settings.slot, within),
    );
    const { certificateChainPem: cert, privateKeyPem: key, passphrase } = credential;
    return { cert, key, ...(passphrase === undefined ? {} : { passphrase }) };
  };
  return { getRegistrationId: () => registrationId, getCertificate: (callback) => answer(read(), callback) };
}

function keyClient(hsm: SymmetricKeyHsm, registrationId: string, settings: Settings): AzureSymmetricKeySecurityClient {
  return {
    getRegistrationId: promiseOrCallback(async () => registrationId),
    createSharedAccessSignature: promiseOrCallback((idScope: string) =>
      makeToken(hsm, registrationId, idScope, settings),
    ),
  };
}

async function makeToken(
  hsm: SymmetricKeyHsm,
  registrationId: string,
  idScope: string,
  settings: Settings,
): Promise<AzureSharedAccessToken> {
  const problem = typeof idScope === 'string' ? idScopeProblem(idScope) : 'The ID scope must be a text.';
  if (problem !== undefined) throw optionError('idScope', problem);
  const { clock } = settings.bounds;
  requirePlausible(clock);
  const expirySeconds = Math.floor(clock.wallMs() / 1000) + settings.tokenLifeSeconds;
  const resource = dpsResource(idScope, registrationId);
  const signature = await askHsm(settings, 'sign the DPS token', (within) =>
    hsm.sign(textToSign(resource, expirySeconds), settings.slot, within),
  );
  return new HiddenToken(formatSasToken({ resource, signature, expirySeconds, keyName: DPS_KEY_NAME }));
}

class HiddenToken implements AzureSharedAccessToken {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  toString(): string {
    return this.#text;
  }
}

interface PromiseOrCallback<P extends readonly unknown[], T> {
  (...parameters: P): Promise<T>;
  (...parameters: readonly [...P, AzureCallback<T>]): void;
}

/** Microsoft's way: a callback as last argument, or else a promise. */
function promiseOrCallback<P extends readonly unknown[], T>(
  work: (...parameters: P) => Promise<T>,
): PromiseOrCallback<P, T> {
  function call(...parameters: P): Promise<T>;
  function call(...parameters: readonly [...P, AzureCallback<T>]): void;
  function call(...parameters: readonly unknown[]): Promise<T> | undefined {
    const callback = parameters[work.length];
    const own = parameters.slice(0, work.length) as unknown as P;
    if (callback === undefined) return work(...own);
    answer(work(...own), callback as AzureCallback<T>);
    return undefined;
  }
  return call;
}

/** On a tick of its own: what the callback throws is an uncaught exception, as it would be without a promise in between. */
function answer<T>(work: Promise<T>, callback: AzureCallback<T>): void {
  work.then(
    (value) => process.nextTick(callback, undefined, value),
    (error: Error) => process.nextTick(callback, error),
  );
}

function requireSupported(hsm: unknown): void {
  const { kind } = (typeof hsm === 'object' && hsm !== null ? hsm : {}) as { readonly kind?: unknown };
  if (kind === 'x509' || kind === 'symmetricKey') return;
  if (kind === 'tpm') {
    throw unsupported('hsm', 'TPM HSMs cannot be security clients yet; X.509 and symmetric key ones can.');
  }
  throw optionError(
    'hsm',
    'The first argument must be an HSM: an object of kind "x509" or "symmetricKey", from dps-device/hsm/… or your own.',
  );
}

function requirePlausible(clock: Clock): void {
  if (isPlausibleWallMs(clock.wallMs())) return;
  throw new ClockError({
    code: 'ERR_DPS_CLOCK_IMPLAUSIBLE',
    message: `The device's clock says ${clock.wallMs()} ms after 1970, so a DPS token made now would be refused as expired. Set the clock (NTP, RTC) and try again.`,
  });
}
