/** A hub's door over AMQP: tokens for `$cbs`, and links to a device's addresses for who has proved to be that device. */
import type { Delivery, EventContext, Message, Receiver, Sender } from 'rhea';
import { decodePercent } from '../core/bytes.js';
import type { AmqpAddress } from './amqp-address.js';
import type { AmqpConnection } from './amqp-connection.js';
import { dataSection, intOf, textOf, tokenOf } from './amqp-rhea.js';
import type { EmulatorContext } from './context.js';
import type { Hub } from './hub.js';
import { type DeviceNode, HubAmqpSession } from './hub-amqp-session.js';
import { type HubVerdict, LIVE_TOKEN_GRACE_MS, verifyHubCredential } from './hub-auth.js';
import { hubErrorBody } from './hub-error.js';

type DeviceAddress = Extract<AmqpAddress, { kind: 'device' }>;

const NODES: readonly string[] = ['messages/events', 'messages/devicebound', 'methods/devicebound', 'twin'];

/** A token may outlive any timer; its end is looked at again at least this often. */
const EXPIRY_CHECK_MS = 3_600_000;

export class HubAmqpDoor {
  readonly #connection: AmqpConnection;
  readonly #context: EmulatorContext;
  /** The hub that listens here, for clients that do not say which they mean. */
  readonly #ownHub: Hub | undefined;
  readonly #nodes = new Map<object, DeviceNode>();
  readonly #cbsReplies = new Set<Sender>();
  readonly #cbsRequests = new Set<Receiver>();
  /** Whom a token was put for, until when. */
  #admitted: { readonly hub: Hub; readonly deviceId: string; readonly expiresAtMs: number } | undefined;
  #session: HubAmqpSession | undefined;
  #stopWatch: () => void = () => {};

  constructor(connection: AmqpConnection, context: EmulatorContext, ownHub: Hub | undefined) {
    this.#connection = connection;
    this.#context = context;
    this.#ownHub = ownHub;
  }

  attachedCbs(link: Receiver | Sender): void {
    if (link.is_sender()) this.#cbsReplies.add(link as Sender);
    else this.#cbsRequests.add(link as Receiver);
  }

