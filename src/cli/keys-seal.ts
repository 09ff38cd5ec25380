import { chooseSealing } from './key-store-sealing.js';
import { makeKeyFileIfMissing, refuseKeyFileInStore } from './keys-key-file.js';
import { type KeysWork, openStore } from './keys-work.js';

/** `keys seal`. */
export const sealKeys: KeysWork = async (context) => {
  const sealing = await chooseSealing(context, 'new-');
  const store = await openStore(context);
  await refuseKeyFileInStore(sealing, store.directory, context, 'new-key-store-key-file');
  await makeKeyFileIfMissing(sealing, context);
  await store.seal(sealing, context.signal);
  return { keyStore: store.directory, sealedWith: sealing.passphrase === undefined ? 'key' : 'passphrase' };
};
