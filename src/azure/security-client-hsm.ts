import type { SymmetricKeyHsm, TlsClientCredential, X509Hsm } from '../core/attestation.js';
import { decodeBase64, decodePercent, decodeUtf8 } from '../core/bytes.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock } from '../core/clock.js';
import { registrationIdProblem } from '../core/identifiers.js';
import { type DpsErrorCode, HsmError } from '../errors.js';
import { systemClock } from '../system-clock.js';
import { boundedCall, type CallBounds, DEFAULT_CALL_TIMEOUT_MS, viaCallback } from './bounded-call.js';
import { checkOptionNames, checkPositive, optionError, unsupported } from './option-bag.js';

/**
 * What `SymmetricKeySecurityClient` of azure-iot-security-symmetric-key offers: the registration id, and a token whose
 * `extend()` signs, each by callback or promise. Parameters are `never` so that Microsoft's types fit.
 */
export interface AzureSymmetricKeySecurity {
  getRegistrationId(callback?: never): unknown;
  createSharedAccessSignature(idScope: string, callback?: never): unknown;
}

/** What `X509Security` of azure-iot-security-x509 offers: the registration id as it is, and by callback `{ cert, key, passphrase }`. */
export interface AzureX509Security {
  getRegistrationId(callback?: never): unknown;
  getCertificate(callback: never): unknown;
}

type NodeCallback = (error?: unknown, value?: unknown) => void;

export interface SecurityClientHsmOptions {
  /** Bounds each call into the security client. Default 30,000. */
  readonly timeoutMs?: number;
  /** Time for the bound, for tests. */
  readonly clock?: Clock;
}

/**
 * Takes a security client made for Microsoft's `ProvisioningDeviceClient` as HSM for `provision()`.
 *
 * A symmetric key client makes whole tokens for DPS, where `provision()` also needs hub tokens: those come from
 * `extend()` of its token, which signs again with the same key. That is tried once here, so that a client whose tokens
 * cannot do it is refused now and not halfway.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for something that is no security client,
 *   `ERR_DPS_CONFIG_UNSUPPORTED` for one that cannot do what is needed.
 * @throws {HsmError} when the client fails, or hands out what cannot be an id, certificate or key.
 * @throws {CancelledError} when the signal aborts.
 */
export function fromAzureSecurityClient(
  securityClient: AzureX509Security,
  options?: SecurityClientHsmOptions,
  signal?: CancelSignal,
): Promise<X509Hsm>;
export function fromAzureSecurityClient(
  securityClient: AzureSymmetricKeySecurity,
  options?: SecurityClientHsmOptions,
  signal?: CancelSignal,
): Promise<SymmetricKeyHsm>;
export async function fromAzureSecurityClient(
  securityClient: AzureX509Security | AzureSymmetricKeySecurity,
  options: SecurityClientHsmOptions = {},
  signal?: CancelSignal,
): Promise<X509Hsm | SymmetricKeyHsm> {
  checkOptionNames(options, ['timeoutMs', 'clock'], 'fromAzureSecurityClient()');
  checkPositive('timeoutMs', options.timeoutMs);
  const line = new ClientLine(options);
  if (isX509(securityClient)) return SecurityClientCertificate.over(securityClient, line, signal);
  if (isSymmetricKey(securityClient)) return SecurityClientKey.over(securityClient, line, signal);
  throw refusal(securityClient);
}

/** Calls into the security client, each within its bounds. */
class ClientLine {
  readonly #bounds: Pick<CallBounds, 'clock' | 'timeoutMs' | 'who'>;

  constructor({ clock = systemClock, timeoutMs = DEFAULT_CALL_TIMEOUT_MS }: SecurityClientHsmOptions) {
    this.#bounds = { who: 'the security client', clock, timeoutMs };
  }

