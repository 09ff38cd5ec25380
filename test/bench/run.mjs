// `npm run bench`: from nothing to the initial twin by several contestants, side by side. `--help` has the options.
import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { TASKS } from './contestants.mjs';
import { measure } from './measurement.mjs';
import { formatAims, formatConditions, formatSummary, formatTask, summarizeTask } from './report.mjs';
import { startRig } from './rig.mjs';

const HELP = `node test/bench/run.mjs [options]      (npm run bench builds first)

  --runs N          alternating runs of each contestant (15)
  --warm-up N       rounds before that, not counted (1)
  --links A,B,…     round trip times in ms, 0 for no relay; the first is where CPU and memory are read (0,50,150)
  --tasks A,B,…     ${TASKS.map(({ name }) => name).join(', ')} (all)
  --only A,B,…      contestants by name (all)
  --json            figures as JSON instead of Markdown
  --update FILE     puts the Markdown between the marks in FILE as well
  --summary FILE    puts a row a task between the marks in FILE: this package beside Microsoft's
`;

const { values } = parseArgs({
  options: {
    runs: { type: 'string', default: '15' },
    'warm-up': { type: 'string', default: '1' },
    links: { type: 'string', default: '0,50,150' },
    tasks: { type: 'string' },
    only: { type: 'string' },
    json: { type: 'boolean', default: false },
    update: { type: 'string' },
    summary: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) process.stdout.write(HELP);
else await bench();

async function bench() {
  const startedAt = new Date();
  const runs = Number(values.runs);
  const tasks = chosenTasks();
  const rig = await startRig(tasks, values.links.split(',').map(Number));
  try {
    const results = [];
    for (const task of tasks) results.push({ task, rows: await runTask(rig, task, runs) });
    const aimedAt = results.find(({ task }) => task.name === 'mqtt-key');
    const markdown = [
      formatConditions({ startedAt, runs }),
      ...(aimedAt === undefined ? [] : [formatAims(aimedAt.rows)]),
      ...results.map(({ task, rows }) => formatTask(task, rows)),
    ].filter((part) => part !== '');
    if (values.json)
      process.stdout.write(`${JSON.stringify(results.map(({ task, rows }) => ({ task: task.name, rows })))}\n`);
    else process.stdout.write(`${markdown.join('\n\n')}\n`);
    if (values.update !== undefined) await update(values.update, markdown.join('\n\n'));
    if (values.summary !== undefined) await update(values.summary, formatSummary(results));
  } finally {
    await rig.close();
  }
}

function chosenTasks() {
  const wanted = values.tasks?.split(',');
  const only = values.only?.split(',');
  return TASKS.filter(({ name }) => wanted?.includes(name) ?? true).map((task) => ({
    ...task,
    contestants: task.contestants.filter(({ name }) => only?.includes(name) ?? true),
  }));
}

/** A B C A B C …, on each link in turn. */
async function runTask(rig, task, runs) {
  const samples = [];
  const warmUps = Number(values['warm-up']);
  for (let round = -warmUps; round < runs; round += 1) {
    process.stderr.write(round < 0 ? `${task.title}: warm-up\n` : `${task.title}: run ${round + 1} of ${runs}\n`);
    for (const [index, link] of rig.links.entries()) {
      for (const contestant of task.contestants) {
        // A process that does nothing does not care for links.
        if (contestant.isIdle && index > 0) continue;
        const figures = await runOnce(rig, task, contestant, link);
        if (round >= 0) samples.push({ contestant, roundTripMs: link.roundTripMs, figures });
      }
    }
  }
  return summarizeTask(task, rig.links, samples);
}

async function runOnce(rig, task, contestant, link) {
  const prepared = await rig.journey(task, contestant, link);
  const figures = await measure({ contestant, properties: rig.properties, ...prepared });
  return { ...figures, ...(await rig.take()) };
}

async function update(file, markdown) {
  const document = await readFile(file, 'utf8');
  const [before, after] = ['<!-- measured -->', '<!-- /measured -->'];
  const start = document.indexOf(before);
  const end = document.indexOf(after);
  if (start < 0 || end < start) throw new Error(`${file} has no ${before} … ${after}.`);
  await writeFile(file, `${document.slice(0, start + before.length)}\n\n${markdown}\n\n${document.slice(end)}`);
}
