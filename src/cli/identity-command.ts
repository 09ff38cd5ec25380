import { X509Certificate } from 'node:crypto';
import type { Hsm } from '../core/attestation.js';
import type { HsmDescription } from '../provision-options.js';
import type { Command, CommandContext } from './command.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
import { chooseIdentity } from './identity.js';
import { IDENTITY_HELP, IDENTITY_SPEC } from './identity-spec.js';
import { findOptionNames } from './option-names.js';
import { type Options, readOptions } from './options.js';
import { DEFAULT_TIMEOUT_SECONDS } from './provision-spec.js';
import { findSecrets, takeEnvironmentSecrets } from './secrets.js';
import { TimeLimit } from './time-limit.js';

type MakeHsm = (description: HsmDescription, signal: AbortSignal) => Promise<Hsm>;

/** What the operator needs to enroll this device. No secret. */
interface DeviceIdentity {
  readonly registrationId: string;
  readonly attestation: Hsm['kind'];
  /** X.509: of the leaf, in hex. */
  readonly sha1Thumbprint?: string;
  readonly sha256Thumbprint?: string;
  readonly notAfter?: string;
  /** TPM: Base64 of the marshalled `TPM2B_PUBLIC`. */
  readonly endorsementKey?: string;
  readonly storageRootKey?: string;
  /** An individual enrollment as the service's API takes it; the keys of a symmetric one are the operator's. */
  readonly enrollment: object;
}

/** `dps-device identity`. `load` brings in what opens keys. */
export function identityCommand(
  load: () => Promise<MakeHsm> = async () => (await import('../compose.js')).makeHsm,
): Command {
  return {
    spec: IDENTITY_SPEC,
    specFor: () => IDENTITY_HELP,
    run: async (args, context) => {
      const { io, interruption } = context;
      const limit = new TimeLimit(DEFAULT_TIMEOUT_SECONDS * 1000, io.clock, interruption.signal);
      const text = await limit.over(() => describeDevice(limit, args, context, load));
      await handOver(`${text}\n`, io, { signal: interruption.signal, limitMs: limit.leftMs });
      return EXIT.ok;
    },
  };
}

async function describeDevice(
  limit: TimeLimit,
  args: readonly string[],
  { io, log, failureContext }: CommandContext,
  load: () => Promise<MakeHsm>,
): Promise<string> {
  const { signal } = limit;
  const taken = takeEnvironmentSecrets(io.env, IDENTITY_SPEC.secrets);
  const bound = (given: Options): void => limit.setSeconds(given.number('timeout'));
  const options = await readOptions(args, IDENTITY_SPEC, io, signal, bound);
  bound(options);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const wanted = options.text('format');
  // It is the same for every device, and written before there is one.
  if (wanted === 'csv-header') return COLUMNS.join(',');
  const secrets = await findSecrets(IDENTITY_SPEC.secrets, options, taken, io, signal);
  failureContext.optionNames = findOptionNames(IDENTITY_SPEC, options, secrets);
  const { hsm: description, origin } = await chooseIdentity(options, secrets, { env: io.env, signal });
  failureContext.lines = { identity: origin };

  const hsm = await (await load())(description, signal);
  try {
    return format(await readIdentity(hsm, signal), wanted);
  } finally {
    await hsm.close?.();
  }
}

async function readIdentity(hsm: Hsm, signal: AbortSignal): Promise<DeviceIdentity> {
  const registrationId = await hsm.registrationId(signal);
  switch (hsm.kind) {
    case 'tpm': {
      const { endorsementKey, storageRootKey } = await hsm.endorsement(signal);
      const key = Buffer.from(endorsementKey).toString('base64');
      // The SRK is no part of the enrollment: it changes when the TPM is cleared.
      return {
        registrationId,
        attestation: 'tpm',
        endorsementKey: key,
        storageRootKey: Buffer.from(storageRootKey).toString('base64'),
        enrollment: enrollmentOf(registrationId, { type: 'tpm', tpm: { endorsementKey: key } }),
      };
    }
    case 'x509': {
      const { certificateChainPem } = await hsm.tlsCredential(0, signal);
      const leaf = new X509Certificate(certificateChainPem);
      const certificate = leaf.toString();
      return {
        registrationId,
        attestation: 'x509',
        sha1Thumbprint: hexOf(leaf.fingerprint),
        sha256Thumbprint: hexOf(leaf.fingerprint256),
        notAfter: new Date(leaf.validTo).toISOString(),
        enrollment: enrollmentOf(registrationId, {
          type: 'x509',
          x509: { clientCertificates: { primary: { certificate } } },
        }),
      };
    }
    default:
      return {
        registrationId,
        attestation: 'symmetricKey',
        enrollment: enrollmentOf(registrationId, { type: 'symmetricKey' }),
      };
  }
}

function enrollmentOf(registrationId: string, attestation: object): object {
  return { registrationId, attestation };
}

function hexOf(fingerprint: string): string {
  return fingerprint.replaceAll(':', '');
}

const COLUMNS = [
  'registrationId',
  'attestation',
  'sha1Thumbprint',
  'sha256Thumbprint',
  'notAfter',
  'endorsementKey',
] as const;

/** One row a device, all with the same columns: a factory appends them to one file. */
function format(identity: DeviceIdentity, wanted: string | undefined): string {
  if (wanted === 'csv') return COLUMNS.map((column) => identity[column] ?? '').join(',');
  return JSON.stringify(wanted === 'enrollment' ? identity.enrollment : identity, undefined, 2);
}
