import type { run } from '../compose.js';
import { wordsOf } from '../core/thrown-words.js';
import type { DesiredChange } from '../core/twin.js';
import type { RunningDevice } from '../run.js';
import type { Command, CommandContext } from './command.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
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
  const { io, log, interruption, failureContext } = context;
  const { signal } = interruption;
  const taken = takeEnvironmentSecrets(io.env, RUN_SPEC.secrets);
  const options = await readOptions(args, RUN_SPEC, io, signal);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const secrets = await findSecrets(RUN_SPEC.secrets, options, taken, io, signal);
  failureContext.optionNames = findOptionNames(RUN_SPEC, options, secrets);
  const settings = await readSettings(options, secrets, { io, signal });
  failureContext.lines = { identity: settings.origin };
  const method = options.text('reprovision-method');
  const desiredProperty = options.text('reprovision-property');
  const deadline = options.number('timeout');

  const running = (await load())({
    ...settings.provision,
    ...(deadline === undefined ? {} : { deadlineMs: deadline * 1000 }),
    reprovisionOn: {
      ...(method === undefined ? {} : { method }),
      ...(desiredProperty === undefined ? {} : { desiredProperty }),
    },
    onStrayError: (error, origin) =>
      log.entry({ type: 'stray-error', origin, message: wordsOf(error) }, `${origin}: ${wordsOf(error)}`),
    signal,
  });
  const stopListening = io.onHangUp(() => running.reprovision('SIGHUP'));
  try {
    await accompany(running, settings, context);
    return EXIT.ok;
  } finally {
    stopListening();
    await running.close();
  }
}

/** Tells what happens until it is over. Fails with what ended it, unless it was told to end. */
async function accompany(
  running: RunningDevice,
  settings: JourneySettings,
  { io, log, interruption }: CommandContext,
): Promise<void> {
  const { signal } = interruption;
  const line = (document: object): Promise<void> => handOver(`${JSON.stringify(document)}\n`, io, { signal });
  running.session.onDesiredChange(({ version, patch, desired }: DesiredChange) =>
    line({ type: 'desired', version, patch, desired }),
  );
  const told = tellSteps(running.events, log);
  const isUp = await running.ready.then(
    async (device) => {
      await line({
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
  // Told to end before it ever got there: who waits for the device must not take that for success.
  if (!isUp) signal.throwIfAborted();
}
