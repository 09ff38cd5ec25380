import type { CancelSignal } from '../../src/core/cancel-signal.js';
import { throwIfCancelled } from '../../src/core/cancellation.js';
import type { AbContent } from '../../src/durable/ab-file.js';
import { isDpsError } from '../../src/errors.js';
import type { EntryLabel } from './entry.js';
import { type EntrySummary, summarizeEntry } from './entry-summary.js';
import type { StoreFiles } from './store-files.js';

export type FoundContent = Extract<AbContent, { readonly kind: 'content' }>;

/** An entry as it was found: what is known of it, or why it cannot be used. */
export type ListedEntry =
  /** `warning`: one of its two files cannot be used, maybe a newer one; the next change mends it. */
  | (EntrySummary & { readonly warning?: string; readonly problem?: undefined })
  | { readonly name: string; readonly problem: string };

/** Every entry of the store; one that cannot be used does not keep the others from being listed. */
export async function listEntries(
  files: StoreFiles,
  signal: CancelSignal | undefined,
  read: (content: FoundContent, name: string) => EntryLabel,
): Promise<ListedEntry[]> {
  const entries: ListedEntry[] = [];
  for (const name of await files.entryNames()) {
    throwIfCancelled(signal, 'listing the key store');
    const entry = await listOne(files, name, signal, read);
    if (entry !== undefined) entries.push(entry);
  }
  return entries;
}

async function listOne(
  files: StoreFiles,
  name: string,
  signal: CancelSignal | undefined,
  read: (content: FoundContent, name: string) => EntryLabel,
): Promise<ListedEntry | undefined> {
  try {
    const content = await files.readEntry(name, signal);
    // Removed in the meantime.
    if (content.kind === 'none') return undefined;
    if (content.kind === 'damaged') return { name, problem: content.what };
    const summary = summarizeEntry(read(content, name));
    return content.damaged === undefined ? summary : { ...summary, warning: content.damaged };
  } catch (error) {
    if (!isDpsError(error) || error.code === 'ERR_DPS_CANCELLED') throw error;
    return { name, problem: error.message };
  }
}
