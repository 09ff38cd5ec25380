import type { JsonObject, JsonValue } from './json.js';
import type { TpmBlobDamage } from './tpm-activation.js';

/** Steps at which something can go wrong; `dps.challenge` and `dps.lookup` exist over HTTPS only, the connection steps over MQTT only. */
export type FaultPoint =
  | 'dps.connack'
  | 'dps.suback'
  | 'dps.puback'
  | 'dps.ping'
  /** A TPM's request without a token, which is answered with a challenge; over HTTPS. */
  | 'dps.challenge'
  | 'dps.register'
  | 'dps.status'
  | 'dps.lookup'
  | 'hub.connack'
  | 'hub.suback'
  | 'hub.puback'
  | 'hub.ping'
  | 'hub.twinGet'
  | 'hub.twinPatch'
  | 'hub.desiredPush'
  | 'hub.method'
  | 'hub.cloudToDevice';

export type FaultAction =
  /** No answer at this step; the connection stays. */
  | { readonly kind: 'silent' }
  /** The connection ends without a word, instead of the answer (default) or right after it. */
  | { readonly kind: 'cut'; readonly when?: 'before' | 'after' }
  /** The answer comes this much later; the connection handles nothing else meanwhile. */
  | { readonly kind: 'wait'; readonly ms: number }
  /** These bytes go out instead of the answer: MQTT packets, or whatever. */
  | { readonly kind: 'raw'; readonly base64: string }
  /** `*.connack`: this return code. */
  | { readonly kind: 'connack'; readonly code: number }
  /** `*.suback`: this granted QoS, e.g. 128. */
  | { readonly kind: 'suback'; readonly code: number }
  /** An answer of your own instead of the service's, which is not asked. */
  | FaultResponse
  /** `dps.register`, `dps.status`: any text after `retry-after`, or none. The service answers as usual. */
  | { readonly kind: 'retryAfter'; readonly value: string | null }
  /** `dps.register`: so many polls are answered with `assigning`. */
  | { readonly kind: 'delay'; readonly polls: number }
  /** `dps.register`: the reply already is the result (over HTTPS still as 202). */
  | { readonly kind: 'assignImmediately' }
  /** `dps.register`: the operation ends so. */
  | {
      readonly kind: 'outcome';
      readonly status: 'failed' | 'disabled';
      readonly errorCode?: number;
      readonly errorMessage?: string;
    }
  /** `dps.register`: what a custom allocation webhook would have added to the result. */
  | { readonly kind: 'payload'; readonly payload: JsonObject }
  /** `dps.challenge`, `dps.register`: the blob with the challenge key, or the hub key, is spoiled for the TPM. */
  | { readonly kind: 'tpmBlob'; readonly damage: TpmBlobDamage }
  /** `hub.connack`: the persisted session is lost; session present is 0. */
  | { readonly kind: 'loseSession' }
  /**
   * `hub.suback`: desired properties change right after the SUBACK. `hub.twinGet`: they change before the answer is
   * sent; with `answer: 'stale'` the answer still is the document from before.
   */
  | { readonly kind: 'pushDesired'; readonly patch: JsonObject; readonly answer?: 'fresh' | 'stale' };

export interface FaultResponse {
  readonly kind: 'respond';
  /** Default: 200. */
  readonly status?: number;
  /** The body as JSON; or `text`, or `base64`. Default for status 400 and above: the service's error shape. */
  readonly body?: JsonValue;
  readonly text?: string;
  readonly base64?: string;
  readonly retryAfter?: string;
  /** HTTPS only. Default content type: `application/json; charset=utf-8`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** MQTT only: the whole topic. */
  readonly topic?: string;
}

/** For whom a fault is meant; what is left out fits everyone. */
export interface FaultSubject {
  readonly protocol?: 'mqtt' | 'amqp' | 'https';
  readonly idScope?: string;
  readonly hub?: string;
  /** Registration id or device id. */
  readonly device?: string;
}

export interface Fault {
  readonly at: FaultPoint;
  /** Several apply together. */
  readonly action: FaultAction | readonly FaultAction[];
  /** How often. Default: always. */
  readonly times?: number;
  /** How many fitting steps pass first. Default 0. */
  readonly skip?: number;
  readonly when?: FaultSubject;
}
