import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Outcome, SystemCallTracer, type TracedCall, type TracedOrder } from '../../durable/system-call-tracer.js';
import { type Change, type ChangedStore, goOn, observe, prepare, STATES } from './change-plan.js';
import { keyFile } from './store-bench.js';

/** All that a change may touch; the token is that of `change-once.ts`. */
const FILES = [
  'store.a',
  'store.b',
  'store.new',
  'entry-a.a',
  'entry-a.b',
  'entry-a.new',
  'lock',
  `lock.${'ab'.repeat(8)}.new`,
];

/** For processes that change a key store. */
export const makeChangeTracer = (): Promise<SystemCallTracer> =>
  SystemCallTracer.make('../hsm/key-store/change-once.ts');

/**
 * One case for each system call of a change. After each the store is as before or as after, as after if the change was
 * reported as done, and works as if nothing had been. Throws a sentence otherwise.
 *
 * @param tampering see `SystemCallTracer.tamperWith`.
 */
export async function tamperWithEachCall(
  tracer: SystemCallTracer,
  change: Change,
  tampering: string,
): Promise<{ readonly call: TracedCall; readonly outcome: Outcome }[]> {
  const cases: { call: TracedCall; outcome: Outcome }[] = [];
  for (const call of await tracer.callsOf(tracedChange(await prepared(tracer, change), change))) {
    const place = await prepared(tracer, change);
    const outcome = await tracer.tamperWith(call, tampering, tracedChange(place, change));
    await check(place, change, outcome).catch((error: Error) => {
      throw new Error(`${JSON.stringify({ change, tampering, call, outcome })}: ${error.message}`, { cause: error });
    });
    cases.push({ call, outcome });
  }
  return cases;
}

async function prepared(tracer: SystemCallTracer, change: Change): Promise<ChangedStore> {
  const place = {
    options: { directory: join(tracer.newFolder(), 'store') },
    oldKeyFile: keyFile(tracer.folder, 7),
    newKeyFile: keyFile(tracer.folder, 9),
  };
  await prepare(place, change);
  return place;
}

function tracedChange({ options: { directory }, oldKeyFile, newKeyFile }: ChangedStore, change: Change): TracedOrder {
  return {
    args: [directory, oldKeyFile, newKeyFile, change],
    paths: [dirname(directory), directory, ...FILES.map((name) => join(directory, name))],
  };
}

async function check(place: ChangedStore, change: Change, outcome: Outcome): Promise<void> {
  const [before, after] = STATES[change];
  const found = await observe(place);
  const allowed = outcome.kind === 'done' ? [after] : [before, after];
  if (!allowed.includes(found)) throw new Error(`the state is "${found}"`);
  await goOn(place);
  const left = readdirSync(place.options.directory).filter((name) => !/^(store|entry-a)\.[ab]$/.test(name));
  if (left.length > 0) throw new Error(`left behind ${left.join(', ')}`);
}
