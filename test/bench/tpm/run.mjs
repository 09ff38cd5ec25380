// The TPM layer beside Microsoft's azure-iot-security-tpm and tpm2-tools, on one swtpm: `node test/bench/tpm/run.mjs`, after
// `npm run rig && npm run build`. Prints Markdown; with --update FILE it goes between the marks in FILE as well.
import { fork, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';
import { cleanEnvironment } from '../measurement.mjs';
import { ToolsContestant } from './tpm2-tools.mjs';

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '7' },
    activations: { type: 'string', default: '20' },
    signatures: { type: 'string', default: '200' },
    json: { type: 'boolean', default: false },
    update: { type: 'string' },
  },
});
const ACTIVATIONS = Number(values.activations);
const SIGNATURES = Number(values.signatures);

const HERE = fileURLToPath(new URL('.', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'dps-device-tpm-bench-'));
const parts = await loadParts();
const swtpm = await parts.Swtpm.start({ tcp: true });
const bridge = spawn(process.execPath, [join(folder, 'bridge-process.mjs'), String(swtpm.port)], {
  stdio: ['pipe', 'pipe', 'inherit'],
});
try {
  const [text] = await once(bridge.stdout, 'data');
  const rows = await measureAll(Number(text.toString()));
  if (values.json) process.stdout.write(`${JSON.stringify(rows)}\n`);
  else await show(formatTable(rows));
} finally {
  bridge.kill('SIGKILL');
  await swtpm.stop();
  rmSync(folder, { recursive: true, force: true });
}

/** What the tests have in TypeScript. */
async function loadParts() {
  await build({
    entryPoints: ['service-parts.ts', 'bridge-process.ts'].map((name) => join(HERE, name)),
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
  });
  return import(pathToFileURL(join(folder, 'service-parts.mjs')).href);
}

/** A B C A B C …: whatever slows the machine slows all of them. */
async function measureAll(bridgePort) {
  const bridged = `mssim:host=127.0.0.1,port=${bridgePort}`;
  const raw = `swtpm:host=127.0.0.1,port=${swtpm.port}`;
  const contestants = [
    { name: 'dps-device, swtpm socket', run: () => runNode('dps-device.mjs', `tpm2:${raw}`) },
    { name: 'dps-device, parameters in clear', run: () => runNode('dps-device.mjs', `tpm2:${raw} clear`) },
    { name: 'dps-device, mssim', run: () => runNode('dps-device.mjs', `tpm2:${bridged}`) },
    { name: 'azure-iot-security-tpm, mssim', run: () => runNode('microsoft.mjs', String(bridgePort)) },
    { name: 'tpm2-tools, swtpm socket', run: () => runTools(raw) },
  ];
  const samples = new Map(contestants.map(({ name }) => [name, []]));
  for (let round = -1; round < Number(values.runs); round += 1) {
    process.stderr.write(round < 0 ? 'warm-up\n' : `run ${round + 1} of ${values.runs}\n`);
    for (const { name, run } of contestants) {
      const figures = await run();
      if (round >= 0) samples.get(name).push(figures);
    }
  }
  return [...samples].map(([name, runs]) => ({
    name,
    ...Object.fromEntries(
      ['loadMs', 'loadedMiB', 'usedMiB', 'addedMiB', 'challengeMs', 'hubKeyMs', 'signatureMs'].map((of) => [
        of,
        median(runs.map((run) => run[of])),
      ]),
    ),
  }));
}

/** A process that loads a client, activates and signs; the blobs come from here. */
async function runNode(program, address) {
  const child = fork(join(HERE, program), [address], { execArgv: ['--expose-gc'], env: cleanEnvironment() });
  try {
    const [keys] = await once(child, 'message');
    const hmacKeys = Array.from({ length: ACTIVATIONS }, () => randomBytes(32));
    const blobs = hmacKeys.map((key) => parts.blobFor(keys, key).toString('base64'));
    child.send({ blobs, signatures: SIGNATURES });
    const [{ signature, text, ...figures }] = await once(child, 'message');
    parts.requireSignature(signature, text, hmacKeys.at(-1));
    return {
      ...figures,
      challengeMs: median(figures.challengeMs),
      hubKeyMs: median(figures.hubKeyMs),
      signatureMs: median(figures.signatureMs),
    };
  } finally {
    child.kill('SIGKILL');
  }
}

async function runTools(tcti) {
  const tools = new ToolsContestant(tcti, mkdtempSync(join(folder, 'tools-')));
  const keys = await tools.keys();
  const key = randomBytes(32);
  const activationMs = [];
  for (let count = 0; count < Math.min(ACTIVATIONS, 3); count += 1) {
    activationMs.push(await timed(() => tools.activate(parts.fieldsOf(parts.blobFor(keys, key)))));
  }
  const text = randomBytes(100);
  let signature;
  const signatureMs = [];
  for (let count = 0; count < Math.min(SIGNATURES, 20); count += 1) {
    signatureMs.push(
      await timed(async () => {
        signature = await tools.sign(text);
      }),
    );
  }
  parts.requireSignature(signature, text.toString('base64'), key);
  const hubKeyMs = median(activationMs);
  return { challengeMs: hubKeyMs, hubKeyMs, signatureMs: median(signatureMs) };
}

async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

function median(numbers) {
  const sorted = numbers.filter((number) => number !== undefined).sort((a, b) => a - b);
  if (sorted.length === 0) return undefined;
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function formatTable(rows) {
  const show = (number, digits) => (number === undefined ? '–' : number.toFixed(digits));
  const [own] = rows;
  const ratio = (row, of) => (row === own ? '' : ` (×${(row[of] / own[of]).toFixed(1)})`);
  const lines = rows.map((row) =>
    [
      '',
      row.name,
      show(row.loadMs, 1),
      show(row.loadedMiB, 1),
      show(row.usedMiB, 1),
      show(row.addedMiB, 1),
      `${show(row.challengeMs, 1)}${ratio(row, 'challengeMs')}`,
      `${show(row.hubKeyMs, 1)}${ratio(row, 'hubKeyMs')}`,
      `${show(row.signatureMs, 2)}${ratio(row, 'signatureMs')}`,
      '',
    ]
      .join(' | ')
      .trim(),
  );
  return [
    `Node ${process.versions.node} on ${process.arch}, ${values.runs} processes each, medians.`,
    '',
    '| | load (ms) | RSS added by loading (MiB) | after one of each (MiB) | after all work (MiB) | challenge key (ms) | hub key (ms) | signature (ms) |',
    '| --- | --- | --- | --- | --- | --- | --- | --- |',
    ...lines,
  ].join('\n');
}

async function show(markdown) {
  process.stdout.write(`${markdown}\n`);
  if (values.update === undefined) return;
  const text = readFileSync(values.update, 'utf8');
  const marks = /(<!-- tpm-bench -->\n)[\s\S]*?(<!-- \/tpm-bench -->)/;
  if (!marks.test(text)) throw new Error(`${values.update} has no marks <!-- tpm-bench --> and <!-- /tpm-bench -->.`);
  writeFileSync(
    values.update,
    text.replace(marks, (_, before, after) => `${before}\n${markdown}\n\n${after}`),
  );
}
