import { getProperty, hmac, hmacStart, sequenceComplete, sequenceUpdate, type TpmEntity } from './commands.js';
import { password } from './sessions.js';
import { TpmFormatError } from './structures.js';
import type { TpmTurn } from './tpm.js';

/** TPM_PT_INPUT_BUFFER. The PC Client profile asks for 1024 at least, and nobody gives more. */
const INPUT_BUFFER_PROPERTY = 0x10d;
const SMALLEST_INPUT_BUFFER_BYTES = 1024;
const HMAC_SHA256_BYTES = 32;

/** HMAC-SHA256 of `data`, however long, by a key in the TPM. */
export async function signInTpm(turn: TpmTurn, key: TpmEntity, data: Uint8Array): Promise<Uint8Array> {
  const signature =
    data.length <= SMALLEST_INPUT_BUFFER_BYTES
      ? await turn.execute(hmac(key, data), password())
      : await signInSequence(turn, key, data);
  if (signature.length === HMAC_SHA256_BYTES) return signature;
  throw new TpmFormatError(`the TPM signed with ${signature.length} bytes, where an HMAC-SHA256 has 32`);
}

async function signInSequence(turn: TpmTurn, key: TpmEntity, data: Uint8Array): Promise<Uint8Array> {
  const asked = await turn.execute(getProperty(INPUT_BUFFER_PROPERTY));
  const blockBytes = Math.max(SMALLEST_INPUT_BUFFER_BYTES, Math.min(asked ?? 0, 2048));
  const sequence = await turn.execute(hmacStart(key), password());
  let offset = 0;
  for (; data.length - offset > blockBytes; offset += blockBytes) {
    await turn.execute(sequenceUpdate(sequence, data.subarray(offset, offset + blockBytes)), password());
  }
  const signature = await turn.execute(sequenceComplete(sequence, data.subarray(offset)), password());
  turn.forget(sequence);
  return signature;
}
