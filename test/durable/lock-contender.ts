/** A process that fights for a lock until it has had it so many times, and is killed with it in hand. Bundled, then run. */
import { unlinkSync, writeFileSync, writeSync } from 'node:fs';
import { lockFile } from '../../src/durable/file-lock.js';
import { isDpsError } from '../../src/errors.js';

const [path = '', times = '1'] = process.argv.slice(2);

for (let taken = 0; taken < Number(times); ) {
  const lock = await lockFile(path).catch((error: unknown) => {
    if (!isDpsError(error) || error.code !== 'ERR_DPS_STORE_LOCKED') throw error;
  });
  if (lock === undefined) continue;
  taken += 1;
  // Fails if another process is inside, too.
  writeFileSync(`${path}-inside`, String(process.pid), { flag: 'wx' });
  unlinkSync(`${path}-inside`);
  if (taken < Number(times)) await lock.release();
}
writeSync(1, 'done');
process.kill(process.pid, 'SIGKILL');
