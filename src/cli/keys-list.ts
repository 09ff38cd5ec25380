import { listSealedEntries } from '../../hsm/software-key-store.js';
import { UsageError } from './cli-errors.js';
import { chooseSealing } from './key-store-sealing.js';
import { type KeysContext, type KeysWork, openStore, storeDirectory } from './keys-work.js';

/** `keys list`. */
export const listKeys: KeysWork = async (context) => {
  const { log, signal } = context;
  const keyStore = storeDirectory(context);
  const verified = await hasSealing(context);
  const entries = verified
    ? await (await openStore(context)).list(signal)
    : await listSealedEntries({ directory: keyStore }, signal);
  for (const entry of entries) {
    const problem = entry.problem ?? entry.warning;
    if (problem !== undefined)
      log.entry({ type: 'log', line: problem, entry: entry.name }, `${entry.name}: ${problem}`);
  }
  return { keyStore, verified, entries };
};

async function hasSealing(context: KeysContext): Promise<boolean> {
  const { options, secrets } = context;
  if (options.text('key-store-key-file') !== undefined || secrets.has('key-store-passphrase')) return true;
  return chooseSealing(context).then(
    () => true,
    (error: unknown) => {
      if (error instanceof UsageError) return false;
      throw error;
    },
  );
}
