import type { SecretSource } from '../../hsm/hsm-options.js';
import { type SymmetricKeyHsmOptions, symmetricKeyHsm } from '../../hsm/symmetric-key.js';
import type { CancelSignal } from '../core/cancel-signal.js';
import { attempt, type Finding, failed, ok, skipped } from './finding.js';
import { readSecret } from './secret-check.js';

const SECRETS = ['key', 'secondaryKey', 'groupKey', 'secondaryGroupKey'];

/** Checks files and form of symmetric keys. Whether they are the enrollment's, only the service knows. */
export async function checkSymmetricKey(options: SymmetricKeyHsmOptions, signal: CancelSignal): Promise<Finding[]> {
  const findings: Finding[] = [];
  const texts: Record<string, unknown> = { registrationId: options.registrationId };
  let isWhole = true;
  for (const name of SECRETS) {
    const source = (options as unknown as Readonly<Record<string, SecretSource | undefined>>)[name];
    if (source === undefined) continue;
    const what = name.toLowerCase().includes('group') ? 'group key' : 'device key';
    const secret = await readSecret(source, what, signal);
    findings.push(...secret.findings);
    texts[name] = secret.bytes && Buffer.from(secret.bytes).toString();
    isWhole &&= secret.bytes !== undefined;
  }
  if (!isWhole) return [...findings, skipped('key', 'The key could not be read.')];
  const hsm = await attempt(() => symmetricKeyHsm(texts as unknown as SymmetricKeyHsmOptions, signal));
  if (hsm.error?.code === 'ERR_DPS_HSM_REGISTRATION_ID') return [...findings, failed('registration-id', hsm.error)];
  if (hsm.error !== undefined) return [...findings, failed('key', hsm.error)];
  const form = `${hsm.value.slots ?? 1} symmetric ${hsm.value.slots === 2 ? 'keys' : 'key'}, of a form that the service takes.`;
  return [...findings, ok('key', form), ok('registration-id', `The device registers as ${options.registrationId}.`)];
}
