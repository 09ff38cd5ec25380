import { entryNameProblem } from '../../hsm/key-store/entry.js';
import { registrationIdProblem } from '../core/identifiers.js';
import { folderProblem } from '../path-like.js';
import { EXIT } from './exit-codes.js';
import { type CommandSpec, type OptionSpec, type SecretSpec, secretFileOption } from './option-spec.js';

/** The command lines of `dps-device keys …`. */

export const STORE: OptionSpec = {
  name: 'key-store',
  kind: 'path',
  placeholder: 'DIR',
  help: 'Folder of the key store; mode 0700, of the user who runs this. Required.',
  problem: folderProblem,
  standsFor: ['hsm.directory'],
};

export const NAME: OptionSpec = {
  name: 'key-name',
  kind: 'text',
  placeholder: 'NAME',
  help: 'Name of the entry in the key store: lower-case letters, digits and . _ - Required.',
  problem: entryNameProblem,
  standsFor: ['hsm.entry'],
};

const REGISTRATION_ID: OptionSpec = {
  name: 'registration-id',
  kind: 'text',
  placeholder: 'ID',
  help: 'Name of the device in its enrollment. Default: the name of the entry.',
  problem: registrationIdProblem,
};

export const PASSPHRASE: SecretSpec = {
  name: 'key-store-passphrase',
  help: 'Passphrase that seals the key store; one line end is dropped.',
  standsFor: ['hsm.passphrase'],
};

export const SEALING_KEY: OptionSpec = {
  name: 'key-store-key-file',
  kind: 'path',
  placeholder: 'FILE',
  help: 'Instead of a passphrase: a key file of 32 random bytes, mode 0600, not to be kept in the folder of the key store. Without it and without a passphrase: the systemd credential dps-key-store-key, of 32 bytes.',
  standsFor: ['hsm.sealingKey'],
};

const LOG: readonly OptionSpec[] = [
  { name: 'json-log', kind: 'switch', help: 'Notes and errors as one JSON object per line.' },
  { name: 'quiet', kind: 'switch', help: 'No notes; errors only.' },
];

const OPENING: readonly OptionSpec[] = [STORE, SEALING_KEY, secretFileOption(PASSPHRASE)];

const KEY_SECRETS: readonly SecretSpec[] = [
  { name: 'symmetric-key', help: 'Base64 key of the device, as in its enrollment.', standsFor: ['hsm.key'] },
  { name: 'cert-key', help: 'Private key, PEM (PKCS#8, PKCS#1 or SEC1), encrypted or not.' },
  { name: 'key-passphrase', help: 'Passphrase of an encrypted private key; one line end is dropped.' },
];

const CERTIFICATE_FILES: readonly OptionSpec[] = [
  {
    name: 'cert-file',
    kind: 'path',
    placeholder: 'FILE',
    help: 'Certificate of the device, PEM; intermediates may follow in the same file.',
  },
  { name: 'chain-file', kind: 'path', placeholder: 'FILE', help: 'Intermediate certificates, PEM.' },
];

const ALGORITHM: OptionSpec = {
  name: 'algorithm',
  kind: ['ec-p256', 'ec-p384', 'rsa-2048'],
  help: 'Of a private key. Default: ec-p256.',
};

const DAYS: OptionSpec = {
  name: 'days',
  kind: 'text',
  placeholder: 'DAYS',
  help: 'How long a certificate made here is good for. Default: 365.',
  problem: (text) => (/^[1-9]\d{0,4}$/.test(text) ? undefined : 'it must be a whole number of days, from 1 to 99999.'),
};

const WRITE_KEY: OptionSpec = {
  name: 'write-key',
  kind: 'path',
  placeholder: 'FILE',
  help: 'Write the symmetric key in Base64 into this new file, mode 0600, for its enrollment.',
};

const WRITE_PUBLIC: readonly OptionSpec[] = [
  {
    name: 'write-request',
    kind: 'path',
    placeholder: 'FILE',
    help: 'Write the signing request into this file. Without it, it is in the result.',
  },
  {
    name: 'write-certificate',
    kind: 'path',
    placeholder: 'FILE',
    help: 'Write the certificate, and the intermediates after it, into this file.',
  },
];

const WHY_NO_FLAG = 'Every user of the machine can read a command line:';

