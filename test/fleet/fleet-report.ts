import type { FleetResult } from './fleet.js';

/** From a first start: everybody needs DPS. */
export function firstStartTable(results: readonly FleetResult[]): string {
  const rows = results.map((result) => {
    const { settings, registerRequests, statusRequests, throttled, mostRequests, requestsByMinute } = result;
    const worst = requestsByMinute.reduce((most, count) => Math.max(most, count ?? 0), 0);
    return [
      spreadOf(result),
      ...[0.5, 0.99, 1].map((part) => minutesAt(result, part)),
      count(registerRequests + statusRequests),
      count(throttled),
      ((registerRequests + statusRequests) / settings.devices).toFixed(1),
      count(mostRequests),
      count(worst),
    ];
  });
  const heads = [
    'spread',
    '50 %',
    '99 %',
    'all',
    'requests to DPS',
    'of them 429',
    'per device',
    'the most of one',
    'in the worst minute',
  ];
  return table(heads, rows);
}

/** Everybody has a record: DPS is not needed, unless the hub is out of reach for too long. */
export function restartTable(results: readonly FleetResult[]): string {
  const rows = results.map((result) => [
    `${result.settings.hubConnectionsPerSecond} a second`,
    spreadOf(result),
    ...[0.5, 0.99, 1].map((part) => minutesAt(result, part)),
    count(result.hubConnections),
    count(result.hubRefusals),
    count(result.registerRequests + result.statusRequests),
  ]);
  return table(['hub takes', 'spread', '50 %', '99 %', 'all', 'connections tried', 'refused', 'requests to DPS'], rows);
}

/** Puts `text` between the marks in a document. */
export function putBetweenMarks(document: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const from = document.indexOf(begin);
  const to = document.indexOf(end);
  if (from < 0 || to < from) throw new Error(`The document has no ${begin} and ${end}.`);
  return `${document.slice(0, from + begin.length)}\n\n${text}\n\n${document.slice(to)}`;
}

function table(heads: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  return [line(heads), line(heads.map(() => '---:')), ...rows.map(line)].join('\n');
}

function spreadOf({ settings }: FleetResult): string {
  return settings.startSpreadMs === 0 ? 'none' : `${settings.startSpreadMs / 60_000} min`;
}

function minutesAt({ arrivalsMs }: FleetResult, part: number): string {
  const atMs = arrivalsMs[Math.ceil(arrivalsMs.length * part) - 1] ?? Number.NaN;
  return `${(atMs / 60_000).toFixed(1)} min`;
}

function count(number: number): string {
  return number.toLocaleString('en-US');
}
