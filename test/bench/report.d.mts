export interface Contestant {
  readonly name: string;
  readonly title: string;
  readonly isIdle?: boolean;
}

export interface Sample {
  readonly contestant: Contestant;
  readonly roundTripMs: number;
  readonly figures: Readonly<Record<string, number>>;
}

/** What the tables are made of. */
export interface Row extends Contestant {
  readonly byLink: readonly object[];
  readonly roundTrips: number | undefined;
}

export function summarizeTask(
  task: { readonly contestants: readonly Contestant[] },
  links: readonly { readonly roundTripMs: number }[],
  samples: readonly Sample[],
): Row[];
export function formatTask(task: { readonly title: string }, rows: readonly Row[]): string;
export function formatAims(rows: readonly Row[]): string;
export function formatSummary(
  results: readonly { readonly task: { readonly title: string }; readonly rows: readonly Row[] }[],
): string;
