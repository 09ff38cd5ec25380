import { isDpsError } from '../errors.js';
import { PACKAGE_VERSION } from '../version.js';
import { UsageError } from './cli-errors.js';
import { EXIT, EXIT_MEANINGS, type ExitStatus } from './exit-codes.js';
import { makePrintable } from './printable.js';

/** A failure for people and for machines. Neither has a secret in it, as no error of this package has. */
export interface FailureReport {
  readonly text: string;
  readonly event: { readonly type: 'error'; readonly exitStatus: ExitStatus } & Readonly<Record<string, unknown>>;
}

/** Members of errors worth telling, with their names for people. */
const DETAILS: readonly (readonly [member: string, label: string])[] = [
  ['option', 'option'],
  ['operation', 'operation'],
  ['phase', 'phase'],
  ['peer', 'peer'],
  ['service', 'service'],
  ['status', 'status'],
  ['substatus', 'substatus'],
  ['errorCode', 'error code'],
  ['errorMessage', 'error message'],
  ['trackingId', 'tracking id'],
  ['timestampUtc', 'time of reply'],
  ['retryAfterMs', 'retry after ms'],
  ['expected', 'expected'],
  ['got', 'got'],
  ['state', 'state'],
];

/** What the command line offers where a message speaks of options in code. */
const FLAGS: Readonly<Record<string, string>> = {
  ERR_DPS_TLS_UNTRUSTED: '--ca-file FILE gives authorities to trust',
  ERR_DPS_DEADLINE: '--timeout SECONDS allows more time',
  ERR_DPS_CONNECT_TIMEOUT: '--connect-timeout SECONDS allows more time',
  ERR_DPS_REQUEST_TIMEOUT: '--request-timeout SECONDS allows more time',
};

const LABEL_WIDTH = 15;
const MAX_CAUSES = 5;

/**
 * Says what went wrong, where, and what to do. Only an error that is a bug of ours comes with its stack.
 *
 * @param context further lines that help to place it, e.g. where the identity came from.
 */
export function describeFailure(
  error: unknown,
  exitStatus: ExitStatus,
  context: Readonly<Record<string, string>> = {},
): FailureReport {
  if (error instanceof UsageError) return describeUsageError(error);
  const summary = summarize(error);
  const causes = listCauses(error);
  const event = {
    type: 'error' as const,
    ...summary,
    retryable: isDpsError(error) && error.retryable,
    exitStatus,
    ...pickDetails(error),
    ...context,
    ...(causes.length === 0 ? {} : { causes }),
  };
  const isBug = exitStatus === EXIT.bug;
  return {
    text: formatFailure(event, causes, context, isBug ? describeBug(error) : []),
    event: isBug ? { ...event, stack: stackOf(error), version: PACKAGE_VERSION } : event,
  };
}

interface Summary {
  readonly name: string;
  readonly code: string | undefined;
  readonly message: string;
}

type FailureEvent = FailureReport['event'] & Summary & { readonly retryable: boolean };

function describeUsageError(error: UsageError): FailureReport {
  const { name, code, message } = error;
  return {
    text: `error: ${makePrintable(message)}`,
    event: { type: 'error', name, code, message, retryable: false, exitStatus: EXIT.usage },
  };
}

function formatFailure(
  event: FailureEvent,
  causes: readonly Summary[],
  context: Readonly<Record<string, string>>,
  more: readonly string[],
): string {
  const details = DETAILS.filter(([member]) => event[member] !== undefined && event[member] !== '').map(
    ([member, label]) => formatLine(label, String(event[member])),
  );
  const flag = FLAGS[event.code ?? ''];
  return [
    `error ${event.code ?? event.name}: ${makePrintable(event.message)}`,
    ...details,
    ...Object.entries(context).map(([label, value]) => formatLine(label, value)),
    ...causes.map((cause) => formatLine('caused by', formatSummary(cause))),
    ...(flag === undefined ? [] : [formatLine('flag', flag)]),
    formatLine('try again', event.retryable ? 'later, it may help' : 'only after something has been changed'),
    formatLine('exit status', `${event.exitStatus} (${EXIT_MEANINGS[event.exitStatus]})`),
    ...more,
  ].join('\n');
}

function formatLine(label: string, value: string): string {
  return `  ${`${label}:`.padEnd(LABEL_WIDTH)} ${makePrintable(value)}`;
}

function formatSummary({ name, code, message }: Summary): string {
  return `${code ?? name}: ${message}`;
}

function describeBug(error: unknown): string[] {
  return [
    'This is a bug in dps-device. Please report it to where you got the package from, with these lines:',
    `  dps-device ${PACKAGE_VERSION}, Node ${process.version}, ${process.platform} ${process.arch}`,
    ...stackOf(error)
      .split('\n')
      .map((line) => `  ${makePrintable(line)}`),
  ];
}

function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? String(error)) : `${typeof error} thrown`;
}

function summarize(error: unknown): Summary {
  if (!(error instanceof Error))
    return { name: 'Error', code: undefined, message: `Thrown was no error: ${typeof error}.` };
  const { code } = error as { readonly code?: unknown };
  return { name: error.name, code: typeof code === 'string' ? code : undefined, message: error.message };
}

/** Outermost first. What a failed connection tried per address comes as one cause each. */
function listCauses(error: unknown): Summary[] {
  const causes: Summary[] = [];
  const queue = causesOf(error);
  for (const cause of queue) {
    if (causes.length === MAX_CAUSES) break;
    causes.push(summarize(cause));
    queue.push(...causesOf(cause));
  }
  return causes;
}

function causesOf(error: unknown): unknown[] {
  if (!(error instanceof Error)) return [];
  const inner = error instanceof AggregateError ? error.errors : [];
  return [...(error.cause instanceof Error ? [error.cause] : []), ...inner];
}

function pickDetails(error: unknown): Record<string, string | number> {
  if (!isDpsError(error)) return {};
  const members = error as unknown as Readonly<Record<string, unknown>>;
  const details: Record<string, string | number> = {};
  for (const [member] of DETAILS) {
    const value = members[member];
    if (typeof value === 'string' || typeof value === 'number') details[member] = value;
  }
  return details;
}
