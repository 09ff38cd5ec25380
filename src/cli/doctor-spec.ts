import { EXIT } from './exit-codes.js';
import type { CommandSpec } from './option-spec.js';
import { PROVISION_SPEC } from './provision-spec.js';

const NOTES = `It takes the options of provision, also from the environment and from --config, and looks where
provision would stumble. Nothing is registered, nothing changed; the hub is not looked at, as only a
registration tells which it is.

Checks:
  configuration, identity   what is missing, cannot be read, or does not go together; the folder of
                            --state, too
  clock, server-clock       whether tokens and certificates can be dated by it
  environment, proxy        settings of Node; which proxy is taken and what names it; that it lets
                            the device through
  permissions               that files with secrets are their owner's alone
  key-store                 that it opens with what seals it, and has the entry; it is not locked
  tpm                       that it answers, and which of EK and SRK are in it; none is made, and no
                            password is tried
  key, certificate, key-match, chain, expiry, registration-id
                            that each can be read, is whole, in order and in date, and that they
                            belong together
  authorities               the certificates of --ca-file
  dns, port, tls            the way to DPS, also by the other transport where it has its usual
                            port; an address needs no dns
  service                   always skipped: whether DPS accepts this device, and which hub it gets

Standard output gets one JSON document, also when something is wrong with the options:
  status        "healthy", or "failing" when a check has failed
  exitStatus    as the process ends
  checkedAt     by the device's clock
  endpoint, transport   unless the options cannot be read
  findings      [ { "check", "verdict", "message", "fix", "code" }, ... ]
                verdict: "ok", "warning", "failed", or "skipped": not checked;
                fix: what to do; code: of the error that provision would fail with
Standard error gets the same for people; with --quiet nothing, with --json-log one object per line.

The exit status is the one that provision would end with because of the worst of the findings, 0
when there is none: rather one that waiting does not mend than one that it may. Warnings do not
count.

Example:
  dps-device doctor --config device.json`;

export const DOCTOR_SPEC: CommandSpec = {
  ...PROVISION_SPEC,
  command: 'doctor',
  summary: 'looks for what would keep the device from being provisioned, and tells the fix.',
  exitStatuses: [
    EXIT.ok,
    EXIT.usage,
    EXIT.network,
    EXIT.bug,
    EXIT.hsm,
    EXIT.output,
    EXIT.tryLater,
    EXIT.protocol,
    EXIT.refused,
    EXIT.configuration,
    EXIT.sigint,
    EXIT.sigterm,
  ],
  notes: NOTES,
};
