import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Ended, installPackage, makeFolder, packPackage, removeFolder, run } from '../../tools/trial-ground.mjs';
import { doors, ROOT } from './built-package.js';

const folder = makeFolder();

beforeAll(() => installPackage(folder, packPackage(folder).path));
afterAll(() => removeFolder(folder));

/** As strict as a consumer may be, down to checking our declarations themselves. */
const STRICT = {
  target: 'es2022',
  module: 'nodenext',
  strict: true,
  noEmit: true,
  skipLibCheck: false,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noImplicitOverride: true,
  noPropertyAccessFromIndexSignature: true,
  noUnusedLocals: true,
  verbatimModuleSyntax: true,
};

async function compile(file: string, source: string, options: object): Promise<Ended> {
  writeFileSync(join(folder, file), source);
  const project = join(folder, `${file}.json`);
  writeFileSync(project, JSON.stringify({ compilerOptions: { ...STRICT, ...options }, files: [file] }));
  return run(process.execPath, [join(ROOT, 'node_modules/typescript/bin/tsc'), '-p', project], { cwd: folder });
}

const CLEAN = { status: 0, stdout: '' };
const BROWSER_TYPES = { lib: ['es2022', 'dom'], types: [] };
const NODE_TYPES = { lib: ['es2022'], types: ['node'], typeRoots: [join(ROOT, 'node_modules/@types')] };

/** The others need the types of Node: key objects, streams. */
const NEEDS_NODE = ['./emulator', './azure', './hsm/software-key-store'];
const deviceDoors = doors.filter(({ name }) => !NEEDS_NODE.includes(name)).map(({ name }) => name);

const ESM = `
import { type Hsm, isDpsError, type ProgressEvent, provision, type ProvisionedDevice, type ProvisionOptions, type SymmetricKeyHsm } from 'dps-device';
import { symmetricKeyHsm } from 'dps-device/hsm/symmetric-key';
import { x509FileHsm } from 'dps-device/hsm/x509-file';

const ownHsm: SymmetricKeyHsm = {
  kind: 'symmetricKey',
  registrationId: async () => 'sensor-1',
  sign: async (data) => data,
};
const options: ProvisionOptions = { idScope: '0ne00111111', hsm: ownHsm, signal: new AbortController().signal };

export async function start(): Promise<ProvisionedDevice> {
  const journey = provision(options);
  for await (const event of journey.events) show(event);
  const device = await journey;
  const session = await device.openHub();
  const version: number = await session.report({ firmware: '1.2.0' });
  session.onMethod('reboot', () => ({ status: version }));
  return device;
}

function show(event: ProgressEvent): string {
  return event.type === 'connecting' ? event.peer : event.type;
}

export function codeOf(error: unknown): string | undefined {
  return isDpsError(error) ? error.code : undefined;
}

export const hsms: Promise<Hsm>[] = [
  symmetricKeyHsm({ registrationId: 'sensor-1', key: { file: 'sensor.key' } }),
  x509FileHsm({ certificate: 'device.pem', key: 'device.key' }),
];

// @ts-expect-error a device without an identity
export const wrong: ProvisionOptions = { idScope: '0ne00111111' };
`;

const COMMON_JS = `
import dpsDevice = require('dps-device');
import type { Provisioning, ProvisionOptions } from 'dps-device';

const options: ProvisionOptions = {
  idScope: '0ne00111111',
  hsm: { kind: 'x509', certificate: 'device.pem', key: 'device.key' },
};

function start(): Provisioning {
  return dpsDevice.provision(options);
}

function codeOf(error: unknown): dpsDevice.DpsErrorCode | undefined {
  return dpsDevice.isDpsError(error) ? error.code : undefined;
}

// @ts-expect-error a shim has no classes, only their types
const Wrong = dpsDevice.TransportError;

export = { start, codeOf, Wrong };
`;

const EMULATOR = `
import { type Emulator, type EmulatorConfig, startEmulator } from 'dps-device/emulator';

const config: EmulatorConfig = { enrollments: [{ registrationId: 'sensor-1', attestation: { symmetricKey: {} } }] };

export const start = (): Promise<Emulator> => startEmulator(config);
`;

const EMULATOR_FOR_COMMON_JS = `
import emulator = require('dps-device/emulator');

const authority: Promise<emulator.CertificateAuthority> = emulator.makeAuthority({ commonName: 'Test CA' });

export = { start: (): Promise<emulator.Emulator> => emulator.startEmulator(), authority };
`;

describe('a strict TypeScript consumer', () => {
  it('compiles as ESM, without the types of Node', async () => {
    expect(await compile('app.mts', ESM, BROWSER_TYPES)).toMatchObject(CLEAN);
  });

  it('compiles as ESM, with the types of Node', async () => {
    expect(await compile('app-node.mts', ESM, NODE_TYPES)).toMatchObject(CLEAN);
  });

  it('compiles as CommonJS', async () => {
    expect(await compile('app.cts', COMMON_JS, BROWSER_TYPES)).toMatchObject(CLEAN);
  });

  it('compiles with every device door, by the rules of bundlers', async () => {
    const imports = deviceDoors.map(
      (name, index) => `import * as door${index} from '${name.replace('.', 'dps-device')}';`,
    );
    const source = `${imports.join('\n')}\nexport const doors = [${imports.map((_, index) => `door${index}`)}];\n`;
    const options = { ...BROWSER_TYPES, module: 'esnext', moduleResolution: 'bundler' };
    expect(imports.length).toBeGreaterThanOrEqual(4);
    expect(await compile('doors.ts', source, options)).toMatchObject(CLEAN);
  });

  it('compiles with the emulator, which needs the types of Node', async () => {
    expect(await compile('emulator.mts', EMULATOR, NODE_TYPES)).toMatchObject(CLEAN);
    expect(await compile('emulator.cts', EMULATOR_FOR_COMMON_JS, NODE_TYPES)).toMatchObject(CLEAN);
  });

  it('is told of its mistakes', async () => {
    const { status, stdout } = await compile('wrong.mts', ESM.replace('// @ts-expect-error', '//'), BROWSER_TYPES);
    expect(status).not.toBe(0);
    expect(stdout).toMatch(/wrong\.mts.*TS2741.*hsm/);
  });
});
