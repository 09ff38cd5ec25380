import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { doors, manifest, ROOT, readDist, readMetafile } from './built-package.js';
import { ChunkGraph } from './chunk-graph.js';

const meta = readMetafile('meta.json');
const graph = new ChunkGraph(meta);

const isOurs = (module: string): boolean => /^(src|hsm)\//.test(module);
const MQTT_ENGINE = /^(node_modules\/(mqtt|mqtt-packet|bl)\/|src\/net\/mqtt-)/;
const EMULATOR = /^(src\/emulator\/|node_modules\/@peculiar\/)/;
/** All but what says that AMQP can go over WebSocket, which is a few words. */
const AMQP = /(^|\/)(rhea|amqp(?!-websocket\.ts))[^/]*/;
const AMQP_ENGINE = 'dist/chunks/amqp-engine.js';

const deviceDoors = doors.filter(({ name }) => name === '.' || name === './core' || name.startsWith('./hsm/'));
const deviceFiles = graph.reach(
  deviceDoors.map(({ esm }) => esm),
  'lazily',
);

const FRONT_DOOR = 'dist/src/index.js';

const PARTS = { mqtt: 'src/mqtt-parts.ts', amqp: 'src/transports/amqp.ts', https: 'src/transports/https.ts' } as const;

/** All that a device loads to register, and then to reach its hub. */
function pathOf(transport: 'mqtt' | 'amqp' | 'https'): { dps: string[]; hub: string[] } {
  const mqtt = graph.fileOf(PARTS.mqtt, FRONT_DOOR);
  const dps = [FRONT_DOOR, graph.fileOf(PARTS[transport], FRONT_DOOR)];
  return { dps: [...graph.reach(dps, 'at once')], hub: [...graph.reach([...dps, mqtt], 'at once')] };
}

describe('the metafile', () => {
  it('describes the files that are there', () => {
    const described = Object.entries(meta.outputs).map(([file, { bytes }]) => [file, bytes]);
    expect(described.length).toBeGreaterThan(20);
    expect(described).toEqual(described.map(([file]) => [file, statSync(join(ROOT, String(file))).size]));
    const chunks = readdirSync(join(ROOT, 'dist/chunks')).map((name) => `dist/chunks/${name}`);
    expect(chunks.filter((file) => meta.outputs[file] === undefined)).toEqual([]);
  });

  it('knows every door', () => {
    expect(doors.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['.', './core', './emulator', './hsm/symmetric-key', './hsm/x509-file']),
    );
    for (const { esm } of doors) expect(meta.outputs[esm]?.entryPoint).toBe(esm.slice(5).replace(/\.js$/, '.ts'));
  });
});

describe('budgets', () => {
  const kB = (bytes: number): number => Math.round(bytes / 100) / 10;

  it('device doors together stay under 1 MB', () => {
    const modules = graph.modulesIn(deviceFiles);
    const bytes = graph.bytesOf(deviceFiles);
    console.log(
      `device doors: ${kB(bytes)} kB in ${deviceFiles.size} files, ${modules.length} modules (budget 1000 kB)`,
    );
    expect(modules.filter(isOurs).length).toBeGreaterThan(50);
    expect(bytes).toBeLessThan(1_000_000);
  });

  it.each(['mqtt', 'https', 'amqp'] as const)('%s with X.509 stays under 450 kB, hub included', (transport) => {
    const { hub } = pathOf(transport);
    const bytes = graph.bytesOf(hub);
    console.log(`${transport} + X.509: ${kB(bytes)} kB in ${hub.length} files (budget 450 kB)`);
    expect(graph.modulesIn(hub)).toContain('node_modules/mqtt/build/lib/client.js');
    expect(bytes).toBeLessThan(450_000);
  });
});

