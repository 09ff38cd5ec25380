import { createHash } from 'node:crypto';

/** What stands for a file without a token: a hash of its content. */
export const EMPTY_TOKEN: string = hash('');

/** The claim on what the last of `tokens` holds: the lock is the first one's, and each further one has claimed what the one before holds. */
export function claimPath(lock: string, tokens: readonly string[]): string {
  const key = tokens.reduce((keyBefore, token) => hash(`${keyBefore} ${token}`));
  return `${lock}.${key}.claim`;
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}
