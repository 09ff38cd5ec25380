import { entryName, type KeysWork, openStore } from './keys-work.js';

/** `keys remove`. */
export const removeKey: KeysWork = async (context) => {
  const name = entryName(context);
  const store = await openStore(context);
  await store.remove(name, context.signal);
  return { keyStore: store.directory, removed: name };
};
