import {
  DEFAULT_DPS_ENDPOINT,
  hostNameProblem,
  idScopeProblem,
  modelIdProblem,
  registrationIdProblem,
  resolveDpsEndpoint,
} from '../core/identifiers.js';
import { mayHoldSecret } from '../core/json-body.js';
import { folderProblem } from '../path-like.js';
import { DPS_TRANSPORTS, HUB_TRANSPORTS, namesProblem } from '../transport-names.js';
import { NAME, PASSPHRASE, SEALING_KEY, STORE } from './keys-specs.js';
import { type CommandSpec, type OptionSpec, type SecretSpec, secretFileOption } from './option-spec.js';
import { TPM_OPTIONS, TPM_SECRETS } from './tpm-options.js';

export const DEFAULT_TIMEOUT_SECONDS = 300;

const SECRETS: readonly SecretSpec[] = [
  {
    name: 'symmetric-key',
    help: 'Base64 key of this device, as in its individual enrollment.',
    standsFor: ['hsm.key'],
  },
  {
    name: 'secondary-symmetric-key',
    help: 'Tried when the service refuses the first key.',
    standsFor: ['hsm.secondaryKey'],
  },
  {
    name: 'group-key',
    help: "Base64 key of an enrollment group; the device's key is derived from it. For test benches: who has it can be any device of the group.",
    standsFor: ['hsm.groupKey'],
  },
  {
    name: 'secondary-group-key',
    help: 'Tried when the service refuses the first group key.',
    standsFor: ['hsm.secondaryGroupKey'],
  },
  {
    name: 'cert-key',
    help: 'Private key of the certificate, PEM (PKCS#8, PKCS#1 or SEC1).',
    standsFor: ['hsm.key', 'hsm.keyPem'],
  },
  {
    name: 'key-passphrase',
    help: 'Passphrase of the private key, if that is encrypted; one line end is dropped.',
    standsFor: ['hsm.passphrase'],
  },
  {
    name: 'proxy-password',
    help: 'Password of the user in --proxy, as it is (not percent-encoded); one line end is dropped.',
  },
  ...TPM_SECRETS,
  PASSPHRASE,
];

const NOTES = `An option can be given in three ways; the first that is there wins:
  1. a flag                   --id-scope 0ne00111111
  2. the environment          DPS_ID_SCOPE=0ne00111111 (switches: 1 or 0)
  3. the configuration        { "idScope": "0ne00111111" }
The configuration (--config) is a JSON object that may have each of the options above but config,
under its name in camel case: texts, seconds as numbers, switches as true or false. Relative paths
in it start at its own folder. An unknown key is an error, and so is an environment variable DPS_...
that is nearly one of these. provision, run, status, forget, identity and doctor can share one
configuration: what another of them takes is passed over. - as a FILE is standard input, for one of
the files.

Example of a configuration:
  {
    "idScope": "0ne00111111",
    "registrationId": "sensor-17",
    "symmetricKeyFile": "sensor-17.key",
    "timeout": 600
  }

Standard output gets one JSON document once the device is provisioned, and nothing in any other
case. No secret is in it. Its members, those without a value left out:
  status                  "provisioned"
  idScope, registrationId
  attestation             "symmetricKey", "x509" or "tpm"
  transport               { "dps", "hub" }: what got through
  assignedHub, deviceId   the hub that the device belongs to, and its name there
  source                  "registered", or "stored" when the record led straight to the hub
  substatus, enrollmentGroupId, createdDateTimeUtc, lastUpdatedDateTimeUtc, etag, connectionProfile
                          as the service said them
  payload                 what a custom allocation webhook returned
  issuedCertificateChain  Base64 DER, leaf first
  twin                    { "desired": { "version", "properties" }, "reported": { ... } }
  connectionFile          the file of --write-connection

Progress and errors go to standard error. With --json-log each is one JSON object on a line: a step
by its "type", an error as { "type": "error", "code", "message", "retryable", "exitStatus", ... }.

SIGINT and SIGTERM end the work in order, a second one at once. A required option that is missing
ends in 64, or in 78 where there is a configuration; a wrong value in 64 when it is a flag's, else
in 78. A device that is provisioned, but whose result nobody takes from standard output (it is
full, its reader has ended, or does not read until --timeout, 5 seconds at least), ends in 74.
Nobody needs to read standard error: lines that are not read are left out.`;

/** One of these, several, or `auto`. */
function transportProblem(names: readonly string[]): (text: string) => string | undefined {
  return (text) => {
    if (namesProblem(text.includes(',') ? text.split(',') : text, names) === undefined) return undefined;
    return `it must be one of ${names.join(', ')}, several of them with commas in between (none twice), or auto.`;
  };
}

