import { chooseSealing } from './key-store-sealing.js';
import { type KeysWork, makeKeyFileIfMissing, openStore } from './keys-work.js';

/** `keys seal`. */
export const sealKeys: KeysWork = async (context) => {
  const sealing = await chooseSealing(context, 'new-');
  const store = await openStore(context);
  await makeKeyFileIfMissing(sealing, context);
  await store.seal(sealing, context.signal);
  return { keyStore: store.directory, sealedWith: sealing.passphrase === undefined ? 'key' : 'passphrase' };
};
