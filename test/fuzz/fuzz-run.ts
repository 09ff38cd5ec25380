import { inspect } from 'node:util';
import { FuzzRandom } from './fuzz-random.js';
import type { HangWatch } from './hang-watch.js';

/** Something to throw random input at. */
export interface FuzzTarget {
  readonly name: string;
  /** Throws when a property does not hold. Says what came of the case in a word or two, for the tally. */
  run(random: FuzzRandom): string | Promise<string>;
}

/** How often each outcome came up. */
export type FuzzTally = Map<string, number>;

export interface FuzzSettings {
  /** The case's number is its seed: these count up from here. */
  readonly firstSeed: number;
  readonly cases: number;
  readonly watch?: HangWatch;
}

/**
 * Runs cases one after the other. The first that fails ends the run with an error that says how to see it again:
 *
 *     FUZZ_TARGET='dps reply' FUZZ_SEED=1234 FUZZ_CASES=1 npx vitest run test/fuzz
 */
export async function runFuzz(target: FuzzTarget, { firstSeed, cases, watch }: FuzzSettings): Promise<FuzzTally> {
  const tally: FuzzTally = new Map();
  for (let index = 0; index < cases; index += 1) {
    const random = new FuzzRandom(firstSeed + index);
    watch?.begin(target.name, random.seed);
    try {
      const outcome = target.run(random);
      const label = typeof outcome === 'string' ? outcome : await outcome;
      tally.set(label, (tally.get(label) ?? 0) + 1);
    } catch (error) {
      throw failure(target, random, error);
    }
    // The test runner has things to say now and then.
    if (index % 500 === 499) await new Promise((resolve) => setImmediate(resolve));
  }
  watch?.idle();
  return tally;
}

/** For one line of a report. */
export function formatTally(tally: FuzzTally): string {
  return [...tally]
    .sort(([, a], [, b]) => b - a)
    .map(([label, count]) => `${label} ${count}`)
    .join(', ');
}

function failure(target: FuzzTarget, random: FuzzRandom, cause: unknown): Error {
  const inputs = random.notes.map(([label, value]) => `  ${label}: ${show(value)}`);
  const lines = [
    `Fuzz target '${target.name}' failed for seed ${random.seed}: ${cause instanceof Error ? cause.message : inspect(cause)}`,
    `Replay: FUZZ_TARGET='${target.name}' FUZZ_SEED=${random.seed} FUZZ_CASES=1 npx vitest run test/fuzz`,
    ...inputs,
  ];
  return new Error(lines.join('\n'), { cause });
}

const SHOWN_CHARACTERS = 2_000;

function show(value: unknown): string {
  const text = value instanceof Uint8Array ? Buffer.from(value).toString('latin1') : value;
  const shown =
    typeof text === 'string'
      ? JSON.stringify(text)
      : inspect(text, { depth: 6, breakLength: Number.POSITIVE_INFINITY });
  return shown.length <= SHOWN_CHARACTERS ? shown : `${shown.slice(0, SHOWN_CHARACTERS)}… (${shown.length} characters)`;
}