  attached(link: Receiver | Sender, address: DeviceAddress): void {
    const { deviceId, tail } = address;
    const problem = this.#problemWith(address);
    if (problem !== undefined) {
      this.#connection.note({ event: 'refused', topic: tail, detail: problem });
      const description = JSON.stringify(hubErrorBody(this.#context.world, 401003, 'Unauthorized'));
      link.close({ condition: 'amqp:unauthorized-access', description });
      return;
    }
    const { hub } = this.#admitted ?? {};
    if (hub === undefined) return;
    this.#session ??= new HubAmqpSession(this.#connection, this.#context, hub, deviceId);
    this.#nodes.set(link, tail as DeviceNode);
    this.#session.attached(link, tail as DeviceNode);
  }

  detached(link: Receiver | Sender): void {
    const node = this.#nodes.get(link);
    this.#nodes.delete(link);
    this.#cbsReplies.delete(link as Sender);
    this.#cbsRequests.delete(link as Receiver);
    if (node !== undefined) this.#session?.detached(link, node);
  }

  message({ receiver, message, delivery }: EventContext): void {
    if (receiver === undefined || message === undefined || delivery === undefined) return;
    const node = this.#nodes.get(receiver);
    if (this.#cbsRequests.has(receiver)) this.#putToken(message, delivery);
    else if (node !== undefined) this.#session?.message(node, message, delivery);
  }

  settled({ delivery }: EventContext, outcome: Parameters<HubAmqpSession['settled']>[1]): void {
    if (delivery !== undefined) this.#session?.settled(delivery, outcome);
  }

  sendable(): void {
    this.#session?.deliverQueued();
  }

  closed(): void {
    this.#session?.closed();
  }

  #problemWith({ deviceId, moduleId, tail }: DeviceAddress): string | undefined {
    if (moduleId !== undefined) return 'modules are not offered by the emulator';
    if (!NODES.includes(tail)) return `there is nothing at ${tail}`;
    if (this.#admitted === undefined) this.#admitByCertificate(deviceId);
    if (this.#admitted?.deviceId === deviceId) return undefined;
    return 'no token was put for this device, and no certificate of its own was presented';
  }

  /** Without a token, as with a certificate: the handshake has proved it. */
  #admitByCertificate(deviceId: string): void {
    const { hostName } = this.#connection;
    const hub = this.#context.hubs.find((candidate) => candidate.answersTo(hostName)) ?? this.#ownHub;
    const certificate = this.#connection.certificateChain()[0];
    if (hub === undefined || certificate === undefined) return;
    this.#identify(hub, deviceId);
    const verdict = this.#judge(hub, deviceId, hostName, { token: undefined, certificate });
    if (verdict.isAdmitted) this.#admitted = { hub, deviceId, expiresAtMs: Number.POSITIVE_INFINITY };
    else this.#connection.note({ event: 'refused', detail: verdict.reason });
  }

  #putToken(message: Message, delivery: Delivery): void {
    delivery.accept();
    const properties = message.application_properties;
    const name = decodePercent(textOf(properties, 'name') ?? '') ?? '';
    const [, host = '', deviceId = ''] = /^([^/]+)\/devices\/([^/]+)$/.exec(name) ?? [];
    const hub = this.#context.hubs.find((candidate) => candidate.answersTo(host)) ?? this.#ownHub;
    if (hub !== undefined && this.#session === undefined) this.#identify(hub, deviceId);
    const verdict = this.#judgeToken(hub, host, deviceId, tokenOf(message), textOf(properties, 'operation'));
    if (verdict.isAdmitted && hub !== undefined) {
      this.#admitted = { hub, deviceId, expiresAtMs: verdict.tokenExpiresAtMs ?? Number.POSITIVE_INFINITY };
      this.#watchExpiry();
    } else if (!verdict.isAdmitted) this.#connection.note({ event: 'refused', status: 401, detail: verdict.reason });
    this.#answerCbs(message.message_id, verdict.isAdmitted);
  }

  #judgeToken(
    hub: Hub | undefined,
    host: string,
    deviceId: string,
    token: string,
    operation: string | undefined,
  ): HubVerdict {
    if (operation !== 'put-token') return { isAdmitted: false, reason: `$cbs was asked for "${operation}"` };
    if (hub === undefined) return { isAdmitted: false, reason: `there is no hub "${host}" here` };
    if (this.#session !== undefined && this.#admitted?.deviceId !== deviceId) {
      return { isAdmitted: false, reason: 'a connection is of one device only here' };
    }
    return this.#judge(hub, deviceId, host, { token, certificate: undefined });
  }

  #judge(hub: Hub, deviceId: string, host: string, credential: Parameters<typeof verifyHubCredential>[1]): HubVerdict {
    const device = hub.registered(deviceId);
    if (device === undefined) return { isAdmitted: false, reason: `hub "${hub.name}" knows no device "${deviceId}"` };
    if (!device.isEnabled) return { isAdmitted: false, reason: 'the device is disabled (403012)' };
    return verifyHubCredential(device.authentication, credential, { host, deviceId }, this.#context.world.wallMs());
  }

  #answerCbs(messageId: unknown, isAdmitted: boolean): void {
    const [replies] = this.#cbsReplies;
    replies?.send({
      correlation_id: messageId,
      application_properties: {
        'status-code': intOf(isAdmitted ? 200 : 401),
        'status-description': isAdmitted ? 'OK' : 'Unauthorized',
      },
      body: dataSection(new Uint8Array()),
    } as unknown as Message);
  }

  #identify(hub: Hub, deviceId: string): void {
    this.#connection.identify({ service: 'hub', hub: hub.name, device: deviceId });
    this.#connection.note({ event: 'connect' });
  }

  /** A token that is not renewed ends the connection some time after its expiry. */
  #watchExpiry(): void {
    this.#stopWatch();
    const leftMs = (this.#admitted?.expiresAtMs ?? 0) + LIVE_TOKEN_GRACE_MS - this.#context.world.wallMs();
    if (leftMs <= 0) this.#connection.drop('the SAS token has expired');
    else this.#stopWatch = this.#connection.after(Math.min(leftMs, EXPIRY_CHECK_MS), () => this.#watchExpiry());
  }
}
