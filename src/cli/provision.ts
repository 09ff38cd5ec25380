import type { Provisioning, provision } from '../compose.js';
import type { AttestationKind } from '../core/attestation.js';
import type { ProvisionedDevice } from '../core/provisioned-device.js';
import { ConfigurationError } from '../errors.js';
import type { ProvisionOptions } from '../provision-options.js';
import type { Command, CommandContext } from './command.js';
import type { CommandLog } from './command-log.js';
import { EXIT } from './exit-codes.js';
import { chooseIdentity } from './identity.js';
import { findOptionNames } from './option-names.js';
import { type Options, readOptions } from './options.js';
import { checkTarget, writeFileWhole } from './output-file.js';
import { describeProgress } from './progress-text.js';
import { PROVISION_SPEC } from './provision-spec.js';
import { makeResultDocument } from './result-document.js';
import { findSecrets, type GivenSecrets, takeEnvironmentSecrets } from './secrets.js';
import { type InputSource, readJsonInput, readTextInput } from './text-file.js';

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
  const { io, log, interruption, failureContext } = context;
  const { signal } = interruption;
  const taken = takeEnvironmentSecrets(io.env, PROVISION_SPEC.secrets);
  const options = await readOptions(args, PROVISION_SPEC, io, signal);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const target = options.input('write-connection');
  if (target !== undefined) await checkTarget(target);
  const secrets = await findSecrets(PROVISION_SPEC.secrets, options, taken, io, signal);
  failureContext.optionNames = findOptionNames(PROVISION_SPEC, options, secrets);
  const settings = await readSettings(options, secrets, context);
  failureContext.lines = { identity: settings.origin };

  const journey = (await load())(settings.provision);
  const [started, device] = await follow(journey, log);
  if (target !== undefined) await writeConnection(device, target, signal);
  const document = makeResultDocument(device, {
    ...started,
    idScope: settings.provision.idScope,
    transport: settings.transport,
    connectionFile: target?.path,
  });
  await io.stdout.write(`${JSON.stringify(document, undefined, 2)}\n`);
  return EXIT.ok;
}

interface Settings {
  readonly provision: ProvisionOptions;
  readonly transport: { readonly dps: 'mqtt' | 'https'; readonly hub: 'mqtt' };
  /** Where the identity came from. */
  readonly origin: string;
}

async function readSettings(
  options: Options,
  secrets: GivenSecrets,
  { io, interruption }: CommandContext,
): Promise<Settings> {
  const { signal } = interruption;
  const idScope = options.text('id-scope');
  if (idScope === undefined) {
    throw options.missing('id-scope', '--id-scope is missing: copy it from the overview page of the DPS instance.');
  }
  const { hsm, origin } = await chooseIdentity(options, secrets, signal);
  const transport = {
    dps: options.text('transport') === 'https' ? ('https' as const) : ('mqtt' as const),
    hub: 'mqtt' as const,
  };
  const ca = options.input('ca-file');
  const payload = options.input('payload-file');
  const endpoint = options.text('endpoint');
  const modelId = options.text('model-id');
  return {
    origin,
    transport,
    provision: {
      idScope,
      hsm,
      signal,
      transport: transport.dps,
      hubTransport: transport.hub,
      ...(endpoint === undefined ? {} : { endpoint }),
      ...(modelId === undefined ? {} : { modelId }),
      ...(ca === undefined ? {} : { ca: await readAuthorities(ca, { io, signal }) }),
      ...(payload === undefined ? {} : { payload: await readJsonInput(payload, io, signal) }),
      ...inMs('deadlineMs', options.number('timeout')),
      ...inMs('connectTimeoutMs', options.number('connect-timeout')),
      ...inMs('requestTimeoutMs', options.number('request-timeout')),
    },
  };
}

function inMs<Name extends string>(name: Name, seconds: number | undefined): { readonly [N in Name]?: number } {
  return seconds === undefined ? {} : ({ [name]: seconds * 1000 } as { [N in Name]: number });
}

async function readAuthorities(
  source: InputSource,
  { io, signal }: { readonly io: CommandContext['io']; readonly signal: AbortSignal },
): Promise<string> {
  const pem = await readTextInput(source, io, signal);
  if (pem.includes('-----BEGIN CERTIFICATE-----')) return pem;
  throw new ConfigurationError({
    code: 'ERR_DPS_CONFIG_FILE',
    message: `${source.option}: ${source.path} holds no PEM certificate; one begins with -----BEGIN CERTIFICATE-----.`,
    option: source.option,
  });
}

interface Started {
  readonly registrationId: string;
  readonly attestation: AttestationKind;
}

/** Tells every step while the journey goes on; settles after the last one has been told. */
async function follow(journey: Provisioning, log: CommandLog): Promise<[Started, ProvisionedDevice]> {
  const [told, outcome] = await Promise.allSettled([tellSteps(journey, log), journey]);
  if (outcome.status === 'rejected') throw outcome.reason;
  if (told.status === 'rejected') throw told.reason;
  if (told.value === undefined) throw new TypeError('A journey ended well without having started');
  return [told.value, outcome.value];
}

async function tellSteps(journey: Provisioning, log: CommandLog): Promise<Started | undefined> {
  let started: Started | undefined;
  for await (const event of journey.events) {
    if (event.type === 'started') started = event;
    const text = describeProgress(event);
    if (event.type === 'provisioned') await log.entry(event, `${text}`);
    else if (text !== undefined || log.isJson) await log.step(event, text ?? '');
  }
  return started;
}

async function writeConnection(device: ProvisionedDevice, target: InputSource, signal: AbortSignal): Promise<void> {
  await writeFileWhole(target, `${await device.connectionString(signal)}\n`, OWNER_ONLY);
}
