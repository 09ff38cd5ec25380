import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readPublicFile } from '../../hsm/secret-file.js';
import { decodeUtf8 } from '../core/bytes.js';
import { ConfigurationError, HsmError } from '../errors.js';
import { isPathLike, isSecretPathLike } from '../path-like.js';
import type { CliIo } from './io.js';
import { credentialName, environmentName, type SecretSpec } from './option-spec.js';
import type { Options } from './options.js';
import { explainFileError, readTextInput } from './text-file.js';

/** A secret that was given: the file with it, for the HSM to read and to judge its mode, or its text. */
export interface GivenSecret {
  /** Where it came from, for messages; never the secret. */
  readonly label: string;
  /** The same with the file, where there is one. */
  readonly place: string;
  readonly source: string | { readonly file: string };
}

export type GivenSecrets = ReadonlyMap<string, GivenSecret>;

type Environment = Record<string, string | undefined>;

/** Takes the secrets out of the environment: no child process and no crash report shall find them there. */
export function takeEnvironmentSecrets(env: Environment, specs: readonly SecretSpec[]): ReadonlyMap<string, string> {
  const taken = new Map<string, string>();
  for (const { name } of specs) {
    const variable = environmentName(name);
    const value = env[variable];
    delete env[variable];
    if (value !== undefined && value !== '') taken.set(name, value);
  }
  return taken;
}

/**
 * Finds each secret in the first place that has it: file named by a flag, environment, file named in the environment,
 * systemd credential, file named in the configuration.
 *
 * @throws {HsmError} when a systemd credential is there but cannot be read.
 * @throws {ConfigurationError} when standard input was to hold a secret and cannot be read; when there is no secret, and
 *   the folder of systemd credentials is none.
 */
export async function findSecrets(
  specs: readonly SecretSpec[],
  options: Options,
  taken: ReadonlyMap<string, string>,
  io: CliIo,
  signal: AbortSignal,
): Promise<GivenSecrets> {
  const found = new Map<string, GivenSecret>();
  for (const { name } of specs) {
    const secret =
      (await fromFile(name, 'flag', options, io, signal)) ??
      fromEnvironment(name, taken) ??
      (await fromFile(name, 'environment', options, io, signal)) ??
      (await fromCredential(name, io.env, signal)) ??
      (await fromFile(name, 'config', options, io, signal));
    if (secret !== undefined) found.set(name, secret);
  }
  if (found.size === 0) await checkCredentialFolder(io.env);
  return found;
}

async function fromFile(
  name: string,
  layer: 'flag' | 'environment' | 'config',
  options: Options,
  io: CliIo,
  signal: AbortSignal,
): Promise<GivenSecret | undefined> {
  const input = options.input(`${name}-file`);
  if (input === undefined || options.layer(`${name}-file`) !== layer) return undefined;
  const place = isSecretPathLike(input.path) ? options.place(`${name}-file`) : input.option;
  if (input.path !== '-') return { label: input.option, place, source: { file: input.path } };
  return { label: place, place, source: dropLineEnd(await readTextInput(input, io, signal)) };
}

function fromEnvironment(name: string, taken: ReadonlyMap<string, string>): GivenSecret | undefined {
  const text = taken.get(name);
  const label = environmentName(name);
  return text === undefined ? undefined : { label, place: label, source: text };
}

/**
 * systemd guards its credentials by the folder they are in, and may let the service's user in by an access control list
 * that looks like a mode of 0440: so the text is read here, whatever the mode is.
 */
async function fromCredential(name: string, env: Environment, signal: AbortSignal): Promise<GivenSecret | undefined> {
  const directory = env.CREDENTIALS_DIRECTORY;
  if (directory === undefined || directory === '') return undefined;
  const credential = credentialName(name);
  const path = join(directory, credential);
  const label = `systemd credential ${credential}`;
  if (!(await isThere(path))) return undefined;
  const bytes = await readPublicFile(path, { what: label, signal });
  const text = decodeUtf8(bytes);
  bytes.fill(0);
  if (text !== undefined) return { label, place: label, source: dropLineEnd(text) };
  const message = `The ${label} is not UTF-8 text. Store the secret as text.`;
  throw new HsmError({ code: 'ERR_DPS_HSM_FILE_UNREADABLE', operation: 'load credential', message });
}

/** Who has given no secret in another way may have meant one in there. */
async function checkCredentialFolder({ CREDENTIALS_DIRECTORY: path }: Environment): Promise<void> {
  if (path === undefined || path === '') return;
  const problem = await stat(path).then(
    (stats) => (stats.isDirectory() ? undefined : 'is not a folder.'),
    (error: unknown) => explainFileError(error),
  );
  if (problem === undefined) return;
  const option = 'CREDENTIALS_DIRECTORY';
  const message = `${option}: ${isPathLike(path) ? path : 'the path given'} ${problem} systemd sets this variable for services with credentials; elsewhere, unset it or give the secret in another way.`;
  throw new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message, option });
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException;
    return code !== 'ENOENT' && code !== 'ENOTDIR';
  }
}

/** What editors and `echo` add; a space may be part of a passphrase. */
function dropLineEnd(text: string): string {
  return text.replace(/\r?\n$/, '');
}