/** A password in a flag's value is in the list of processes. The host is in messages: it must not be a key. */
function proxyProblem(text: string): string | undefined {
  if (text === 'none') return undefined;
  const [, scheme = 'http', rest = ''] = /^(?:([^:/@]*):\/\/)?(.*)$/s.exec(text) ?? [];
  const [, user = '', host = ''] = /^(?:(.*)@)?(.*)$/s.exec(rest) ?? [];
  if (user.includes(':')) return NO_PASSWORD;
  const isProxy = /^(http|socks5h?)$/i.test(scheme) && !/[/\\]/.test(user);
  const place = host.replace(/\/$/, '');
  if (isProxy && hostNameProblem(place) === undefined && !mayHoldSecret(place)) return undefined;
  return 'it must be http://[USER@]HOST:PORT, socks5://[USER@]HOST:PORT, or none; / and \\ in USER as %2F and %5C.';
}

const NO_PASSWORD =
  'a password does not belong into it: give the user name here, and the password as --proxy-password-file or DPS_PROXY_PASSWORD.';

/** A day: more is a slip of units. */
const MAX_START_SPREAD_SECONDS = 86_400;

/** What `run` has beside the options of `provision`. */
export const RUN_OPTIONS: readonly OptionSpec[] = [
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
];

/** What `identity` has beside the options of `provision`. */
export const IDENTITY_OPTIONS: readonly OptionSpec[] = [
  {
    name: 'format',
    kind: ['json', 'csv', 'csv-header', 'enrollment'],
    help: 'json: all of it. csv: one row. csv-header: the names of its columns. enrollment: an individual enrollment as the API of the service takes it. Default: json.',
  },
];

/** What only `provision` has. */
export const WRITE_CONNECTION: OptionSpec = {
  name: 'write-connection',
  kind: 'path',
  placeholder: 'FILE',
  help: 'Write the hub connection string into this file, mode 0600, all or nothing. It contains the device key; for a certificate it ends in x509=true, for a TPM there is none. Replaces a regular file only.',
};

