/** The command line itself is wrong: nothing was opened or sent. Ends in exit status 64. */
export class UsageError extends Error {
  override readonly name: string = 'UsageError';
  readonly code: 'ERR_DPS_USAGE' = 'ERR_DPS_USAGE';
}

/** The work is done, but its result could not be handed over on standard output. Ends in exit status 74. */
export class OutputError extends Error {
  override readonly name: string = 'OutputError';
  readonly code: 'ERR_DPS_OUTPUT' = 'ERR_DPS_OUTPUT';
}
