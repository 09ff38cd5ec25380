import { registrationIdProblem } from '../core/identifiers.js';
import { UsageError } from './cli-errors.js';
import {
  findTargets,
  handOutMade,
  type MadeKind,
  makeMaterial,
  prepareMaterial,
  warnIfUnread,
} from './keys-material.js';
import { entryName, type KeysContext, type KeysWork, openOrMakeStore, openStore } from './keys-work.js';

/** `keys make`. */
export const makeKey: KeysWork = async (context) => {
  const { options, signal } = context;
  const name = entryName(context);
  const kind = options.text('kind') as MadeKind | undefined;
  if (kind === undefined) {
    throw options.missing('kind', '--kind is missing: give symmetric-key, csr, self-signed, ca or device.');
  }
  const recipe = await prepareMaterial(context, kind);
  const commonName = commonNameOf(context, kind, name);
  const targets = await findTargets(context);
  // In a store that is not there is no authority either.
  const store = await (recipe.issuer === undefined ? openOrMakeStore(context) : openStore(context));
  const made = await makeMaterial(context, recipe, { commonName, store });
  const entry = await store.add(name, made.material, signal);
  warnIfUnread(made, targets, context, {
    remedy: `dps-device keys remove --key-name ${name}, then dps-device keys make once more, with --write-key FILE`,
  });
  return { keyStore: store.directory, entry, ...(await handOutMade(made, targets)) };
};

function commonNameOf({ options }: KeysContext, kind: MadeKind, name: string): string {
  if (kind === 'ca') return options.text('common-name') ?? name;
  const id = options.text('registration-id');
  if (id !== undefined) return id;
  const problem = registrationIdProblem(name);
  if (problem === undefined) return name;
  throw new UsageError(`The name of the entry cannot be the registration id: give --registration-id. ${problem}`);
}
