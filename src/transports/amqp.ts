import { concatBytes, encodeUtf8 } from '../core/bytes.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { DPS_API_VERSION } from '../core/messages.js';
import { onCancel } from '../core/on-cancel.js';
import type {
  DpsChallenge,
  DpsConnection,
  DpsCredential,
  DpsOpenParameters,
  DpsReply,
  DpsRequest,
  DpsTransport,
} from '../core/transport.js';
import {
  type AmqpRefusal,
  dpsAmqpAddress,
  dpsAmqpLinkProperties,
  dpsAmqpRefusal,
  dpsAmqpReply,
  dpsAmqpRequest,
} from '../core/wire/dps-amqp.js';
import {
  SASL_TPM_END,
  SASL_TPM_START,
  type SaslTpmProgress,
  saslTpmInit,
  saslTpmToken,
  stepSaslTpm,
} from '../core/wire/sasl-tpm.js';
import { ProtocolError } from '../errors.js';
import { abortable } from '../net/abortable.js';
import { type AmqpCarrier, amqpTlsCarrier } from '../net/amqp-carrier.js';
import { type AmqpConnection, type AmqpSasl, openAmqp } from '../net/amqp-engine.js';
import { peerName, sessionClosed } from '../net/connection-errors.js';
import { type DpsTransportOptions, dpsSocketOptions, lookupUnsupported } from './dps-endpoint.js';

export interface AmqpDpsTransportOptions extends DpsTransportOptions {
  /** What AMQP travels on. Default: TLS, port 5671. */
  readonly carrier?: AmqpCarrier | undefined;
}

/**
 * DPS over AMQP 1.0 on TLS, or on a carrier of its own: X.509 in the TLS handshake and no SASL layer; a SAS token in SASL
 * PLAIN; a TPM in the service's own SASL mechanism, which parks the connection at the challenge until `open` is called
 * with the token.
 */
export function amqpDpsTransport(options: AmqpDpsTransportOptions): DpsTransport {
  const { carrier = amqpTlsCarrier } = options;
  return {
    name: carrier.name,
    open: (parameters, signal) => openConnection(options, carrier, parameters, signal),
  };
}

async function openConnection(
  options: DpsTransportOptions,
  carrier: AmqpCarrier,
  parameters: DpsOpenParameters,
  signal: CancelSignal,
): Promise<DpsConnection> {
  const { credential, challenged } = parameters;
  const token = credential.kind === 'tpm' ? credential.token : undefined;
  if (challenged instanceof ParkedConnection && token !== undefined) return challenged.resume(token, signal);
  const { idScope, registrationId } = parameters;
  const links = {
    address: dpsAmqpAddress(idScope, registrationId),
    properties: dpsAmqpLinkProperties(DPS_API_VERSION, options.userAgent),
  };
  const open: Opener = (sasl, openSignal) => openOn(options, carrier, parameters, sasl, openSignal);
  const wrap = (opened: AmqpConnection | AmqpRefusal): DpsConnection =>
    'condition' in opened ? new RefusedConnection(opened) : new AmqpDpsConnection(opened, links, options.randomUuid);
  // A token without the challenge that it answers: the challenge was lost with its connection, and there is another one.
  if (credential.kind === 'tpm') return ParkedConnection.open(open, wrap, parameters, credential, signal);
  return wrap(await open(credential.kind === 'sas' ? saslPlain(links.address, credential.token) : undefined, signal));
}

type Opener = (
  sasl: Omit<AmqpSasl, 'hostName'> | undefined,
  signal: CancelSignal,
) => Promise<AmqpConnection | AmqpRefusal>;

async function openOn(
  options: DpsTransportOptions,
  carrier: AmqpCarrier,
  parameters: DpsOpenParameters,
  sasl: Omit<AmqpSasl, 'hostName'> | undefined,
  signal: CancelSignal,
): Promise<AmqpConnection | AmqpRefusal> {
  const { clock, connectTimeoutMs, welcomeTimeoutMs = connectTimeoutMs } = options;
  const { idScope, registrationId } = parameters;
  const target = dpsSocketOptions(options, parameters, carrier.defaultPort);
  const { host, port } = target;
  const socket = await carrier.open(target, signal);
  // As the service's own clients have it: the device in the mechanism made for it, the host in every other.
  const saslHost = sasl?.mechanism === TPM ? dpsAmqpAddress(idScope, registrationId) : host;
  return openAmqp(
    {
      socket,
      peer: peerName(host, port),
      hostName: host,
      containerId: options.randomUuid(),
      sasl: sasl === undefined ? undefined : { ...sasl, hostName: saslHost },
      openTimeoutMs: welcomeTimeoutMs,
      clock,
    },
    signal,
  );
}

const TPM = 'TPM';

/** RFC 4616: no authorization id, the user, the password. */
function saslPlain(user: string, password: string): Omit<AmqpSasl, 'hostName'> {
  const nul = Uint8Array.of(0);
  return {
    mechanism: 'PLAIN',
    initialResponse: concatBytes(nul, encodeUtf8(user), nul, encodeUtf8(password)),
    respond: async (challenge) => {
      throw new ProtocolError({
        code: 'ERR_DPS_PROTOCOL_AMQP',
        message: 'The peer challenges a device in SASL PLAIN, which knows no challenge. Check for a proxy in between.',
        expected: 'the SASL outcome',
        got: `a challenge of ${challenge.length} bytes`,
      });
    },
  };
}