  ask(operation: string, signal: CancelSignal | undefined, call: (callback: never) => unknown): Promise<unknown> {
    return boundedCall({ ...this.#bounds, operation, signal }, () =>
      viaCallback(call as (callback: NodeCallback) => unknown),
    );
  }

  async registrationId(
    securityClient: AzureSymmetricKeySecurity | AzureX509Security,
    signal: CancelSignal | undefined,
  ): Promise<string> {
    const operation = 'give the registration id';
    const found = await this.ask(operation, signal, (callback) => securityClient.getRegistrationId(callback));
    const problem =
      typeof found === 'string' ? registrationIdProblem(found) : `It gave ${kindOf(found)} instead of a text.`;
    if (typeof found === 'string' && problem === undefined) return found;
    throw clientError('ERR_DPS_HSM_REGISTRATION_ID', operation, `has no usable registration id. ${problem}`);
  }
}

class SecurityClientCertificate implements X509Hsm {
  readonly kind = 'x509';
  readonly #securityClient: AzureX509Security;
  readonly #line: ClientLine;
  readonly #registrationId: string;

  private constructor(securityClient: AzureX509Security, line: ClientLine, registrationId: string) {
    this.#securityClient = securityClient;
    this.#line = line;
    this.#registrationId = registrationId;
  }

  static async over(
    securityClient: AzureX509Security,
    line: ClientLine,
    signal: CancelSignal | undefined,
  ): Promise<SecurityClientCertificate> {
    const id = await line.registrationId(securityClient, signal);
    const hsm = new SecurityClientCertificate(securityClient, line, id);
    await hsm.#credential(signal);
    return hsm;
  }

  async registrationId(): Promise<string> {
    return this.#registrationId;
  }

  async tlsCredential(slot: number, signal: CancelSignal): Promise<TlsClientCredential> {
    requireOnlySlot(slot, 'give the certificate');
    return this.#credential(signal);
  }

  async #credential(signal: CancelSignal | undefined): Promise<TlsClientCredential> {
    const found = await this.#line.ask('give the certificate', signal, (callback) =>
      this.#securityClient.getCertificate(callback),
    );
    return readCertificate(found);
  }
}

class SecurityClientKey implements SymmetricKeyHsm {
  readonly kind = 'symmetricKey';
  readonly #securityClient: AzureSymmetricKeySecurity;
  readonly #line: ClientLine;
  readonly #registrationId: string;

  private constructor(securityClient: AzureSymmetricKeySecurity, line: ClientLine, registrationId: string) {
    this.#securityClient = securityClient;
    this.#line = line;
    this.#registrationId = registrationId;
  }

  static async over(
    securityClient: AzureSymmetricKeySecurity,
    line: ClientLine,
    signal: CancelSignal | undefined,
  ): Promise<SecurityClientKey> {
    const id = await line.registrationId(securityClient, signal);
    const hsm = new SecurityClientKey(securityClient, line, id);
    await hsm.#signature('dps-device', 1, signal);
    return hsm;
  }

  async registrationId(): Promise<string> {
    return this.#registrationId;
  }

  async sign(data: Uint8Array, slot: number, signal: CancelSignal): Promise<Uint8Array> {
    requireOnlySlot(slot, SIGN);
    const parts = /^([^\n]+)\n(\d{1,15})$/.exec(decodeUtf8(data) ?? '');
    const [, resource, expiry] = parts ?? [];
    if (resource !== undefined && expiry !== undefined) return this.#signature(resource, Number(expiry), signal);
    throw clientError(
      'ERR_DPS_HSM_OPERATION',
      SIGN,
      'signs tokens only: a resource, a line break and an expiry in seconds. It cannot sign other data.',
    );
  }

  async #signature(resource: string, expirySeconds: number, signal: CancelSignal | undefined): Promise<Uint8Array> {
    const token = await this.#line.ask(SIGN, signal, (callback) =>
      // The scope does not matter: the resource is replaced before anything is made of this token.
      this.#securityClient.createSharedAccessSignature('dps-device', callback),
    );
    if (!isExtendable(token)) throw notExtendable();
    return extend(token, resource, expirySeconds);
  }
}

const SIGN = 'sign a token';

/** `SharedAccessSignature` of azure-iot-common: `extend` signs `sr` and the new expiry with the key that made it. */
interface ExtendableToken {
  sr: string;
  extend(expirySeconds: number): string;
}

/** Percent-encoded text goes into `sr` and is signed as it stands, which is what hub and DPS check. */
function extend(token: ExtendableToken, resource: string, expirySeconds: number): Uint8Array {
  let text: unknown;
  try {
    token.sr = resource;
    text = token.extend(expirySeconds);
  } catch (cause) {
    throw notExtendable(cause);
  }
  const fields = new Map(
    String(text)
      .replace(/^SharedAccessSignature /, '')
      .split('&')
      .map((field) => [field.slice(0, field.indexOf('=')), field.slice(field.indexOf('=') + 1)] as const),
  );
  const signature = decodeBase64(decodePercent(fields.get('sig') ?? '') ?? '');
  const isOurs = fields.get('sr') === resource && fields.get('se') === String(expirySeconds);
  if (isOurs && signature?.length === SHA256_BYTES) return signature;
  throw notExtendable();
}

