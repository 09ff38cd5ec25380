import { createHmac } from 'node:crypto';
import { encodeUtf8 } from '../../src/core/bytes.js';
import type { DpsReply, DpsRequest } from '../../src/core/transport.js';
import { resolveConfig } from '../../src/emulator/config.js';
import { EmulatedScope } from '../../src/emulator/scope.js';
import type { Caller } from '../../src/emulator/service.js';
import type { ServiceReply } from '../../src/emulator/service-reply.js';
import type { FuzzRandom } from '../fuzz/fuzz-random.js';
import { MinuteQuota } from './quota.js';

export const ID_SCOPE = '0neABCDEF12';
export const HUB_NAME = 'hub.example';
const GROUP_KEY = Buffer.alloc(32, 7).toString('base64');
const NEVER_MS = 1e15;

/** The emulator's provisioning service behind the quotas of the real one, in virtual time. */
export class ServiceDesk {
  readonly registers: MinuteQuota;
  readonly operations: MinuteQuota;
  registerRequests = 0;
  statusRequests = 0;
  readonly #scope: EmulatedScope;
  readonly #nowMs: () => number;
  readonly #startWallMs: number;

  constructor(
    quotas: { readonly registrationsPerMinute: number; readonly operationsPerMinute: number },
    random: FuzzRandom,
    nowMs: () => number,
  ) {
    this.#nowMs = nowMs;
    this.#startWallMs = Date.UTC(2026, 10, 21);
    this.registers = new MinuteQuota(quotas.registrationsPerMinute);
    this.operations = new MinuteQuota(quotas.operationsPerMinute);
    this.#scope = makeScope(random, () => this.wallMs());
  }

  wallMs(): number {
    return this.#startWallMs + this.#nowMs();
  }

  /** A device's token; the signature is the real one. */
  tokenFor(registrationId: string, resource: string, expirySeconds: number): string {
    const deviceKey = createHmac('sha256', Buffer.from(GROUP_KEY, 'base64')).update(registrationId).digest();
    const signature = createHmac('sha256', deviceKey).update(`${resource}\n${expirySeconds}`).digest('base64');
    return `SharedAccessSignature sr=${resource}&sig=${encodeURIComponent(signature)}&se=${expirySeconds}&skn=registration`;
  }

  /** Register and poll are throttled apart, and before anything is verified. */
  answer(request: DpsRequest, registrationId: string, token: string): DpsReply {
    const isRegister = request.kind === 'register';
    if (isRegister) this.registerRequests += 1;
    else this.statusRequests += 1;
    const waitSeconds = (isRegister ? this.registers : this.operations).take(this.#nowMs());
    if (waitSeconds > 0) return { kind: 'reply', status: 429, body: THROTTLED, retryAfter: String(waitSeconds) };
    const credential = { kind: 'sas', token, presentedAtMs: this.wallMs() } as const;
    const caller: Caller = { registrationId, apiVersion: '2021-06-01', credential };
    const { service } = this.#scope;
    if (request.kind === 'operationStatus') return replyOf(service.operationStatus(caller, request.operationId));
    return replyOf(isRegister ? service.register(caller, request.body) : service.lookup(caller, request.body));
  }

  /** Whether the hub knows the device. */
  knows(deviceId: string): boolean {
    return this.#scope.hubs[0]?.contentOf(deviceId) !== undefined;
  }
}

/** The number says it; a body would only be read five million times. */
const THROTTLED = new Uint8Array();

function replyOf({ status, body, retryAfterSeconds }: ServiceReply): DpsReply {
  const retryAfter = retryAfterSeconds === undefined ? {} : { retryAfter: String(retryAfterSeconds) };
  return { kind: 'reply', status, body: encodeUtf8(JSON.stringify(body)), ...retryAfter };
}

function makeScope(random: FuzzRandom, wallMs: () => number): EmulatedScope {
  const attestation = { symmetricKey: { primaryKey: GROUP_KEY, secondaryKey: GROUP_KEY } };
  const enrollmentGroups = [{ enrollmentGroupId: 'fleet', attestation }];
  const hubs = [{ name: 'hub-1', hostName: HUB_NAME }];
  const [config] = resolveConfig({ idScope: ID_SCOPE, hubs, enrollmentGroups }, '.').scopes;
  if (config === undefined) throw new Error('no scope');
  const clock = { monotonicMs: () => NEVER_MS, wallMs, after: () => () => {} };
  return new EmulatedScope(config, {
    clock,
    world: { wallMs, randomBytes: (size) => random.bytes(size) },
    baseDirectory: '.',
    rules: { retryAfterSeconds: 3, refuseConcurrent: false },
    stored: undefined,
    onChange: () => {},
  });
}