describe('the import graph', () => {
  it('loads AMQP when it is asked for, and not before', () => {
    const modulesOf = (files: string[]): string[] => graph.modulesIn(files).filter((module) => AMQP.test(module));
    expect(modulesOf(pathOf('mqtt').hub)).toEqual([]);
    expect(modulesOf(pathOf('https').hub)).toEqual([]);
    expect(modulesOf(pathOf('amqp').dps).length).toBeGreaterThan(15);
    expect(graph.modulesIn(pathOf('amqp').dps).filter((module) => MQTT_ENGINE.test(module))).toEqual([]);
  });

  it('has each engine once, for the device and the emulator', () => {
    const engines = /^node_modules\/(rhea|ws|mqtt)\//;
    const holders = Object.entries(meta.outputs).filter(([, { inputs }]) =>
      Object.keys(inputs).some((module) => engines.test(module)),
    );
    expect(holders.map(([file]) => file).sort()).toEqual([
      AMQP_ENGINE,
      graph.fileOf(PARTS.mqtt, FRONT_DOOR),
      'dist/chunks/websocket-engine.js',
    ]);
    expect(graph.reach(['dist/src/emulator/index.js'], 'at once')).toContain(AMQP_ENGINE);
  });

  it('brings no WebSocket to those who do without', () => {
    for (const transport of ['mqtt', 'amqp', 'https'] as const) {
      const modules = graph.modulesIn(pathOf(transport).hub);
      expect(modules.filter((module) => /^node_modules\/ws\//.test(module))).toEqual([]);
    }
    expect(graph.modulesIn(deviceFiles)).toContain('node_modules/ws/lib/websocket.js');
  });

  it('registers over HTTPS without an MQTT engine, which comes with the hub', () => {
    const { dps, hub } = pathOf('https');
    const modules = graph.modulesIn(dps);
    expect(modules.filter(isOurs).length).toBeGreaterThan(25);
    expect(modules).toContain('src/transports/https.ts');
    expect(modules.filter((module) => MQTT_ENGINE.test(module))).toEqual([]);
    expect(graph.modulesIn(hub).filter((module) => MQTT_ENGINE.test(module)).length).toBeGreaterThan(10);
  });

  it('loads no transport and no engine with the front door', () => {
    const modules = graph.modulesIn(graph.reach([FRONT_DOOR], 'at once'));
    expect(modules.length).toBeGreaterThan(15);
    expect(modules.filter((module) => /^(node_modules|src\/transports)\//.test(module))).toEqual([]);
  });

  it('takes a device to its hub in a handful of files: each costs time at every start', () => {
    const { hub } = pathOf('mqtt');
    expect(hub.length).toBeLessThanOrEqual(6);
  });

  it('has the TPM in a handful of files, too', () => {
    expect(graph.reach(['dist/hsm/tpm2.js'], 'at once').size).toBeLessThanOrEqual(5);
  });

  it('never leads from a device door to the emulator or the command line', () => {
    const modules = graph.modulesIn(deviceFiles);
    expect(modules.length).toBeGreaterThan(70);
    const strangers = modules.filter((module) => EMULATOR.test(module) || /^src\/(cli|azure)\//.test(module));
    expect(strangers).toEqual([]);
  });

  it('keeps the core free of everything else', () => {
    const files = graph.reach(['dist/src/core/index.js'], 'lazily');
    const modules = graph.modulesIn(files);
    expect(modules.length).toBeGreaterThan(10);
    expect(modules.filter((module) => !/^src\/(core\/|errors\.ts)/.test(module))).toEqual([]);
    expect(graph.externalsOf(files)).toEqual([]);
  });

  it('keeps the device out of the part of the command line that is the emulator', () => {
    const emulator = graph.modulesIn(graph.reach(['dist/src/cli/emulator.js'], 'lazily'));
    expect(emulator).toEqual(expect.arrayContaining(['src/emulator/service.ts']));
    const device = /^(src\/(provision|compose)\.ts|src\/(transports|hub|net|azure)\/|node_modules\/mqtt\/)/;
    expect(emulator.filter((module) => device.test(module))).toEqual([]);
  });

  it('keeps the emulator out of the device file', () => {
    const modules = Object.keys(readMetafile('meta-device-file.json').inputs);
    expect(modules).toEqual(expect.arrayContaining(['src/cli/provision.ts', 'src/hub/session.ts', 'hsm/x509-file.ts']));
    expect(modules.filter((module) => EMULATOR.test(module))).toEqual([]);
  });

  it('needs nothing but Node', () => {
    const externals = graph.externalsOf(Object.keys(meta.outputs));
    expect(externals).toEqual(expect.arrayContaining(['node:crypto', 'node:tls']));
    expect(externals.filter((name) => !name.startsWith('node:'))).toEqual([]);
    expect(manifest.dependencies).toBeUndefined();
  });
});

describe('device code', () => {
  it('uses nothing that Node 18.19 lacks', () => {
    // What Node 20 and later brought and the types of Node 20 let pass; the matrix runs what is left.
    const newer =
      /\b(AbortSignal\.any|Promise\.withResolvers|Array\.fromAsync|Object\.groupBy|import\.meta\.(dirname|filename)|styleText|loadEnvFile|getBuiltinModule|\.(toSorted|toReversed|toSpliced|isWellFormed|toWellFormed)\(|crypto\.hash|Symbol\.(asyncD|d)ispose)/;
    const texts = [...deviceFiles].map((file) => ({ file, text: readDist(file.slice('dist/'.length)) }));
    expect(texts.length).toBeGreaterThan(15);
    expect(texts.filter(({ text }) => newer.test(text)).map(({ file }) => file)).toEqual([]);
  });

  it('has no require(), so that it can be bundled again into anything', () => {
    const texts = [...deviceFiles].map((file) => readDist(file.slice('dist/'.length)));
    expect(texts.filter((text) => /\bcreateRequire\b|Dynamic require of/.test(text))).toEqual([]);
  });
});
