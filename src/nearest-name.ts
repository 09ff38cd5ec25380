import { excerptOf } from './core/json-body.js';

/** What is longer is no slip of the finger, and comparing takes time by the product of both lengths. */
const MAX_NAME_CHARACTERS = 64;

/** The name in `known` closest to `given`, when it is close enough to be a slip of the finger. */
export function nearestName(given: string, known: readonly string[]): string | undefined {
  if (given.length > MAX_NAME_CHARACTERS) return undefined;
  let best: string | undefined;
  let bestDistance = Math.max(2, Math.floor(given.length / 3)) + 1;
  for (const name of known) {
    const distance = editDistance(given.toLowerCase(), name.toLowerCase());
    if (distance < bestDistance) {
      best = name;
      bestDistance = distance;
    }
  }
  return best;
}

const SHOWN_CHARACTERS = 60;

/** The beginning of a name that somebody gave, fit for a message. */
export function shownName(given: string): string {
  return excerptOf(given, SHOWN_CHARACTERS);
}

/** What to say of a name that is not known. */
export function knownNamesHint(given: string, known: readonly string[]): string {
  const nearest = nearestName(given, known);
  return nearest === undefined ? `Known are ${known.join(', ')}.` : `Did you mean ${nearest}?`;
}

/** Levenshtein distance, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const substitution = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitution));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
