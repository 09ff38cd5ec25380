import { equalBytes } from '../../src/core/bytes.js';
import type { HsmError } from '../../src/errors.js';
import {
  contextLoad,
  contextSave,
  createPrimary,
  evictControl,
  OWNER,
  readPublic,
  type TpmEntity,
} from './commands.js';
import { TPM_RC } from './response-codes.js';
import { password } from './sessions.js';
import {
  hex,
  nameOf,
  OBJECT_ATTRIBUTE,
  type RsaPublic,
  readTpmtPublic,
  TPM_ALG,
  TpmFormatError,
  type TpmtPublic,
} from './structures.js';
import { EK_POLICY, ekTemplate, type KeyTemplate, type KeyTemplateName, srkTemplate } from './templates.js';
import type { TpmTurn } from './tpm.js';
import { isRefusal, TpmCommandError, tpmError } from './tpm-error.js';

/** EK or SRK, ready for use in this turn. */
export interface PrimaryKey {
  readonly entity: TpmEntity;
  /** `TPMT_PUBLIC` */
  readonly publicArea: Uint8Array;
  readonly rsa: RsaPublic;
}

export interface PrimaryKeySettings {
  readonly template: KeyTemplateName;
  readonly handles: { readonly endorsementKey: number; readonly storageRootKey: number };
  /** Derive the keys when they are needed, and occupy no persistent handle. */
  readonly isTransient: boolean;
  readonly ownerAuth: Uint8Array;
  readonly endorsementAuth: Uint8Array;
}

interface Role {
  readonly name: 'EK' | 'SRK';
  readonly option: string;
  readonly handle: number;
  readonly template: KeyTemplate;
  readonly policy: Uint8Array;
}

/** The two keys that the service seals to: found where they are expected, or made there. */
export class PrimaryKeys {
  readonly #settings: PrimaryKeySettings;
  readonly #ek: Role;
  readonly #srk: Role;
  /** As the TPM saves them, encrypted, until it is reset: deriving a key again may take a chip half a minute. */
  readonly #contexts: Map<Role, { readonly context: Uint8Array; readonly publicArea: Uint8Array }> = new Map();

  constructor(settings: PrimaryKeySettings) {
    const { template, handles } = settings;
    this.#settings = settings;
    this.#ek = {
      name: 'EK',
      option: 'endorsementKey',
      handle: handles.endorsementKey,
      template: ekTemplate(template),
      policy: EK_POLICY,
    };
    this.#srk = {
      name: 'SRK',
      option: 'storageRootKey',
      handle: handles.storageRootKey,
      template: srkTemplate(template),
      policy: new Uint8Array(),
    };
  }

  endorsementKey(turn: TpmTurn): Promise<PrimaryKey> {
    return this.#settings.isTransient ? this.#derived(turn, this.#ek) : this.#persistent(turn, this.#ek);
  }

  storageRootKey(turn: TpmTurn): Promise<PrimaryKey> {
    return this.#settings.isTransient ? this.#derived(turn, this.#srk) : this.#persistent(turn, this.#srk);
  }

  /** Those that are in the TPM already; nothing is made. */
  async kept(turn: TpmTurn): Promise<Readonly<Record<'endorsementKey' | 'storageRootKey', PrimaryKey | undefined>>> {
    return { endorsementKey: await this.#kept(turn, this.#ek), storageRootKey: await this.#kept(turn, this.#srk) };
  }

  /** For this turn only, where it takes one of the few slots: `release` it as soon as it is not needed. */
  async release(turn: TpmTurn, key: PrimaryKey): Promise<void> {
    if (this.#settings.isTransient) await turn.flush(key.entity.handle);
  }

  async #persistent(turn: TpmTurn, role: Role): Promise<PrimaryKey> {
    return (await this.#kept(turn, role)) ?? checkedKey(await this.#make(turn, role), role.handle, role);
  }

  async #kept(turn: TpmTurn, role: Role): Promise<PrimaryKey | undefined> {
    const found = await readExisting(turn, role.handle);
    return found && checkedKey(found, role.handle, role);
  }

  /** Gives the public area of what is at the handle in the end, also when another process was faster. */
  async #make(turn: TpmTurn, role: Role): Promise<Uint8Array> {
    const { handle, publicArea } = await this.#create(turn, role);
    try {
      await turn.execute(evictControl({ handle }, role.handle), password(this.#settings.ownerAuth));
    } catch (error) {
      const existing = isRefusal(error, TPM_RC.NV_DEFINED) ? await readExisting(turn, role.handle) : undefined;
      if (existing === undefined) throw error;
      return existing;
    } finally {
      await turn.flush(handle);
    }
    return publicArea;
  }

  async #derived(turn: TpmTurn, role: Role): Promise<PrimaryKey> {
    const saved = this.#contexts.get(role);
    const handle = saved && (await unlessRefused(() => turn.execute(contextLoad(saved.context))));
    if (saved !== undefined && handle !== undefined) return checkedKey(saved.publicArea, handle, role);
    const made = await this.#create(turn, role);
    const context = await unlessRefused(() => turn.execute(contextSave(made.handle)));
    if (context !== undefined) this.#contexts.set(role, { context, publicArea: made.publicArea });
    return checkedKey(made.publicArea, made.handle, role);
  }

  #create(turn: TpmTurn, { template }: Role): Promise<{ handle: number; publicArea: Uint8Array }> {
    const { ownerAuth, endorsementAuth } = this.#settings;
    const auth = template.hierarchy === OWNER ? ownerAuth : endorsementAuth;
    return turn.execute(createPrimary(template.hierarchy, template.publicArea), password(auth));
  }
}

