import type { TlsClientCredential } from './attestation.js';
import type { CancelSignal } from './cancel-signal.js';

/** What a device may ask DPS. `statusLookup` exists over HTTPS only. */
export type DpsRequest =
  | { readonly kind: 'register'; readonly body: Uint8Array }
  | { readonly kind: 'operationStatus'; readonly operationId: string }
  | { readonly kind: 'statusLookup'; readonly body: Uint8Array };

/** An answer as it came: nothing in it has been judged. */
export interface DpsReply {
  readonly kind: 'reply';
  /** HTTP status, or the status in the MQTT topic. */
  readonly status: number;
  readonly body: Uint8Array;
  /** The raw text after `retry-after`: seconds or an HTTP date. */
  readonly retryAfter?: string;
  /** The reply's own `Date` header; HTTP dates are read against it, not against the device's clock. */
  readonly date?: string;
}

/** The service hands a TPM device a nonce key to activate: HTTPS's special 401, or AMQP's SASL segments. */
export interface DpsChallenge {
  readonly kind: 'challenge';
  readonly authenticationKey: Uint8Array;
}

/** How the connection, or each request, proves who is asking. */
export type DpsCredential =
  | { readonly kind: 'sas'; readonly token: string }
  | { readonly kind: 'x509'; readonly tls: TlsClientCredential }
  /** Without `token`: the opening move, answered by a challenge. */
  | {
      readonly kind: 'tpm';
      readonly endorsementKey: Uint8Array;
      readonly storageRootKey: Uint8Array;
      readonly token?: string;
    };

export interface DpsOpenParameters {
  /** Host name or `host:port`; without a port the transport's own. */
  readonly endpoint: string;
  readonly idScope: string;
  readonly registrationId: string;
  readonly credential: DpsCredential;
  /**
   * The connection that gave the challenge which the token in `credential` answers. Where a challenge is bound to its
   * connection, `open` goes on with it. It is to be closed afterwards all the same, which does nothing to one gone on with.
   */
  readonly challenged?: DpsConnection;
}

/** One authenticated way to DPS. One exchange at a time. */
export interface DpsConnection {
  /** Fails with `TransportError`. Never retries, never sleeps, never reads a body. */
  exchange(request: DpsRequest, signal: CancelSignal): Promise<DpsReply | DpsChallenge>;
  /** Never fails; safe to call twice; afterwards no socket, timer or listener is left. */
  close(): Promise<void>;
}

/** MQTT and AMQP prove identity per connection, HTTPS per request: a new token is a new `open`. */
export interface DpsTransport {
  readonly name: string;
  open(parameters: DpsOpenParameters, signal: CancelSignal): Promise<DpsConnection>;
}
