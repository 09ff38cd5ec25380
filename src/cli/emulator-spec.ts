import { EXIT } from './exit-codes.js';
import type { CommandSpec } from './option-spec.js';

const NOTES = `The configuration (--config) is one JSON object, every member of which may be left out:
  idScope, hubs, enrollments, enrollmentGroups, allocationPolicy, certificates
                          one DPS instance; or scopes: [ ... ] for several. Enrollments are
                          spelled as the service spells them
  host, hostName, ports { "mqtt", "amqp", "https" }, tls
                          where to listen, and under which names
  retryAfterSeconds, concurrentRegistrations, unknownTopic, faults
                          how to behave
  stateFile               keeps everything across restarts
An unknown key is an error. Files that it names are looked for in its own folder.

Example of a configuration:
  {
    "enrollments": [
      { "registrationId": "sensor-17", "attestation": { "symmetricKey": {
          "primaryKey": "bm90IGEgc2VjcmV0OiBtYWtlIG9uZSBvZiB5b3VyIG93bg==" } } }
    ]
  }
The key is the device's, too (provision --symmetric-key-file). To make one: openssl rand -base64 32

Standard output gets one JSON object on one line when everything listens:
  ready       true
  pid         of this process
  idScope     of the first scope; idScopes has all
  endpoints   { "dps": { "mqtt", "amqp", "https" },
                "hubs": [ { "name", "idScope", "hostName", "mqtt" } ] }
              MQTT and AMQP over WebSocket are at "https"; a hub's "mqtt" takes all
  caPem       the certificate that devices are to trust
  caFile      the file of --ca-file
  demo        { "folder", "configurations": [ files for provision --config ] } with --demo
Standard error then gets a line for everything that happens, never with a secret. With --json-log
that is { "type": "trace", "event", "service", "protocol", "connection", ... } for what devices do,
and { "type": "log", "line" } for the rest.

A standard output that cannot be written ends it, in 74. A reader of either output that goes away,
or does not read, does not.

It runs until SIGINT or SIGTERM, then closes everything and ends in 0, as it was asked to; a second
signal ends it at once, in 130 or 143.`;

export const EMULATOR_SPEC: CommandSpec = {
  command: 'emulator',
  summary: 'runs DPS and IoT hubs on this machine, offline.',
  flagsOnly: true,
  secrets: [],
  options: [
    {
      name: 'config',
      kind: 'input',
      placeholder: 'FILE',
      help: 'JSON file with scopes, hubs and enrollments, see below. Default: one scope, one hub, no enrollments.',
    },
    {
      name: 'demo',
      kind: 'path',
      placeholder: 'FOLDER',
      help: 'Instead of --config: makes the folder, with an emulator.json that enrolls a device with a symmetric key and one with a certificate, and all that these devices need. A folder made before is used again, with the changes made to its emulator.json.',
    },
    {
      name: 'host',
      kind: 'text',
      placeholder: 'ADDRESS',
      help: 'Address to listen on. Default: the loopback addresses, so that no other machine reaches it.',
    },
    {
      name: 'mqtt-port',
      kind: 'port',
      placeholder: 'PORT',
      help: 'Port of DPS over MQTT. Default: 0, any that is free.',
    },
    {
      name: 'amqp-port',
      kind: 'port',
      placeholder: 'PORT',
      help: 'Port of DPS over AMQP. Default: 0, any that is free.',
    },
    {
      name: 'https-port',
      kind: 'port',
      placeholder: 'PORT',
      help: 'Port of DPS over HTTPS, and of MQTT and AMQP over WebSocket. Default: 0, any that is free.',
    },
    {
      name: 'ca-file',
      kind: 'path',
      placeholder: 'FILE',
      help: 'Write the certificate that devices are to trust into this file. Replaces a regular file only.',
    },
    { name: 'json-log', kind: 'switch', help: 'The log as one JSON object per line.' },
    { name: 'quiet', kind: 'switch', help: 'No log; errors only.' },
  ],
  exitStatuses: [EXIT.ok, EXIT.usage, EXIT.bug, EXIT.output, EXIT.configuration, EXIT.sigint, EXIT.sigterm],
  advice: { port: 'Give --mqtt-port, --amqp-port or --https-port.' },
  notes: NOTES,
};
