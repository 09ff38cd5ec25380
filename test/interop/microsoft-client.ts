/**
 * The program of the child process: Microsoft's clients, worked by a test over IPC. `client-process.ts` starts it.
 * Their typings are loose, so what comes out of them is declared narrowly here.
 */
import { createHmac } from 'node:crypto';
import https from 'node:https';
import tls from 'node:tls';
import type { Client, Twin } from 'azure-iot-device';
import { SoftwareTpm } from '../emulator/software-tpm.js';

/** A symmetric key, or a certificate chain with its private key (both PEM). */
export type Credential = { readonly symmetricKey: string } | { readonly cert: string; readonly key: string };

/** The transports of their provisioning client: `Mqtt`, `MqttWs`, `Amqp`, `AmqpWs` and `Http`. */
export type ProvisioningProtocol = 'mqtt' | 'mqtt-ws' | 'amqp' | 'amqp-ws' | 'https';

export interface RegisterOptions {
  readonly transport: ProvisioningProtocol;
  /** `host:port` */
  readonly endpoint: string;
  readonly idScope: string;
  readonly registrationId: string;
  /** `tpm`: the process plays the TPM whose keys are in the test vectors. */
  readonly credential: Credential | { readonly tpm: true };
  readonly payload?: Readonly<Record<string, unknown>>;
}

/** What their `register()` resolves with: the `registrationState` of the last answer. */
export interface RegistrationState {
  readonly registrationId: string;
  readonly assignedHub: string;
  readonly deviceId: string;
  readonly status: string;
  readonly substatus: string;
  readonly payload?: Readonly<Record<string, unknown>>;
  readonly x509?: Readonly<Record<string, unknown>>;
  readonly symmetricKey?: Readonly<Record<string, unknown>>;
}

export interface HubOptions {
  /** Default: MQTT. */
  readonly protocol?: Exclude<ProvisioningProtocol, 'https'>;
  readonly hostName: string;
  readonly deviceId: string;
  readonly credential: Credential;
  /** PEM; goes into `setOptions({ ca })`. */
  readonly ca: string;
}

export interface TelemetryOptions {
  readonly body: string;
  readonly messageId: string;
  readonly properties: Readonly<Record<string, string>>;
}

/** A section of their twin; `$version` is a member like the others. */
export type Section = Readonly<Record<string, unknown>>;

/** What the process reports without being asked. */
export interface Reports {
  readonly desired: Section;
  readonly message: { readonly body: string; readonly messageId: string; readonly properties: Section };
  readonly method: { readonly name: string; readonly payload: unknown };
  readonly disconnect: { readonly error: string };
}

