import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface MemorySample {
  readonly rssBytes: number;
  readonly heapUsedBytes: number;
  readonly externalBytes: number;
}

export interface RegistrationsReport {
  readonly registrations: number;
  readonly seconds: number;
  readonly resourcesBefore: readonly string[];
  readonly resourcesAfter: readonly string[];
  /** At 0 %, 10 %, … 100 % of what came after the warm-up. */
  readonly samples: readonly MemorySample[];
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** Runs `registrations.mjs` in a plain Node process of its own, with the built package. */
export async function runRegistrations(count: number, warmUp: number): Promise<RegistrationsReport> {
  const args = ['--expose-gc', 'test/soak/registrations.mjs', String(count), String(warmUp)];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: ROOT });
  return JSON.parse(stdout) as RegistrationsReport;
}
