import type { CancelSignal } from '../core/cancel-signal.js';
import { DPS_API_VERSION } from '../core/messages.js';
import type { DpsConnection, DpsOpenParameters, DpsReply, DpsRequest, DpsTransport } from '../core/transport.js';
import {
  DPS_RESPONSE_FILTER,
  dpsMqttConnect,
  operationStatusTopic,
  parseResponseTopic,
  registerTopic,
} from '../core/wire/dps-mqtt.js';
import { ConfigurationError } from '../errors.js';
import { abortable, NEVER_CANCELLED } from '../net/abortable.js';
import { peerName, sessionClosed } from '../net/connection-errors.js';
import { type MqttCarrier, tlsCarrier } from '../net/mqtt-carrier.js';
import { type MqttConnection, type MqttDelivery, type MqttPublish, openMqtt } from '../net/mqtt-engine.js';
import { type DpsTransportOptions, dpsSocketOptions, lookupUnsupported } from './dps-endpoint.js';

export interface MqttDpsTransportOptions extends DpsTransportOptions {
  /** What MQTT travels on. Default: TLS, port 8883. */
  readonly carrier?: MqttCarrier | undefined;
}

/**
 * DPS over MQTT 3.1.1 on TLS, or on a carrier of its own: X.509 in the TLS handshake, or a SAS token as password.
 *
 * @see Azure IoT DPS, "Communicate with DPS using the MQTT protocol"
 */
export function mqttDpsTransport(options: MqttDpsTransportOptions): DpsTransport {
  const { carrier = tlsCarrier } = options;
  return {
    name: carrier.name,
    open: (parameters, signal) => openConnection(options, carrier, parameters, signal),
  };
}

/** What Microsoft's Node client asks for; registering takes seconds, so no ping is ever due in practice. */
const KEEPALIVE_SECONDS = 180;

/** The body of a status poll is ignored: Node and Python send a space, the embedded C client nothing. Nothing it is. */
const NO_BODY: Uint8Array = new Uint8Array(0);

async function openConnection(
  options: DpsTransportOptions,
  carrier: MqttCarrier,
  parameters: DpsOpenParameters,
  signal: CancelSignal,
): Promise<DpsConnection> {
  const { clock, connectTimeoutMs, welcomeTimeoutMs = connectTimeoutMs, userAgent } = options;
  const { idScope, registrationId, credential } = parameters;
  if (credential.kind === 'tpm') throw tpmUnsupported();
  const target = dpsSocketOptions(options, parameters, carrier.defaultPort);
  const socket = await carrier.open(target, signal);
  const inbox = new ReplyInbox();
  const mqtt = await openMqtt(
    {
      socket,
      peer: peerName(target.host, target.port),
      ...dpsMqttConnect({
        idScope,
        registrationId,
        apiVersion: DPS_API_VERSION,
        ...(userAgent === undefined ? {} : { userAgent }),
      }),
      password: credential.kind === 'sas' ? credential.token : undefined,
      clean: true,
      keepaliveSeconds: KEEPALIVE_SECONDS,
      connackTimeoutMs: welcomeTimeoutMs,
      clock,
      onMessage: (delivery) => inbox.take(delivery),
      describeRefusal: (returnCode) => describeRefusal(returnCode, idScope),
    },
    signal,
  );
  return new MqttDpsConnection(mqtt, inbox, options.randomUuid);
}

class MqttDpsConnection implements DpsConnection {
  readonly #mqtt: MqttConnection;
  readonly #inbox: ReplyInbox;
  readonly #randomUuid: () => string;
  #subscribed: Promise<void> | undefined;

  constructor(mqtt: MqttConnection, inbox: ReplyInbox, randomUuid: () => string) {
    this.#mqtt = mqtt;
    this.#inbox = inbox;
    this.#randomUuid = randomUuid;
    void mqtt.closed.then((error) => inbox.close(error ?? sessionClosed(mqtt.peer)));
  }

  async exchange(request: DpsRequest, signal: CancelSignal): Promise<DpsReply> {
    const requestId = this.#randomUuid();
    const message = messageFor(request, requestId);
    return abortable<DpsReply>(signal, (resolve, reject) => {
      // In one tick, so that SUBSCRIBE and the first PUBLISH leave together: that saves a round trip, and the broker
      // handles them in order.
      const subscribed = this.#subscribe();
      this.#mqtt.publish(message, signal).catch(reject);
      const forget = this.#inbox.expect(requestId, {
        onReply: (reply) => subscribed.then(() => resolve(reply), reject),
        onFailure: reject,
      });
      subscribed.catch(reject);
      return forget;
    });
  }

  async close(): Promise<void> {
    await this.#mqtt.close();
  }

  /** The subscription outlives the exchange that it was sent with, so that exchange's signal must not end it. */
  #subscribe(): Promise<void> {
    this.#subscribed ??= this.#mqtt.subscribe([{ topicFilter: DPS_RESPONSE_FILTER, qos: 1 }], NEVER_CANCELLED);
    return this.#subscribed;
  }
}

interface ReplyWaiter {
  readonly onReply: (reply: DpsReply) => void;
  readonly onFailure: (reason: unknown) => void;
}

/** Sorts what DPS publishes to whoever waits for it, by request id. */
class ReplyInbox {
  readonly #waiters: Map<string, ReplyWaiter> = new Map();
  #closedBy: Error | undefined;

  /** The returned function stops waiting: a reply that comes later is dropped. */
  expect(requestId: string, waiter: ReplyWaiter): () => void {
    if (this.#closedBy !== undefined) waiter.onFailure(this.#closedBy);
    this.#waiters.set(requestId, waiter);
    return () => {
      this.#waiters.delete(requestId);
    };
  }

  take(delivery: MqttDelivery): void {
    delivery.acknowledge?.();
    if (!delivery.topic.startsWith(REPLY_PREFIX)) return;
    try {
      const { requestId, ...reply } = parseResponseTopic(delivery.topic);
      this.#waiters.get(requestId)?.onReply({ kind: 'reply', body: delivery.payload, ...reply });
    } catch (error) {
      // It may have been the reply: better to fail than to wait for one that has been and gone.
      this.#failAll(error);
    }
  }

  close(reason: Error): void {
    this.#closedBy = reason;
    this.#failAll(reason);
  }

  #failAll(reason: unknown): void {
    for (const waiter of this.#waiters.values()) waiter.onFailure(reason);
  }
}

const REPLY_PREFIX = '$dps/registrations/res';

function messageFor(request: DpsRequest, requestId: string): MqttPublish {
  switch (request.kind) {
    case 'register':
      return { topic: registerTopic(requestId), payload: request.body, qos: 1 };
    case 'operationStatus':
      return { topic: operationStatusTopic(requestId, request.operationId), payload: NO_BODY, qos: 1 };
    case 'statusLookup':
      throw lookupUnsupported();
  }
}

function tpmUnsupported(): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNSUPPORTED',
    option: 'transport',
    message: 'DPS does not take a TPM over MQTT; use https or amqp.',
  });
}

function describeRefusal(returnCode: number, idScope: string): string | undefined {
  switch (returnCode) {
    // Seen from DPS for an ID scope that does not exist (azure-iot-sdk-python issue 670).
    case 3:
      return `Either DPS is unavailable just now, or the ID scope "${idScope}" is wrong: compare it with the overview page of the DPS instance.`;
    case 2:
    case 4:
    case 5:
      return 'Check the ID scope, the registration id, and the clock that the SAS token was made by.';
    default:
      return undefined;
  }
}
