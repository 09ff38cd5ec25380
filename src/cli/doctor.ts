import type { Clock } from '../core/clock.js';
import { checkClock } from '../doctor/clock-check.js';
import { checkNodeSettings, checkProxy } from '../doctor/environment-check.js';
import { type Finding, failed, skipped, worstError } from '../doctor/finding.js';
import type { LiveNetworkOptions } from '../doctor/live-network.js';
import { checkNetwork, type Network } from '../doctor/network-check.js';
import { CancelledError, ConfigurationError, isDpsError } from '../errors.js';
import { proxyRule } from '../net/proxy-choice.js';
import { UsageError } from './cli-errors.js';
import type { Command, CommandContext } from './command.js';
import { DOCTOR_SPEC } from './doctor-spec.js';
import { endpointHint, type Hint } from './endpoint-hint.js';
import {
  checkConfiguration,
  endpointOf,
  examineAuthorities,
  examineIdentity,
  servicesOf,
  type Timing,
  transportOf,
  tried,
} from './examination.js';
import { EXIT, type ExitStatus, exitStatusOf } from './exit-codes.js';
import { FLAGS } from './failure-report.js';
import { handOver } from './hand-over.js';
import { proxyOption } from './journey-settings.js';
import { blameFlag, findOptionNames, type OptionNames, respell } from './option-names.js';
import { type Options, readOptions } from './options.js';
import { DEFAULT_TIMEOUT_SECONDS } from './provision-spec.js';
import { findSecrets, takeEnvironmentSecrets } from './secrets.js';
import { explainShortage } from './shortage.js';
import { TimeLimit } from './time-limit.js';

/** What the doctor looks at the world with. */
export interface DoctorInstruments {
  /** Whose clock is examined. Default: the one of this machine. */
  readonly clock?: Clock;
  readonly network?: (options: LiveNetworkOptions) => Network | Promise<Network>;
  /** Default: as `provision` does. */
  readonly proxyRule?: typeof proxyRule;
}

/** `dps-device doctor`. */
export function doctorCommand(instruments: DoctorInstruments = {}): Command {
  return { spec: DOCTOR_SPEC, run: (args, context) => runDoctor(args, context, instruments) };
}

/** Long enough for a slow link; whoever waits for a diagnosis has other things to do. */
const CONNECT_TIMEOUT_SECONDS = 10;

async function runDoctor(
  args: readonly string[],
  context: CommandContext,
  instruments: DoctorInstruments,
): Promise<number> {
  const { io, log, interruption } = context;
  const taken = takeEnvironmentSecrets(io.env, DOCTOR_SPEC.secrets);
  const limit = new TimeLimit(DEFAULT_TIMEOUT_SECONDS * 1000, io.clock, interruption.signal);
  return limit.over(async () => {
    const bound = (given: Options): void => limit.setSeconds(given.number('timeout'));
    const tellAll = (report: DoctorReport): Promise<void> =>
      handOver(`${JSON.stringify(report, undefined, 2)}\n`, io, {
        signal: interruption.signal,
        limitMs: limit.leftMs,
      });
    const options = await readOptions(args, DOCTOR_SPEC, io, limit.signal, bound).catch(async (error: unknown) => {
      const report = reportOnOptions(error, instruments.clock ?? io.clock);
      // The fault counts, also where nobody takes the report.
      if (report !== undefined) await tellAll(report).catch(() => {});
      throw error;
    });
    bound(options);
    log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
    const report = await examine({ options, taken, context, signal: limit.signal, instruments });
    await tellAll(report);
    return report.exitStatus;
  });
}

/** Where the options cannot be read, that is all there is to find; on standard error it is told as by any command. */
function reportOnOptions(error: unknown, clock: Clock): DoctorReport | undefined {
  if (!(error instanceof UsageError || error instanceof ConfigurationError)) return undefined;
  const { error: _, ...finding } = failed('configuration', error);
  return {
    status: 'failing',
    exitStatus: exitStatusOf(error),
    checkedAt: formatTime(clock.wallMs()),
    findings: [{ ...finding, code: error.code }],
  };
}

/** All that an examination needs. */
interface Case {
  readonly options: Options;
  readonly taken: ReadonlyMap<string, string>;
  readonly context: CommandContext;
  readonly signal: AbortSignal;
  readonly instruments: DoctorInstruments;
}

/** What `doctor` prints on standard output. No secret is in it. */
interface DoctorReport {
  readonly status: 'healthy' | 'failing';
  readonly exitStatus: ExitStatus;
  readonly checkedAt: string;
  /** Unless the options cannot be read, as `transport`. */
  readonly endpoint?: string;
  readonly transport?: string;
  readonly findings: readonly ToldFinding[];
}

interface ToldFinding extends Omit<Finding, 'error'> {
  readonly code?: string;
}

