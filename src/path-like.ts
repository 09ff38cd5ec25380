import { mayHoldSecret } from './core/json-body.js';

/** Whether a path that leads nowhere may be repeated: someone may have given the content, or a key, instead of it. */
export function isPathLike(path: string): boolean {
  return !/["{}]/.test(path) && !path.split('/').some(mayHoldSecret);
}

/** What is wrong with the path of a folder that need not exist yet, if anything. */
export function folderProblem(path: string): string | undefined {
  if (path === '' || path.includes('\0')) return 'it must be the path of a folder.';
  return isPathLike(path) ? undefined : 'it does not look like the path of a folder (not shown: it may be a secret).';
}

/** As `isPathLike`, where a secret is wanted: passphrases have spaces, the paths of such files hardly ever. */
export function isSecretPathLike(path: string): boolean {
  return isPathLike(path) && !/\s/.test(path);
}