export const PROVISION_SPEC: CommandSpec = {
  command: 'provision',
  summary: 'takes the device from its ID scope and identity to its hub and initial twin.',
  secrets: SECRETS,
  options: [
    {
      name: 'config',
      kind: 'input',
      placeholder: 'FILE',
      help: 'JSON file with options, see below.',
    },
    {
      name: 'id-scope',
      kind: 'text',
      placeholder: 'SCOPE',
      help: 'ID scope of the DPS instance, e.g. 0ne00111111. Required.',
      problem: idScopeProblem,
      standsFor: ['idScope'],
    },
    {
      name: 'registration-id',
      kind: 'text',
      placeholder: 'ID',
      help: 'Name of this device in its enrollment. Required with a symmetric key; a certificate says it in its common name, and is checked against this one.',
      problem: registrationIdProblem,
      standsFor: ['hsm.registrationId'],
    },
    {
      name: 'attestation',
      kind: ['symmetric-key', 'x509', 'key-store', 'tpm'],
      help: 'How the device proves who it is. Default: what the keys and certificates given are for.',
    },
    ...SECRETS.slice(0, 4).map(secretFileOption),
    {
      name: 'cert-file',
      kind: 'path',
      placeholder: 'FILE',
      help: "The device's certificate, PEM; intermediates may follow in the same file.",
      standsFor: ['hsm.certificate', 'hsm.certificatePem'],
    },
    {
      name: 'chain-file',
      kind: 'path',
      placeholder: 'FILE',
      help: 'Intermediate certificates, PEM.',
      standsFor: ['hsm.chain', 'hsm.chainPem'],
    },
    ...SECRETS.slice(4, 6).map(secretFileOption),
    {
      ...STORE,
      help: 'Folder of a sealed key store, see dps-device keys --help; with --key-name.',
      problem: folderProblem,
    },
    { ...NAME, help: 'Entry of the key store with the key, or certificate, of this device.' },
    SEALING_KEY,
    secretFileOption(PASSPHRASE),
    ...TPM_OPTIONS,
    {
      name: 'endpoint',
      kind: 'text',
      placeholder: 'public|china|usGovernment|HOST[:PORT]',
      help: `Where DPS is. Default: public, which is ${DEFAULT_DPS_ENDPOINT}.`,
      problem: (text) => hostNameProblem(resolveDpsEndpoint(text)),
      standsFor: ['endpoint'],
    },
    {
      name: 'transport',
      kind: 'text',
      placeholder: [...DPS_TRANSPORTS, 'auto'].join('|'),
      help: 'How to talk to DPS; mqtt-ws and amqp-ws go over WebSocket on port 443. Several with commas in between are tried in turn, where the network lets one not through; auto is mqtt,mqtt-ws,https, with a TPM https,amqp-ws. What got through is remembered with --state. Default: mqtt, with a TPM https; a TPM is not taken over MQTT.',
      problem: transportProblem(DPS_TRANSPORTS),
      standsFor: ['transport'],
    },
    {
      name: 'hub-transport',
      kind: 'text',
      placeholder: [...HUB_TRANSPORTS, 'auto'].join('|'),
      help: 'How to talk to the hub, in the same way; auto is mqtt,mqtt-ws. Default: mqtt.',
      problem: transportProblem(HUB_TRANSPORTS),
      standsFor: ['hubTransport'],
    },
    {
      name: 'proxy',
      kind: 'text',
      placeholder: 'URL|none',
      help: 'http://[USER@]HOST:PORT (CONNECT) or socks5://[USER@]HOST:PORT, for every connection; none for no proxy at all. Default: what HTTPS_PROXY, ALL_PROXY and NO_PROXY say, and loopback addresses directly.',
      problem: proxyProblem,
      standsFor: ['proxy'],
    },
    ...SECRETS.slice(6, 7).map(secretFileOption),
    {
      name: 'state',
      kind: 'path',
      placeholder: 'FOLDER',
      help: "Where the device's place is remembered: later starts go straight to the hub, and ask DPS only when it does not want the device any more. Made when missing; must be the device's alone, mode 0700. One process at a time uses it. Default: nothing is remembered.",
      problem: folderProblem,
      standsFor: ['state'],
    },
    {
      name: 'reprovision',
      kind: 'switch',
      help: 'Ask DPS first, whatever is remembered.',
      standsFor: ['reprovision'],
    },
    {
      name: 'start-spread',
      kind: 'seconds',
      placeholder: 'SECONDS',
      range: [0, MAX_START_SPREAD_SECONDS],
      help: `Wait a random part of this before the first packet: for devices that get power at the same moment. Default: 0; ${MAX_START_SPREAD_SECONDS} at most.`,
      standsFor: ['startSpreadMs'],
    },
    {
      name: 'ca-file',
      kind: 'input',
      placeholder: 'FILE',
      help: "PEM certificates of the authorities to trust instead of Node's own.",
      standsFor: ['ca'],
    },
    {
      name: 'payload-file',
      kind: 'input',
      placeholder: 'FILE',
      help: 'JSON to send to a custom allocation webhook.',
      standsFor: ['payload'],
    },
    {
      name: 'model-id',
      kind: 'text',
      placeholder: 'DTMI',
      help: 'Plug and Play model id to announce to the hub, e.g. dtmi:com:example:Thermostat;1.',
      problem: modelIdProblem,
      standsFor: ['modelId'],
    },
    {
      name: 'timeout',
      kind: 'seconds',
      placeholder: 'SECONDS',
      help: `Bound on the whole of it, waiting for input included. Default: ${DEFAULT_TIMEOUT_SECONDS}.`,
      standsFor: ['deadlineMs'],
    },
    {
      name: 'connect-timeout',
      kind: 'seconds',
      placeholder: 'SECONDS',
      help: 'Bound on one connection attempt; several transports share it for the way there. Default: 60.',
      standsFor: ['connectTimeoutMs'],
    },
    {
      name: 'request-timeout',
      kind: 'seconds',
      placeholder: 'SECONDS',
      help: 'Bound on one request. Default: 30.',
      standsFor: ['requestTimeoutMs'],
    },
    WRITE_CONNECTION,
    { name: 'json-log', kind: 'switch', help: 'Progress and errors as one JSON object per line.' },
    { name: 'quiet', kind: 'switch', help: 'No progress; errors only.' },
  ],
  alsoKnown: [...RUN_OPTIONS, ...IDENTITY_OPTIONS],
  advice: {
    'key-file':
      'Give --symmetric-key-file (the key of this device in DPS) or --cert-key-file (the private key of --cert-file).',
    cert: 'Give --cert-file.',
    certificate: 'Give --cert-file.',
    ca: 'Give --ca-file.',
    'device-id': 'DPS decides on the device id; the name of the enrollment goes into --registration-id.',
    host: 'Give --endpoint.',
    format: 'It belongs to dps-device identity.',
    'reprovision-method': 'It belongs to dps-device run.',
    'reprovision-property': 'It belongs to dps-device run.',
  },
  notes: NOTES,
};
