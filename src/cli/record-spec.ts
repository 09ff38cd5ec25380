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

export const STATUS_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'status',
  summary: 'shows what the device remembers of its place: hub, device id, last twin.',
  exitStatuses: STATUSES,
  notes: `It takes the options of provision, also from the environment and from --config, and uses --state alone.
Nothing is locked or changed; another process may be using the folder.

Standard output gets one JSON document. Its "status" is "stored", with the record beside it, "none",
or "damaged", with what is wrong. A record has, if DPS has sent the device elsewhere and that hub has
not accepted it yet, "movedTo". The exit status is 0 for all three.`,
};

export const FORGET_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'forget',
  summary: 'drops what the device remembers: its next start begins at DPS.',
  exitStatuses: STATUSES,
  notes: `It takes the options of provision, also from the environment and from --config, and uses --state alone.
It removes a damaged record and one of a newer release, too. Keys are not touched, and neither DPS nor
the hub is told: the device stays registered there. While another process uses the folder it ends
in 75.`,
};