const SHA256_BYTES = 32;

function isExtendable(token: unknown): token is ExtendableToken {
  return isObject(token) && typeof token.extend === 'function' && typeof token.sr === 'string';
}

function notExtendable(cause?: unknown): Error {
  return unsupported(
    'securityClient',
    'This security client makes tokens for DPS only: they cannot be signed anew for the hub (extend() of azure-iot-common’s SharedAccessSignature is missing or failed). Give provision() the key, { kind: "symmetricKey", registrationId, key }, or an object of your own with sign().',
    cause,
  );
}

function readCertificate(found: unknown): TlsClientCredential {
  const operation = 'give the certificate';
  const { cert, key, passphrase, clientCertEngine } = isObject(found) ? found : {};
  if (clientCertEngine !== undefined) {
    throw unsupported(
      'securityClient',
      'This security client leaves the key to an OpenSSL engine (clientCertEngine), which is not supported. Give certificate and key as PEM.',
    );
  }
  const certificateChainPem = pemText(cert);
  if (certificateChainPem === undefined || !/-----BEGIN (X509 )?CERTIFICATE-----/.test(certificateChainPem)) {
    throw clientError(
      'ERR_DPS_HSM_CERTIFICATE_INVALID',
      operation,
      'gave no PEM certificate in `cert`. Read the file yourself: `cert` takes its text, not its path.',
    );
  }
  const privateKeyPem = pemText(key);
  if (privateKeyPem === undefined || !/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(privateKeyPem)) {
    throw clientError(
      'ERR_DPS_HSM_KEY_INVALID',
      operation,
      'gave no PEM private key in `key`. Read the file yourself: `key` takes its text, not its path.',
    );
  }
  const hasPassphrase = typeof passphrase === 'string' && passphrase !== '';
  return { certificateChainPem, privateKeyPem, ...(hasPassphrase ? { passphrase } : {}) };
}

/** Text, bytes, or several of either: whatever Node's TLS would have taken. */
function pemText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (value instanceof Uint8Array) return Buffer.from(value).toString('latin1');
  if (!Array.isArray(value)) return undefined;
  const texts = value.map(pemText);
  return texts.every((text) => text !== undefined) ? texts.join('\n') : undefined;
}

function requireOnlySlot(slot: number, operation: string): void {
  if (slot === 0) return;
  throw clientError('ERR_DPS_HSM_OPERATION', operation, `has nothing in slot ${slot}; the only slot is 0.`);
}

function clientError(code: DpsErrorCode, operation: string, what: string): HsmError {
  return new HsmError({ code, operation, message: `The security client ${what}` });
}

function refusal(securityClient: unknown): Error {
  if (isObject(securityClient) && typeof securityClient.getEndorsementKey === 'function') {
    return unsupported(
      'securityClient',
      'TPM security clients are not supported yet; X.509 and symmetric key ones are.',
    );
  }
  return optionError(
    'securityClient',
    `${capitalKind(securityClient)} is no security client: it needs getRegistrationId() and either getCertificate() (azure-iot-security-x509) or createSharedAccessSignature() (azure-iot-security-symmetric-key).`,
  );
}

function isX509(value: unknown): value is AzureX509Security {
  return isClient(value) && typeof value.getCertificate === 'function';
}

function isSymmetricKey(value: unknown): value is AzureSymmetricKeySecurity {
  return isClient(value) && typeof value.createSharedAccessSignature === 'function';
}

function isClient(value: unknown): value is Readonly<Record<string, unknown>> {
  return isObject(value) && typeof value.getRegistrationId === 'function';
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function kindOf(value: unknown): string {
  if (value === null || value === undefined) return String(value);
  return typeof value === 'object' ? 'an object' : `a ${typeof value}`;
}

function capitalKind(value: unknown): string {
  const kind = kindOf(value);
  return kind.charAt(0).toUpperCase() + kind.slice(1);
}