export const commands = {
  /** `ProvisioningDeviceClient.register()`. */
  async register(options: RegisterOptions): Promise<RegistrationState> {
    const { ProvisioningDeviceClient } = (await import('azure-iot-provisioning-device')).default;
    const client = ProvisioningDeviceClient.create(
      hostFor(options),
      options.idScope,
      await makeTransport(options),
      (await makeSecurityClient(options)) as Parameters<typeof ProvisioningDeviceClient.create>[3],
    );
    if (options.payload !== undefined) client.setProvisioningPayload(options.payload);
    return (await client.register()) as unknown as RegistrationState;
  },

  /** `Client.fromConnectionString()`, `setOptions()`, `open()`. */
  async open(options: HubOptions): Promise<void> {
    const { Client } = (await import('azure-iot-device')).default;
    const { hostName, deviceId, credential, ca } = options;
    const isKey = 'symmetricKey' in credential;
    const proof = isKey ? `SharedAccessKey=${credential.symmetricKey}` : 'x509=true';
    const host = isOverWebSocket(options.protocol) ? aimWebSocketsAt(hostName) : hostName;
    const client = Client.fromConnectionString(
      `HostName=${host};DeviceId=${deviceId};${proof}`,
      await hubTransport(options),
    );
    client.on('disconnect', (why: { readonly transportObj?: Error }) =>
      report('disconnect', { error: why.transportObj?.message ?? '' }),
    );
    // A second setOptions() replaces the first: everything at once.
    await client.setOptions(isKey ? { ca } : { ca, cert: credential.cert, key: credential.key });
    hub = { client, ca };
    await client.open();
  },

  /** `Client.getTwin()`: both sections as they came. */
  async getTwin(): Promise<{ readonly desired: Section; readonly reported: Section }> {
    const opened = demandHub();
    opened.twin = await opened.client.getTwin();
    const { desired, reported } = opened.twin.properties;
    return { desired, reported };
  },

  /** `twin.on('properties.desired')`: reports what is known at once, then every push. */
  watchDesired(): void {
    demandTwin().on('properties.desired', (delta: Section) => report('desired', delta));
  },

  /** `twin.properties.reported.update()`, which takes a callback only. */
  async updateReported(patch: Section): Promise<void> {
    const reported = demandTwin().properties.reported as unknown as {
      update(patch: Section, done: (error?: Error) => void): void;
    };
    await new Promise<void>((resolve, reject) =>
      reported.update(patch, (error) => (error ? reject(error) : resolve())),
    );
  },

  /** `Client.sendEvent()`: resolves with the PUBACK. */
  async sendEvent({ body, messageId, properties }: TelemetryOptions): Promise<void> {
    const { Message } = (await import('azure-iot-device')).default;
    const message = new Message(body);
    message.messageId = messageId;
    message.contentType = 'application/json';
    message.contentEncoding = 'utf-8';
    for (const [name, value] of Object.entries(properties)) message.properties.add(name, value);
    await demandHub().client.sendEvent(message);
  },

  /** `Client.on('message')`, each completed and reported. */
  watchMessages(): void {
    const { client } = demandHub();
    client.on('message', (message: ReceivedMessage) => {
      const { messageId } = message;
      const properties = Object.fromEntries(message.properties.propertyList.map(({ key, value }) => [key, value]));
      report('message', { body: message.getData().toString(), messageId, properties });
      void client.complete(message as unknown as Parameters<Client['complete']>[0]);
    });
  },

  /** `Client.onDeviceMethod()` with this answer. */
  answerMethod(answer: { readonly name: string; readonly status: number; readonly payload: unknown }): void {
    demandHub().client.onDeviceMethod(answer.name, (request, response) => {
      const payload: unknown = request.payload;
      report('method', { name: request.methodName, payload });
      void response.send(answer.status, answer.payload);
    });
  },

  /** New renewal times make their key provider renew the token at once, an hour or two before it would by itself. */
  async renewToken(): Promise<void> {
    const { client, ca } = demandHub();
    await client.setOptions({
      ca,
      tokenRenewal: { tokenValidTimeInSeconds: 7200, tokenRenewalMarginInSeconds: 60 },
    });
  },

  /** `Client.close()`. */
  async close(): Promise<void> {
    await demandHub().client.close();
  },
};

export type Commands = typeof commands;

/** A request of the parent. */
export interface Request {
  readonly id: number;
  readonly command: keyof Commands;
  readonly argument: unknown;
}

/** What goes to the parent. */
export type Reply =
  | { readonly id: number; readonly result: unknown }
  /** `result`: the service's answer, where their error carries it. */
  | {
      readonly id: number;
      readonly error: { readonly name: string; readonly message: string; readonly result?: unknown };
    }
  | { readonly report: keyof Reports; readonly data: unknown };

interface ReceivedMessage {
  readonly messageId: string;
  getData(): Uint8Array;
  readonly properties: { readonly propertyList: readonly { readonly key: string; readonly value: string }[] };
}

let hub: { readonly client: Client; readonly ca: string; twin?: Twin } | undefined;

function demandHub(): NonNullable<typeof hub> {
  if (hub === undefined) throw new Error('open() comes first.');
  return hub;
}

function demandTwin(): Twin {
  const { twin } = demandHub();
  if (twin === undefined) throw new Error('getTwin() comes first.');
  return twin;
}

/** Their HTTPS transport knows port 443 only. The agent that requests use by default may know better. */
function aimHttpsAt(endpoint: string): string {
  const [host = '', port] = endpoint.split(':');
  // But for the port, the agent that Node comes with.
  https.globalAgent = new https.Agent({ keepAlive: true, scheduling: 'lifo', timeout: 5000, port: Number(port) });
  return host;
}

