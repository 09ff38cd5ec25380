// Many registrations in one process: what stays behind of them? Prints one line of JSON.
// Run: npm run build && node --expose-gc test/soak/registrations.mjs [COUNT [WARM_UP]]
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { provision } from 'dps-device';

const COUNT = Number(process.argv[2] ?? 1_000);
/** The first ones load code, and let heap and allocator grow to their working size. */
const WARM_UP = Number(process.argv[3] ?? 300);
/** Devices under way at a time. */
const LANES = 8;

const emulator = spawn(process.execPath, [fileURLToPath(new URL('emulator-process.mjs', import.meta.url))], {
  stdio: ['pipe', 'pipe', 'inherit'],
});
const [line] = await once(createInterface({ input: emulator.stdout }), 'line');
const rig = JSON.parse(line);

/** Each way to DPS with each kind of identity, in turn. */
function optionsOf(index) {
  const transport = index % 2 === 0 ? 'mqtt' : 'https';
  const hsm =
    index % 4 < 2
      ? { kind: 'symmetricKey', registrationId: `soak-${index}`, groupKey: rig.groupKey }
      : { kind: 'x509', certificatePem: rig.certificatePem, keyPem: rig.keyPem };
  return { idScope: rig.idScope, endpoint: rig.endpoints[transport], ca: rig.ca, transport, hsm };
}

function collectGarbage() {
  if (globalThis.gc === undefined) throw new Error('run with --expose-gc');
  globalThis.gc();
  globalThis.gc();
}

function memory() {
  collectGarbage();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rssBytes: rss, heapUsedBytes: heapUsed, externalBytes: external };
}

/** Of the same device one at a time: a hub keeps one connection for each, and cuts the older one. */
let certifiedTurn = Promise.resolve();

async function provisionOnce(index) {
  const options = optionsOf(index);
  if (options.hsm.kind !== 'x509') return provision(options);
  const turn = certifiedTurn.then(() => provision(options));
  certifiedTurn = turn.catch(() => {});
  return turn;
}

async function provisionFromTo(first, end) {
  let next = first;
  const lane = async () => {
    while (next < end) {
      const index = next;
      next += 1;
      await provisionOnce(index);
    }
  };
  await Promise.all(Array.from({ length: LANES }, lane));
}

/** Sockets, timers, watchers: whatever could keep the process alive. */
async function activeResources() {
  await new Promise((resolve) => setImmediate(resolve));
  return process
    .getActiveResourcesInfo()
    .filter((name) => name !== 'Immediate')
    .sort();
}

// Where these are pipes, they are opened at their first use, and would count.
process.stdout.write('');
process.stderr.write('');
const resourcesBefore = await activeResources();
const startedMs = performance.now();
await provisionFromTo(0, WARM_UP);
const samples = [memory()];
for (let part = 0; part < 10; part += 1) {
  const [first, end] = [part, part + 1].map((tenths) => WARM_UP + Math.round((COUNT * tenths) / 10));
  await provisionFromTo(first, end);
  samples.push(memory());
}
const resourcesAfter = await activeResources();
const seconds = (performance.now() - startedMs) / 1000;

emulator.stdin.end();
await once(emulator, 'exit');
console.log(JSON.stringify({ registrations: WARM_UP + COUNT, seconds, resourcesBefore, resourcesAfter, samples }));
