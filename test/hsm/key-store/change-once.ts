/** A process that makes one change of a key store, says how that went in one line of JSON, and ends. Bundled, then run under strace. */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import { isDpsError } from '../../../src/errors.js';
import { type Change, perform } from './change-plan.js';

const [directory = '', oldKeyFile = '', newKeyFile = '', change = 'add'] = process.argv.slice(2);

// strace has to know the names of files beforehand, and that of the lock's draft is random. Keys are given in these tests.
const randomBytes = crypto.randomBytes;
Object.assign(crypto, {
  randomBytes: (length: number) => (length === 8 ? Buffer.alloc(length, 0xab) : randomBytes(length)),
});
syncBuiltinESMExports();

const outcome = await perform({ options: { directory }, oldKeyFile, newKeyFile }, change as Change).then(
  () => ({ done: true }),
  (error: unknown) => ({ done: false, code: isDpsError(error) ? error.code : 'untyped', message: String(error) }),
);
console.log(JSON.stringify(outcome));
