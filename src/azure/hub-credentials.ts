import { EventEmitter } from 'node:events';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Clock, Random } from '../core/clock.js';
import type { MqttClientOptions } from '../core/hub.js';
import { HsmError } from '../errors.js';
import { boundedCall } from './bounded-call.js';
import { CredentialDesk, type CredentialsCallback, type HubTransportConfig } from './credential-desk.js';

/**
 * Credentials for azure-iot-device, made when its transport asks for them: the `AuthenticationProvider` contract of
 * azure-iot-common, which a transport reads with `getDeviceCredentials`, and `newTokenAvailable` tells of a new token.
 */
export interface HubCredentialsSource {
  /** `ProvisionedDevice.mqttOptions`. */
  readonly mqttOptions: (signal: CancelSignal) => Promise<MqttClientOptions>;
  /** As assigned; a port stays where it is. */
  readonly host: string;
  readonly deviceId: string;
  readonly clock: Clock;
  readonly random: Random;
  /** Bounds the making of one credential. */
  readonly timeoutMs: number;
}

/** `AuthenticationType` of azure-iot-common. */
const X509_TYPE = 0;
const TOKEN_TYPE = 1;

/** Renewed after 80 to 85 percent of its life, so that a fleet that started together does not come back together. */
const RENEWAL_FRACTION = 0.8;
const RENEWAL_JITTER_FRACTION = 0.05;

/** After a renewal failed. The token in use still has a fifth of its life; when that is over the hub ends the connection. */
const RENEWAL_RETRY_MS = 30_000;

/** Reads the certificate anew for each connection, so that a renewed one is used. */
export class HubCertificateProvider {
  readonly type: number = X509_TYPE;
  readonly #source: HubCredentialsSource;
  readonly #desk = new CredentialDesk();
  #replacement: object | undefined;

  constructor(source: HubCredentialsSource) {
    this.#source = source;
  }

  getDeviceCredentials(): Promise<HubTransportConfig>;
  getDeviceCredentials(callback: CredentialsCallback): void;
  getDeviceCredentials(callback?: CredentialsCallback): Promise<HubTransportConfig> | undefined {
    const { host, deviceId } = this.#source;
    return this.#desk.serve(this.#certificate(), (x509) => ({ host, deviceId, x509 }), callback);
  }

  /** For `client.setOptions({ cert, key })` of an application that brings a certificate of its own. */
  setX509Options(x509: object): void {
    this.#replacement = x509;
  }

  /** Ends with an error whatever is still waited for. */
  stop(): void {
    this.#desk.clear();
  }

  async #certificate(): Promise<object> {
    if (this.#replacement !== undefined) return this.#replacement;
    const { cert, key, passphrase } = await readOptions(this.#source, this.#desk.signal);
    return { cert, key, ...(passphrase === undefined ? {} : { passphrase }) };
  }
}

interface HeldToken {
  readonly text: string;
  /** When to replace it: by the clock that never jumps, and by the one that tokens are dated with. */
  readonly renewAtMonotonicMs: number;
  readonly renewAtWallMs: number;
}

/**
 * Makes tokens on demand and renews them while a connection lasts: the transport starts that by asking for credentials
 * and ends it with `stop()`. Only a renewal raises `newTokenAvailable`, never the first token: the transport would drop
 * the connection it is just making and make it again.
 */
export class HubTokenProvider extends EventEmitter {
  readonly type: number = TOKEN_TYPE;
  readonly #source: HubCredentialsSource;
  readonly #desk = new CredentialDesk();
  #held: HeldToken | undefined;
  #making: Promise<HeldToken> | undefined;
  #cancelRenewal: (() => void) | undefined;

  /** `first` is what `mqttOptions()` just gave, if it is to be used for the first connection. */
  constructor(source: HubCredentialsSource, first?: MqttClientOptions) {
    super();
    this.#source = source;
    if (first !== undefined) this.#held = this.#hold(first);
  }

