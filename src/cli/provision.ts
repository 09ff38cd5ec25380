import type { Provisioning, provision } from '../compose.js';
import type { ProgressEvent } from '../core/progress.js';
import type { ProvisionedDevice } from '../core/provisioned-device.js';
import { ConfigurationError, DeadlineError } from '../errors.js';
import { UsageError } from './cli-errors.js';
import type { Command, CommandContext } from './command.js';
import type { CommandLog } from './command-log.js';
import { endpointHint, type Hint } from './endpoint-hint.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
import { readSettings } from './journey-settings.js';
import { findOptionNames } from './option-names.js';
import { type Options, readOptions } from './options.js';
import { checkTarget, writeFileWhole } from './output-file.js';
import { describeProgress } from './progress-text.js';
import { DEFAULT_TIMEOUT_SECONDS, PROVISION_SPEC } from './provision-spec.js';
import { makeResultDocument } from './result-document.js';
import { findSecrets, takeEnvironmentSecrets } from './secrets.js';
import type { InputSource } from './text-file.js';
import { TimeLimit } from './time-limit.js';

type Provision = typeof provision;

const OWNER_ONLY = 0o600;

/** `dps-device provision`. `load` brings in what does the work, when it is about to be done. */
export function provisionCommand(
  load: () => Promise<Provision> = async () => (await import('../compose.js')).provision,
): Command {
  return { spec: PROVISION_SPEC, run: (args, context) => runProvision(args, context, load) };
}

async function runProvision(
  args: readonly string[],
  context: CommandContext,
  load: () => Promise<Provision>,
): Promise<number> {
  const { io, interruption } = context;
  const taken = takeEnvironmentSecrets(io.env, PROVISION_SPEC.secrets);
  const limit = new TimeLimit(DEFAULT_TIMEOUT_SECONDS * 1000, io.clock, interruption.signal);
  return limit.over(() => provisionWithin(limit, args, context, { taken, load }));
}

async function provisionWithin(
  limit: TimeLimit,
  args: readonly string[],
  context: CommandContext,
  { taken, load }: { readonly taken: ReadonlyMap<string, string>; readonly load: () => Promise<Provision> },
): Promise<number> {
  const { io, log, interruption, failureContext } = context;
  const { signal } = limit;
  const bound = (given: Options): void => limit.setSeconds(given.number('timeout'));
  const options = await readOptions(args, PROVISION_SPEC, io, signal, bound);
  bound(options);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const target = options.input('write-connection');
  if (target !== undefined) await checkTarget(target);
  const secrets = await findSecrets(PROVISION_SPEC.secrets, options, taken, io, signal);
  failureContext.optionNames = findOptionNames(PROVISION_SPEC, options, secrets);
  const settings = await readSettings(options, secrets, { io, signal });
  failureContext.lines = { identity: settings.origin };
  failureContext.hint = endpointHint(options);
  if (target !== undefined && settings.provision.hsm.kind === 'tpm') throw keyStaysInTpm(options);

  // Of its own deadline the journey tells more than of a signal.
  const within = { ...settings.provision, deadlineMs: limit.leftMs, signal: interruption.signal };
  const device = await follow((await load())(within), log, failureContext.hint).catch((error: unknown) => {
    throw error instanceof DeadlineError ? tellWholeLimit(error, within.deadlineMs, limit.limitMs) : error;
  });
  if (target !== undefined) await writeConnection(device, target, interruption.signal);
  const document = makeResultDocument(device, { ...settings.facts, connectionFile: target?.path });
  const patience = { signal: interruption.signal, limitMs: limit.leftMs };
  await handOver(`${JSON.stringify(document, undefined, 2)}\n`, io, patience);
  return EXIT.ok;
}

/** Said before the first packet: a device that is registered by then would be left without its result. */
function keyStaysInTpm(options: Options): UsageError | ConfigurationError {
  const option = options.label('write-connection');
  const message = `${option}: the key of a TPM cannot leave it, so there is no connection string to write. Leave it out.`;
  if (options.layer('write-connection') === 'flag') return new UsageError(message);
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message, option });
}

/** The journey got what reading keys had left; who reads of it knows the number that he gave. */
function tellWholeLimit(error: DeadlineError, givenMs: number, deadlineMs: number): DeadlineError {
  const message = error.message.replaceAll(`${givenMs} ms`, `${deadlineMs} ms`);
  return Object.assign(new DeadlineError({ state: error.state, deadlineMs, cause: error.cause }), { message });
}

/** Tells every step while the journey goes on; settles after the last one has been told. */
async function follow(journey: Provisioning, log: CommandLog, hint?: Hint): Promise<ProvisionedDevice> {
  const [told, outcome] = await Promise.allSettled([tellSteps(journey.events, log, hint), journey]);
  if (outcome.status === 'rejected') throw outcome.reason;
  if (told.status === 'rejected') throw told.reason;
  return outcome.value;
}

/** What nobody may miss: the next step does not take its place. */
const LASTING_STEPS: ReadonlySet<ProgressEvent['type']> = new Set(['provisioned', 'commit-failed']);

/** Each step as it comes, until there are no more. */
export async function tellSteps(
  events: AsyncIterable<ProgressEvent>,
  log: CommandLog,
  hint: Hint = () => undefined,
): Promise<void> {
  let toldFailure: string | undefined;
  for await (const event of events) {
    const text = describeProgress(event);
    // What fails again and again is told in full once; a life may never end, and tell it there.
    if (event.type === 'waiting' && event.message !== undefined && event.message !== toldFailure) {
      toldFailure = event.message;
      log.entry(event, [`${text}: ${event.message}`, hint(event.detail, event.message) ?? []].flat().join(' '));
    } else if (LASTING_STEPS.has(event.type)) log.entry(event, `${text}`);
    else if (text !== undefined || log.isJson) log.step(event, text ?? '');
  }
}

async function writeConnection(device: ProvisionedDevice, target: InputSource, signal: AbortSignal): Promise<void> {
  await writeFileWhole(target, `${await device.connectionString(signal)}\n`, OWNER_ONLY);
}
