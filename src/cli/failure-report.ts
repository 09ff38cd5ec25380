import { excerptOf } from '../core/json-body.js';
import { isDpsError } from '../errors.js';
import { PACKAGE_VERSION } from '../version.js';
import { UsageError } from './cli-errors.js';
import type { FailureContext } from './command.js';
import { EXIT, EXIT_MEANINGS, type ExitStatus } from './exit-codes.js';
import { type OptionNames, respell, respellOption } from './option-names.js';
import { makePrintable } from './printable.js';
import { explainShortage } from './shortage.js';

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
  ['shortage', 'shortage'],
  ['hint', 'hint'],
];

/** What the command line offers where a message speaks of options in code, by the code of the error. */
export const FLAGS: Readonly<Record<string, string>> = {
  ERR_DPS_DEADLINE: '--timeout SECONDS allows more time',
  ERR_DPS_CONNECT_TIMEOUT:
    '--connect-timeout SECONDS allows more time; --transport auto --hub-transport auto also try port 443',
  ERR_DPS_REQUEST_TIMEOUT: '--request-timeout SECONDS allows more time',
  ERR_DPS_PROXY_REFUSED: '--transport auto --hub-transport auto also try port 443, which proxies let through',
  ERR_DPS_PROXY_AUTH: '--proxy http://USER@HOST:PORT, with the password in the file of --proxy-password-file',
};

const LABEL_WIDTH = 15;
const MAX_CAUSES = 5;

/**
 * Says what went wrong, where, and what to do. Only an error that is a bug of ours comes with its stack.
 *
 * @param context what the command knows of it.
 */
export function describeFailure(
  error: unknown,
  exitStatus: ExitStatus,
  { lines, optionNames, hint: hintOn }: Readonly<FailureContext> = { lines: {}, optionNames: new Map() },
): FailureReport {
  if (error instanceof UsageError) return describeUsageError(error);
  const isBug = exitStatus === EXIT.bug;
  const telling: Telling = { isBug, optionNames };
  const summary = summarize(error, telling);
  const causes = listCauses(error, telling);
  const shortage = explainShortage(error);
  const [hint] = [summary, ...causes].flatMap(({ code, message }) => hintOn?.(code, message) ?? []);
  const event = {
    type: 'error' as const,
    ...summary,
    retryable: shortage !== undefined || (isDpsError(error) && error.retryable),
    exitStatus,
    ...pickDetails(error, optionNames),
    ...(shortage === undefined ? {} : { shortage }),
    ...lines,
    ...(causes.length === 0 ? {} : { causes }),
    ...(hint === undefined ? {} : { hint }),
  };
  return {
    text: formatFailure(event, causes, lines, isBug ? describeBug(error) : []),
    event: isBug ? { ...event, stack: stackOf(error), version: PACKAGE_VERSION } : event,
  };
}

/** How to repeat the words of an error. */
interface Telling {
  readonly isBug: boolean;
  readonly optionNames: OptionNames;
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
  lines: Readonly<Record<string, string>>,
  more: readonly string[],
): string {
  const details = DETAILS.filter(([member]) => event[member] !== undefined && event[member] !== '').map(
    ([member, label]) => formatLine(label, String(event[member])),
  );
  const flag = FLAGS[event.code ?? ''];
  return [
    `error ${event.code ?? event.name}: ${makePrintable(event.message)}`,
    ...details,
    ...Object.entries(lines).map(([label, value]) => formatLine(label, value)),
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

/** Messages of the system say their code themselves. */
function formatSummary({ name, code, message }: Summary): string {
  const isSaid = code !== undefined && message.split(/\W+/).includes(code);
  return isSaid ? message : `${code ?? name}: ${message}`;
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

const BUG_MESSAGE_CHARACTERS = 1_000;

/** Nobody has seen to it that a bug's message has no secret in it: Node's own repeat the argument that they do not like. */
function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return `${typeof error} thrown`;
  const frames = (error.stack ?? '').replace(error.message, '').match(/^ {4}at .*$/gm) ?? [];
  return [`${error.name}: ${excerptOf(error.message, BUG_MESSAGE_CHARACTERS)}`, ...frames].join('\n');
}

function summarize(error: unknown, { isBug, optionNames }: Telling): Summary {
  if (!(error instanceof Error))
    return { name: 'Error', code: undefined, message: `Thrown was no error: ${typeof error}.` };
  const { code } = error as { readonly code?: unknown };
  const message = isDpsError(error) ? respell(error.message, optionNames) : error.message;
  return {
    name: error.name,
    code: typeof code === 'string' && /^\w{1,60}$/.test(code) ? code : undefined,
    message: isBug ? excerptOf(message, BUG_MESSAGE_CHARACTERS) : message,
  };
}

/** Outermost first. What a failed connection tried per address comes as one cause each. */
function listCauses(error: unknown, telling: Telling): Summary[] {
  const causes: Summary[] = [];
  const queue = causesOf(error);
  for (const cause of queue) {
    if (causes.length === MAX_CAUSES) break;
    causes.push(summarize(cause, telling));
    queue.push(...causesOf(cause));
  }
  return causes;
}

function causesOf(error: unknown): unknown[] {
  if (!(error instanceof Error)) return [];
  const inner = error instanceof AggregateError ? error.errors : [];
  return [...(error.cause instanceof Error ? [error.cause] : []), ...inner];
}

function pickDetails(error: unknown, optionNames: OptionNames): Record<string, string | number> {
  if (!isDpsError(error)) return {};
  const members = error as unknown as Readonly<Record<string, unknown>>;
  const details: Record<string, string | number> = {};
  for (const [member] of DETAILS) {
    const value = members[member];
    if (typeof value === 'string' || typeof value === 'number') details[member] = value;
  }
  if (typeof details.option === 'string') details.option = respellOption(details.option, optionNames);
  return details;
}