const ADVICE: Readonly<Record<string, string>> = {
  'key-store-passphrase': `${WHY_NO_FLAG} give --key-store-passphrase-file FILE (- for standard input), or DPS_KEY_STORE_PASSPHRASE in the environment.`,
  'new-key-store-passphrase': `${WHY_NO_FLAG} give --new-key-store-passphrase-file FILE (- for standard input), or DPS_NEW_KEY_STORE_PASSPHRASE in the environment.`,
  'key-store-key': 'Give --key-store-key-file.',
  name: 'Give --key-name.',
  'key-file': 'Give --symmetric-key-file or --cert-key-file.',
  cert: 'Give --cert-file.',
};

const EXIT_STATUSES = [
  EXIT.ok,
  EXIT.usage,
  EXIT.bug,
  EXIT.hsm,
  EXIT.output,
  EXIT.tryLater,
  EXIT.configuration,
  EXIT.sigint,
  EXIT.sigterm,
];

const COMMON = `An option can also be given in the environment: DPS_KEY_STORE=/var/lib/dps-device/keys
Standard output gets one JSON document without secrets; notes and errors go to standard error.`;

const MEMBERS = `${COMMON}

Members of the document:`;

export const KEYS_MAKE_SPEC: CommandSpec = {
  command: 'keys make',
  summary: 'makes a key, and puts it into a key store, which is made if there is none.',
  secrets: [PASSPHRASE],
  options: [
    ...OPENING,
    NAME,
    {
      name: 'kind',
      kind: ['symmetric-key', 'csr', 'self-signed', 'ca', 'device'],
      help: 'What to make, see below. Required.',
    },
    REGISTRATION_ID,
    ALGORITHM,
    DAYS,
    {
      name: 'common-name',
      kind: 'text',
      placeholder: 'TEXT',
      help: 'Of an authority. Default: the name of the entry.',
    },
    {
      name: 'issuer',
      kind: 'text',
      placeholder: 'NAME',
      help: 'Entry of the authority that signs. Required for a device; for an authority: leave it out for a root.',
      problem: entryNameProblem,
    },
    WRITE_KEY,
    ...WRITE_PUBLIC,
    ...LOG,
  ],
  exitStatuses: EXIT_STATUSES,
  advice: ADVICE,
  notes: `Kinds:
  symmetric-key   64 random bytes. --write-key tells the operator, who puts them into the
                  enrollment; without it nobody gets to know them
  csr             a private key, and a signing request for its certificate. The key never leaves;
                  once the request is signed: keys import --key-name NAME --cert-file FILE
  self-signed     a private key with a certificate that vouches for itself, for an individual
                  enrollment by thumbprint
  ca, device      authorities and device certificates for a test bench: no revocation, no policy

A key file (--key-store-key-file) is made together with the store, if there is none: keep a copy of
it elsewhere. Who loses what seals a store has lost what is in it.

${MEMBERS}
  keyStore   the folder
  entry      { "name", "kind", "registrationId", "current", "staged" }, as keys list has it
  signingRequestPem, certificateChainPem, keyFile, signingRequestFile, certificateFile`,
};

export const KEYS_IMPORT_SPEC: CommandSpec = {
  command: 'keys import',
  summary: 'puts a key that is there already into a key store, made if there is none.',
  secrets: [PASSPHRASE, ...KEY_SECRETS],
  options: [
    ...OPENING,
    NAME,
    {
      ...REGISTRATION_ID,
      help: 'Name of the device in its enrollment. Default: the name of the entry. With a certificate it is the common name of that, and nothing else is taken.',
    },
    ...KEY_SECRETS.map(secretFileOption),
    ...CERTIFICATE_FILES,
    ...LOG,
  ],
  exitStatuses: EXIT_STATUSES,
  advice: ADVICE,
  notes: `  symmetric key            --symmetric-key-file device.key
  certificate and its key  --cert-file device.pem --cert-key-file device.key [--chain-file ca.pem]
  certificate alone        --cert-file device.pem: for a key of the entry that has a signing request
                           out, or a renewed one for the same key, which takes the place of the one
                           in use at once; keys rotate --step stage puts it beside that
  - as a FILE is standard input, for one of them.

What was imported is still where it came from: remove it there (shred -u, on what keeps no old
blocks).

${COMMON}`,
};

export const KEYS_LIST_SPEC: CommandSpec = {
  command: 'keys list',
  summary: 'tells what is in a key store.',
  secrets: [PASSPHRASE],
  options: [...OPENING, ...LOG],
  exitStatuses: EXIT_STATUSES,
  advice: ADVICE,
  notes: `An entry of which no copy can be used is listed with its "problem", and the command ends in ${EXIT.configuration}.
Without a passphrase or key file it reads the labels alone, and "verified" is false: nothing shows
then whether somebody has changed them.

${MEMBERS}
  keyStore, verified
  entries     [ { "name", "kind": "symmetricKey" or "x509", "registrationId",
                  "current": { "id", "algorithm",
                    "certificate": { "commonName", "issuer", "notBefore", "notAfter",
                                     "sha256", "sha1", "chainLength" } },
                  "staged": as current, "warning" } ]
              or { "name", "problem" } for one that cannot be used`,
};

