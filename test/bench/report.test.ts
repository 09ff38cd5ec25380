import { describe, expect, it } from 'vitest';
import { type Contestant, formatAims, formatSummary, formatTask, type Sample, summarizeTask } from './report.mjs';

const LIBRARY: Contestant = { name: 'library', title: '**dps-device**' };
const MICROSOFT: Contestant = { name: 'microsoft', title: "Microsoft's packages" };
/** As AMQP's: nobody has written a floor for it. */
const TASK = { title: 'AMQP', contestants: [LIBRARY, MICROSOFT] };
const LINKS = [{ roundTripMs: 0 }, { roundTripMs: 50 }, { roundTripMs: 150 }];

/** `wallMs` and `cpuMs` of one run; the other figures are the same in all. */
function sample(contestant: Contestant, roundTripMs: number, wallMs: number, cpuMs: number): Sample {
  const wire = { bytesUp: 3148, bytesDown: 3746, chunksUp: 16, chunksDown: 18, packetsUp: 17, packetsDown: 19 };
  const peakMiB = contestant === LIBRARY ? 52 : 80;
  return { contestant, roundTripMs, figures: { wallMs, cpuMs, peakMiB, ...wire } };
}

const ROWS = summarizeTask(TASK, LINKS, [
  sample(LIBRARY, 0, 300, 120),
  sample(MICROSOFT, 0, 600, 300),
  sample(LIBRARY, 0, 200, 100),
  sample(MICROSOFT, 0, 900, 500),
  sample(LIBRARY, 50, 1_000, 120),
  sample(LIBRARY, 50, 900, 120),
  sample(LIBRARY, 150, 2_500, 120),
  sample(LIBRARY, 150, 2_200, 120),
  sample(MICROSOFT, 50, 1_500, 300),
  sample(MICROSOFT, 150, 4_700, 300),
]);

describe('the report of the bench', () => {
  it('takes the round trips from the shortest runs over the two slowest links', () => {
    expect(ROWS.map(({ name, roundTrips }) => [name, roundTrips])).toEqual([
      ['library', 13],
      ['microsoft', 32],
    ]);
  });

  it('has figures, times and ratios of a task without a floor, with medians between the extremes', () => {
    expect(formatTask(TASK, ROWS)).toBe(`### AMQP

|  | CPU ms | peak RSS MiB | TLS bytes up / down | chunks up / down | packets up / down | round trips |
| --- | ---: | ---: | ---: | ---: | ---: | ---: |
| **dps-device** | 110 (100–120) | 52.0 (52.0–52.0) | 3148 / 3746 | 16 / 18 | 17 / 19 | 13.0 |
| Microsoft's packages | 400 (300–500) | 80.0 (80.0–80.0) | 3148 / 3746 | 16 / 18 | 17 / 19 | 32.0 |

| wall ms | no relay | 50 ms round trip | 150 ms round trip |
| --- | ---: | ---: | ---: |
| **dps-device** | 250 (200–300) | 950 (900–1000) | 2350 (2200–2500) |
| Microsoft's packages | 750 (600–900) | 1500 (1500–1500) | 4700 (4700–4700) |

| ratio | CPU | peak RSS | wall, no relay | wall, slowest link |
| --- | ---: | ---: | ---: | ---: |
| **dps-device** to Microsoft's packages | 0.28 | 0.65 | 0.33 | 0.50 |`);
    expect(formatAims(ROWS)).toBe('');
  });

  it('has a row for the task beside the others, of the slowest link', () => {
    expect(
      formatSummary([{ task: TASK, rows: ROWS }]),
    ).toBe(`|  | CPU ms | peak RSS MiB | wall ms, 150 ms round trip | round trips |
| --- | ---: | ---: | ---: | ---: |
| AMQP | 110 / 400 = **0.28** | 52.0 / 80.0 = **0.65** | 2350 / 4700 = **0.50** | 13.0 / 32.0 = **0.41** |`);
    expect(formatSummary([{ task: TASK, rows: ROWS.slice(0, 1) }])).toBe('');
  });
});
