import { decodeBase64 } from '../core/bytes.js';
import type { EnrollmentEntry } from './enrollment.js';
import { isJsonObject, type JsonValue, parseJson } from './json.js';
import { refuse, type ServiceReply } from './service-reply.js';
import type { TpmKeys } from './tpm-activation.js';
import { parseStorageKey } from './tpm-storage-key.js';
import { tpmProblem } from './verify.js';
import type { World } from './world.js';

/** What a TPM says of itself: TPM2B_PUBLIC of its keys, as received. */
export interface PresentedTpm {
  readonly endorsementKey: Uint8Array;
  readonly storageRootKey: Uint8Array | undefined;
}

/** The `tpm` member of a request's body; `undefined` when there is none. What is no Base64 counts as no bytes. */
export function findPresentedTpm(body: Uint8Array): PresentedTpm | undefined {
  const request = parseJson(body);
  const tpm = isJsonObject(request) ? (request.tpm ?? undefined) : undefined;
  if (tpm === undefined) return undefined;
  const { endorsementKey, storageRootKey = null } = isJsonObject(tpm) ? tpm : {};
  return {
    endorsementKey: bytesOf(endorsementKey),
    storageRootKey: storageRootKey === null ? undefined : bytesOf(storageRootKey),
  };
}

/** The keys as keys, or a refusal when they are none, or not those of the individual enrollment. */
export function readTpmKeys(
  world: World,
  presented: PresentedTpm,
  individual: EnrollmentEntry | undefined,
): TpmKeys | ServiceReply {
  const endorsementKey = parseStorageKey(presented.endorsementKey);
  if ('problem' in endorsementKey) {
    const reason = `the endorsement key cannot be used: ${endorsementKey.problem}`;
    return refuse(world, 400004, 'Endorsement key is invalid, or does not match the Enrollment.', reason);
  }
  const mismatch = individual && tpmProblem(individual, endorsementKey);
  if (mismatch !== undefined) return refuse(world, 401002, 'Unauthorized', mismatch);
  const enrolled = individual?.attestation.type === 'tpm' ? individual.attestation.storageRootKey : undefined;
  // The device's own goes first: it changes when the owner clears the TPM.
  const given = presented.storageRootKey;
  const storageRootKey = given === undefined && enrolled ? enrolled : parseStorageKey(given ?? new Uint8Array());
  if (!('problem' in storageRootKey)) return { endorsementKey, storageRootKey };
  const reason = `the storage root key cannot be used: ${storageRootKey.problem}`;
  return refuse(world, 400004, 'Storage root key is invalid.', reason);
}

function bytesOf(value: JsonValue | undefined): Uint8Array {
  return (typeof value === 'string' ? decodeBase64(value) : undefined) ?? new Uint8Array();
}
