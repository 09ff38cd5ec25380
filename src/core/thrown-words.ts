const MAX_CHARACTERS = 300;

/**
 * What was thrown, in words for a message: one line of at most 300 characters. Never throws, whatever it is given; code
 * of the application throws anything, also things that have no text form.
 */
export function wordsOf(error: unknown): string {
  try {
    return oneLine(textOf(error)) || 'no reason given';
  } catch {
    return 'it threw something that cannot be shown';
  }
}

/** An error as it is; anything else that was thrown as an error that says what it was, with the original as cause. */
export function asError(thrown: unknown): Error {
  try {
    if (thrown instanceof Error) return thrown;
  } catch {
    // A proxy that lets nobody look.
  }
  return new Error(wordsOf(thrown), { cause: thrown });
}

function textOf(error: unknown): string {
  if (typeof error === 'string') return error;
  if (typeof error === 'object' && error !== null) {
    // By its members, not by its class: errors of another realm are no instances of ours.
    const { message, name } = error as { readonly message?: unknown; readonly name?: unknown };
    if (typeof message === 'string' && message !== '') return message;
    if (error instanceof Error && typeof name === 'string') return name;
    return Array.isArray(error) ? 'it threw a list' : 'it threw an object';
  }
  return error === undefined || error === null ? `it threw ${String(error)}` : `it threw a ${typeof error}`;
}

function oneLine(text: string): string {
  // Cut first: a text may be of any length.
  const start = text.slice(0, 2 * MAX_CHARACTERS).replace(/[\p{C}\p{Z}]+/gu, ' ');
  const line = start.trim();
  return line.length <= MAX_CHARACTERS ? line : `${line.slice(0, MAX_CHARACTERS - 1).replace(/[\uD800-\uDBFF]$/, '')}…`;
}
