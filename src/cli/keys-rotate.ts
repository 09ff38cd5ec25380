import type { SoftwareKeyStore } from '../../hsm/software-key-store.js';
import { UsageError } from './cli-errors.js';
import { readGiven } from './keys-import.js';
import {
  findTargets,
  handOutMade,
  type MadeKind,
  makeMaterial,
  prepareMaterial,
  warnIfUnread,
} from './keys-material.js';
import { entryName, type KeysContext, type KeysWork, openStore } from './keys-work.js';

type Step = 'stage' | 'commit' | 'discard';

/** `keys rotate`. */
export const rotateKey: KeysWork = async (context) => {
  const { options, signal } = context;
  const name = entryName(context);
  const step = options.text('step') as Step | undefined;
  if (step === undefined) throw options.missing('step', '--step is missing: give stage, commit or discard.');
  const store = await openStore(context);
  const done = { keyStore: store.directory };
  switch (step) {
    case 'stage':
      return { ...done, ...(await stage(context, store, name)) };
    case 'commit':
      return { ...done, entry: await store.commit(name, signal) };
    case 'discard':
      return { ...done, entry: await store.discard(name, signal) };
  }
};

async function stage(context: KeysContext, store: SoftwareKeyStore, name: string): Promise<object> {
  const { options, signal } = context;
  const { kind, registrationId } = await store.describe(name, signal);
  const wanted = options.text('kind') as MadeKind | undefined;
  const given = await readGiven(context, registrationId, name);
  if (given !== undefined) {
    if (wanted !== undefined) throw new UsageError('--kind makes a key, but one is given. Leave one of them out.');
    const entry =
      'kind' in given
        ? await store.stage(name, given, signal)
        : await store.stageCertificates(name, given.certificates, given.place, signal);
    return { entry };
  }
  const madeKind = wanted ?? (kind === 'symmetricKey' ? 'symmetric-key' : undefined);
  if (madeKind === undefined) {
    throw options.missing(
      'kind',
      '--kind is missing: give csr or self-signed, or a key with --cert-key-file and --cert-file.',
    );
  }
  const recipe = await prepareMaterial(context, madeKind);
  const targets = await findTargets(context);
  const made = await makeMaterial(context, recipe, { commonName: registrationId ?? name, store });
  const entry = await store.stage(name, made.material, signal);
  warnIfUnread(made, targets, context, {
    remedy: 'dps-device keys rotate --step discard, then --step stage once more, with --write-key FILE',
  });
  return { entry, ...(await handOutMade(made, targets)) };
}
