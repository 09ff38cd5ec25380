import { EXIT } from './exit-codes.js';
import type { CommandSpec } from './option-spec.js';
import { PROVISION_SPEC } from './provision-spec.js';

export const IDENTITY_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'identity',
  summary: 'prints what an operator needs to enroll this device.',
  options: [
    ...PROVISION_SPEC.options,
    {
      name: 'format',
      kind: ['json', 'csv', 'csv-header', 'enrollment'],
      help: 'json: all of it. csv: one row. csv-header: the names of its columns. enrollment: an individual enrollment as the API of the service takes it. Default: json.',
    },
  ],
  exitStatuses: [EXIT.ok, EXIT.usage, EXIT.bug, EXIT.hsm, EXIT.output, EXIT.configuration, EXIT.sigint, EXIT.sigterm],
  notes: `It takes the options of provision, also from the environment and from --config, and uses those that say who
the device is. Nothing is sent. No secret is in the output: a symmetric key is the operator's to hand over.

Members of the JSON document, those without a value left out:
  registrationId, attestation
  sha1Thumbprint, sha256Thumbprint, notAfter   of the certificate
  endorsementKey, storageRootKey               of the TPM, Base64 of TPM2B_PUBLIC
  enrollment                                   as with --format enrollment

Example, in a factory:
  dps-device identity --tpm tpm2:/dev/tpmrm0 --format csv >> devices.csv`,
};
