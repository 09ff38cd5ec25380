import { listSealedEntries } from '../../hsm/software-key-store.js';
import { UsageError } from './cli-errors.js';
import { EXIT } from './exit-codes.js';
import { chooseSealing } from './key-store-sealing.js';
import { EndedWith } from './keys-end.js';
import { type KeysContext, type KeysWork, openStore, storeDirectory } from './keys-work.js';
import { makePrintable } from './printable.js';

/** `keys list`. */
export const listKeys: KeysWork = async (context) => {
  const { log, signal } = context;
  const keyStore = storeDirectory(context);
  const verified = await hasSealing(context);
  const entries = verified
    ? await (await openStore(context)).list(signal)
    : await listSealedEntries({ directory: keyStore }, signal);
  for (const { name, problem, ...entry } of entries) {
    const line = problem ?? ('warning' in entry ? entry.warning : undefined);
    if (line === undefined) continue;
    const event = { type: 'log', line, entry: name };
    const text = `${name}: ${line}`;
    // What ends the command badly is told whatever is quiet.
    if (problem === undefined) log.entry(event, text);
    else log.failure(event, makePrintable(text));
  }
  const isWhole = entries.every(({ problem }) => problem === undefined);
  return new EndedWith({ keyStore, verified, entries }, isWhole ? EXIT.ok : EXIT.configuration);
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
