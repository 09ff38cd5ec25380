/** A process that saves one record (or forgets or loads it), says how that went in one line of JSON, and ends. Bundled, then run under strace. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { isDpsError } from '../../src/errors.js';
import { fileRecordStore } from '../../src/state/file-store.js';
import { sampleRecord } from './sample-record.js';

const [directory = '', doing = 'save', number = '1'] = process.argv.slice(2);

// strace has to know the names of files beforehand, and one of them is random.
Object.assign(crypto, { randomBytes: (length: number) => Buffer.alloc(length, 0xab) });
syncBuiltinESMExports();

const store = fileRecordStore({ directory });
const never = new AbortController().signal;
const outcome = await perform().then(
  (found) => ({ done: true, ...found }),
  (error: unknown) => ({
    done: false,
    code: isDpsError(error) ? error.code : 'untyped',
    message: String(error),
  }),
);
await store.close();
console.log(JSON.stringify(outcome));

async function perform(): Promise<object> {
  if (doing === 'save') await store.save(sampleRecord(Number(number), 2000), never);
  if (doing === 'forget') await store.forget(never);
  if (doing !== 'load') return {};
  const loaded = await store.load(never);
  return { found: loaded.kind === 'record' ? loaded.record.twin.desired.version : loaded.kind };
}
