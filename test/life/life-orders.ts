import { isPlausibleWallMs } from '../../src/core/clock.js';
import type { JourneyConfig, JourneyEffect, JourneyInput } from '../../src/core/journey.js';
import { type DpsError, HsmError, StoreError } from '../../src/errors.js';
import type { FuzzRandom } from '../fuzz/fuzz-random.js';
import { type Asker, BIRTH_WALL_MS, type Cloud } from './cloud.js';
import { DiskModel, type Rot } from './disk-model.js';
import type { EventQueue } from './event-queue.js';
import { clockFailure, networkFailure, refusal, throttled, untrusted } from './failures.js';
import type { KeyStoreModel } from './key-store-model.js';
import type { LifeRules } from './life-rules.js';
import { keyOf } from './record-rules.js';
import type { TpmModel } from './tpm-model.js';

export type Ordered<Type extends JourneyEffect['type']> = Extract<JourneyEffect, { readonly type: Type }>;

export interface LifeSurroundings {
  readonly random: FuzzRandom;
  readonly cloud: Cloud;
  readonly queue: EventQueue<() => void>;
  readonly rules: LifeRules;
  /** Notes a line for the report of a failing life. */
  tell(line: string | (() => string)): void;
  nowMs(): number;
}

/** The process for which orders are performed. */
export interface OrderHost {
  /** Of this process. */
  readonly config: JourneyConfig;
  readonly wallErrorMs: number;
  readonly certificate: number;
  feed(input: JourneyInput): void;
  handOut(hub: string): void;
  closeHub(): void;
  finish(effect: Ordered<'FinishJourney'>): void;
}

interface Doing {
  readonly effect: JourneyEffect;
  isAbandoned: boolean;
}

/** Performs what the machine orders, with a disk, a TPM and a network: later, badly, or never. */
export class LifeOrders {
  readonly #around: LifeSurroundings;
  readonly #host: OrderHost;
  readonly #tpm: TpmModel;
  readonly #keyStore: KeyStoreModel | undefined;
  readonly #disk: DiskModel = new DiskModel();
  #doing: Doing | undefined;
  #asker: Asker | undefined;
  #slot = 0;

  constructor(
    around: LifeSurroundings,
    parts: { readonly host: OrderHost; readonly tpm: TpmModel; readonly keyStore: KeyStoreModel | undefined },
  ) {
    this.#around = around;
    this.#host = parts.host;
    this.#tpm = parts.tpm;
    this.#keyStore = parts.keyStore;
  }

