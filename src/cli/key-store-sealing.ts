import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { SealingOptions } from '../../hsm/key-store/sealing-secret.js';
import { UsageError } from './cli-errors.js';
import type { CliIo } from './io.js';
import type { Options } from './options.js';
import type { GivenSecret, GivenSecrets } from './secrets.js';

const SYSTEMD_KEY = 'dps-key-store-key';

/** Where the secret that seals a store can come from. */
export interface SealingSources {
  readonly options: Options;
  readonly secrets: GivenSecrets;
  readonly env: CliIo['env'];
}

/** Of the store that is there; `prefix` is `new-` for what is to seal it from now on. */
export async function chooseSealing(
  { options, secrets, env }: SealingSources,
  prefix: '' | 'new-' = '',
): Promise<SealingOptions> {
  const keyOption = `${prefix}key-store-key-file`;
  const key = options.text(keyOption);
  const passphrase = secrets.get(`${prefix}key-store-passphrase`);
  const chosen =
    key === undefined || passphrase === undefined ? undefined : chooseLayer(options, keyOption, passphrase);
  if (key !== undefined && chosen !== 'passphrase') return { sealingKey: { file: key } };
  if (passphrase !== undefined) return { passphrase: passphrase.source };
  const credentialsDirectory = env.CREDENTIALS_DIRECTORY ?? '';
  if (prefix === '' && credentialsDirectory !== '' && (await isThere(join(credentialsDirectory, SYSTEMD_KEY)))) {
    return { sealingKey: { credential: SYSTEMD_KEY }, credentialsDirectory };
  }
  const name = `--${prefix}key-store-key-file`;
  throw options.missing(
    keyOption,
    `Nothing says how the key store is ${prefix === '' ? 'sealed' : 'to be sealed from now on'}: give ${name} or --${prefix}key-store-passphrase-file.`,
  );
}

/** A flag wins over what happens to be in the environment. */
function chooseLayer(options: Options, keyOption: string, passphrase: GivenSecret): 'key' | 'passphrase' {
  const isKeyFlag = options.layer(keyOption) === 'flag';
  const isPassphraseFlag = passphrase.label.startsWith('--');
  if (isKeyFlag !== isPassphraseFlag) return isKeyFlag ? 'key' : 'passphrase';
  throw new UsageError(
    `${options.label(keyOption)} and ${passphrase.label} are both given. One of them seals the key store: leave the other out.`,
  );
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
