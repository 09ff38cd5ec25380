import type { CommandSpec } from './option-spec.js';
import {
  DEFAULT_TIMEOUT_SECONDS,
  IDENTITY_OPTIONS,
  PROVISION_SPEC,
  RUN_OPTIONS,
  WRITE_CONNECTION,
} from './provision-spec.js';

const NOTES = `It takes the options of provision, also from the environment and from --config (provision --help
tells how), and stays: it comes back to its hub after lost connections, renews its token, and asks
DPS again when the hub does not want the device any more. Network trouble never ends it. Without
--state every start begins at DPS.

It asks DPS anew at SIGHUP, at a call of the direct method of --reprovision-method, and at a new
value of the desired property of --reprovision-property.

Standard output gets one JSON object a line:
  { "type": "provisioned", ... }   once, with what provision prints
  { "type": "desired", "version", "patch", "desired" }
                                   at each change of the desired properties after that
Whoever reads them has to go on reading: without a reader, the run ends in 74.

Progress goes to standard error, with --json-log as one object a line. What ends it by itself only
a person can mend: configuration, key, certificate, store. SIGINT and SIGTERM end it in order, a
second one at once: in 0 once the device was provisioned, before that in 130 and 143.

Example of a systemd unit:
  [Service]
  ExecStart=/usr/local/bin/dps-device run --config /etc/dps-device.json --state \${STATE_DIRECTORY}
  ExecReload=kill -HUP $MAINPID
  LoadCredential=dps-symmetric-key:/etc/dps-device.key
  StateDirectory=dps-device
  StateDirectoryMode=0700
  DynamicUser=yes
  Restart=always
  RestartSec=30`;

const TIMEOUT_HELP = `Bound on each registration, not on the run. Default: ${DEFAULT_TIMEOUT_SECONDS}.`;

export const RUN_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'run',
  summary: 'keeps the device provisioned until it is told to end.',
  options: [
    ...PROVISION_SPEC.options
      .filter((option) => option !== WRITE_CONNECTION)
      .map((option) => (option.name === 'timeout' ? { ...option, help: TIMEOUT_HELP } : option)),
    ...RUN_OPTIONS,
  ],
  alsoKnown: [WRITE_CONNECTION, ...IDENTITY_OPTIONS],
  advice: { ...PROVISION_SPEC.advice, 'write-connection': 'It belongs to dps-device provision.' },
  notes: NOTES,
};
