/** What the system had none left of, by the code of its error. Later there may be some again. */
const SHORTAGES: Readonly<Record<string, string>> = {
  EMFILE: 'this process may not open more files. Raise its limit: ulimit -n, or LimitNOFILE= in a unit of systemd',
  ENFILE: 'the system has too many files open. Close some, or raise fs.file-max',
  ENOMEM: 'the system has no memory left. Free some, or raise the limit of this process',
  ENOBUFS: 'the system has no buffers left for connections. Close some, or free memory',
};

/** Far above any chain of causes there is; one that goes round ends here. */
const MAX_ERRORS = 20;

/** What ran out and what to do, when that is behind the failure: then nothing is wrong with what it happened to. */
export function explainShortage(error: unknown): string | undefined {
  const queue = [error];
  for (const current of queue) {
    if (!(current instanceof Error) || queue.length > MAX_ERRORS) continue;
    const code = shortageCodeOf(current);
    if (code !== undefined) return SHORTAGES[code];
    queue.push(current.cause, ...(current instanceof AggregateError ? current.errors : []));
  }
  return undefined;
}

/** OpenSSL has words for it, `error:030C0100:digital envelope routines::malloc failure`, and no code that stays. */
function shortageCodeOf(error: Error): string | undefined {
  const { code } = error as { readonly code?: unknown };
  if (typeof code === 'string' && Object.hasOwn(SHORTAGES, code)) return code;
  return /^error:[0-9A-F]+:.*:malloc failure$/i.test(error.message) ? 'ENOMEM' : undefined;
}
