import { cpus, loadavg, release, totalmem } from 'node:os';

function summarize(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = (sorted[Math.floor(middle)] + sorted[Math.ceil(middle) - 1]) / 2;
  return { min: sorted[0], median, max: sorted.at(-1) };
}

/** One row per contestant: the summaries of all its figures by link, and round trips by the slope over the links. */
export function summarizeTask(task, links, samples) {
  return task.contestants.map((contestant) => {
    const byLink = links.map(({ roundTripMs }) => {
      const runs = samples.filter((each) => each.contestant === contestant && each.roundTripMs === roundTripMs);
      const figures = Object.keys(runs[0]?.figures ?? {});
      const summary = (figure) => summarize(runs.map((run) => run.figures[figure]));
      return { roundTripMs, runs: runs.length, ...Object.fromEntries(figures.map((name) => [name, summary(name)])) };
    });
    const { name, title, isIdle = false } = contestant;
    return { name, title, isIdle, byLink, roundTrips: roundTripsOf(byLink) };
  });
}

/**
 * How many times the link is waited for: the slope of the time taken over the delay, between the two slowest links. Of the
 * shortest runs, since whatever else is going on can only make one longer.
 */
function roundTripsOf(byLink) {
  const [first, second] = byLink.filter(({ roundTripMs }) => roundTripMs > 0).slice(-2);
  if (second === undefined || second.runs === 0) return undefined;
  return (second.wallMs.min - first.wallMs.min) / (second.roundTripMs - first.roundTripMs);
}

export function formatConditions({ startedAt, runs }) {
  const [cpu] = cpus();
  return [
    `Measured ${startedAt.toISOString().slice(0, 16).replace('T', ' ')} UTC: ${runs} alternating runs, Node ${process.versions.node},`,
    `${cpus().length} × ${cpu?.model.trim()}, ${Math.round(totalmem() / 2 ** 30)} GiB, Linux ${release().split('.', 2).join('.')} ${process.arch};`,
    `load average at the end ${loadavg()[0].toFixed(1)}.`,
  ].join(' ');
}

/** Markdown tables of one task: figures, wall time by link, and ratios. */
export function formatTask(task, rows) {
  return [`### ${task.title}`, formatFigures(rows), formatWall(rows), formatRatios(rows)]
    .filter((part) => part !== '')
    .join('\n\n');
}

function formatFigures(rows) {
  const header = [
    '',
    'CPU ms',
    'peak RSS MiB',
    'TLS bytes up / down',
    'chunks up / down',
    'packets up / down',
    'round trips',
  ];
  return table(header, rows.map(figureCells));
}

function figureCells({ title, isIdle, byLink, roundTrips }) {
  const [direct] = byLink;
  const relayed = byLink.find(({ roundTripMs }) => roundTripMs > 0);
  const cells = [title, spread(direct.cpuMs), spread(direct.peakMiB, 1)];
  if (isIdle) return [...cells, '', '', '', ''];
  return [
    ...cells,
    relayed === undefined ? '' : `${middle(relayed.bytesUp)} / ${middle(relayed.bytesDown)}`,
    relayed === undefined ? '' : `${middle(relayed.chunksUp)} / ${middle(relayed.chunksDown)}`,
    `${middle(direct.packetsUp)} / ${middle(direct.packetsDown)}`,
    roundTrips === undefined ? '' : roundTrips.toFixed(1),
  ];
}

function formatWall(rows) {
  const links = rows[0].byLink.map(({ roundTripMs }) => roundTripMs);
  const header = ['wall ms', ...links.map((ms) => (ms === 0 ? 'no relay' : `${ms} ms round trip`))];
  const cells = ({ title, byLink }) => [
    title,
    ...byLink.map(({ wallMs }) => (wallMs === undefined ? '' : spread(wallMs))),
  ];
  return table(header, rows.map(cells));
}

/** The aims of the MQTT path, for the library, and what was reached. */
export function formatAims(rows) {
  const [library, floor, microsoft] = ['library', 'floor', 'microsoft'].map((name) =>
    rows.find((row) => row.name === name),
  );
  if (library === undefined || floor === undefined || microsoft === undefined) return '';
  const ratio = (figure, other) => library.byLink[0][figure].median / other.byLink[0][figure].median;
  const aims = [
    ['CPU to the floor', 1.3, ratio('cpuMs', floor)],
    ['peak RSS to the floor', 1.12, ratio('peakMiB', floor)],
    ["CPU to Microsoft's packages", 0.35, ratio('cpuMs', microsoft)],
    ["peak RSS to Microsoft's packages", 0.65, ratio('peakMiB', microsoft)],
    ['round trips', 12, library.roundTrips],
  ];
  const cells = aims
    .filter(([, , reached]) => reached !== undefined)
    .map(([name, aim, reached]) => [name, `at most ${aim}`, reached.toFixed(2), reached <= aim ? 'yes' : 'no']);
  return table(['aim', '', 'reached', ''], cells);
}

/** One row a task: what the library and Microsoft's packages take, and the ratio. Of medians. */
export function formatSummary(results) {
  const slowest = results[0]?.rows[0]?.byLink.at(-1).roundTripMs;
  const header = ['', 'CPU ms', 'peak RSS MiB', `wall ms, ${slowest} ms round trip`, 'round trips'];
  const cells = results.flatMap(({ task, rows }) => {
    const [our, their] = ['library', 'microsoft'].map((name) => rows.find((row) => row.name === name));
    if (our === undefined || their === undefined) return [];
    const beside = (pick, digits = 0) => {
      const [ours, theirs] = [pick(our), pick(their)];
      if (ours === undefined || theirs === undefined) return '';
      return `${ours.toFixed(digits)} / ${theirs.toFixed(digits)} = **${(ours / theirs).toFixed(2)}**`;
    };
    return [
      [
        task.title,
        beside(({ byLink }) => byLink[0].cpuMs.median),
        beside(({ byLink }) => byLink[0].peakMiB.median, 1),
        beside(({ byLink }) => byLink.at(-1).wallMs.median),
        beside(({ roundTrips }) => roundTrips, 1),
      ],
    ];
  });
  return cells.length === 0 ? '' : table(header, cells);
}

/** Of medians; CPU and memory without a relay, time over the slowest link. */
function formatRatios(rows) {
  const others = rows.filter(({ name }) => ['floor', 'microsoft'].includes(name));
  const ours = rows.filter(({ name }) => ['library', 'cli'].includes(name));
  const header = ['ratio', 'CPU', 'peak RSS', 'wall, no relay', 'wall, slowest link'];
  const cells = ours.flatMap((our) =>
    others.map((other) => {
      const ratio = (pick) => (pick(our).median / pick(other).median).toFixed(2);
      const name = other.name === 'floor' ? 'the floor' : "Microsoft's packages";
      return [
        `${our.title} to ${name}`,
        ratio(({ byLink }) => byLink[0].cpuMs),
        ratio(({ byLink }) => byLink[0].peakMiB),
        ratio(({ byLink }) => byLink[0].wallMs),
        ratio(({ byLink }) => byLink.at(-1).wallMs),
      ];
    }),
  );
  return cells.length === 0 ? '' : table(header, cells);
}

function spread({ min, median, max }, digits = 0) {
  return `${median.toFixed(digits)} (${min.toFixed(digits)}–${max.toFixed(digits)})`;
}

function middle({ median }) {
  return median.toFixed(0);
}

function table(header, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [line(header), line(header.map((_, index) => (index === 0 ? '---' : '---:'))), ...rows.map(line)].join('\n');
}
