/**
 * The provisioning service of one ID scope, without any transport: who may register, where a device goes, what is
 * remembered. Time, chance and the linked hubs are handed in; nothing here waits.
 */
import { decodeBase64, encodeBase64 } from '../core/bytes.js';
import { registrationIdProblem } from '../core/identifiers.js';
import { type AdmittedDevice, decideOutcome, type OperationScript } from './assignment.js';
import type { AllocationPolicy, EnrollmentEntry } from './enrollment.js';
import type { EnrollmentStore } from './enrollment-store.js';
import { isJsonObject, type JsonObject, type JsonValue, parseJson } from './json.js';
import type { LinkedHub } from './linked-hub.js';
import {
  type DeviceRegistrationState,
  describeForDevice,
  describeRecord,
  type RegistrationRecord,
} from './registration-record.js';
import { refuse, type ServiceReply } from './service-reply.js';
import { makeActivationBlob, type TpmBlobDamage, type TpmKeys } from './tpm-activation.js';
import { TpmChallenges } from './tpm-challenges.js';
import { type PresentedTpm, readTpmKeys } from './tpm-presented.js';
import { type PresentedCredential, type Verdict, verifyCredential } from './verify.js';
import { makeEtag, makeOperationId, makeTpmHubKey, type World } from './world.js';

/** The largest body the service takes. */
export const MAX_BODY_BYTES: number = 96 * 1024;

/** How long a registration whose result nobody fetched counts as running. */
const RUNNING_MS = 10_000;

/** Operations that can still be asked for. */
const MAX_OPERATIONS = 10_000;

/** Who calls, and how it was proved. */
export interface Caller {
  /** As received. */
  readonly registrationId: string;
  readonly apiVersion: string;
  readonly credential: PresentedCredential;
  /** A challenge is answered here; MQTT has none, so a token that answers one is as good as none there. */
  readonly takesChallenge?: boolean;
}

export interface ScopeOptions {
  readonly idScope: string;
  readonly world: World;
  readonly defaultPolicy: AllocationPolicy;
  readonly hubs: readonly LinkedHub[];
  readonly enrollments: EnrollmentStore;
  /** What is announced with every 202; the real service says 3. */
  readonly retryAfterSeconds: number;
  /** Refuse a registration while another one of the same device runs (409203). */
  readonly refuseConcurrent: boolean;
  onChange(): void;
}

type Admission = Extract<Verdict, { authentication: unknown }>;

interface Operation extends Omit<AdmittedDevice, 'entry'> {
  readonly id: string;
  readonly entry: EnrollmentEntry | undefined;
  readonly startedMs: number;
  pollsLeft: number;
  isCollected: boolean;
  result: RegistrationRecord | undefined;
  /** Base64 of the blob with a TPM's hub key. */
  authenticationKey: string | undefined;
}

export class ProvisioningScope {
  readonly idScope: string;
  readonly #options: ScopeOptions;
  readonly #records = new Map<string, RegistrationRecord>();
  readonly #operations = new Map<string, Operation>();
  readonly #latest = new Map<string, Operation>();
  readonly #payloads = new Map<string, JsonValue>();
  readonly #challenges: TpmChallenges;

  constructor(options: ScopeOptions) {
    this.idScope = options.idScope;
    this.#challenges = new TpmChallenges(options.world);
    this.#options = options;
  }

