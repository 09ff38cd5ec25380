import type { SecretSource } from '../../hsm/hsm-options.js';
import { readPublicFile, readSecretFile } from '../../hsm/secret-file.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { attempt, type Finding, failed, ok } from './finding.js';

/** A secret as far as it could be read, with what was found on the way. */
export interface ReadSecret {
  readonly bytes: Uint8Array | undefined;
  readonly findings: readonly Finding[];
}

/** Reads a secret even if the mode of its file forbids to use it, so that what is in it can be checked, too. */
export async function readSecret(source: SecretSource, what: string, signal: CancelSignal): Promise<ReadSecret> {
  if (typeof source === 'string') return { bytes: Buffer.from(source), findings: [] };
  const { file } = source;
  const read = await attempt(() => readSecretFile(file, { what, signal }));
  if (read.error === undefined) {
    return { bytes: read.value, findings: [ok('permissions', `The ${what} file ${file} is its owner's alone.`)] };
  }
  const findings = [failed('permissions', read.error)];
  if (read.error.code !== 'ERR_DPS_HSM_FILE_MODE') return { bytes: undefined, findings };
  const despite = await attempt(() => readPublicFile(file, { what, signal }));
  return { bytes: despite.error === undefined ? despite.value : undefined, findings };
}
