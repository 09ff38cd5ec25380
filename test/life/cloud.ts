import type { AttestationKind } from '../../src/core/attestation.js';
import { encodeUtf8 } from '../../src/core/bytes.js';
import type { DpsChallenge, DpsReply, DpsRequest } from '../../src/core/transport.js';
import type { Twin } from '../../src/core/twin.js';
import type { FuzzRandom } from '../fuzz/fuzz-random.js';

/** When the life begins by the true clock. */
export const BIRTH_WALL_MS: number = Date.UTC(2026, 5, 1);

/** What makes the world a bad one for a while; each holds until the moment that is stored for it. */
export type Trouble =
  | 'network'
  | 'dps'
  | 'hub'
  | 'loss'
  | 'slow'
  | 'dpsThrottle'
  | 'hubThrottle'
  | 'hubUntrusted'
  | 'enrollmentDisabled'
  | 'enrollmentGone'
  | 'allocationFails'
  | 'keyRolled'
  | 'identityDisabled'
  | 'clock'
  | 'store'
  | 'hsm';

interface HubIdentity {
  /** Names of the keys that it takes. */
  keys: readonly string[];
  desiredVersion: number;
  reportedVersion: number;
}

interface Operation {
  readonly doneAtMs: number;
  /** The key that the device has shown. */
  readonly key: string;
  body: string | undefined;
}

/** Who asks, as the service sees it. */
export interface Asker {
  readonly key: string;
  /** A TPM that has not answered a challenge yet. */
  readonly isUnproven: boolean;
  /** True wall time at which its token ends. */
  readonly expiresAtWallMs: number;
}

/** One enrollment, its DPS and its hubs: simple, and written from the protocol references, not from the client. */
export class Cloud {
  readonly untilMs: Map<Trouble, number> = new Map();
  readonly hubs: Map<string, HubIdentity | undefined> = new Map();
  /** Where DPS would send the device. */
  targetHub = '';
  /** What DPS remembers of the device. */
  assignedHub: string | undefined;
  throttleRetryAfter: string | undefined;
  rolledSlot = 0;
  /** Of a device with a key store: which of its keys the enrollment has. */
  readonly enrolled: Set<string> = new Set();
  /** Which of the TPM's orders fails while it is in trouble; undefined: all of them, nearly. */
  failingTpmOrder: string | undefined;
  readonly #operations: Map<string, Operation> = new Map();
  readonly #random: FuzzRandom;
  readonly #attestation: AttestationKind;
  readonly #isImmediate: boolean;
  readonly #keepsTpmKey: boolean;
  readonly #keepsEtag: boolean;
  #numbers = 0;
  #tpmKey = '';

  constructor(random: FuzzRandom, attestation: AttestationKind) {
    this.#random = random;
    this.#attestation = attestation;
    this.#isImmediate = random.chance(0.1);
    this.#keepsTpmKey = random.chance(0.5);
    this.#keepsEtag = random.chance(0.5);
    this.targetHub = this.addHub();
    this.addHub();
  }

  has(trouble: Trouble, nowMs: number): boolean {
    return nowMs < (this.untilMs.get(trouble) ?? Number.NEGATIVE_INFINITY);
  }

  addHub(): string {
    this.#numbers += 1;
    const name = `hub-${this.#numbers}.example`;
    this.hubs.set(name, undefined);
    return name;
  }

  otherHub(): string {
    const others = [...this.hubs.keys()].filter((name) => name !== this.targetHub);
    return others.length === 0 ? this.addHub() : this.#random.pick(others);
  }

  twinOf(hub: string): Twin {
    const { desiredVersion, reportedVersion } = this.hubs.get(hub) ?? { desiredVersion: 1, reportedVersion: 1 };
    return {
      desired: { version: desiredVersion, properties: { n: desiredVersion } },
      reported: { version: reportedVersion, properties: {} },
    };
  }

  /** What a restart of the service forgets. */
  forgetOperations(): void {
    this.#operations.clear();
  }

