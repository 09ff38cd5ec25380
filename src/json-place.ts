/**
 * Where text stops being JSON: `; see line 3, column 7`, or nothing where the engine did not say. The engine's own words
 * quote the text, which may be a key file given by mistake, so they must not go into a message, nor their error into a
 * `cause`.
 */
export function describeJsonPlace(text: string, error: unknown): string {
  const position = / at position (\d+)/.exec(error instanceof Error ? error.message : '')?.[1];
  if (position === undefined) return '';
  const before = text.slice(0, Number(position)).split('\n');
  return `; see line ${before.length}, column ${(before.at(-1)?.length ?? 0) + 1}`;
}