  get #config(): JourneyConfig {
    return this.#host.config;
  }

  /** The process is gone; what it was doing is done in part. */
  cut(): void {
    const effect = this.#doing?.effect;
    this.#abandon(true);
    if (effect?.type === 'CommitIdentity' && this.#around.random.chance(0.5)) this.#commitKey(effect.slot);
    const during = { StageIdentity: 'stage', CommitIdentity: 'commit' } as const;
    const step =
      effect?.type === 'StageIdentity' || effect?.type === 'CommitIdentity' ? during[effect.type] : undefined;
    this.#tpm.cut(this.#around.random, step, effect?.type === 'StageIdentity' ? keyIn(effect.authenticationKey) : '');
  }

  damageDisk(what: Rot): void {
    this.#disk.rot(what);
    if (what !== 'spare') this.#around.rules.record.rotted();
  }

  perform(effect: JourneyEffect): void {
    switch (effect.type) {
      case 'LoadRecord':
        this.#local(effect, () => this.#load(effect));
        break;
      case 'SaveRecord':
        this.#local(effect, () => this.#save(effect));
        break;
      case 'PrepareCredential':
        this.#local(effect, () => this.#prepare(effect));
        break;
      case 'ActivateChallenge':
        this.#local(effect, () => this.#useTpm(effect, { type: 'ChallengeActivated', ticket: effect.ticket }));
        break;
      case 'StageIdentity':
        this.#local(effect, () => this.#useTpm(effect, { type: 'IdentityStaged', ticket: effect.ticket }));
        break;
      case 'CommitIdentity':
        this.#local(effect, () => this.#useTpm(effect, { type: 'IdentityCommitted', ticket: effect.ticket }));
        break;
      case 'DiscardIdentity':
        this.#tpm.discard();
        break;
      case 'OpenConnection':
        this.#remote(effect, () => this.#connect(effect));
        break;
      case 'SendRequest':
        this.#send(effect);
        break;
      case 'OpenHub':
        this.#remote(effect, () => this.#openHub(effect));
        break;
      case 'HandOutSession':
        this.#host.handOut(effect.arrival.result.assignedHub);
        break;
      case 'CloseConnection':
        this.#abandon();
        break;
      case 'CloseHub':
        this.#abandon();
        this.#host.closeHub();
        break;
      case 'FinishJourney':
        this.#host.finish(effect);
        break;
      default:
        return;
    }
  }

  /** Something on the device itself: quick, and answered, unless it hangs. */
  #local(effect: JourneyEffect, work: () => JourneyInput): void {
    const { random, cloud, rules } = this.#around;
    const doing = this.#begin(effect);
    const isStore = effect.type === 'LoadRecord' || effect.type === 'SaveRecord';
    const isTroubled = cloud.has(isStore ? 'store' : 'hsm', this.#around.nowMs());
    if (isTroubled && this.#config.purpose === 'keep' && random.chance(0.1)) {
      if (isStore) rules.record.storeHangs(this.#around.nowMs());
      else rules.failedItself();
      return;
    }
    this.#answer(doing, random.between(1, isTroubled ? 5_000 : 60), work);
  }

  #remote(effect: JourneyEffect, work: () => JourneyInput | undefined): void {
    const { random, cloud } = this.#around;
    const isSlow = cloud.has('slow', this.#around.nowMs());
    this.#answer(this.#begin(effect), isSlow ? random.between(1_000, 70_000) : random.between(20, 400), work);
  }

  /** A request is handled when it is sent; its answer has to find its way. */
  #send(effect: Ordered<'SendRequest'>): void {
    const { cloud } = this.#around;
    const nowMs = this.#around.nowMs();
    const asker = this.#asker;
    if (asker === undefined) throw new Error('a request without a credential');
    const reply = this.#isCutOff() ? undefined : cloud.answer(effect.request, asker, nowMs);
    this.#remote(effect, () => {
      const { ticket } = effect;
      if (reply === undefined || this.#isCutOff()) return this.#loss(ticket, 'dps');
      if (reply.kind === 'reply') this.#hear(effect, reply.status, reply.body);
      return { type: 'ReplyReceived', ticket, reply };
    });
  }

  #hear({ request }: Ordered<'SendRequest'>, status: number, body: Uint8Array): void {
    const { rules } = this.#around;
    const nowMs = this.#around.nowMs();
    const text = Buffer.from(body).toString();
    const hub = /"assignedHub":"([^"]+)"/.exec(text)?.[1];
    if (status === 200 && hub !== undefined) rules.told(hub, nowMs, request.kind === 'statusLookup');
    if (status === 200 && hub === undefined) rules.refusedByDps(nowMs);
    if (status === 401 && this.#slot === this.#config.slots - 1) rules.refusedByDps(nowMs);
  }

  #load({ ticket }: Ordered<'LoadRecord'>): JourneyInput {
    const loaded = this.#disk.load();
    this.#around.rules.loaded(loaded);
    return { type: 'RecordLoaded', ticket, loaded };
  }

  #save({ ticket, record }: Ordered<'SaveRecord'>): JourneyInput {
    const { cloud, rules } = this.#around;
    const nowMs = this.#around.nowMs();
    if (cloud.has('store', nowMs)) {
      rules.record.saveRefused();
      return { type: 'OperationFailed', ticket, error: full() };
    }
    this.#disk.save(record);
    rules.record.saved(record, nowMs);
    return { type: 'RecordSaved', ticket };
  }

  #prepare({ ticket, slot, token }: Ordered<'PrepareCredential'>): JourneyInput {
    const { attestation } = this.#config;
    const key = attestation === 'tpm' ? (this.#tpm.signingKey ?? '') : this.#keyIn(slot);
    this.#slot = slot;
    this.#asker = {
      key,
      isUnproven: attestation === 'tpm' && token === undefined,
      expiresAtWallMs: token === undefined ? Number.POSITIVE_INFINITY : token.expirySeconds * 1_000,
    };
    return { type: 'CredentialReady', ticket };
  }

  #keyIn(slot: number): string {
    const named = this.#config.keyIds?.[slot];
    if (named !== undefined) return named;
    return this.#config.attestation === 'x509' ? `certificate-${this.#host.certificate}#${slot}` : `key#${slot}`;
  }

  #useTpm(effect: Ordered<'ActivateChallenge' | 'StageIdentity' | 'CommitIdentity'>, done: JourneyInput): JourneyInput {
    const { cloud, random, rules } = this.#around;
    const { ticket } = effect;
    const isFailing = (cloud.failingTpmOrder ?? effect.type) === effect.type && random.chance(0.9);
    const isUnlucky = this.#keyStore !== undefined && random.chance(0.1);
    if ((isFailing && cloud.has('hsm', this.#around.nowMs())) || isUnlucky) {
      if (this.#keyStore === undefined) rules.failedItself();
      return { type: 'OperationFailed', ticket, error: busy() };
    }
    if (effect.type === 'ActivateChallenge') this.#tpm.activate();
    if (effect.type === 'StageIdentity') this.#tpm.stage(keyIn(effect.authenticationKey));
    if (effect.type === 'CommitIdentity') {
      this.#tpm.commit();
      this.#commitKey(effect.slot);
      rules.committed();
    }
    return done;
  }

  #commitKey(slot: number): void {
    const key = this.#config.keyIds?.[slot];
    if (key !== undefined) this.#keyStore?.commit(key);
  }

  #connect({ ticket }: Ordered<'OpenConnection'>): JourneyInput | undefined {
    const { cloud, random, rules } = this.#around;
    const nowMs = this.#around.nowMs();
    if (this.#isCutOff()) return this.#loss(ticket, 'dps');
    if (cloud.has('dps', nowMs) && random.chance(0.5))
      return { type: 'OperationFailed', ticket, error: networkFailure(random, 'dps') };
    const asker = this.#asker;
    const isRefused = this.#config.transport === 'mqtt' && asker !== undefined && !cloud.accepts(asker, nowMs);
    if (!isRefused) return { type: 'ConnectionOpened', ticket };
    if (this.#slot === this.#config.slots - 1) rules.refusedByDps(nowMs);
    return { type: 'OperationFailed', ticket, error: refusal('dps') };
  }

  #openHub({ ticket, assignedHub, slot }: Ordered<'OpenHub'>): JourneyInput | undefined {
    const { cloud, rules, random } = this.#around;
    const nowMs = this.#around.nowMs();
    const fails = (error: DpsError): JourneyInput => ({ type: 'OperationFailed', ticket, error });
    const wallMs = BIRTH_WALL_MS + nowMs + this.#host.wallErrorMs;
    const needsToken = this.#config.attestation !== 'x509';
    if (needsToken && !isPlausibleWallMs(wallMs)) return fails(clockFailure());
    const isTpm = this.#config.attestation === 'tpm';
    if (isTpm && cloud.has('hsm', nowMs) && random.chance(0.5)) return fails(busy());
    const key = isTpm ? this.#tpm.signingKey : this.#keyIn(slot);
    if (key === undefined) return fails(noIdentity());
    if (this.#isCutOff()) return this.#loss(ticket, assignedHub);
    if (!cloud.hubs.has(assignedHub)) return fails(networkFailure(random, assignedHub, 'ERR_DPS_DNS'));
    if (cloud.has('hubUntrusted', nowMs)) return fails(untrusted(assignedHub));
    if (cloud.has('hub', nowMs)) return this.#loss(ticket, assignedHub);
    const isExpired = needsToken && wallMs + 3_600_000 < BIRTH_WALL_MS + nowMs;
    if (isExpired || !cloud.admits(assignedHub, key, nowMs)) return fails(refusal(assignedHub));
    if (cloud.has('hubThrottle', nowMs) && random.chance(0.8)) return fails(throttled(random));
    const twin = cloud.twinOf(assignedHub);
    rules.accepted({ hub: assignedHub, key: keyOf(slot, this.#config.keyIds), twin }, slot);
    return { type: 'HubReached', ticket, twin };
  }

  /** No way through the network, or a packet lost on it. */
  #isCutOff(): boolean {
    const { cloud, random } = this.#around;
    const nowMs = this.#around.nowMs();
    return cloud.has('network', nowMs) || (cloud.has('loss', nowMs) && random.chance(0.3));
  }

  /** Said at once, or only by silence. */
  #loss(ticket: number, peer: string): JourneyInput | undefined {
    const { random } = this.#around;
    return random.chance(0.4) ? undefined : { type: 'OperationFailed', ticket, error: networkFailure(random, peer) };
  }

  #begin(effect: JourneyEffect): Doing {
    this.#abandon();
    const doing: Doing = { effect, isAbandoned: false };
    this.#doing = doing;
    return doing;
  }

  #answer(doing: Doing, afterMs: number, work: () => JourneyInput | undefined): void {
    const { queue } = this.#around;
    queue.push(this.#around.nowMs() + afterMs, () => {
      if (doing.isAbandoned) return;
      this.#doing = undefined;
      const input = work();
      if (input !== undefined) this.#host.feed(input);
    });
  }

  /** Of a save that is given up, one copy may be done, or both, or none. */
  #abandon(isPowerCut = false): void {
    const doing = this.#doing;
    if (doing === undefined) return;
    doing.isAbandoned = true;
    this.#doing = undefined;
    if (doing.effect.type === 'SaveRecord') {
      this.#disk.saveInPart(doing.effect.record, { random: this.#around.random, mayTear: isPowerCut });
    }
  }
}

function keyIn(authenticationKey: string): string {
  return Buffer.from(authenticationKey, 'base64').toString();
}

function full(): StoreError {
  return new StoreError({ code: 'ERR_DPS_STORE_FULL', message: 'full', operation: 'write', path: 'disk' });
}

function busy(): HsmError {
  return new HsmError({ code: 'ERR_DPS_HSM_TPM_BUSY', message: 'busy', operation: 'sign', retryable: true });
}

function noIdentity(): HsmError {
  return new HsmError({ code: 'ERR_DPS_HSM_TPM_NO_IDENTITY', message: 'cleared', operation: 'sign' });
}
