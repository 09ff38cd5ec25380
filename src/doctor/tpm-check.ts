import type { TpmSight } from '../../hsm/tpm2/tpm-sight.js';
import type { Tpm2HsmOptions } from '../../hsm/tpm2.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { attempt, type Finding, failed, ok, skipped } from './finding.js';
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

/** Looks at the TPM itself, without a password, and without making anything in it. */
export async function checkTpm(options: Tpm2HsmOptions, signal: CancelSignal): Promise<Finding[]> {
  const { lookAtTpm } = await import('../../hsm/tpm2/tpm-sight.js');
  const seen = await attempt(() => lookAtTpm(options, signal));
  if (seen.error !== undefined) return [failed('tpm', seen.error)];
  const { place, manufacturer, registrationId } = seen.value;
  const maker = manufacturer === undefined ? '' : `, made by ${manufacturer}`;
  return [
    ok('tpm', `The TPM at ${place} answers${maker}. ${keysIn(seen.value, options.transientPrimaries === true)}`),
    registrationId === undefined
      ? skipped('registration-id', 'It follows from the EK of the TPM, which dps-device identity makes and shows.')
      : ok('registration-id', `The device registers as ${registrationId}.`),
  ];
}

function keysIn({ hasEndorsementKey, hasStorageRootKey }: TpmSight, isTransient: boolean): string {
  if (isTransient) return 'EK and SRK are made whenever they are needed.';
  const missing = [hasEndorsementKey ? [] : 'EK', hasStorageRootKey ? [] : 'SRK'].flat();
  return missing.length === 0 ? 'EK and SRK are in it.' : `${missing.join(' and ')} will be made in it at first use.`;
}
