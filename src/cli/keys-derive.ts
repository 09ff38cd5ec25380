import { UsageError } from './cli-errors.js';
import { base64Of, readSymmetricKey } from './keys-material.js';
import { entryName, findTarget, type KeysWork, openOrMakeStore } from './keys-work.js';

/** `keys derive`. */
export const deriveKey: KeysWork = async (context) => {
  const { options, secrets, signal } = context;
  const groupKey = secrets.get('group-key');
  const registrationId = options.text('registration-id');
  if (groupKey === undefined) {
    throw options.missing(
      'group-key',
      '--group-key-file is missing: give the file with the key of the enrollment group.',
    );
  }
  if (registrationId === undefined) {
    throw options.missing('registration-id', '--registration-id is missing: give the name of the device.');
  }
  const isPrinted = options.isOn('print-key');
  // A store that the environment names is there for other commands, too.
  const isStored = options.layer('key-store') === 'flag' || options.text('key-name') !== undefined;
  const target = await findTarget(context, 'write-key', 'secret');
  if (!isPrinted && !isStored && target === undefined) {
    throw new UsageError(
      'Nothing says where the key is to go: give --key-store with --key-name, --write-key FILE, or --print-key to have it on standard output.',
    );
  }
  const key = await readSymmetricKey({ registrationId, groupKey: groupKey.source }, signal);
  const name = isStored ? entryName(context) : undefined;
  const stored =
    name === undefined
      ? {}
      : await openOrMakeStore(context).then(async (store) => ({
          keyStore: store.directory,
          entry: await store.add(name, { kind: 'symmetricKey', registrationId, key }, signal),
        }));
  const written = target === undefined ? {} : { keyFile: (await target.write(`${base64Of(key)}\n`)).path };
  return isPrinted ? base64Of(key) : { registrationId, ...stored, ...written };
};
