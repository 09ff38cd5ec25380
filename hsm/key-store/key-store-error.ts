import { type DpsErrorCode, HsmError } from '../../src/errors.js';

/** What an error names as its operation: every one of them is about the key store. */
export type KeyStoreOperation =
  | 'open key store'
  | 'list key store'
  | 'read entry'
  | 'change entry'
  | 'seal key store'
  | 'sign'
  | 'export key'
  | 'read TLS credential'
  | 'make signing request';

/** What to do about files of a later release. Nothing may be forgotten here as a record may: keys do not come again. */
export const INSTEAD_OF_NEWER = 'put the folder of the key store back from a backup made by this one';

export function keyStoreError(
  code: DpsErrorCode,
  operation: KeyStoreOperation,
  message: string,
  cause?: unknown,
): HsmError {
  return new HsmError({ code, operation, message, cause });
}
