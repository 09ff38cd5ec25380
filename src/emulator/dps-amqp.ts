/** The provisioning service over AMQP: links to a device's address, requests and replies as messages on them. */
import type { Delivery, EventContext, Message, Receiver, Sender } from 'rhea';
import { type AmqpAddress, parseAddress } from './amqp-address.js';
import type { AmqpConnection } from './amqp-connection.js';
import { bodyOf, dataSection, intOf, textOf } from './amqp-rhea.js';
import type { SaslIdentity, TpmOpening } from './amqp-sasl.js';
import type { EmulatorContext } from './context.js';
import { faultReply, type RenderedReply, readScript } from './dps-faults.js';
import type { TakenFault } from './faults.js';
import type { Caller, ProvisioningScope } from './service.js';
import { refuse, type ServiceReply } from './service-reply.js';
import type { PresentedCredential } from './verify.js';

type DpsAddress = Extract<AmqpAddress, { kind: 'dps' }>;

/** Before the links are attached nobody has said which version they speak; any that the service knows will do. */
const UNTOLD_API_VERSION = '2019-03-31';

/** One device at DPS. */
export class DpsAmqpSession {
  readonly #connection: AmqpConnection;
  readonly #context: EmulatorContext;
  readonly #presentedAtMs: number;
  readonly #callers = new Map<object, { readonly scope: ProvisioningScope; readonly caller: Caller }>();
  #replies: Sender | undefined;
  #isConnected = false;

  constructor(connection: AmqpConnection, context: EmulatorContext) {
    this.#connection = connection;
    this.#context = context;
    this.#presentedAtMs = context.world.wallMs();
  }

  // --- in the SASL layer

  wrapKey(opening: TpmOpening, storageRootKey: Uint8Array, fault: TakenFault | undefined): Uint8Array | undefined {
    const { idScope, registrationId, endorsementKey } = opening;
    const scope = this.#context.scopes.get(idScope);
    const response = fault?.find('respond');
    if (scope === undefined || response !== undefined) {
      const detail = response === undefined ? `there is no ID scope "${idScope}" here` : 'fault: respond';
      this.#connection.note({ event: 'refused', detail });
      return undefined;
    }
    const caller = { registrationId, apiVersion: UNTOLD_API_VERSION };
    const damage = fault?.find('tpmBlob')?.damage;
    const challenge = scope.challenge(caller, { endorsementKey, storageRootKey }, damage);
    if ('status' in challenge) {
      this.#noteRefusal(challenge);
      return undefined;
    }
    this.#connection.note({ event: 'challenge' });
    return challenge.blob;
  }

