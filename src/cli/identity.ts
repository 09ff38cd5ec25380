import { readPublicFile } from '../../hsm/secret-file.js';
import { DEFAULT_TPM_LINK } from '../../hsm/tpm2/links/link-uri.js';
import type { KeyTemplateName } from '../../hsm/tpm2/templates.js';
import { ConfigurationError } from '../errors.js';
import type { HsmDescription } from '../provision-options.js';
import { UsageError } from './cli-errors.js';
import type { CliIo } from './io.js';
import { chooseSealing } from './key-store-sealing.js';
import type { Options } from './options.js';
import type { GivenSecret, GivenSecrets } from './secrets.js';
import { parseTpmHandles } from './tpm-options.js';

/** How this device proves who it is. */
export interface Identity {
  readonly hsm: HsmDescription;
  /** Where its parts come from, for a failure report: `symmetric key from --symmetric-key-file device.key`. */
  readonly origin: string;
}

type Attestation = 'symmetric-key' | 'x509' | 'key-store' | 'tpm';

const SECRETS_OF: Readonly<Record<Attestation, readonly string[]>> = {
  'symmetric-key': ['symmetric-key', 'secondary-symmetric-key', 'group-key', 'secondary-group-key'],
  x509: ['cert-key', 'key-passphrase'],
  'key-store': [],
  tpm: ['tpm-owner-auth', 'tpm-endorsement-auth'],
};

const OPTIONS_OF: Readonly<Record<Attestation, readonly string[]>> = {
  'symmetric-key': [],
  x509: ['cert-file', 'chain-file'],
  'key-store': ['key-store', 'key-name'],
  tpm: ['tpm', 'tpm-template', 'tpm-handles', 'tpm-transient-primaries'],
};

/**
 * Makes one identity of what was given.
 *
 * @throws {UsageError | ConfigurationError} when nothing was given, too little, or two identities.
 * @throws {HsmError} when the certificate has to be read here and cannot be.
 */
export async function chooseIdentity(
  options: Options,
  secrets: GivenSecrets,
  { env, signal }: IdentitySources,
): Promise<Identity> {
  const attestation = chooseAttestation(options, secrets);
  switch (attestation) {
    case 'x509':
      return x509Identity(options, secrets, signal);
    case 'key-store':
      return keyStoreIdentity(options, secrets, env);
    case 'tpm':
      return tpmIdentity(options, secrets);
    default:
      return symmetricKeyIdentity(options, secrets);
  }
}

/** Beside what was given: systemd credentials, and the end of patience. */
export interface IdentitySources {
  readonly env: CliIo['env'];
  readonly signal: AbortSignal;
}

function chooseAttestation(options: Options, secrets: GivenSecrets): Attestation {
  const wanted = options.text('attestation') as Attestation | undefined;
  const labels = ATTESTATIONS.map((each) => givenFor(each, options, secrets));
  const given = ATTESTATIONS.filter((_, index) => labels[index]?.length);
  if (given.length > 1) throw twoIdentities(options, labels.flat());
  if (wanted !== undefined && given.length > 0 && wanted !== given[0]) {
    throw twoIdentities(options, [`${options.label('attestation')} (${wanted})`, ...labels.flat()]);
  }
  const attestation = wanted ?? given[0];
  if (attestation !== undefined) return attestation;
  throw options.missing(
    'attestation',
    'Nothing says how this device proves who it is. Give --registration-id with --symmetric-key-file, --cert-file with --cert-key-file, --key-store with --key-name, or --tpm.',
  );
}

const ATTESTATIONS: readonly Attestation[] = ['symmetric-key', 'x509', 'key-store', 'tpm'];

/** Labels of all that was given for one kind of attestation. */
function givenFor(attestation: Attestation, options: Options, secrets: GivenSecrets): string[] {
  const names = OPTIONS_OF[attestation].filter((name) => options.text(name) !== undefined || options.isOn(name));
  return [...names.map((name) => options.label(name)), ...labelsOf(SECRETS_OF[attestation], secrets)];
}

function labelsOf(names: readonly string[], secrets: GivenSecrets): string[] {
  return names.map((name) => secrets.get(name)?.label).filter((label) => label !== undefined);
}

function twoIdentities(options: Options, labels: readonly string[]): Error {
  const message = `These belong to different identities: ${labels.join(', ')}. A device has one: leave the others out.`;
  const areFlags = labels.every((label) => label.startsWith('--'));
  if (areFlags && options.text('config') === undefined) return new UsageError(message);
  return new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message, option: 'attestation' });
}

