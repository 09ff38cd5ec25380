import { equalBytes } from '../../src/core/bytes.js';
import type { ActivationBlob } from './activation-blob.js';
import {
  activateCredential,
  ENDORSEMENT,
  importKey,
  load,
  policySecret,
  startAuthSession,
  type TpmEntity,
} from './commands.js';
import type { PrimaryKey, PrimaryKeys } from './primary-keys.js';
import { EncryptingSession, makeSessionSalt, password, satisfiedPolicy } from './sessions.js';
import { TpmFormatError } from './structures.js';
import type { TpmTurn } from './tpm.js';

/** A key of the service as this TPM's SRK wraps it: worth nothing anywhere else, so it may be kept in memory. */
export interface WrappedKey {
  readonly privateArea: Uint8Array;
  readonly publicArea: Uint8Array;
  readonly name: Uint8Array;
}

export interface TakeInSettings {
  readonly keys: PrimaryKeys;
  readonly endorsementAuth: Uint8Array;
  /** Whether the inner key is hidden from who listens on the bus. */
  readonly encryptParameters: boolean;
  readonly random: (bytes: number) => Uint8Array;
}

const NONCE_BYTES = 16;

/** Opens the blob with EK and SRK, and wraps the key in it anew. Leaves nothing in the TPM. */
export async function takeIn(turn: TpmTurn, blob: ActivationBlob, settings: TakeInSettings): Promise<WrappedKey> {
  const { keys, encryptParameters } = settings;
  const ek = await keys.endorsementKey(turn);
  const srk = await keys.storageRootKey(turn);
  const policy = await satisfyEkPolicy(turn, settings);
  const encryption = encryptParameters ? await startEncryption(turn, srk, settings.random) : undefined;

  const innerKey = await turn.execute(
    activateCredential(srk.entity, ek.entity, blob.credential, blob.credentialSecret),
    password(),
    satisfiedPolicy(policy),
    ...(encryption === undefined ? [] : [encryption.forResponse()]),
  );
  turn.forget(policy);
  await keys.release(turn, ek);
  try {
    const { publicArea, duplicate, duplicateSeed: encryptedSeed, name } = blob;
    const privateArea = await turn.execute(
      importKey(srk.entity, { innerKey, publicArea, duplicate, encryptedSeed }),
      password(),
      ...(encryption === undefined ? [] : [encryption.forCommand()]),
    );
    if (encryption !== undefined) turn.forget(encryption.handle);
    await keys.release(turn, srk);
    return { privateArea, publicArea, name };
  } finally {
    innerKey.fill(0);
  }
}

/** Loads it for this turn. */
export async function loadKey(turn: TpmTurn, key: WrappedKey, keys: PrimaryKeys): Promise<TpmEntity> {
  const srk = await keys.storageRootKey(turn);
  const { handle, name } = await turn.execute(load(srk.entity, key.privateArea, key.publicArea), password());
  if (!equalBytes(name, key.name)) throw new TpmFormatError('the TPM loaded another key than it was given');
  await keys.release(turn, srk);
  return { handle, name };
}

async function satisfyEkPolicy(turn: TpmTurn, { random, endorsementAuth }: TakeInSettings): Promise<number> {
  const { handle } = await turn.execute(startAuthSession({ type: 'policy', nonceCaller: random(NONCE_BYTES) }));
  await turn.execute(policySecret(ENDORSEMENT, handle), password(endorsementAuth));
  return handle;
}

async function startEncryption(
  turn: TpmTurn,
  srk: PrimaryKey,
  random: (bytes: number) => Uint8Array,
): Promise<EncryptingSession> {
  const salt = makeSessionSalt(srk.rsa, random);
  const { nonceCaller, encryptedSalt } = salt;
  const start = await turn.execute(startAuthSession({ type: 'hmac', nonceCaller, tpmKey: srk.entity, encryptedSalt }));
  return new EncryptingSession(start, salt, random);
}
