import { readCertificates } from '../../hsm/certificate-chain.js';
import { readSecretFile } from '../../hsm/secret-file.js';
import { decodeUtf8 } from '../core/bytes.js';
import { ConfigurationError, HsmError } from '../errors.js';
import type { ProvisionOptions } from '../provision-options.js';
import type { DpsTransportName, HubTransportName } from '../transport-names.js';
import { chooseIdentity } from './identity.js';
import type { CliIo } from './io.js';
import type { Options } from './options.js';
import type { JourneyFacts } from './result-document.js';
import type { GivenSecret, GivenSecrets } from './secrets.js';
import { type InputSource, readJsonInput, readTextInput } from './text-file.js';

/** What input is read with. */
interface Reading {
  readonly io: CliIo;
  readonly signal: AbortSignal;
}

/** What options and secrets say of the journey, read and checked. */
export interface JourneySettings {
  readonly provision: ProvisionOptions;
  /** For the result document. */
  readonly facts: Omit<JourneyFacts, 'connectionFile'>;
  /** Where the identity came from. */
  readonly origin: string;
}

/** @throws {UsageError | ConfigurationError | HsmError} for what is missing, unknown or not to be read. */
export async function readSettings(
  options: Options,
  secrets: GivenSecrets,
  { io, signal }: Reading,
): Promise<JourneySettings> {
  const idScope = options.text('id-scope');
  if (idScope === undefined) {
    throw options.missing('id-scope', '--id-scope is missing: copy it from the overview page of the DPS instance.');
  }
  const { hsm, origin } = await chooseIdentity(options, secrets, { env: io.env, signal });
  const ca = options.input('ca-file');
  const payload = options.input('payload-file');
  return {
    origin,
    facts: { idScope },
    provision: {
      idScope,
      hsm,
      ...plainOptions(options),
      ...(ca === undefined ? {} : { ca: await readAuthorities(ca, { io, signal }) }),
      ...(payload === undefined ? {} : { payload: await readJsonInput(payload, io, signal) }),
      ...(await proxyOption(options, secrets, signal)),
    },
  };
}

/** What needs no file to be read, nor a secret. */
export function plainOptions(options: Options): Omit<ProvisionOptions, 'idScope' | 'hsm'> {
  const transport = transportNames<DpsTransportName>(options.text('transport'));
  const hubTransport = transportNames<HubTransportName>(options.text('hub-transport'));
  const endpoint = options.text('endpoint');
  const modelId = options.text('model-id');
  const state = options.text('state');
  return {
    ...(transport === undefined ? {} : { transport }),
    ...(hubTransport === undefined ? {} : { hubTransport }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(modelId === undefined ? {} : { modelId }),
    ...(state === undefined ? {} : { state }),
    ...(options.isOn('reprovision') ? { reprovision: true } : {}),
    ...inMs('startSpreadMs', options.number('start-spread')),
    ...inMs('connectTimeoutMs', options.number('connect-timeout')),
    ...inMs('requestTimeoutMs', options.number('request-timeout')),
  };
}

/** One name, or several with commas in between; the command line lets no other words pass. */
function transportNames<Name extends string>(text: string | undefined): Name | 'auto' | readonly Name[] | undefined {
  return text?.includes(',') ? (text.split(',') as Name[]) : (text as Name | undefined);
}

function inMs<Name extends string>(name: Name, seconds: number | undefined): { readonly [N in Name]?: number } {
  return seconds === undefined ? {} : ({ [name]: seconds * 1000 } as { [N in Name]: number });
}

/** OpenSSL stops at the first certificate that it cannot read, without a word: those after it would be missed. */
async function readAuthorities(source: InputSource, { io, signal }: Reading): Promise<string> {
  const pem = await readTextInput(source, io, signal);
  try {
    readCertificates({ text: pem, place: source.path === '-' ? 'standard input' : source.path });
    return pem;
  } catch (error) {
    if (!(error instanceof HsmError)) throw error;
    const message = `${source.option}: ${error.message}`;
    throw new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message, option: source.option });
  }
}

/** The URL of the proxy with the password, which is given apart from it. */
export async function proxyOption(
  options: Options,
  secrets: GivenSecrets,
  signal: AbortSignal,
): Promise<Pick<ProvisionOptions, 'proxy'>> {
  const proxy = options.text('proxy');
  if (proxy?.toLowerCase() === 'none') return { proxy };
  const given = secrets.get('proxy-password');
  if (proxy === undefined && given !== undefined) {
    throw options.missing(
      'proxy',
      `${given.label}: there is no --proxy that it is for. Give its URL, with the user name.`,
    );
  }
  if (proxy === undefined || given === undefined) return proxy === undefined ? {} : { proxy };
  const user = /^(?<scheme>[a-z0-9]+:\/\/)?(?<name>.+)@(?<rest>[^@]*)$/i.exec(proxy)?.groups;
  if (user === undefined) {
    throw options.missing(
      'proxy',
      `${options.label('proxy')} names no user that ${given.label} is the password of: http://USER@HOST:PORT.`,
    );
  }
  const { scheme = 'http://', name = '', rest } = user;
  const password = await passwordOf(given, signal);
  return { proxy: `${scheme}${name.replaceAll('@', '%40')}:${encodeURIComponent(password)}@${rest}` };
}

/** One line end is dropped: editors put it there. */
async function passwordOf({ source, label, place }: GivenSecret, signal: AbortSignal): Promise<string> {
  if (typeof source === 'string') return source;
  const bytes = await readSecretFile(source.file, { what: 'proxy password', signal });
  const text = decodeUtf8(bytes);
  bytes.fill(0);
  if (text !== undefined) return text.replace(/\r?\n$/, '');
  const message = `${place} is not UTF-8 text. Store the password as text.`;
  throw new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message, option: label });
}
