import { X509Certificate } from 'node:crypto';
import type { Hsm } from '../core/attestation.js';
import type { HsmDescription } from '../provision-options.js';
import type { Command, CommandContext } from './command.js';
import { EXIT } from './exit-codes.js';
import { handOver } from './hand-over.js';
import { chooseIdentity } from './identity.js';
import { IDENTITY_SPEC } from './identity-spec.js';
import { findOptionNames } from './option-names.js';
import { readOptions } from './options.js';
import { findSecrets, takeEnvironmentSecrets } from './secrets.js';

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
  return { spec: IDENTITY_SPEC, run: (args, context) => tellIdentity(args, context, load) };
}

async function tellIdentity(
  args: readonly string[],
  context: CommandContext,
  load: () => Promise<MakeHsm>,
): Promise<number> {
  const { io, log, interruption, failureContext } = context;
  const { signal } = interruption;
  const taken = takeEnvironmentSecrets(io.env, IDENTITY_SPEC.secrets);
  const options = await readOptions(args, IDENTITY_SPEC, io, signal);
  log.configure({ isJson: options.isOn('json-log'), isQuiet: options.isOn('quiet') });
  const secrets = await findSecrets(IDENTITY_SPEC.secrets, options, taken, io, signal);
  failureContext.optionNames = findOptionNames(IDENTITY_SPEC, options, secrets);
  const { hsm: description, origin } = await chooseIdentity(options, secrets, { env: io.env, signal });
  failureContext.lines = { identity: origin };

  const hsm = await (await load())(description, signal);
  try {
    const identity = await readIdentity(hsm, signal);
    await handOver(`${format(identity, options.text('format'))}\n`, io, { signal });
    return EXIT.ok;
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
  if (wanted === 'csv-header') return COLUMNS.join(',');
  return JSON.stringify(wanted === 'enrollment' ? identity.enrollment : identity, undefined, 2);
}
