import type { FleetResult } from './fleet.js';

const WIDTH = 760;
const HEIGHT = 620;
const LEFT = 64;
const RIGHT = 150;
const PANEL_HEIGHT = 230;
const TOPS = [44, 344] as const;
const COLOURS = ['#b2182b', '#e08214', '#7fbf7b', '#2166ac', '#542788'];

interface Panel {
  readonly top: number;
  readonly title: string;
  readonly ticks: readonly (readonly [label: string, part: number])[];
  /** Height of a value within the panel, 0 to 1, at a minute. */
  readonly part: (result: FleetResult, minute: number) => number;
}

/** Devices at their hub, and requests to DPS, by minute: one line for each spread. */
export function drawFleet(results: readonly FleetResult[]): string {
  const minutes = Math.max(...results.map(({ arrivalsMs }) => Math.ceil((arrivalsMs.at(-1) ?? 0) / 60_000)));
  const devices = results[0]?.settings.devices ?? 0;
  const panels = panelsOf();
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12" fill="#333">`,
    `<title>${devices.toLocaleString('en-US')} devices that get power at the same moment</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" rx="6" fill="#fff"/>`,
    ...panels.flatMap((panel) => drawPanel(panel, results, minutes)),
    ...results.map((result, index) => legend(result, index)),
    '</svg>',
    '',
  ].join('\n');
}

function panelsOf(): readonly Panel[] {
  return [
    {
      top: TOPS[0],
      title: 'Devices at their hub, with their twin (%)',
      ticks: [0, 25, 50, 75, 100].map((percent) => [`${percent}`, percent / 100]),
      part: ({ arrivalsMs }, minute) => countUpTo(arrivalsMs, minute * 60_000) / arrivalsMs.length,
    },
    {
      top: TOPS[1],
      title: 'Requests to DPS in a minute (logarithmic)',
      ticks: [100, 1_000, 10_000, 100_000].map((count) => [count.toLocaleString('en-US'), logarithmic(count)]),
      part: ({ requestsByMinute }, minute) => logarithmic(requestsByMinute[minute] ?? 0),
    },
  ];
}

function drawPanel({ top, title, ticks, part }: Panel, results: readonly FleetResult[], minutes: number): string[] {
  const x = (minute: number): number => LEFT + ((WIDTH - LEFT - RIGHT) * minute) / minutes;
  const y = (value: number): number => top + PANEL_HEIGHT * (1 - value);
  const lines = results.map((result, index) => {
    const points = Array.from(
      { length: minutes + 1 },
      (_, minute) => `${round(x(minute))},${round(y(part(result, minute)))}`,
    );
    return `<polyline fill="none" stroke="${COLOURS[index % COLOURS.length]}" stroke-width="1.8" points="${points.join(' ')}"/>`;
  });
  const marks = Array.from({ length: Math.floor(minutes / 20) + 1 }, (_, index) => index * 20);
  return [
    `<text x="${LEFT}" y="${top - 14}" font-weight="bold">${title}</text>`,
    ...ticks.map(
      ([label, value]) =>
        `<line x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${round(y(value))}" y2="${round(y(value))}" stroke="#ddd"/><text x="${LEFT - 8}" y="${round(y(value) + 4)}" text-anchor="end">${label}</text>`,
    ),
    ...marks.map(
      (minute) =>
        `<text x="${round(x(minute))}" y="${top + PANEL_HEIGHT + 18}" text-anchor="middle">${minute} min</text>`,
    ),
    ...lines,
  ];
}

function legend({ settings }: FleetResult, index: number): string {
  const y = TOPS[0] + 12 + index * 20;
  const x = WIDTH - RIGHT + 14;
  const minutes = settings.startSpreadMs / 60_000;
  const label = minutes === 0 ? 'no spread' : `over ${minutes} min`;
  return `<line x1="${x}" x2="${x + 20}" y1="${y - 4}" y2="${y - 4}" stroke="${COLOURS[index % COLOURS.length]}" stroke-width="3"/><text x="${x + 28}" y="${y}">${label}</text>`;
}

/** 10 at the bottom, a million at the top. */
function logarithmic(count: number): number {
  return Math.max(0, Math.log10(Math.max(10, count)) - 1) / 5;
}

function round(value: number): string {
  return value.toFixed(1);
}

/** How many of the ascending numbers are not above `limit`. */
export function countUpTo(ascending: Float64Array, limit: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ascending[middle] ?? 0) <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}
