import { EXIT } from './exit-codes.js';
import type { CommandSpec } from './option-spec.js';
import { PROVISION_SPEC } from './provision-spec.js';

const STATUSES = [
  EXIT.ok,
  EXIT.usage,
  EXIT.bug,
  EXIT.output,
  EXIT.tryLater,
  EXIT.configuration,
  EXIT.sigint,
  EXIT.sigterm,
];

const SHARED = `All the options of provision may be given, also in the environment (DPS_STATE) and in --config;
those above alone are used.`;

export const STATUS_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'status',
  summary: 'shows what the device remembers of its place: hub, device id, last twin.',
  exitStatuses: STATUSES,
  notes: `${SHARED}
Nothing is locked or changed; another process may be using the folder.

Standard output gets one JSON document. Its "status" is "stored", with the record beside it, "none",
or "damaged", with what is wrong. The exit status is 0 for all three. If DPS has sent the device
elsewhere, and the hub there has not accepted it yet, the record has "movedTo".

Example:
  dps-device status --state /var/lib/dps-device`,
};

export const FORGET_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'forget',
  summary: 'drops what the device remembers: its next start begins at DPS.',
  exitStatuses: STATUSES,
  notes: `${SHARED}
It removes a damaged record and one of a newer release, too. Keys are not touched, and neither DPS
nor the hub is told: the device stays registered there. While another process uses the folder, it
ends in 75.

Example:
  dps-device forget --state /var/lib/dps-device`,
};

const USED: Readonly<Record<string, string>> = {
  config: 'JSON file with options, see dps-device provision --help.',
  state: 'The folder in which the device remembers its place. Required.',
  'json-log': 'Errors as one JSON object per line.',
  quiet: 'Errors only.',
};

/** For `--help`: what the command can be given, but makes no use of, would only be in the way. */
export function briefly(spec: CommandSpec): CommandSpec {
  const options = spec.options.flatMap((option) => {
    const help = USED[option.name];
    return help === undefined ? [] : [{ ...option, help }];
  });
  return { ...spec, options, secrets: [] };
}
