import { mayHoldSecret } from './core/json-body.js';

/** Whether a path that leads nowhere may be repeated: someone may have given the content, or a key, instead of it. */
export function isPathLike(path: string): boolean {
  return !/["{}]/.test(path) && !path.split('/').some(mayHoldSecret);
}

/** As `isPathLike`, where a secret is wanted: passphrases have spaces, the paths of such files hardly ever. */
export function isSecretPathLike(path: string): boolean {
  return isPathLike(path) && !/\s/.test(path);
}
