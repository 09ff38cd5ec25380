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
import {
  checkConfiguration,
  endpointOf,
  examineAuthorities,
  examineIdentity,
  servicesOf,
  transportOf,
  tried,
} from './examination.js';
import { EXIT, type ExitStatus, exitStatusOf } from './exit-codes.js';
import { handOver } from './hand-over.js';
import { proxyOption } from './journey-settings.js';
import { findOptionNames, type OptionNames, respell } from './option-names.js';
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
  const findings: Finding[] = [];
  const told: ToldFinding[] = [];
  const add = (more: readonly Finding[]): void => {
    findings.push(...more);
    for (const finding of more) told.push(tell(finding, names, context));
  };
  const rule = await tried(async () => {
    const { proxy } = await proxyOption(options, secrets.value ?? new Map(), signal);
    return (instruments.proxyRule ?? proxyRule)({ proxy, env: io.env });
  });
  const proxyFor = rule.value;
  const hop = proxyFor?.(servicesOf(options).chosen);
  add([
    checkClock(clock),
    rule.error === undefined ? checkProxy(io.env, hop) : failed('proxy', rule.error),
    checkNodeSettings(io.env, options.text('ca-file') !== undefined),
  ]);
  add(await checkConfiguration(options, io, signal));
  const identity = await examineIdentity(options, secrets, clock, { env: io.env, signal });
  add(identity.findings);
  const authorities = await examineAuthorities(options, io, clock, signal);
  add(authorities.findings);
  const way = { ca: authorities.pem, client: identity.client, proxyFor };
  add(authorities.isKnown ? await examineNetwork(examined, clock, way) : [NOT_TRIED]);
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

async function examineNetwork(
  { options, signal, instruments, context }: Case,
  clock: Clock,
  way: Pick<LiveNetworkOptions, 'ca' | 'client' | 'proxyFor'>,
): Promise<Finding[]> {
  const services = servicesOf(options);
  const connectTimeoutMs = (options.number('connect-timeout') ?? CONNECT_TIMEOUT_SECONDS) * 1000;
  const makeNetwork = instruments.network ?? (await import('../doctor/live-network.js')).liveNetwork;
  // What waits is timed by the clock that runs; what is dated is judged by the one under examination.
  const timed: Clock = {
    monotonicMs: () => context.io.clock.monotonicMs(),
    wallMs: () => clock.wallMs(),
    after: (delayMs, fn) => context.io.clock.after(delayMs, fn),
  };
  const network = await makeNetwork({ ...way, clock: timed, connectTimeoutMs });
  const hop = way.proxyFor?.(services.chosen);
  return checkNetwork(network, { ...services, hop, clock, signal }).catch((error: unknown) => {
    throw signal.aborted ? new CancelledError({ state: 'looking at the network', cause: signal.reason }) : error;
  });
}

const MARKS = { ok: 'ok', warning: 'warning', failed: 'FAILED', skipped: 'skipped' } as const;

/** In the user's own words, on standard error at once, and for the document. */
function tell({ error, ...finding }: Finding, names: OptionNames, { log }: CommandContext): ToldFinding {
  const shortage = explainShortage(error);
  const fix = shortage === undefined ? finding.fix : `${shortage.charAt(0).toUpperCase()}${shortage.slice(1)}.`;
  const code = error instanceof UsageError || isDpsError(error) ? error.code : undefined;
  const told: ToldFinding = {
    ...finding,
    message: respell(finding.message, names),
    ...(fix === undefined ? {} : { fix: respell(fix, names) }),
    ...(code === undefined ? {} : { code }),
  };
  const line = `${MARKS[told.verdict].padEnd(8)} ${told.check.padEnd(15)} ${told.message}`;
  log.entry({ type: 'finding', ...told }, told.fix === undefined ? line : `${line} -> ${told.fix}`);
  return told;
}

function formatTime(wallMs: number): string {
  return Math.abs(wallMs) <= 8.64e15 ? new Date(wallMs).toISOString() : `${wallMs} ms after 1970`;
}