const GROUP_KEY: SecretSpec = {
  name: 'group-key',
  help: 'Base64 key of the enrollment group.',
  standsFor: ['hsm.groupKey'],
};

export const KEYS_DERIVE_SPEC: CommandSpec = {
  command: 'keys derive',
  summary: "makes a device's key of the key of its enrollment group.",
  secrets: [GROUP_KEY, PASSPHRASE],
  options: [
    secretFileOption(GROUP_KEY),
    { ...REGISTRATION_ID, help: 'Name of the device. Required.', standsFor: ['hsm.registrationId'] },
    { ...STORE, help: 'Folder of the key store to put it into, made if there is none; with --key-name.' },
    { ...NAME, help: 'Name of its entry there.' },
    SEALING_KEY,
    secretFileOption(PASSPHRASE),
    { ...WRITE_KEY, help: 'Write the key in Base64 into this new file, mode 0600.' },
    { name: 'print-key', kind: 'switch', help: 'Print the key in Base64 on standard output, and nothing else.' },
    ...LOG,
  ],
  exitStatuses: EXIT_STATUSES,
  advice: ADVICE,
  notes: `The key is HMAC-SHA256(group key, registration id). Do this where the group key is kept, not on
devices: who has the group key can be any device of the group.

${COMMON}`,
};

const NEW_PASSPHRASE: SecretSpec = {
  name: 'new-key-store-passphrase',
  help: 'Passphrase to seal it with from now on.',
};

export const KEYS_SEAL_SPEC: CommandSpec = {
  command: 'keys seal',
  summary: 'changes what seals a key store: another passphrase, or a key file.',
  secrets: [PASSPHRASE, NEW_PASSPHRASE],
  options: [
    ...OPENING,
    {
      name: 'new-key-store-key-file',
      kind: 'path',
      placeholder: 'FILE',
      help: 'Key file to seal it with from now on; made if there is none.',
    },
    secretFileOption(NEW_PASSPHRASE),
    ...LOG,
  ],
  exitStatuses: EXIT_STATUSES,
  advice: ADVICE,
  notes: `One file is written, all or nothing: a power cut leaves the store sealed as before, or anew. A copy
of the store that somebody made before still opens with the old secret: if that became known, roll
the keys, too.

${COMMON}`,
};

export const KEYS_ROTATE_SPEC: CommandSpec = {
  command: 'keys rotate',
  summary: 'rolls a key or certificate: stages a new one, takes it over or drops it.',
  secrets: [PASSPHRASE, ...KEY_SECRETS],
  options: [
    ...OPENING,
    NAME,
    { name: 'step', kind: ['stage', 'commit', 'discard'], help: 'What to do, see below. Required.' },
    {
      name: 'kind',
      kind: ['symmetric-key', 'csr', 'self-signed'],
      help: 'The key to make. Default: a symmetric key where there is one. Leave it out to stage a key that is given.',
    },
    ALGORITHM,
    DAYS,
    ...KEY_SECRETS.map(secretFileOption),
    ...CERTIFICATE_FILES,
    WRITE_KEY,
    ...WRITE_PUBLIC,
    ...LOG,
  ],
  exitStatuses: EXIT_STATUSES,
  advice: ADVICE,
  notes: `Steps:
  stage     a new key beside the one in use: made here, or given as for keys import; or a renewed
            certificate for the same key (--cert-file). Enroll it beside the one in use, then
            restart the device, which reads its keys when it starts. It tries the new one first,
            goes on with the one in use where that is refused, and commits the new one when the
            hub has accepted it
  commit    by hand, for a device that cannot commit by itself: the staged key becomes the one in
            use, and the one before is dropped for good. Only once the service accepts the staged
            one: that is not checked here, and a device whose new key is not enrolled is locked out
  discard   drops the staged key; the one in use stays

${COMMON}`,
};

export const KEYS_REMOVE_SPEC: CommandSpec = {
  command: 'keys remove',
  summary: 'removes an entry with its keys, for good; also one that is damaged.',
  secrets: [PASSPHRASE],
  options: [...OPENING, NAME, ...LOG],
  exitStatuses: EXIT_STATUSES,
  advice: ADVICE,
  notes: COMMON,
};