  /** Whether DPS takes this proof. */
  accepts({ key, expiresAtWallMs }: Asker, nowMs: number): boolean {
    if (this.has('enrollmentGone', nowMs)) return false;
    if (this.enrolled.size > 0 && !this.enrolled.has(key)) return false;
    if (this.#attestation !== 'x509' && expiresAtWallMs < BIRTH_WALL_MS + nowMs) return false;
    return !(this.has('keyRolled', nowMs) && this.#attestation !== 'tpm' && key.endsWith(`#${this.rolledSlot}`));
  }

  answer(request: DpsRequest, asker: Asker, nowMs: number): DpsReply | DpsChallenge {
    if (this.has('dpsThrottle', nowMs)) return error(429, 429001, this.throttleRetryAfter);
    if (this.has('dps', nowMs)) return error(this.#random.pick([500, 503, 504, 408]), 500_000);
    if (asker.isUnproven && this.accepts(asker, nowMs)) return this.#challenge();
    if (!this.accepts(asker, nowMs)) return error(401, 401002);
    if (request.kind === 'register') return this.#register(asker, nowMs);
    if (request.kind === 'operationStatus') return this.#status(request.operationId, nowMs);
    return this.assignedHub === undefined ? error(404, 404201) : reply(200, this.#state(this.assignedHub, nowMs));
  }

  /** Whether the hub takes this key. */
  admits(hub: string, key: string, nowMs: number): boolean {
    const identity = this.hubs.get(hub);
    return identity?.keys.includes(key) === true && !this.has('identityDisabled', nowMs);
  }

  #challenge(): DpsChallenge {
    this.#numbers += 1;
    return { kind: 'challenge', authenticationKey: Uint8Array.of(this.#numbers & 0xff, this.#numbers >> 8) };
  }

  #register(asker: Asker, nowMs: number): DpsReply {
    this.#numbers += 1;
    const operationId = `op-${this.#numbers}`;
    const forMs = this.#isImmediate ? 0 : this.#random.pick([0, 1_000, 5_000, 20_000]);
    const operation: Operation = { doneAtMs: nowMs + forMs, key: asker.key, body: undefined };
    if (this.#isImmediate) return reply(200, this.#outcomeOf(operationId, operation, nowMs));
    this.#operations.set(operationId, operation);
    return reply(202, JSON.stringify({ operationId, status: 'assigning' }), this.#random.pick(['3', '3', '0', '10']));
  }

  #status(operationId: string, nowMs: number): DpsReply {
    const operation = this.#operations.get(operationId);
    if (operation === undefined) return error(404, 404201);
    if (nowMs < operation.doneAtMs) return reply(202, JSON.stringify({ operationId, status: 'assigning' }), '3');
    return reply(200, this.#outcomeOf(operationId, operation, nowMs));
  }

  #outcomeOf(operationId: string, operation: Operation, nowMs: number): string {
    operation.body ??= this.#decide(operationId, operation.key, nowMs);
    return operation.body;
  }

  #decide(operationId: string, key: string, nowMs: number): string {
    const fails = (status: string): string =>
      JSON.stringify({ operationId, status, registrationState: { registrationId: 'dev-1', status } });
    if (this.has('enrollmentDisabled', nowMs)) return fails('disabled');
    if (this.has('allocationFails', nowMs)) return fails('failed');
    const former = this.assignedHub;
    if (former !== undefined && former !== this.targetHub && this.hubs.has(former)) this.hubs.set(former, undefined);
    this.assignedHub = this.targetHub;
    this.#putDevice(this.targetHub, key, nowMs);
    return `{"operationId":"${operationId}","status":"assigned","registrationState":${this.#state(this.targetHub, nowMs)}}`;
  }

  #putDevice(hub: string, key: string, nowMs: number): void {
    const known = this.hubs.get(hub);
    if (this.#attestation === 'tpm' && !(this.#keepsTpmKey && this.#tpmKey !== '')) {
      this.#numbers += 1;
      this.#tpmKey = `tpm-${this.#numbers}`;
    }
    const rolledKeys = this.has('keyRolled', nowMs) ? [`key#${1 - this.rolledSlot}`] : ['key#0', 'key#1'];
    const sasKeys = this.enrolled.size > 0 ? [...this.enrolled] : rolledKeys;
    const keys = { tpm: [this.#tpmKey], x509: [key], symmetricKey: sasKeys }[this.#attestation];
    this.hubs.set(hub, {
      keys,
      desiredVersion: known?.desiredVersion ?? 1,
      reportedVersion: known?.reportedVersion ?? 1,
    });
  }

  #state(assignedHub: string, nowMs: number): string {
    const isTpm = this.#attestation === 'tpm';
    return JSON.stringify({
      registrationId: 'dev-1',
      assignedHub,
      deviceId: 'dev-1',
      status: 'assigned',
      substatus: 'initialAssignment',
      lastUpdatedDateTimeUtc: new Date(BIRTH_WALL_MS + nowMs).toISOString(),
      etag: this.#keepsEtag ? 'e' : `e${this.#numbers}`,
      ...(isTpm ? { tpm: { authenticationKey: Buffer.from(this.#tpmKey).toString('base64') } } : {}),
    });
  }
}

function reply(status: number, body: string, retryAfter?: string): DpsReply {
  return { kind: 'reply', status, body: encodeUtf8(body), ...(retryAfter === undefined ? {} : { retryAfter }) };
}

function error(status: number, errorCode: number, retryAfter?: string): DpsReply {
  return reply(status, JSON.stringify({ errorCode, trackingId: 't', message: 'no' }), retryAfter);
}