function symmetricKeyIdentity(options: Options, secrets: GivenSecrets): Identity {
  const registrationId = options.text('registration-id');
  if (registrationId === undefined) {
    throw options.missing(
      'registration-id',
      '--registration-id is missing: give the name of this device in its enrollment.',
    );
  }
  const key = secrets.get('symmetric-key');
  const groupKey = secrets.get('group-key');
  const device = labelsOf(['symmetric-key', 'secondary-symmetric-key'], secrets);
  const group = labelsOf(['group-key', 'secondary-group-key'], secrets);
  if (device.length > 0 && group.length > 0) throw twoIdentities(options, [...device, ...group]);
  const first = key ?? groupKey;
  if (first === undefined) {
    throw options.missing(
      'symmetric-key',
      '--symmetric-key-file is missing: give the file with the key of this device, or --group-key-file.',
    );
  }
  const second = secrets.get(key === undefined ? 'secondary-group-key' : 'secondary-symmetric-key');
  const hsm: HsmDescription =
    key === undefined
      ? {
          kind: 'symmetricKey',
          registrationId,
          groupKey: first.source,
          ...(second && { secondaryGroupKey: second.source }),
        }
      : { kind: 'symmetricKey', registrationId, key: first.source, ...(second && { secondaryKey: second.source }) };
  return { hsm, origin: describeOrigin(key === undefined ? 'group key' : 'symmetric key', [first, second]) };
}

async function x509Identity(options: Options, secrets: GivenSecrets, signal: AbortSignal): Promise<Identity> {
  const certificate = options.text('cert-file');
  const key = secrets.get('cert-key');
  if (certificate === undefined) {
    throw options.missing('cert-file', "--cert-file is missing: give the PEM file of this device's certificate.");
  }
  if (key === undefined) {
    throw options.missing('cert-key', '--cert-key-file is missing: give the PEM file of the private key.');
  }
  const passphrase = secrets.get('key-passphrase');
  const registrationId = options.text('registration-id');
  const chain = options.text('chain-file');
  const common = {
    kind: 'x509' as const,
    ...(passphrase && { passphrase: passphrase.source }),
    ...(registrationId !== undefined && { registrationId }),
  };
  const origin = describeOrigin(`certificate from ${options.place('cert-file')}, key`, [key, passphrase]);
  if (typeof key.source === 'object') {
    return { hsm: { ...common, certificate, key: key.source.file, ...(chain !== undefined && { chain }) }, origin };
  }
  const certificatePem = await readPem(certificate, signal);
  const chainPem = chain === undefined ? undefined : await readPem(chain, signal);
  return {
    hsm: { ...common, certificatePem, keyPem: key.source, ...(chainPem !== undefined && { chainPem }) },
    origin,
  };
}

async function keyStoreIdentity(options: Options, secrets: GivenSecrets, env: CliIo['env']): Promise<Identity> {
  const directory = options.text('key-store');
  const entry = options.text('key-name');
  if (options.text('registration-id') !== undefined) {
    throw options.missing(
      'registration-id',
      `${options.label('registration-id')}: the entry of a key store brings its own registration id. Leave this out, or import the key again with another one: dps-device keys import --registration-id ID.`,
    );
  }
  if (directory === undefined) {
    throw options.missing('key-store', '--key-store is missing: give the folder of the key store.');
  }
  if (entry === undefined) {
    throw options.missing('key-name', '--key-name is missing: give the name of the entry with the key of this device.');
  }
  const sealing = await chooseSealing({ options, secrets, env });
  return {
    hsm: { kind: 'keyStore', directory, entry, ...sealing },
    origin: `entry ${entry} of the key store ${options.place('key-store')}`,
  };
}

function tpmIdentity(options: Options, secrets: GivenSecrets): Identity {
  const link = options.text('tpm');
  if (link === undefined && options.text('attestation') === undefined) {
    throw options.missing('tpm', '--tpm is missing: give the link of the TPM, such as tpm2:/dev/tpmrm0.');
  }
  const registrationId = options.text('registration-id');
  // The command line lets no other words pass.
  const template = options.text('tpm-template') as KeyTemplateName | undefined;
  const handles = options.text('tpm-handles');
  const owner = secrets.get('tpm-owner-auth');
  const endorsement = secrets.get('tpm-endorsement-auth');
  const origin = `TPM at ${link ?? DEFAULT_TPM_LINK}`;
  return {
    hsm: {
      kind: 'tpm',
      ...(link !== undefined && { link }),
      ...(registrationId !== undefined && { registrationId }),
      ...(template !== undefined && { template }),
      ...(handles !== undefined && parseTpmHandles(handles)),
      ...(options.isOn('tpm-transient-primaries') && { transientPrimaries: true }),
      ...(owner && { ownerAuth: owner.source }),
      ...(endorsement && { endorsementAuth: endorsement.source }),
    },
    origin: owner || endorsement ? describeOrigin(`${origin}, password`, [owner, endorsement]) : origin,
  };
}

/** PEM is ASCII; what stands around its blocks may be in any encoding. */
async function readPem(path: string, signal: AbortSignal): Promise<string> {
  return Buffer.from(await readPublicFile(path, { what: 'certificate', signal })).toString('latin1');
}

function describeOrigin(what: string, secrets: readonly (GivenSecret | undefined)[]): string {
  const places = secrets.filter((secret) => secret !== undefined).map(({ place }) => place);
  return `${what} from ${places.join(' and ')}`;
}
