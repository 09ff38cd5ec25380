import { nearestName } from '../nearest-name.js';
import { UsageError } from './cli-errors.js';
import type { Command, CommandContext } from './command.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
import { EndedWith } from './keys-end.js';
import {
  KEYS_DERIVE_SPEC,
  KEYS_IMPORT_SPEC,
  KEYS_LIST_SPEC,
  KEYS_MAKE_SPEC,
  KEYS_REMOVE_SPEC,
  KEYS_ROTATE_SPEC,
  KEYS_SEAL_SPEC,
} from './keys-specs.js';
import type { KeysWork } from './keys-work.js';
import { findOptionNames } from './option-names.js';
import type { CommandSpec } from './option-spec.js';
import { readOptions } from './options.js';
import { findSecrets, takeEnvironmentSecrets } from './secrets.js';

/** One of the commands of `keys`; its work is loaded when it is asked for. */
interface KeysDoor {
  readonly spec: CommandSpec;
  load(): Promise<KeysWork>;
}

const DOORS: Readonly<Record<string, KeysDoor>> = {
  make: { spec: KEYS_MAKE_SPEC, load: async () => (await import('./keys-make.js')).makeKey },
  import: { spec: KEYS_IMPORT_SPEC, load: async () => (await import('./keys-import.js')).importKey },
  list: { spec: KEYS_LIST_SPEC, load: async () => (await import('./keys-list.js')).listKeys },
  derive: { spec: KEYS_DERIVE_SPEC, load: async () => (await import('./keys-derive.js')).deriveKey },
  seal: { spec: KEYS_SEAL_SPEC, load: async () => (await import('./keys-seal.js')).sealKeys },
  rotate: { spec: KEYS_ROTATE_SPEC, load: async () => (await import('./keys-rotate.js')).rotateKey },
  remove: { spec: KEYS_REMOVE_SPEC, load: async () => (await import('./keys-remove.js')).removeKey },
};

const NAMES = Object.keys(DOORS);

const SPEC: CommandSpec = {
  command: 'keys',
  summary: 'makes, keeps and rolls the keys of devices in a sealed key store.',
  secrets: [],
  options: [],
  exitStatuses: [EXIT.ok, EXIT.usage],
  notes: `Commands:
${Object.entries(DOORS)
  .map(([name, { spec }]) => `  keys ${name.padEnd(8)} ${spec.summary.replace(/\.$/, '')}`)
  .join('\n')}

Each has a help of its own: dps-device keys make --help`,
};

/** `dps-device keys make | import | list | derive | seal | rotate | remove`. */
export function keysCommand(): Command {
  return {
    spec: SPEC,
    specFor: ([name = '']) => (Object.hasOwn(DOORS, name) ? DOORS[name]?.spec : undefined) ?? SPEC,
    run: ([name = '', ...args], context) => runKeys(findDoor(name), args, context),
  };
}

function findDoor(name: string): KeysDoor {
  const door = Object.hasOwn(DOORS, name) ? DOORS[name] : undefined;
  if (door !== undefined) return door;
  if (name === '' || name.startsWith('-')) {
    throw new UsageError(`Say what to do: dps-device keys <command>, which is one of ${NAMES.join(', ')}.`);
  }
  const nearest = nearestName(name, NAMES);
  const hint = nearest === undefined ? `Commands are ${NAMES.join(', ')}.` : `Did you mean keys ${nearest}?`;
  // What is no word may be a key.
  const shown = /^[a-z][a-z-]{0,19}$/i.test(name) ? `command keys ${name}` : 'such command of keys';
  throw new UsageError(`There is no ${shown}. ${hint}`);
}

async function runKeys({ spec, load }: KeysDoor, args: readonly string[], context: CommandContext): Promise<number> {
  const { io, log, interruption, failureContext } = context;
  const { signal } = interruption;
  const taken = takeEnvironmentSecrets(io.env, spec.secrets);
  const options = await readOptions(args, spec, io, signal);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const secrets = await findSecrets(spec.secrets, options, taken, io, signal);
  failureContext.optionNames = findOptionNames(spec, options, secrets);
  const work = await load();
  const ended = await work({ options, secrets, io, env: io.env, log, signal });
  const { result, exitStatus } = ended instanceof EndedWith ? ended : new EndedWith(ended, EXIT.ok);
  const text = typeof result === 'string' ? result : JSON.stringify(result, undefined, 2);
  await handOver(`${text}\n`, io, { signal });
  return exitStatus;
}