class AmqpDpsConnection implements DpsConnection {
  readonly #amqp: AmqpConnection;
  readonly #links: Parameters<AmqpConnection['attach']>[0];
  readonly #randomUuid: () => string;

  constructor(amqp: AmqpConnection, links: Parameters<AmqpConnection['attach']>[0], randomUuid: () => string) {
    this.#amqp = amqp;
    this.#links = links;
    this.#randomUuid = randomUuid;
  }

  async exchange(request: DpsRequest, signal: CancelSignal): Promise<DpsReply> {
    const message = dpsAmqpRequest(request);
    if (message === undefined) throw lookupUnsupported();
    const refusal = await this.#amqp.attach(this.#links, signal);
    if (refusal !== undefined) return dpsAmqpRefusal(refusal);
    const answer = await this.#amqp.request({ ...message, correlationId: this.#randomUuid() }, signal);
    return 'condition' in answer ? dpsAmqpRefusal(answer) : dpsAmqpReply(answer.applicationProperties, answer.body);
  }

  async close(): Promise<void> {
    await this.#amqp.close();
  }
}

/** SASL has no replies, but its outcome is one: what the other protocols answer the first request with. */
class RefusedConnection implements DpsConnection {
  readonly #refusal: AmqpRefusal;

  constructor(refusal: AmqpRefusal) {
    this.#refusal = refusal;
  }

  async exchange(_request: DpsRequest, signal: CancelSignal): Promise<DpsReply> {
    return abortable<DpsReply>(signal, (resolve) => {
      resolve(dpsAmqpRefusal(this.#refusal));
      return () => {};
    });
  }

  /** The service has closed it. */
  async close(): Promise<void> {}
}

type TpmCredential = Extract<DpsCredential, { kind: 'tpm' }>;

/** A connection whose SASL layer waits for the token that answers its challenge. Any request is answered by the challenge. */
class ParkedConnection implements DpsConnection {
  readonly #ending = new AbortController();
  readonly #peer: string;
  readonly #opened: Promise<DpsConnection>;
  #sendToken: (token: string) => void = () => {};
  #challenge: DpsChallenge | undefined;
  #lostBy: { readonly reason: unknown } | undefined;
  #isHandedOver = false;

  private constructor(
    open: Opener,
    wrap: (opened: AmqpConnection | AmqpRefusal) => DpsConnection,
    parameters: DpsOpenParameters,
    credential: TpmCredential,
    onChallenge: () => void,
  ) {
    this.#peer = parameters.endpoint;
    const token = new Promise<Uint8Array>((resolve) => {
      this.#sendToken = (text) => resolve(saslTpmToken(text));
    });
    let progress: SaslTpmProgress = SASL_TPM_START;
    const respond = async (challenge: Uint8Array): Promise<Uint8Array> => {
      const step = stepSaslTpm(progress, challenge, credential.storageRootKey);
      if (step.kind === 'respond') {
        progress = step.progress;
        return step.response;
      }
      progress = SASL_TPM_END;
      this.#challenge = { kind: 'challenge', authenticationKey: step.blob };
      onChallenge();
      return token;
    };
    const { idScope, registrationId } = parameters;
    const initialResponse = saslTpmInit(idScope, registrationId, credential.endorsementKey);
    this.#opened = open({ mechanism: TPM, initialResponse, respond }, this.#ending.signal).then(wrap);
    // Whoever waits for it hears of it there; parked, nobody does until the next request.
    this.#opened.catch((reason: unknown) => {
      this.#lostBy = { reason };
    });
  }

  /** Settles with a parked connection, or with one that has been refused before its challenge. */
  static open(
    open: Opener,
    wrap: (opened: AmqpConnection | AmqpRefusal) => DpsConnection,
    parameters: DpsOpenParameters,
    credential: TpmCredential,
    signal: CancelSignal,
  ): Promise<DpsConnection> {
    return abortable<DpsConnection>(signal, (resolve, reject) => {
      const parked = new ParkedConnection(open, wrap, parameters, credential, () => resolve(parked));
      parked.#opened.then(resolve, reject);
      return () => {
        if (parked.#challenge === undefined || signal.aborted) parked.#ending.abort(signal.reason);
      };
    });
  }

  async exchange(_request: DpsRequest, signal: CancelSignal): Promise<DpsReply | DpsChallenge> {
    return abortable<DpsReply | DpsChallenge>(signal, (resolve, reject) => {
      if (this.#lostBy !== undefined) reject(this.#lostBy.reason);
      else if (this.#challenge === undefined || this.#isHandedOver) reject(sessionClosed(this.#peer));
      else resolve(this.#challenge);
      return () => {};
    });
  }

  /** Answers the challenge; the connection goes over to what comes of it. */
  async resume(token: string, signal: CancelSignal): Promise<DpsConnection> {
    this.#isHandedOver = true;
    const leave = onCancel(signal, () => this.#ending.abort(signal.reason));
    try {
      if (signal.aborted) this.#ending.abort(signal.reason);
      this.#sendToken(token);
      return await this.#opened;
    } finally {
      leave();
    }
  }

  async close(): Promise<void> {
    if (this.#isHandedOver) return;
    this.#lostBy ??= { reason: sessionClosed(this.#peer) };
    this.#ending.abort(sessionClosed(this.#peer));
    await this.#opened.then(
      (connection) => connection.close(),
      () => {},
    );
  }
}