/** Looks in the order in which `provision` would stumble, and tells each finding at once. */
async function examine(examined: Case): Promise<DoctorReport> {
  const { options, taken, context, signal, instruments } = examined;
  const { io } = context;
  const clock = instruments.clock ?? io.clock;
  const secrets = await tried(() => findSecrets(DOCTOR_SPEC.secrets, options, taken, io, signal));
  const names = findOptionNames(DOCTOR_SPEC, options, secrets.value ?? new Map());
  const words = { names, hint: endpointHint(options) };
  const findings: Finding[] = [];
  const told: ToldFinding[] = [];
  const add = (more: readonly Finding[]): void => {
    for (const found of more) {
      const finding = found.error === undefined ? found : { ...found, error: blameFlag(found.error, names) };
      findings.push(finding);
      told.push(tell(finding, words, context));
    }
  };
  const rule = await tried(async () => {
    const { proxy } = await proxyOption(options, secrets.value ?? new Map(), signal);
    return (instruments.proxyRule ?? proxyRule)({ proxy, env: io.env });
  });
  const proxyFor = rule.value;
  const hop = proxyFor?.(servicesOf(options).chosen);
  add([
    checkClock(clock),
    rule.error === undefined ? checkProxy(io.env, hop, proxyLabel(options)) : failed('proxy', rule.error),
    checkNodeSettings(io.env, options.text('ca-file') !== undefined),
  ]);
  add(await checkConfiguration(options, io, signal));
  const timing: Timing = { clock: timedBy(io.clock, clock), connectTimeoutMs: connectTimeoutMsOf(options) };
  const identity = await examineIdentity(options, secrets, timing, { env: io.env, signal });
  add(identity.findings);
  const authorities = await examineAuthorities(options, io, clock, signal);
  add(authorities.findings);
  const way = { ...timing, ca: authorities.pem, client: identity.client, proxyFor };
  add(authorities.isKnown ? await examineNetwork(examined, way) : [NOT_TRIED]);
  add([NOT_ASKED]);
  const error = worstError(findings);
  return {
    status: error === undefined ? 'healthy' : 'failing',
    exitStatus: error === undefined ? EXIT.ok : exitStatusOf(error),
    checkedAt: formatTime(clock.wallMs()),
    endpoint: endpointOf(options),
    transport: transportOf(options),
    findings: told,
  };
}

const NOT_TRIED = skipped('tls', 'No connection was tried: it is not known which authorities to trust.');

const NOT_ASKED = skipped(
  'service',
  'DPS was not asked whether it knows this device and accepts its identity, nor was a hub looked at: that takes a registration, dps-device provision.',
);

function proxyLabel(options: Options): string | undefined {
  return options.text('proxy') === undefined ? undefined : options.label('proxy');
}

function connectTimeoutMsOf(options: Options): number {
  return (options.number('connect-timeout') ?? CONNECT_TIMEOUT_SECONDS) * 1000;
}

/** What waits is timed by the clock that runs; what is dated is judged by the one under examination. */
function timedBy(running: Clock, examined: Clock): Clock {
  return {
    monotonicMs: () => running.monotonicMs(),
    wallMs: () => examined.wallMs(),
    after: (delayMs, fn) => running.after(delayMs, fn),
  };
}

async function examineNetwork({ options, signal, instruments }: Case, way: LiveNetworkOptions): Promise<Finding[]> {
  const services = servicesOf(options);
  const makeNetwork = instruments.network ?? (await import('../doctor/live-network.js')).liveNetwork;
  const network = await makeNetwork(way);
  const hop = way.proxyFor?.(services.chosen);
  return checkNetwork(network, { ...services, hop, clock: way.clock, signal }).catch((error: unknown) => {
    throw signal.aborted ? new CancelledError({ state: 'looking at the network', cause: signal.reason }) : error;
  });
}

const MARKS = { ok: 'ok', warning: 'warning', failed: 'FAILED', skipped: 'skipped' } as const;

/** In the user's own words, on standard error at once, and for the document. */
function tell({ error, ...finding }: Finding, words: UserWords, { log }: CommandContext): ToldFinding {
  const code = error instanceof UsageError || isDpsError(error) ? error.code : undefined;
  const fix = fixFor(finding.fix, error, code, words);
  const told: ToldFinding = {
    ...finding,
    message: respell(finding.message, words.names),
    ...(fix === undefined ? {} : { fix }),
    ...(code === undefined ? {} : { code }),
  };
  const line = `${MARKS[told.verdict].padEnd(8)} ${told.check.padEnd(15)} ${told.message}`;
  log.entry({ type: 'finding', ...told }, told.fix === undefined ? line : `${line} -> ${told.fix}`);
  return told;
}

interface UserWords {
  readonly names: OptionNames;
  readonly hint: Hint;
}

function fixFor(
  fix: string | undefined,
  error: Error | undefined,
  code: string | undefined,
  { names, hint }: UserWords,
): string | undefined {
  const shortage = explainShortage(error);
  if (shortage !== undefined) return `${shortage.charAt(0).toUpperCase()}${shortage.slice(1)}.`;
  if (fix === undefined || error === undefined) return fix && respell(fix, names);
  const flag = FLAGS[code ?? ''];
  const more = [hint(code, error.message) ?? [], flag === undefined ? [] : `On the command line: ${flag}.`];
  return [respell(fix, names), ...more.flat()].join(' ');
}

function formatTime(wallMs: number): string {
  return Math.abs(wallMs) <= 8.64e15 ? new Date(wallMs).toISOString() : `${wallMs} ms after 1970`;
}
