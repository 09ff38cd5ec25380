import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

const RUN = fileURLToPath(new URL('run.mjs', import.meta.url));

interface Summary {
  readonly median: number;
}

interface Row {
  readonly name: string;
  readonly roundTrips?: number;
  readonly byLink: readonly (Readonly<Record<string, Summary>> & { readonly roundTripMs: number })[];
}

interface Result {
  readonly task: string;
  readonly rows: readonly Row[];
}

const run = promisify(execFile);

/** Every contestant once on a direct and on a slow link; a contestant that does not bring its twin fails the run. */
async function benchOnce(): Promise<readonly Result[]> {
  const args = [RUN, '--runs', '1', '--warm-up', '0', '--links', '0,5', '--json'];
  const { stdout } = await run(process.execPath, args);
  return JSON.parse(stdout) as Result[];
}

function figure(results: readonly Result[], task: string, name: string, link: 0 | 1, of: string): number | undefined {
  const row = results.find((result) => result.task === task)?.rows.find((each) => each.name === name);
  return row?.byLink[link]?.[of]?.median;
}

describe('the bench', () => {
  it('takes every contestant from nothing to its twin and measures it', { timeout: 300_000 }, async () => {
    const results = await benchOnce();
    expect(results.map(({ task, rows }) => [task, rows.map(({ name }) => name)])).toEqual([
      ['mqtt-key', ['node', 'floor', 'pipelined', 'library', 'cli', 'microsoft']],
      ['mqtt-x509', ['floor', 'library', 'cli', 'microsoft']],
      ['https-key', ['floor', 'library', 'cli', 'microsoft']],
      ['amqp-key', ['library', 'cli', 'microsoft']],
    ]);
    for (const { task, rows } of results) {
      for (const { name } of rows) {
        for (const of of ['wallMs', 'cpuMs', 'peakMiB']) expect(figure(results, task, name, 0, of)).toBeGreaterThan(0);
      }
    }
    // Counted by hand: CONNECT, SUBSCRIBE, two PUBLISH, DISCONNECT; CONNECT, SUBSCRIBE, PUBLISH, DISCONNECT.
    expect(figure(results, 'mqtt-key', 'floor', 0, 'packetsUp')).toBe(9);
    // CONNACK, SUBACK, two PUBLISH; CONNACK, SUBACK, PUBLISH.
    expect(figure(results, 'mqtt-key', 'floor', 0, 'packetsDown')).toBe(7);
    // Over HTTPS, only what goes to the hub.
    expect(figure(results, 'https-key', 'floor', 0, 'packetsUp')).toBe(4);
    // Two headers, SASL INIT, OPEN, BEGIN, two ATTACH, FLOW, two TRANSFER with a DISPOSITION each, CLOSE; then the hub's four.
    for (const name of ['library', 'cli']) expect(figure(results, 'amqp-key', name, 0, 'packetsUp')).toBe(17);
    expect(figure(results, 'amqp-key', 'microsoft', 0, 'packetsUp')).toBeGreaterThan(17);
    // The direct link has no relay to count at.
    expect(figure(results, 'mqtt-key', 'library', 0, 'bytesUp')).toBe(0);
    expect(figure(results, 'mqtt-key', 'library', 1, 'bytesUp')).toBeGreaterThan(1000);
  });
});
