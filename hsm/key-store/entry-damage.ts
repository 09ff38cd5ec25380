import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { ListedEntry } from './entry-list.js';
import { keyStoreError } from './key-store-error.js';
import type { StoreFiles } from './store-files.js';

/** For an entry of which no copy can be used. */
export function damagedEntry(name: string, what: string): Error {
  return keyStoreError('ERR_DPS_HSM_STORE_DAMAGED', 'read entry', explainDamaged(name, what));
}

/** The list with what to do about files that are damaged; other problems say that themselves. */
export async function explainDamage(
  entries: readonly ListedEntry[],
  files: StoreFiles,
  signal: CancelSignal | undefined,
): Promise<ListedEntry[]> {
  const explained: ListedEntry[] = [];
  for (const entry of entries) {
    if (entry.problem !== undefined) {
      const content = await files.readEntry(entry.name, signal).catch(() => undefined);
      const isDamaged = content?.kind === 'damaged';
      explained.push(isDamaged ? { name: entry.name, problem: explainDamaged(entry.name, content.what) } : entry);
    } else if (entry.warning !== undefined) {
      explained.push({ ...entry, warning: explainSpare(entry.warning) });
    } else {
      explained.push(entry);
    }
  }
  return explained;
}

function explainDamaged(name: string, what: string): string {
  return `The entry ${name} cannot be read: ${what} Put its files back from a backup; or remove it and give it its key again: dps-device keys remove --key-name ${name}`;
}

/** Which of the two was the newer one cannot be seen any more. */
function explainSpare(what: string): string {
  return `${what} The other copy is used, so that an older state of the entry may be in use: check its keys, and put its files back from a backup if they are not the latest ones. The next change of the entry writes the damaged copy anew.`;
}