/**
 * The public area of what is at a persistent handle, or undefined when nothing is.
 *
 * @throws {TpmFormatError} when the TPM's name for it is not the one that follows from the public area.
 */
export async function readExisting(turn: TpmTurn, handle: number): Promise<Uint8Array | undefined> {
  try {
    const { publicArea, name } = await turn.execute(readPublic(handle));
    // What is named by another hash cannot be ours, and is looked at by its kind only.
    const isSha256 = name.length === 34 && name[1] === TPM_ALG.SHA256;
    if (isSha256 && !equalBytes(name, nameOf(publicArea))) {
      throw new TpmFormatError(`the public area at ${hex(handle)} and its name do not belong together`);
    }
    return publicArea;
  } catch (error) {
    // Only this says that the handle is free; anything else says nothing about it.
    if (isRefusal(error, TPM_RC.HANDLE)) return undefined;
    throw error;
  }
}

/** A context from before a reset of the TPM is worth nothing, and there may be TPMs that save none: then without. */
async function unlessRefused<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof TpmCommandError) return undefined;
    throw error;
  }
}

function checkedKey(publicArea: Uint8Array, handle: number, role: Role): PrimaryKey {
  const key = readTpmtPublic(publicArea, `the public area at ${hex(handle)}`);
  const problem = problemOf(key, role);
  if (key.type !== 'rsa' || problem !== undefined) throw conflict(role, publicArea, problem ?? describeKey(key));
  return { entity: { handle, name: nameOf(publicArea) }, publicArea, rsa: key };
}

function problemOf(key: TpmtPublic, { policy }: Role): string | undefined {
  if (key.type !== 'rsa' || key.keyBits !== 2048) return describeKey(key);
  if (key.nameAlg !== TPM_ALG.SHA256) return 'a key that is not named by SHA-256';
  const { restricted, decrypt, sign } = OBJECT_ATTRIBUTE;
  if ((key.attributes & (restricted | decrypt | sign)) !== (restricted | decrypt)) {
    return 'an RSA key that is no storage key (it must be restricted, decrypt, and not sign)';
  }
  const { symmetric } = key;
  if (symmetric?.algorithm !== TPM_ALG.AES || symmetric.keyBits !== 128 || symmetric.mode !== TPM_ALG.CFB) {
    return 'a storage key that protects with something else than AES-128-CFB';
  }
  return equalBytes(key.authPolicy, policy) ? undefined : 'a storage key with another policy';
}

/** What kind of key it is: `an ECC key`. */
export function describeKey(key: TpmtPublic): string {
  if (key.type === 'rsa') return `an RSA key of ${key.keyBits} bits`;
  if (key.type === 'keyedHash') return key.scheme === TPM_ALG.HMAC ? 'an HMAC key' : 'sealed data';
  if (key.algorithm === TPM_ALG.ECC) return 'an ECC key';
  return key.algorithm === TPM_ALG.SYMCIPHER ? 'a symmetric key' : `a key of the type ${hex(key.algorithm, 4)}`;
}

function conflict({ name, option, handle }: Role, publicArea: Uint8Array, found: string): HsmError {
  const whose = name === 'SRK' && found === 'an ECC key' ? ' (systemd 255 and later puts one there at boot)' : '';
  return tpmError(
    'ERR_DPS_HSM_TPM_HANDLE',
    `read the ${name}`,
    `The handle ${hex(handle)} of the ${name} holds ${found}${whose}, public area of ${publicArea.length} bytes; DPS takes an RSA 2048 storage key. It is left as it is. Give a free one for ${option} with option hsm.handles, or set option hsm.transientPrimaries.`,
  );
}