  /** Of a key only the scope is judged here: a wrong one learns of it with its first request. A TPM ends here. */
  admit(identity: SaslIdentity): boolean {
    if (identity.kind === 'anonymous') return true;
    const address = identity.kind === 'plain' ? parseAddress(identity.user) : { ...identity, kind: 'dps' as const };
    if (address?.kind !== 'dps') {
      this.#connection.note({
        event: 'refused',
        detail: 'the user name is not {scope}/registrations/{registration id}',
      });
      return false;
    }
    const { idScope, registrationId } = address;
    this.#connection.identify({ service: 'dps', idScope, device: registrationId });
    const scope = this.#context.scopes.get(idScope);
    const caller = this.#callerOf(registrationId, UNTOLD_API_VERSION, identity, address);
    const refusal =
      scope === undefined ? this.#noScope(idScope) : identity.kind === 'tpm' ? scope.refusal(caller) : undefined;
    if (refusal !== undefined) this.#noteRefusal(refusal);
    return refusal === undefined;
  }

  // --- links

  attached(link: Receiver | Sender, address: DpsAddress): void {
    const { idScope, registrationId } = address;
    this.#connection.identify({ service: 'dps', idScope, device: registrationId });
    const apiVersion = textOf(link.properties, 'com.microsoft:api-version') ?? '';
    const agent = textOf(link.properties, 'com.microsoft:client-version') ?? '';
    if (!this.#isConnected)
      this.#connection.note({ event: 'connect', detail: `api-version ${apiVersion} ${agent}`.trimEnd() });
    this.#isConnected = true;
    const scope = this.#context.scopes.get(idScope);
    const caller = this.#callerOf(registrationId, apiVersion, this.#connection.identity, address);
    if (scope === undefined) this.#refuseLink(link, this.#noScope(idScope));
    else if (link.is_sender()) this.#replies = link as Sender;
    else this.#callers.set(link, { scope, caller });
  }

  detached(link: Receiver | Sender): void {
    if (this.#replies === link) this.#replies = undefined;
    this.#callers.delete(link);
  }

  // --- requests

  message({ receiver, message, delivery }: EventContext): void {
    const asked = receiver && this.#callers.get(receiver);
    if (asked === undefined || message === undefined || delivery === undefined) return;
    const { scope, caller } = asked;
    const operation = textOf(message.application_properties, 'iotdps-operation-type');
    switch (operation) {
      case 'iotdps-register':
        this.#connection.note({ event: 'register' });
        this.#connection.step('register', (fault) =>
          this.#answer(message, delivery, fault, () => scope.register(caller, bodyOf(message), readScript(fault))),
        );
        break;
      case 'iotdps-get-operationstatus': {
        const operationId = textOf(message.application_properties, 'iotdps-operation-id') ?? '';
        this.#connection.note({ event: 'status' });
        this.#connection.step('status', (fault) =>
          this.#answer(message, delivery, fault, () => scope.operationStatus(caller, operationId)),
        );
        break;
      }
      default:
        this.#answer(message, delivery, undefined, () =>
          refuse(this.#context.world, 400004, 'Invalid operation.', `the operation is "${operation}"`),
        );
    }
  }

  #answer(message: Message, delivery: Delivery, fault: TakenFault | undefined, ask: () => ServiceReply): void {
    const reply = faultReply(this.#context.world, fault, ask);
    if (reply.reason !== undefined)
      this.#connection.note({ event: 'refused', status: reply.status, detail: reply.reason });
    const isHeard = this.#replies !== undefined || reply.status >= 300;
    this.#connection.note({
      event: 'reply',
      status: reply.status,
      ...(!isHeard && { detail: 'no link to send it on' }),
    });
    if (reply.status >= 300) {
      delivery.reject(rejectionOf(reply));
      return;
    }
    delivery.accept();
    const { correlation_id: correlationId } = message;
    // After the disposition, which leaves in the next tick: the request is settled before its reply comes.
    process.nextTick(() =>
      this.#replies?.send({
        ...(correlationId !== undefined && { correlation_id: correlationId }),
        application_properties: delays(reply.retryAfter),
        body: dataSection(reply.body),
      } as unknown as Message),
    );
  }

  #noScope(idScope: string): ServiceReply {
    return refuse(this.#context.world, 404000, 'Not found.', `there is no ID scope "${idScope}" here`);
  }

  /** The attach is answered, as AMQP wants it, and the detach that follows at once says why. */
  #refuseLink(link: Receiver | Sender, refusal: ServiceReply): void {
    this.#noteRefusal(refusal);
    link.close({ condition: conditionOf(refusal.status), description: JSON.stringify(refusal.body) });
  }

  #noteRefusal({ status, error }: ServiceReply): void {
    this.#connection.note({ event: 'refused', status, ...(error && { detail: error.reason }) });
  }

  #callerOf(
    registrationId: string,
    apiVersion: string,
    identity: SaslIdentity | undefined,
    address?: DpsAddress,
  ): Caller {
    const credential = this.#credentialOf(identity, address);
    return { registrationId, apiVersion, credential, takesChallenge: identity?.kind === 'tpm' };
  }

  #credentialOf(identity: SaslIdentity | undefined, address?: DpsAddress): PresentedCredential {
    const presentedAtMs = this.#presentedAtMs;
    if (identity?.kind === 'tpm') return { kind: 'sas', token: identity.token, presentedAtMs };
    if (identity?.kind === 'plain') {
      const isSame =
        identity.user.toLowerCase() === `${address?.idScope}/registrations/${address?.registrationId}`.toLowerCase();
      return isSame ? { kind: 'sas', token: identity.password, presentedAtMs } : { kind: 'none' };
    }
    const chain = this.#connection.certificateChain();
    return chain.length === 0 ? { kind: 'none' } : { kind: 'x509', chain };
  }
}

/** Microsoft's clients differ in how they spell it, and do not ignore case. */
function delays(retryAfter: string | undefined): Record<string, unknown> {
  if (retryAfter === undefined) return {};
  const value = /^\d{1,9}$/.test(retryAfter) ? intOf(Number(retryAfter)) : retryAfter;
  return { 'retry-after': value, 'Retry-After': value };
}

/** The description is the body that the other transports send. */
function rejectionOf({ status, body, retryAfter }: RenderedReply): {
  condition: string;
  description: string;
  info: Record<string, unknown>;
} {
  return { condition: conditionOf(status), description: Buffer.from(body).toString('utf8'), info: delays(retryAfter) };
}

/** The names that the real service uses are not known; these are the ones that Microsoft's clients understand. */
function conditionOf(status: number): string {
  if (status >= 500) return 'amqp:internal-error';
  return CONDITIONS[status] ?? 'amqp:not-allowed';
}

const CONDITIONS: Readonly<Record<number, string>> = {
  400: 'com.microsoft:argument-error',
  401: 'amqp:unauthorized-access',
  404: 'amqp:not-found',
  409: 'com.microsoft:precondition-failed',
  429: 'com.microsoft:device-container-throttled',
};