  getDeviceCredentials(): Promise<HubTransportConfig>;
  getDeviceCredentials(callback: CredentialsCallback): void;
  getDeviceCredentials(callback?: CredentialsCallback): Promise<HubTransportConfig> | undefined {
    return this.#desk.serve(this.#freshToken(), (token) => this.#startUsing(token), callback);
  }

  /** Ends the renewal, and with an error whatever is still waited for. */
  stop(): void {
    this.#cancelRenewal?.();
    this.#cancelRenewal = undefined;
    this.#making = undefined;
    this.#desk.clear();
  }

  #startUsing(token: HeldToken): HubTransportConfig {
    if (this.#cancelRenewal === undefined) this.#renewLater(token.renewAtMonotonicMs);
    return this.#config(token);
  }

  #config({ text }: HeldToken): HubTransportConfig {
    const { host, deviceId } = this.#source;
    return { host, deviceId, sharedAccessSignature: text };
  }

  async #freshToken(): Promise<HeldToken> {
    const { clock } = this.#source;
    const held = this.#held;
    const isFresh =
      held !== undefined && clock.monotonicMs() < held.renewAtMonotonicMs && clock.wallMs() < held.renewAtWallMs;
    return isFresh ? held : this.#make();
  }

  /** One at a time, however many ask. */
  #make(): Promise<HeldToken> {
    if (this.#making !== undefined) return this.#making;
    const making = readOptions(this.#source, this.#desk.signal)
      .then((options) => {
        this.#held = this.#hold(options);
        return this.#held;
      })
      .finally(() => {
        if (this.#making === making) this.#making = undefined;
      });
    this.#making = making;
    return making;
  }

  #hold({ password, passwordExpiresAtSeconds }: MqttClientOptions): HeldToken {
    if (password === undefined || passwordExpiresAtSeconds === undefined) {
      throw new HsmError({
        code: 'ERR_DPS_HSM_OPERATION',
        message:
          'mqttOptions() gave no password and expiry, although it did before. Make a new client from the device.',
        operation: 'make hub credentials',
      });
    }
    const { clock, random } = this.#source;
    const wallMs = clock.wallMs();
    const lifeMs = passwordExpiresAtSeconds * 1000 - wallMs;
    const useMs = Math.floor(lifeMs * (RENEWAL_FRACTION + RENEWAL_JITTER_FRACTION * random()));
    return {
      text: password,
      renewAtMonotonicMs: clock.monotonicMs() + useMs,
      renewAtWallMs: wallMs + useMs,
    };
  }

  #renewLater(atMonotonicMs: number): void {
    const { clock } = this.#source;
    this.#cancelRenewal?.();
    const onTimer = (): void => {
      // Timers may be early for waits of weeks.
      if (clock.monotonicMs() < atMonotonicMs) this.#renewLater(atMonotonicMs);
      else void this.#renew();
    };
    this.#cancelRenewal = clock.after(atMonotonicMs - clock.monotonicMs(), onTimer);
  }

  async #renew(): Promise<void> {
    const { signal } = this.#desk;
    const token = await this.#make().catch(() => undefined);
    if (signal.aborted) return;
    if (token === undefined) {
      // No 'error' event: nobody listens for it, so it would end the process over a chip that was busy.
      this.#renewLater(this.#source.clock.monotonicMs() + RENEWAL_RETRY_MS);
      return;
    }
    this.#renewLater(token.renewAtMonotonicMs);
    this.emit('newTokenAvailable', this.#config(token));
  }
}

function readOptions(
  { clock, timeoutMs, mqttOptions }: HubCredentialsSource,
  signal: CancelSignal,
): Promise<MqttClientOptions> {
  const bounds = { who: 'the HSM', operation: 'make hub credentials', clock, timeoutMs, signal };
  return boundedCall(bounds, (within) => mqttOptions(within));
}
