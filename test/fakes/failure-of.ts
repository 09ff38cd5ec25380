import { type DpsError, isDpsError } from '../../src/errors.js';

/** The error of this package that a promise fails with. */
export async function failureOf(promise: Promise<unknown>): Promise<DpsError> {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (isDpsError(error)) return error;
  throw new Error(`Expected an error of this package, not ${String(error)}`);
}

/** What a promise fails with, be it an error of this package, of a program without types, or of a test. */
export async function rejectionOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: Error) => error,
  );
}