  /**
   * A fresh key for a TPM to sign its token with, in a blob that only this TPM can open. Whether the TPM is enrolled,
   * one that is not learns from its operation; an enrollment of this registration id with another key refuses it here.
   */
  challenge(
    caller: Pick<Caller, 'registrationId' | 'apiVersion'>,
    presented: PresentedTpm,
    damage?: TpmBlobDamage,
  ): { readonly blob: Uint8Array } | ServiceReply {
    const { world, enrollments } = this.#options;
    const individual = enrollments.individual(caller.registrationId);
    const keys = this.#refuseCaller(caller) ?? readTpmKeys(world, presented, individual);
    if ('status' in keys) return keys;
    const uri = `${this.idScope}/registrations/${caller.registrationId}`;
    return { blob: this.#challenges.issue(caller.registrationId, keys, uri, damage) };
  }

  /** Why the caller would be turned away, whatever it asked; `undefined` when it would not. */
  refusal(caller: Caller): ServiceReply | undefined {
    const verdict = this.#admit(caller);
    return 'status' in verdict ? verdict : undefined;
  }

  /** Starts an operation: 202 `assigning`, or 200 with the result where the script says so. */
  register(caller: Caller, body: Uint8Array, script: OperationScript = {}): ServiceReply {
    const verdict = this.#admit(caller);
    if ('status' in verdict) return verdict;
    const request = this.#readBody(caller, body);
    if ('status' in request) return request;
    if (this.#options.refuseConcurrent && this.#isRunning(caller.registrationId)) {
      return refuse(this.#options.world, 409203, 'Precondition failed.', 'another registration of this device runs');
    }
    if (request.payload !== undefined && verdict.entry !== undefined)
      this.#payloads.set(keyOf(caller.registrationId), request.payload);
    const operation = this.#start(caller, verdict, script);
    if (operation.pollsLeft === 0) this.#complete(operation);
    if (script.isImmediate) return this.#resultOf(operation, caller);
    return this.#assigning({ operationId: operation.id, status: 'assigning' });
  }

  /** 202 while the operation runs, 200 with the result afterwards; polls may come earlier than asked for. */
  operationStatus(caller: Caller, operationId: string): ServiceReply {
    const verdict = this.#admit(caller);
    if ('status' in verdict) return verdict;
    const operation = this.#operations.get(operationId);
    if (operation === undefined || keyOf(operation.registrationId) !== keyOf(caller.registrationId)) {
      return refuse(this.#options.world, 404201, 'Operation not found.', 'no such operation of this device');
    }
    if (operation.result === undefined && operation.pollsLeft === 0) this.#complete(operation);
    if (operation.result !== undefined) return this.#resultOf(operation, caller);
    operation.pollsLeft -= 1;
    return this.#assigning({
      operationId,
      status: 'assigning',
      registrationState: { registrationId: operation.registrationId, status: 'assigning' },
    });
  }

  /** What is known of the device now, without an operation around it. */
  lookup(caller: Caller, body: Uint8Array): ServiceReply {
    const verdict = this.#admit(caller);
    if ('status' in verdict) return verdict;
    const request = this.#readBody(caller, body);
    if ('status' in request) return request;
    const record = this.#records.get(keyOf(caller.registrationId));
    if (record === undefined) {
      return refuse(this.#options.world, 404201, 'Registration not found.', 'this device has not registered yet');
    }
    const { authentication } = verdict;
    const authenticationKey = authentication.type === 'tpm' ? this.#wrapHubKey(record, authentication.keys) : undefined;
    return { status: 200, body: describeForDevice(record, caller.apiVersion, this.#hostNameOf, authenticationKey) };
  }

  registrations(): readonly DeviceRegistrationState[] {
    return [...this.#records.values()].map((record) => describeRecord(record, this.#hostNameOf));
  }

  registration(registrationId: string): DeviceRegistrationState | undefined {
    const record = this.#records.get(keyOf(registrationId));
    return record && describeRecord(record, this.#hostNameOf);
  }

  /** The `payload` that came with the device's last registration. */
  receivedPayload(registrationId: string): JsonValue | undefined {
    return this.#payloads.get(keyOf(registrationId));
  }

  /** Forgets the device; its hub identity stays. Whether there was a record. */
  removeRegistration(registrationId: string): boolean {
    const removed = this.#records.delete(keyOf(registrationId));
    if (removed) this.#options.onChange();
    return removed;
  }

  /** Forgets every device that came in through this entry. */
  removeRegistrationsOf(kind: EnrollmentEntry['kind'], id: string): void {
    for (const [key, record] of this.#records) {
      if (record.entryKey === entryKey({ kind, id })) this.#records.delete(key);
    }
    this.#options.onChange();
  }

  /** All records, to be stored. */
  snapshot(): readonly RegistrationRecord[] {
    return [...this.#records.values()];
  }

  restore(records: readonly RegistrationRecord[]): void {
    for (const record of records) this.#records.set(keyOf(record.registrationId), record);
  }

  readonly #hostNameOf = (hubName: string): string => this.#hubNamed(hubName)?.hostName ?? hubName;

  #hubNamed(name: string): LinkedHub | undefined {
    return this.#options.hubs.find((hub) => hub.name === name);
  }

  #refuseCaller(caller: Pick<Caller, 'registrationId' | 'apiVersion'>): ServiceReply | undefined {
    const { world } = this.#options;
    if (!/^\d{4}-\d{2}-\d{2}(-preview)?$/.test(caller.apiVersion)) {
      return refuse(world, 400004, 'Invalid api-version.', 'the api-version is not YYYY-MM-DD[-preview]');
    }
    const problem = registrationIdProblem(caller.registrationId);
    return problem === undefined ? undefined : refuse(world, 400004, 'Invalid RegistrationId', problem);
  }

  #admit(caller: Caller): Admission | ServiceReply {
    const { world, enrollments } = this.#options;
    const refusal = this.#refuseCaller(caller);
    if (refusal !== undefined) return refusal;
    const verdict = verifyCredential({
      idScope: this.idScope,
      registrationId: caller.registrationId,
      credential: caller.credential,
      atMs: world.wallMs(),
      individual: enrollments.individual(caller.registrationId),
      challenge: caller.takesChallenge === true ? this.#challenges.current(caller.registrationId) : undefined,
      groups: enrollments.groups(),
    });
    return 'authentication' in verdict ? verdict : refuse(world, 401002, verdict.message, verdict.reason);
  }

  #readBody(caller: Caller, body: Uint8Array): { readonly payload?: JsonValue } | ServiceReply {
    const { world } = this.#options;
    if (body.length > MAX_BODY_BYTES) return refuse(world, 400004, 'Message too large.', `${body.length} bytes`);
    if (body.length === 0) return {};
    const parsed = parseJson(body);
    if (!isJsonObject(parsed)) return refuse(world, 400004, 'Invalid request body.', 'the body is no JSON object');
    const { registrationId, payload, csr } = parsed;
    const isOther = typeof registrationId !== 'string' || keyOf(registrationId) !== keyOf(caller.registrationId);
    if (registrationId !== undefined && registrationId !== null && isOther) {
      return refuse(world, 400004, 'Invalid RegistrationId', 'the body names another device than the connection');
    }
    // No enrollment here can have a credential policy, without which the service issues nothing.
    if (csr !== undefined && csr !== null && caller.apiVersion >= '2025-07-01') {
      return refuse(world, 400004, 'Certificate issuance is not enabled.', 'a CSR came, the enrollment has no policy');
    }
    return payload === undefined || payload === null ? {} : { payload };
  }

  #isRunning(registrationId: string): boolean {
    const latest = this.#latest.get(keyOf(registrationId));
    return latest !== undefined && !latest.isCollected && this.#options.world.wallMs() - latest.startedMs < RUNNING_MS;
  }

  #start(caller: Caller, verdict: Admission, script: OperationScript): Operation {
    const { world } = this.#options;
    const operation: Operation = {
      id: makeOperationId(world),
      registrationId: verdict.entry?.kind === 'individual' ? verdict.entry.id : caller.registrationId,
      apiVersion: caller.apiVersion,
      entry: verdict.entry,
      authentication: verdict.authentication,
      script,
      startedMs: world.wallMs(),
      pollsLeft: script.isImmediate ? 0 : (script.delayPolls ?? 0),
      isCollected: false,
      result: undefined,
      authenticationKey: undefined,
    };
    this.#operations.set(operation.id, operation);
    this.#latest.set(keyOf(operation.registrationId), operation);
    const [oldest] = this.#operations.values();
    if (oldest !== undefined && this.#operations.size > MAX_OPERATIONS) this.#forgetOperation(oldest);
    return operation;
  }

  #forgetOperation(operation: Operation): void {
    const key = keyOf(operation.registrationId);
    this.#operations.delete(operation.id);
    if (this.#latest.get(key) === operation) this.#latest.delete(key);
  }

  #assigning(body: JsonObject): ServiceReply {
    return { status: 202, body, retryAfterSeconds: this.#options.retryAfterSeconds };
  }

  #resultOf(operation: Operation, caller: Caller): ServiceReply {
    const record = operation.result;
    if (record === undefined) throw new Error('An operation without result was asked for it.');
    operation.isCollected = true;
    const { authenticationKey } = operation;
    const registrationState = describeForDevice(record, caller.apiVersion, this.#hostNameOf, authenticationKey);
    return { status: 200, body: { operationId: operation.id, status: record.status, registrationState } };
  }

  #complete(operation: Operation): void {
    const { world, hubs, defaultPolicy } = this.#options;
    const { entry, authentication, script } = operation;
    const key = keyOf(operation.registrationId);
    const previous = this.#records.get(key);
    const common = {
      registrationId: operation.registrationId,
      createdMs: previous?.createdMs ?? world.wallMs(),
      lastUpdatedMs: world.wallMs(),
      etag: makeEtag(world),
    };
    if (entry === undefined) {
      const error = { code: 404201, message: 'Enrollment not found.' };
      // Nothing is remembered of it but the answer.
      operation.result = { ...common, status: 'failed', error, attestation: 'tpm', entryKey: '' };
      return;
    }
    const wasTpm = previous?.attestation === 'tpm';
    const choice = { hubs, defaultPolicy, wasTpm, makeKey: () => makeTpmHubKey(world) };
    const record: RegistrationRecord = {
      ...common,
      attestation: entry.attestation.type,
      ...(entry.kind === 'group' && { enrollmentGroupId: entry.id }),
      entryKey: entryKey(entry),
      ...decideOutcome({ ...operation, entry }, previous?.assignment, choice),
    };
    operation.result = record;
    if (authentication.type === 'tpm') {
      operation.authenticationKey = this.#wrapHubKey(record, authentication.keys, script.tpmBlob);
    }
    this.#records.set(key, record);
    this.#options.onChange();
  }

  /** Base64 of the blob with the key that the device's hub knows it by; `undefined` where there is no such key. */
  #wrapHubKey({ status, assignment }: RegistrationRecord, keys: TpmKeys, damage?: TpmBlobDamage): string | undefined {
    if (status !== 'assigned' || assignment === undefined) return undefined;
    const hub = this.#hubNamed(assignment.hubName);
    const authentication = hub?.authenticationOf(assignment.deviceId);
    if (hub === undefined || authentication?.type !== 'sas') return undefined;
    const { world } = this.#options;
    const blob = makeActivationBlob({
      ...keys,
      hmacKey: decodeBase64(authentication.primaryKey) ?? new Uint8Array(),
      uri: `${hub.hostName}/devices/${assignment.deviceId}`,
      randomBytes: (size) => world.randomBytes(size),
      damage,
    });
    return encodeBase64(blob);
  }
}

function keyOf(registrationId: string): string {
  return registrationId.toLowerCase();
}

function entryKey(entry: Pick<EnrollmentEntry, 'kind' | 'id'>): string {
  return `${entry.kind}:${entry.id.toLowerCase()}`;
}