function hostFor({ transport, endpoint }: RegisterOptions): string {
  if (transport === 'https') return aimHttpsAt(endpoint);
  return isOverWebSocket(transport) ? aimWebSocketsAt(endpoint) : endpoint;
}

function isOverWebSocket(protocol: ProvisioningProtocol | undefined): boolean {
  return protocol === 'mqtt-ws' || protocol === 'amqp-ws';
}

/** Over WebSocket they know port 443 only, too, and with a TPM take no agent: what opens TLS connections knows better. */
function aimWebSocketsAt(endpoint: string): string {
  const [host = '', port] = endpoint.split(':');
  const connect = tls.connect as (options: tls.ConnectionOptions) => tls.TLSSocket;
  (tls as { connect: typeof connect }).connect = (options) => connect({ ...options, port: Number(port) });
  return host;
}

async function makeTransport({ transport }: RegisterOptions) {
  if (transport === 'https') return new (await import('azure-iot-provisioning-device-http')).default.Http();
  const { Mqtt, MqttWs } = (await import('azure-iot-provisioning-device-mqtt')).default;
  const { Amqp, AmqpWs } = (await import('azure-iot-provisioning-device-amqp')).default;
  const { [transport]: Transport } = { mqtt: Mqtt, 'mqtt-ws': MqttWs, amqp: Amqp, 'amqp-ws': AmqpWs };
  return new Transport();
}

async function hubTransport({ protocol = 'mqtt' }: HubOptions) {
  const { Mqtt, MqttWs } = (await import('azure-iot-device-mqtt')).default;
  const { Amqp, AmqpWs } = (await import('azure-iot-device-amqp')).default;
  return { mqtt: Mqtt, 'mqtt-ws': MqttWs, amqp: Amqp, 'amqp-ws': AmqpWs }[protocol];
}

async function makeSecurityClient({ registrationId, credential }: RegisterOptions) {
  if ('tpm' in credential) return new TpmClient(registrationId);
  if ('symmetricKey' in credential) {
    const { SymmetricKeySecurityClient } = (await import('azure-iot-security-symmetric-key')).default;
    return new SymmetricKeySecurityClient(registrationId, credential.symmetricKey);
  }
  const { X509Security } = (await import('azure-iot-security-x509')).default;
  return new X509Security(registrationId, credential);
}

/** What their provisioning client wants of a TPM; theirs needs a native module that current Node does not build. */
class TpmClient {
  readonly #registrationId: string;
  readonly #tpm = new SoftwareTpm();
  #identityKey: Buffer = Buffer.alloc(0);

  constructor(registrationId: string) {
    this.#registrationId = registrationId;
  }

  getRegistrationId(done: (error: Error | null, id: string) => void): void {
    done(null, this.#registrationId);
  }

  getEndorsementKey(done: (error: Error | null, key: Buffer) => void): void {
    done(null, this.#tpm.endorsementKey);
  }

  getStorageRootKey(done: (error: Error | null, key: Buffer) => void): void {
    done(null, this.#tpm.storageRootKey);
  }

  activateIdentityKey(blob: Buffer, done: (error: Error | null) => void): void {
    this.#identityKey = this.#tpm.activate(blob);
    done(null);
  }

  signWithIdentity(data: Buffer, done: (error: Error | null, signature: Buffer) => void): void {
    done(null, createHmac('sha256', this.#identityKey).update(data).digest());
  }
}

function report<K extends keyof Reports>(name: K, data: Reports[K]): void {
  send({ report: name, data });
}

function send(reply: Reply): void {
  process.send?.(reply);
}

async function perform({ id, command, argument }: Request): Promise<void> {
  try {
    const run = commands[command] as (argument: unknown) => unknown;
    send({ id, result: await run(argument) });
  } catch (error) {
    const { name, message, result } = error as Error & { readonly result?: unknown };
    send({ id, error: { name, message, result } });
  }
}

process.on('message', (request: Request) => void perform(request));
// Their clients leave timers and sockets behind: with the parent gone, nothing is to keep this process.
process.on('disconnect', () => process.exit());
