import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { encodeRecord } from '../../src/core/record.js';
import type { LoadedRecord } from '../../src/core/store.js';
import { fileRecordStore, readStoredRecord } from '../../src/state/file-store.js';
import { sampleRecord } from './sample-record.js';
import type { Outcome, SystemCallTracer, TracedCall } from './system-call-tracer.js';
import { type SaveOrder, tracedSave } from './traced-save.js';

export interface TracedScenario {
  readonly savesBefore: number;
  readonly doing: 'save' | 'forget';
  /** See `SystemCallTracer.tamperWith`. */
  readonly tampering: string;
}

export interface TracedCase {
  readonly call: TracedCall;
  readonly outcome: Outcome;
}

/**
 * One case for each system call of a save. After each the record is the old one or the new one, the new one if the save
 * was reported as done; and the store works as if nothing had been. Throws a sentence otherwise.
 */
export async function tamperWithEachCall(tracer: SystemCallTracer, scenario: TracedScenario): Promise<TracedCase[]> {
  const calls = await tracer.callsOf(tracedSave(await prepare(tracer, scenario)));
  const cases: TracedCase[] = [];
  for (const call of calls) {
    const order = await prepare(tracer, scenario);
    const outcome = await tracer.tamperWith(call, scenario.tampering, tracedSave(order));
    await check(order, scenario, outcome).catch((error: Error) => {
      throw new Error(`${JSON.stringify({ ...scenario, call, outcome })}: ${error.message}`);
    });
    cases.push({ call, outcome });
  }
  return cases;
}

const NEVER = new AbortController().signal;
const FILLER_BYTES = 2000;

async function prepare(tracer: SystemCallTracer, { savesBefore, doing }: TracedScenario): Promise<SaveOrder> {
  const directory = join(tracer.newFolder(), 'state');
  const store = fileRecordStore({ directory });
  for (let number = 1; number <= savesBefore; number += 1) await store.save(sampleRecord(number, FILLER_BYTES), NEVER);
  await store.close();
  return { directory, doing, number: savesBefore + 1 };
}

async function check({ directory, number }: SaveOrder, scenario: TracedScenario, outcome: Outcome): Promise<void> {
  const newest = scenario.doing === 'save' ? textOf(number) : 'none';
  const oldest = scenario.savesBefore === 0 ? 'none' : textOf(scenario.savesBefore);
  const found = describe(await readStoredRecord({ directory }));
  const allowed = outcome.kind === 'done' ? [newest] : [oldest, newest];
  if (!allowed.includes(found)) throw new Error(`the record is ${found}`);
  const store = fileRecordStore({ directory });
  await store.load(NEVER);
  await store.save(sampleRecord(99, FILLER_BYTES), NEVER);
  const last = describe(await store.load(NEVER));
  await store.close();
  if (last !== textOf(99)) throw new Error(`after the next save the record is ${last}`);
  const left = readdirSync(directory).filter((name) => !/^device\.[ab]$/.test(name));
  if (left.length > 0) throw new Error(`left behind ${left.join(', ')}`);
}

function describe(loaded: LoadedRecord): string {
  if (loaded.kind === 'record') return Buffer.from(encodeRecord(loaded.record)).toString();
  return loaded.kind === 'none' ? 'none' : `damaged: ${loaded.what}`;
}

function textOf(number: number): string {
  return Buffer.from(encodeRecord(sampleRecord(number, FILLER_BYTES))).toString();
}
