import type { Tpm2HsmOptions } from '../../hsm/tpm2.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import type { Finding } from './finding.js';
import { readSecret } from './secret-check.js';

/** Checks the files with a TPM's passwords. Whether they are the right ones, only the TPM knows. */
export async function checkTpmPasswords(
  { ownerAuth, endorsementAuth }: Tpm2HsmOptions,
  signal: CancelSignal,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const source of [ownerAuth, endorsementAuth]) {
    if (source !== undefined) findings.push(...(await readSecret(source, 'TPM password', signal)).findings);
  }
  return findings;
}
