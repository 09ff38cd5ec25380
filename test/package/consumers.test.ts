import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { nodeResolve } from '@rollup/plugin-node-resolve';
import { type BuildOptions, build } from 'esbuild';
import { type OutputOptions, rollup } from 'rollup';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Ended,
  installPackage,
  makeFolder,
  packPackage,
  placeConsumers,
  removeFolder,
  run,
} from '../../tools/trial-ground.mjs';
import { startTrialService, type TrialService } from '../../tools/trial-service.mjs';
import { readMetafile } from './built-package.js';
import { ChunkGraph } from './chunk-graph.js';

const folder = makeFolder();
const consumer = join(folder, 'consumer');
let service: TrialService;

beforeAll(async () => {
  installPackage(consumer, packPackage(folder).path);
  placeConsumers(consumer);
  service = await startTrialService();
  service.describeIn(consumer);
});
afterAll(async () => {
  await service?.close();
  removeFolder(folder);
});

const runNode = (cwd: string, ...args: string[]): Promise<Ended> => run(process.execPath, args, { cwd });

/** Holds what a consumer program printed against what every consumer must see. */
function expectTrials({ status, stdout, stderr }: Ended): void {
  expect(stderr).toBe('');
  expect(status).toBe(0);
  const trials = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { trial: string });
  expect(Object.fromEntries(trials.map(({ trial, ...outcome }) => [trial, outcome]))).toEqual({
    runtime: { result: `Node ${process.versions.node}` },
    mqttX509: { result: { deviceId: 'valve-7', desired: { position: 'closed', greeting: 'Grüße aus dem Werk' } } },
    httpsSymmetricKey: {
      result: { deviceId: 'sensor-1', desired: { telemetryIntervalSeconds: 60, thresholds: { high: 80, low: 10 } } },
    },
    amqpX509: { result: { deviceId: 'valve-7', desired: expect.anything() } },
    webSockets: { result: { mqtt: 'sensor-1', amqp: 'sensor-1' } },
    encryptedKey: { result: { deviceId: 'valve-7', desired: expect.anything() } },
    hubSession: { result: { deviceId: 'sensor-1', reportedVersion: expect.any(Number), endedBy: 'close' } },
    secrets: { result: { leaks: '' } },
    failures: {
      result: {
        untrustedMqtt: 'ERR_DPS_TLS_UNTRUSTED',
        untrustedHttps: 'ERR_DPS_TLS_UNTRUSTED',
        nobodyThere: 'network: ERR_DPS_CONNECT',
        wrongKey: 'ERR_DPS_SERVICE_UNAUTHORIZED',
        wrongPassphrase: 'ERR_DPS_HSM_PASSPHRASE',
        missingOption: 'ERR_DPS_CONFIG_MISSING_OPTION',
        cancelled: 'ERR_DPS_CANCELLED',
      },
    },
    refusedCertificate: { result: { obstacle: 'ERR_DPS_TLS_CLIENT_REFUSED' } },
  });
}

describe('a consumer', () => {
  it('provisions from ESM', async () => {
    expectTrials(await runNode(consumer, 'app.mjs', 'service.json'));
  });

  it('provisions from CommonJS', async () => {
    expectTrials(await runNode(consumer, 'app.cjs', 'service.json'));
  });

  it('loads the MQTT engine when it is assigned to a hub, not before', async () => {
    const { status, stdout, stderr } = await runNode(consumer, 'loading.mjs', 'service.json');
    expect(status, stderr).toBe(0);
    const [before = '', after = ''] = stdout.split('event assigned\n');
    const graph = new ChunkGraph(readMetafile('meta.json'));
    const modulesIn = (text: string): string[] =>
      graph.modulesIn([...text.matchAll(/^load (.*)$/gm)].map(([, file = '']) => file));
    expect(modulesIn(before)).toContain('src/transports/https.ts');
    expect(
      modulesIn(before).filter((module) => /node_modules|src\/net\/mqtt-|src\/hub\/session\./.test(module)),
    ).toEqual([]);
    expect(modulesIn(after)).toContain('node_modules/mqtt/build/lib/client.js');
  });

  it('runs the emulator beside the device', async () => {
    expect(await runNode(consumer, 'offline.mjs')).toMatchObject({ status: 0, stdout: 'sensor-1\n', stderr: '' });
  });

  it('runs the emulator from CommonJS, and tells our errors', async () => {
    expect(await runNode(consumer, 'offline.cjs')).toMatchObject({
      status: 0,
      stdout: 'true ERR_DPS_SERVICE_UNAUTHORIZED\n',
      stderr: '',
    });
  });
});

/** A folder with nothing but what a bundler wrote, and the description of the service. */
function makeBare(name: string): string {
  const bare = join(folder, name);
  mkdirSync(bare);
  service.describeIn(bare);
  return bare;
}

describe('a consumer that bundles the package again', () => {
  const esbuilds: [string, string, BuildOptions][] = [
    ['one ESM file', 'app.mjs', { format: 'esm', outfile: 'bundle.mjs' }],
    ['one minified ESM file', 'app.mjs', { format: 'esm', outfile: 'bundle.mjs', minify: true }],
    ['one CommonJS file', 'app.mjs', { format: 'cjs', outfile: 'bundle.cjs' }],
    ['one CommonJS file, from CommonJS', 'app.cjs', { format: 'cjs', outfile: 'bundle.cjs' }],
    ['ESM chunks', 'app.mjs', { format: 'esm', splitting: true, outdir: '.', outExtension: { '.js': '.mjs' } }],
  ];

  it.each(esbuilds)('provisions after esbuild made it %s', async (name, entry, options) => {
    const bare = makeBare(`esbuild ${name}`);
    const { warnings } = await build({
      absWorkingDir: bare,
      entryPoints: [join(consumer, entry)],
      bundle: true,
      platform: 'node',
      logLevel: 'silent',
      ...options,
    });
    expect(warnings.map(({ text }) => text)).toEqual([]);
    const program = readdirSync(bare).find((file) => /^(bundle|app)\.[cm]js$/.test(file)) ?? 'none';
    expectTrials(await runNode(bare, program, 'service.json'));
  });

  const rollups: [string, OutputOptions][] = [
    ['ESM chunks', { format: 'es', entryFileNames: 'bundle.mjs', chunkFileNames: '[name]-[hash].mjs' }],
    ['one CommonJS file', { format: 'cjs', entryFileNames: 'bundle.cjs', inlineDynamicImports: true }],
  ];

  it.each(rollups)('provisions after rollup made it %s', async (name, output) => {
    const bare = makeBare(`rollup ${name}`);
    const warnings: string[] = [];
    const bundle = await rollup({
      input: join(consumer, 'app.mjs'),
      plugins: [nodeResolve({ exportConditions: ['node'], preferBuiltins: true })],
      external: /^node:/,
      onwarn: ({ message }) => warnings.push(message),
    });
    await bundle.write({ dir: bare, ...output });
    await bundle.close();
    expect(warnings).toEqual([]);
    expectTrials(await runNode(bare, output.format === 'es' ? 'bundle.mjs' : 'bundle.cjs', 'service.json'));
  });
});
