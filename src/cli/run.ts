import type { run } from '../compose.js';
import { wordsOf } from '../core/thrown-words.js';
import type { DesiredChange } from '../core/twin.js';
import { CancelledError } from '../errors.js';
import type { RunOptions } from '../provision-options.js';
import type { RunningDevice } from '../run.js';
import { OutputError } from './cli-errors.js';
import type { Command, CommandContext } from './command.js';
import { endpointHint } from './endpoint-hint.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
import type { CliIo } from './io.js';
import { type JourneySettings, readSettings } from './journey-settings.js';
import { findOptionNames } from './option-names.js';
import { readOptions } from './options.js';
import { tellSteps } from './provision.js';
import { makeResultDocument } from './result-document.js';
import { RUN_SPEC } from './run-spec.js';
import { findSecrets, takeEnvironmentSecrets } from './secrets.js';

type Run = typeof run;

/** `dps-device run`. `load` brings in what does the work, when it is about to be done. */
export function runCommand(load: () => Promise<Run> = async () => (await import('../compose.js')).run): Command {
  return { spec: RUN_SPEC, run: (args, context) => runDevice(args, context, load) };
}

async function runDevice(args: readonly string[], context: CommandContext, load: () => Promise<Run>): Promise<number> {
  const hangUps = new HangUps(context.io);
  try {
    const settings = await readRun(args, context);
    const running = (await load())(settings.run);
    hangUps.sendTo(running);
    try {
      await accompany(running, settings, context);
    } finally {
      await running.close();
    }
    return EXIT.ok;
  } finally {
    hangUps.release();
  }
}

/** SIGHUP counts from the start on: by default it would end a process that still reads its keys. */
class HangUps {
  readonly release: () => void;
  #running: RunningDevice | undefined;
  #hasCome = false;

  constructor(io: CliIo) {
    this.release = io.onHangUp(() => {
      this.#hasCome = true;
      this.#running?.reprovision('SIGHUP');
    });
  }

  sendTo(running: RunningDevice): void {
    this.#running = running;
    if (this.#hasCome) running.reprovision('SIGHUP');
  }
}

interface RunSettings extends JourneySettings {
  readonly run: RunOptions;
}

async function readRun(args: readonly string[], context: CommandContext): Promise<RunSettings> {
  const { io, log, interruption, failureContext } = context;
  const { signal } = interruption;
  const taken = takeEnvironmentSecrets(io.env, RUN_SPEC.secrets);
  const options = await readOptions(args, RUN_SPEC, io, signal);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const secrets = await findSecrets(RUN_SPEC.secrets, options, taken, io, signal);
  failureContext.optionNames = findOptionNames(RUN_SPEC, options, secrets);
  const settings = await readSettings(options, secrets, { io, signal });
  failureContext.lines = { identity: settings.origin };
  failureContext.hint = endpointHint(options);
  const method = options.text('reprovision-method');
  const desiredProperty = options.text('reprovision-property');
  const deadline = options.number('timeout');
  const run: RunOptions = {
    ...settings.provision,
    ...(deadline === undefined ? {} : { deadlineMs: deadline * 1000 }),
    reprovisionOn: {
      ...(method === undefined ? {} : { method }),
      ...(desiredProperty === undefined ? {} : { desiredProperty }),
    },
    onStrayError: (error, origin) =>
      log.entry({ type: 'stray-error', origin, message: wordsOf(error) }, `${origin}: ${wordsOf(error)}`),
    signal,
  };
  return { ...settings, run };
}

/** Tells what happens until it is over. Fails with what ended it, unless it was told to end. */
async function accompany(
  running: RunningDevice,
  settings: JourneySettings,
  { io, log, interruption, failureContext }: CommandContext,
): Promise<void> {
  const { signal } = interruption;
  const lines = new ResultLines(io, signal, () => void running.close());
  running.session.onDesiredChange(({ version, patch, desired }: DesiredChange) =>
    lines.write({ type: 'desired', version, patch, desired }),
  );
  const told = tellSteps(running.events, log, failureContext.hint);
  const isUp = await running.ready.then(
    (device) => {
      lines.write({
        type: 'provisioned',
        ...makeResultDocument(device, { ...settings.facts, connectionFile: undefined }),
      });
      return true;
    },
    () => false,
  );
  const error = await running.closed;
  await told;
  if (error !== undefined) throw error;
  await lines.handedOver();
  // Told to end before it ever got there: who waits for the device must not take that for success.
  if (!isUp) throw new CancelledError({ state: 'provisioning the device', cause: signal.reason });
}

/** What a reader that does not read may leave lying: far more than a twin can hold. */
const MAX_BACKLOG_BYTES = 1_048_576;

/** A line an event. Who reads them goes by them: where nobody does any more, the run is to end. */
class ResultLines {
  readonly #io: CliIo;
  readonly #signal: AbortSignal;
  readonly #onLost: () => void;
  readonly #pending: Set<Promise<void>> = new Set();
  #loss: { readonly error: unknown } | undefined;

  constructor(io: CliIo, signal: AbortSignal, onLost: () => void) {
    this.#io = io;
    this.#signal = signal;
    this.#onLost = onLost;
  }

  write(document: object): void {
    if (this.#loss !== undefined) return;
    if (this.#io.stdout.backlogBytes > MAX_BACKLOG_BYTES) {
      this.#lose(new OutputError('Nobody reads standard output: what it is piped into has stopped. End that program.'));
      return;
    }
    const line = handOver(`${JSON.stringify(document)}\n`, this.#io, { signal: this.#signal })
      .catch((error: unknown) => this.#lose(error))
      .finally(() => this.#pending.delete(line));
    this.#pending.add(line);
  }

  /** Settles when all that was written has left. @throws {OutputError | CancelledError} when something did not. */
  async handedOver(): Promise<void> {
    await Promise.all(this.#pending);
    if (this.#loss !== undefined) throw this.#loss.error;
  }

  #lose(error: unknown): void {
    this.#loss ??= { error };
    this.#onLost();
  }
}
