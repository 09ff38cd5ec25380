import { CancelledError, type DpsError, isDpsError } from '../errors.js';

/** What a check is about. */
export type CheckName =
  | 'configuration'
  | 'clock'
  | 'environment'
  | 'proxy'
  | 'identity'
  | 'permissions'
  | 'key-store'
  | 'tpm'
  | 'key'
  | 'certificate'
  | 'key-match'
  | 'chain'
  | 'expiry'
  | 'registration-id'
  | 'authorities'
  | 'dns'
  | 'port'
  | 'tls'
  | 'server-clock'
  | 'service';

/**
 * What a check found. `failed` keeps the device from being provisioned; a `warning` may, elsewhere or one day; `skipped`
 * was not checked: because of another finding, or because it would change something.
 */
export interface Finding {
  readonly check: CheckName;
  readonly verdict: 'ok' | 'warning' | 'failed' | 'skipped';
  readonly message: string;
  /** What to do about it. */
  readonly fix?: string;
  /** What `provision` would fail with, behind a `failed`. */
  readonly error?: Error;
}

export function ok(check: CheckName, message: string): Finding {
  return { check, verdict: 'ok', message };
}

export function warning(check: CheckName, message: string, fix: string): Finding {
  return { check, verdict: 'warning', message, fix };
}

export function skipped(check: CheckName, message: string): Finding {
  return { check, verdict: 'skipped', message };
}

/** Errors of this package say first what is wrong, and what to do after that. */
export function failed(check: CheckName, error: Error): Finding {
  const { problem, advice } = splitMessage(error.message);
  return { check, verdict: 'failed', message: problem, fix: advice || FIXES[check], error };
}

/** For what says only what is wrong. */
const FIXES: Readonly<Record<CheckName, string>> = {
  configuration: 'Correct the option, or the file that it names.',
  clock: 'Set the clock.',
  environment: 'Correct or unset the variable.',
  proxy: 'Unset the proxy.',
  identity: 'Give one identity, whole: a registration id with a key, or a certificate with its key.',
  permissions: 'Make the file readable for its owner alone.',
  'key-store': 'Check the folder of the key store, and what it is sealed with.',
  tpm: 'Check that the TPM is there, and that this user may use it.',
  key: 'Get the key again from where it came from, and give the file with it.',
  certificate: 'Get the certificate again from who issued it, and give its PEM file.',
  'key-match': 'Find the key that the certificate was requested with, or request a new certificate.',
  chain: 'Put the certificates in order, from the device to the root.',
  expiry: 'Renew the certificate.',
  'registration-id': 'Use the name that the device has in its enrollment.',
  authorities: 'Give a PEM file with the certificate of the authority that the server is trusted by.',
  dns: 'Check the spelling of the endpoint, and the name servers of the device.',
  port: 'Check that a firewall lets the port through.',
  tls: 'Check for a proxy in between, and the certificates of both sides.',
  'server-clock': 'Set the clock.',
  service: 'Look at its enrollment.',
};

/** As `failed`, of something that does not keep the device from being provisioned. */
export function doubtful(check: CheckName, error: Error): Finding {
  const { problem, advice } = splitMessage(error.message);
  return warning(check, problem, advice || FIXES[check]);
}

/** Its value, or what it failed with. */
export type Attempted<T> =
  | { readonly value: T; readonly error?: undefined }
  | { readonly value?: undefined; readonly error: DpsError };

/** Does one step of a check: its value, or what it failed with. Cancellation and bugs of ours are no findings. */
export async function attempt<T>(work: () => T | Promise<T>): Promise<Attempted<T>> {
  try {
    return { value: await work() };
  } catch (error) {
    if (isDpsError(error) && !(error instanceof CancelledError)) return { error };
    throw error;
  }
}

/** What `provision` would end with: of several faults, rather one that waiting does not mend. */
export function worstError(findings: readonly Finding[]): Error | undefined {
  const errors = findings.map(({ error }) => error).filter((error) => error !== undefined);
  return errors.find((error) => !(isDpsError(error) && error.retryable)) ?? errors[0];
}

function splitMessage(message: string): { readonly problem: string; readonly advice: string } {
  const end = message.search(/\. (?=[A-Z])|[.:] (?=[Gg]ive )/);
  if (end < 0) return { problem: message, advice: '' };
  const advice = message.slice(end + 2);
  return { problem: `${message.slice(0, end)}.`, advice: `${advice.charAt(0).toUpperCase()}${advice.slice(1)}` };
}
