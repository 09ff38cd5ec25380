import { EXIT } from './exit-codes.js';
import type { CommandSpec } from './option-spec.js';
import { IDENTITY_OPTIONS, PROVISION_SPEC, RUN_OPTIONS } from './provision-spec.js';

export const IDENTITY_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'identity',
  summary: 'prints what an operator needs to enroll this device.',
  options: [...PROVISION_SPEC.options, ...IDENTITY_OPTIONS],
  alsoKnown: RUN_OPTIONS,
  exitStatuses: [
    EXIT.ok,
    EXIT.usage,
    EXIT.bug,
    EXIT.hsm,
    EXIT.output,
    EXIT.tryLater,
    EXIT.configuration,
    EXIT.sigint,
    EXIT.sigterm,
  ],
  notes: `All the options of provision may be given, also in the environment and in --config; those above
alone are used. Nothing is sent. No secret is in the output: a symmetric key is the operator's to
hand over.

Standard output gets one JSON document, or one line of CSV. Members of the document, those without
a value left out:
  registrationId, attestation
  sha1Thumbprint, sha256Thumbprint, notAfter   of the certificate
  endorsementKey, storageRootKey               of the TPM, Base64 of TPM2B_PUBLIC
  enrollment                                   as with --format enrollment

Example, in a factory:
  dps-device identity --format csv-header > devices.csv
  dps-device identity --tpm tpm2:/dev/tpmrm0 --format csv >> devices.csv`,
};

/** Of the options of `provision`: what says nothing of who the device is. */
const UNUSED: readonly string[] = [
  'id-scope',
  'endpoint',
  'transport',
  'hub-transport',
  'proxy',
  'proxy-password-file',
  'state',
  'reprovision',
  'start-spread',
  'ca-file',
  'payload-file',
  'model-id',
  'connect-timeout',
  'request-timeout',
  'write-connection',
];

/** For `--help`: what the command can be given, but makes no use of, would only be in the way. */
export const IDENTITY_HELP: CommandSpec = {
  ...IDENTITY_SPEC,
  options: IDENTITY_SPEC.options
    .filter(({ name }) => !UNUSED.includes(name))
    .map((option) =>
      option.name === 'config'
        ? { ...option, help: 'JSON file with options, see dps-device provision --help.' }
        : option,
    ),
  secrets: IDENTITY_SPEC.secrets.filter(({ name }) => !UNUSED.includes(`${name}-file`)),
};
