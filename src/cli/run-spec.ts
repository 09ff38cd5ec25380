import type { CommandSpec } from './option-spec.js';
import { PROVISION_SPEC } from './provision-spec.js';

const NOTES = `It takes the options of provision, also from the environment and from --config, and stays: it comes back
to its hub after lost connections, renews its token, and asks DPS again when the hub does not want
the device any more. --timeout bounds each registration, not the run. Give it --state, or every
start begins at DPS.

It asks DPS anew at SIGHUP, at a call of the direct method of --reprovision-method, and at a new
value of the desired property of --reprovision-property.

Standard output gets one JSON object a line:
  { "type": "provisioned", ... }   once, as provision prints it
  { "type": "desired", "version", "patch", "desired" }   at each change of the desired properties

Progress goes to standard error, with --json-log as one object a line. Nobody but a person can mend
what ends it by itself: configuration, key, certificate, store. SIGINT and SIGTERM end it with 0
once the device was provisioned.

Example of a systemd unit:
  [Service]
  ExecStart=/usr/local/bin/dps-device run --config /etc/dps-device.json --state \${STATE_DIRECTORY}
  ExecReload=kill -HUP $MAINPID
  StateDirectory=dps-device
  StateDirectoryMode=0700
  DynamicUser=yes
  Restart=always
  RestartSec=30`;

export const RUN_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'run',
  summary: 'keeps the device provisioned: the way of provision, and then stays with the hub.',
  options: [
    ...PROVISION_SPEC.options.filter(({ name }) => name !== 'write-connection'),
    {
      name: 'reprovision-method',
      kind: 'text',
      placeholder: 'NAME',
      help: 'A direct method that sends the device to DPS; it is answered with 202 first.',
      standsFor: ['reprovisionOn'],
    },
    {
      name: 'reprovision-property',
      kind: 'text',
      placeholder: 'NAME',
      help: 'A desired property of which every new value sends the device to DPS.',
      standsFor: ['reprovisionOn'],
    },
  ],
  notes: NOTES,
};
