import { randomBytes } from 'node:crypto';
import { lstat, mkdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Emulator, EmulatorConfig, makeSelfSigned } from '../emulator/index.js';
import { ConfigurationError } from '../errors.js';
import { writeFileWhole } from './output-file.js';
import { explainFileError, type InputSource } from './text-file.js';

/** The emulator's configuration in a demo folder. */
export const DEMO_CONFIG = 'emulator.json';

const KEY_DEVICE = 'demo-symmetric-key';
const CERTIFICATE_DEVICE = 'demo-x509';
const OWNER_ONLY = 0o600;
const EVERYBODY = 0o644;

/** Made once, with the folder. The configuration comes last: where it is, everything is. */
const LASTING_FILES = ['symmetric-key.key', 'x509.pem', 'x509.key', DEMO_CONFIG] as const;

/** Ports and authority differ from start to start, so these are made anew. */
const DEVICE_CONFIGS = [
  'symmetric-key.json',
  'x509.json',
  'symmetric-key-amqp.json',
  'x509-amqp.json',
  'symmetric-key-https.json',
  'x509-https.json',
] as const;
const CA_FILE = 'ca.pem';

/**
 * Makes a folder with an emulator configuration and the credentials of the two devices that it enrolls, or finds one
 * that was made before.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_FILE` when the folder cannot be made, or files in it would be lost.
 */
export async function prepareDemo(folder: InputSource, makeCertificate: typeof makeSelfSigned): Promise<void> {
  await makeFolder(folder);
  const present = await listPresent(folder.path);
  if (present.includes(DEMO_CONFIG)) return checkLastingFiles(folder);
  if (present.length > 0) {
    throw folderError(
      folder,
      `has ${present.join(', ')} but no ${DEMO_CONFIG}. Give an empty folder: nothing is overwritten.`,
    );
  }
  const key = randomBytes(64).toString('base64');
  const certificate = await makeCertificate({ commonName: CERTIFICATE_DEVICE });
  const config = `${JSON.stringify(demoConfig(key), undefined, 2)}\n`;
  const contents = [`${key}\n`, certificate.certificatePem, certificate.privateKeyPem, config];
  for (const [index, name] of LASTING_FILES.entries()) {
    await write(folder, name, contents[index] ?? '', name === 'x509.pem' ? EVERYBODY : OWNER_ONLY);
  }
}

/**
 * Writes what the devices need to find the running emulator: its authority, and configurations for `provision`.
 *
 * @returns the paths of the configurations.
 */
export async function writeDeviceConfigs(folder: InputSource, emulator: Emulator): Promise<string[]> {
  const { idScope, caPem, endpoints } = emulator;
  await write(folder, CA_FILE, caPem, EVERYBODY);
  const keyDevice = { registrationId: KEY_DEVICE, symmetricKeyFile: 'symmetric-key.key' };
  const certificateDevice = { certFile: 'x509.pem', certKeyFile: 'x509.key' };
  for (const name of DEVICE_CONFIGS) {
    const transport = (['amqp', 'https'] as const).find((each) => name.endsWith(`-${each}.json`)) ?? 'mqtt';
    const device = name.startsWith('x509') ? certificateDevice : keyDevice;
    const config = { idScope, ...device, transport, endpoint: endpoints.dps[transport], caFile: CA_FILE };
    await write(folder, name, `${JSON.stringify(config, undefined, 2)}\n`, EVERYBODY);
  }
  return DEVICE_CONFIGS.map((name) => join(folder.path, name));
}

function demoConfig(key: string): EmulatorConfig {
  return {
    retryAfterSeconds: 1,
    enrollments: [
      {
        registrationId: KEY_DEVICE,
        attestation: { symmetricKey: { primaryKey: key } },
        initialTwin: { properties: { desired: { telemetryIntervalSeconds: 30 } } },
      },
      {
        registrationId: CERTIFICATE_DEVICE,
        attestation: { x509: { clientCertificates: { primary: { certificate: { file: 'x509.pem' } } } } },
        initialTwin: { properties: { desired: { telemetryIntervalSeconds: 60 } } },
      },
    ],
  };
}

async function makeFolder(folder: InputSource): Promise<void> {
  try {
    await makeFolders(folder.path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw folderError(folder, 'is not a folder. Give the path of a folder, or of none yet.', error);
    if (code === 'ENOENT') throw folderError(folder, 'cannot be made there. Give another path.', error);
    throw folderError(folder, explainFileError(error), error);
  }
}

/** Not mkdir's own `recursive`, which never returns where a folder exists but takes no other, as /proc. */
async function makeFolders(path: string): Promise<void> {
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (code !== 'ENOENT' || dirname(path) === path) throw error;
    await makeFolders(dirname(path));
    await mkdir(path, { mode: 0o700 });
  }
}

/** A pipe in the place of one would be waited for. */
async function checkLastingFiles(folder: InputSource): Promise<void> {
  for (const name of LASTING_FILES) {
    const path = join(folder.path, name);
    // One that is missing is told by whoever reads it.
    const isFile = await stat(path).then(
      (stats) => stats.isFile(),
      () => true,
    );
    if (isFile) continue;
    throw folderError({ ...folder, path }, 'is not a regular file. Remove it, or give another folder.');
  }
}

async function listPresent(path: string): Promise<string[]> {
  const present: string[] = [];
  for (const name of [...LASTING_FILES, CA_FILE, ...DEVICE_CONFIGS]) {
    const isThere = await lstat(join(path, name)).then(
      () => true,
      () => false,
    );
    if (isThere) present.push(name);
  }
  return present;
}

function write({ path, option }: InputSource, name: string, text: string, mode: number): Promise<void> {
  return writeFileWhole({ path: join(path, name), option }, text, mode);
}

function folderError({ path, option }: InputSource, problem: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_FILE',
    message: `${option}: ${path} ${problem}`,
    option,
    cause,
  });
}
