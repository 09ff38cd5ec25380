/*
 * The emulator's command and the one that makes certificates are files of their own, each with its copy of these classes:
 * `instanceof` goes by the code.
 */

/** The command line itself is wrong: nothing was opened or sent. Ends in exit status 64. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError';
  readonly code: 'ERR_DPS_USAGE' = 'ERR_DPS_USAGE';

  static override [Symbol.hasInstance](value: unknown): boolean {
    return isErrorWith('ERR_DPS_USAGE', value);
  }
}

/** The work is done, but its result could not be handed over on standard output. Ends in exit status 74. */
export class OutputError extends Error {
  override readonly name: string = 'OutputError';
  readonly code: 'ERR_DPS_OUTPUT' = 'ERR_DPS_OUTPUT';

  static override [Symbol.hasInstance](value: unknown): boolean {
    return isErrorWith('ERR_DPS_OUTPUT', value);
  }
}

function isErrorWith(code: string, value: unknown): boolean {
  return typeof value === 'object' && value !== null && (value as { readonly code?: unknown }).code === code;
}
