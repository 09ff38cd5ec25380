// The runtime matrix: the packed package, installed alone, run by each runtime against the emulator. Prints a table;
// `--json` prints the rows instead. Exit status 1 when a trial fails.
import { join } from 'node:path';
import { areInstalled, isMachineSupported, runtimes, UNSUPPORTED } from './runtimes.mjs';
import { installPackage, makeFolder, packPackage, placeConsumers, removeFolder, run } from './trial-ground.mjs';
import { startTrialService } from './trial-service.mjs';

/** Title, the trial it is taken from, and what must come out. */
const COLUMNS = [
  ['MQTT + X.509', 'esm.mqttX509', { deviceId: 'valve-7' }],
  ['HTTPS + symmetric key', 'esm.httpsSymmetricKey', { deviceId: 'sensor-1' }],
  ['AMQP', 'esm.amqpX509', { deviceId: 'valve-7' }],
  ['WebSocket', 'esm.webSockets', { mqtt: 'sensor-1', amqp: 'sensor-1' }],
  ['encrypted key file', 'esm.encryptedKey', { deviceId: 'valve-7' }],
  ['session at the hub', 'esm.hubSession', { deviceId: 'sensor-1', endedBy: 'close' }],
  [
    'failures told apart',
    'esm.failures',
    {
      untrustedMqtt: 'ERR_DPS_TLS_UNTRUSTED',
      untrustedHttps: 'ERR_DPS_TLS_UNTRUSTED',
      nobodyThere: 'network: ERR_DPS_CONNECT',
      wrongKey: 'ERR_DPS_SERVICE_UNAUTHORIZED',
      wrongPassphrase: 'ERR_DPS_HSM_PASSPHRASE',
      missingOption: 'ERR_DPS_CONFIG_MISSING_OPTION',
      cancelled: 'ERR_DPS_CANCELLED',
    },
  ],
  ['keys stay hidden', 'esm.secrets', { leaks: '' }],
  ['refusal by TLS 1.3', 'esm.refusedCertificate', { obstacle: 'ERR_DPS_TLS_CLIENT_REFUSED' }],
  ['require()', 'commonjs.mqttX509', { deviceId: 'valve-7' }],
  ['device file', 'deviceFile', { deviceId: 'valve-7' }],
];

const THIS_NODE = { name: 'Node', version: process.versions.node, program: process.execPath, flags: [], gaps: {} };

if (isMachineSupported && !areInstalled()) {
  console.error('matrix: the runtimes are missing or outdated; run npm run rig');
  process.exitCode = 1;
} else {
  if (!isMachineSupported) console.error(UNSUPPORTED);
  const rows = await fillRows(isMachineSupported ? runtimes : [THIS_NODE]);
  console.log(process.argv.includes('--json') ? JSON.stringify(rows) : table(rows));
  if (rows.some(({ cells }) => cells.some(({ failure }) => failure !== undefined))) process.exitCode = 1;
}

async function fillRows(candidates) {
  const folder = makeFolder();
  const service = await startTrialService();
  try {
    installPackage(folder, packPackage(folder).path);
    placeConsumers(folder);
    service.describeIn(folder);
    const rows = [];
    // One after the other: a hub lets a device connect once.
    for (const runtime of candidates) rows.push(await fillRow(runtime, folder));
    return rows;
  } finally {
    await service.close();
    removeFolder(folder);
  }
}

async function fillRow({ name, version, program, flags, gaps }, folder) {
  const env = { DENO_DIR: join(folder, '.deno') };
  const runScript = (script, ...args) => run(program, [...flags, script, ...args], { cwd: folder, env });
  const outcomes = {
    esm: readTrials(await runScript('app.mjs', 'service.json'), `${name} ${version}`),
    commonjs: readTrials(await runScript('app.cjs', 'service.json'), `${name} ${version}`),
    deviceFile: readDocument(
      await runScript('node_modules/dps-device/dist/dps-device.mjs', 'provision', '--config', 'device.json'),
    ),
  };
  const cells = COLUMNS.map(([title, path, expected]) => {
    const [kind, trial] = path.split('.');
    const { failure, results } = outcomes[kind];
    // A known gap need not show each time.
    if (gaps[title] !== undefined) return { title, gap: gaps[title] };
    return { title, failure: failure ?? differenceIn(trial === undefined ? results : results[trial], expected) };
  });
  return { runtime: `${name} ${version}`, cells };
}

/** What the consumer program found, by trial; or why it found nothing. */
function readTrials(ended, runtime) {
  // A program that does what it should and then does not end has not passed.
  if (ended.status !== 0) return { failure: describeEnd(ended) };
  const trials = ended.stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const results = Object.fromEntries(trials.map(({ trial, result, failure }) => [trial, failure ?? result]));
  return results.runtime === runtime ? { results } : { failure: `it was run by ${results.runtime}` };
}

/** The JSON document that the command line prints. */
function readDocument(ended) {
  return ended.status === 0 ? { results: JSON.parse(ended.stdout) } : { failure: describeEnd(ended) };
}

function describeEnd({ status, signal, stderr }) {
  const how = signal ? `killed by ${signal}` : `exit status ${status}`;
  const lines = stderr.trim().split('\n');
  return `${how}: ${lines.find((line) => /^\w*error\b/i.test(line)) ?? lines.at(-1)}`;
}

/** Undefined when all that is expected is there; else what is there instead. */
function differenceIn(found, expected) {
  if (typeof found !== 'object') return String(found);
  const differences = Object.entries(expected).filter(([name, value]) => found[name] !== value);
  if (differences.length === 0) return undefined;
  return differences.map(([name, value]) => `${name} is ${found[name]} instead of ${value}`).join(', ');
}

function table(rows) {
  const titles = ['runtime', ...COLUMNS.map(([title]) => title)];
  const word = ({ gap, failure }) => (failure !== undefined ? 'FAILS' : gap === undefined ? 'yes' : 'not always');
  const body = rows.map(({ runtime, cells }) => [runtime, ...cells.map(word)]);
  const widths = titles.map((_, column) => Math.max(...[titles, ...body].map((line) => line[column].length)));
  const print = (line) => `| ${line.map((text, column) => text.padEnd(widths[column])).join(' | ')} |`;
  const notes = rows.flatMap(({ runtime, cells }) =>
    cells
      .map(({ title, gap, failure }) => ({ title, text: failure ?? gap }))
      .filter(({ text }) => text !== undefined)
      .map(({ title, text }) => `${runtime}, ${title}: ${text}.`),
  );
  const rule = print(widths.map((width) => '-'.repeat(width)));
  return [print(titles), rule, ...body.map(print), ...(notes.length > 0 ? ['', ...notes] : [])].join('\n');
}
