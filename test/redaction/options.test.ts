import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { symmetricKeyHsm } from '../../hsm/symmetric-key.js';
import { x509FileHsm } from '../../hsm/x509-file.js';
import type { ProvisionOptions } from '../../src/provision-options.js';
import { follow, INDIVIDUAL, KEYS, makeSecrets, PASSPHRASE, privateFile, temporaryFolder } from './bench.js';
import { canaryBytes } from './canaries.js';
import { errorOutputs, expectNoLeaks, startRecording } from './channels.js';

/** Secrets given in the wrong place, or in the wrong shape. */

const CONNECTION_STRING = `HostName=hub.example;DeviceId=${INDIVIDUAL};SharedAccessKey=${KEYS.device}`;

/** What people paste. */
const PASTED: readonly (readonly [name: string, text: string])[] = [
  ['a key', KEYS.device],
  ['a key without padding', KEYS.unpadded],
  ['a key in hex', canaryBytes('device', 64).toString('hex')],
  ['a key in the URL-safe alphabet', canaryBytes('device', 64).toString('base64url')],
  ['a connection string', CONNECTION_STRING],
  ['a passphrase', PASSPHRASE],
];

/** Options whose text is a name, which is told to everybody: who takes a key for a name has told it to the service as well. */
const NAMES = ['idScope', 'endpoint', 'modelId', 'registrationId'];

const VALID = { idScope: '0ne00111111', endpoint: 'localhost:1', deadlineMs: 1_000 } as const;

describe('provision() given a secret in a wrong place', () => {
  const numbers = ['deadlineMs', 'connectTimeoutMs', 'requestTimeoutMs', 'tokenLifeSeconds'];
  const places: readonly (readonly [name: string, options: (secret: string) => unknown])[] = [
    ['as all the options', (secret) => secret],
    ['as the HSM', (hsm) => ({ ...VALID, hsm })],
    ['as the kind of HSM', (kind) => ({ ...VALID, hsm: { kind } })],
    ['within the kind of HSM', (key) => ({ ...VALID, hsm: { kind: { symmetricKey: key } } })],
    ['as an HSM without kind', (key) => ({ ...VALID, hsm: { registrationId: INDIVIDUAL, key } })],
    ['as the transport', (transport) => ({ ...VALID, hsm: DEVICE, transport })],
    ['as the hub transport', (hubTransport) => ({ ...VALID, hsm: DEVICE, hubTransport })],
    ['as the authorities', (ca) => ({ ...VALID, hsm: DEVICE, ca })],
    ['as an unknown option', (key) => ({ ...VALID, hsm: DEVICE, key })],
    ['as an unknown option of the HSM', (sharedKey) => ({ ...VALID, hsm: { ...DEVICE, sharedKey } })],
    ...numbers.map((name) => [`as ${name}`, (secret: string) => ({ ...VALID, hsm: DEVICE, [name]: secret })] as const),
    ...NAMES.slice(0, 1).map(
      (name) => [`within ${name}`, (secret: string) => ({ ...VALID, [name]: { secret } })] as const,
    ),
  ];
  const DEVICE = { kind: 'symmetricKey', registrationId: INDIVIDUAL, key: KEYS.device } as const;

  it.each(places)('%s', async (_name, options) => {
    const recording = startRecording();
    const { canaries } = await makeSecrets();
    for (const [, secret] of PASTED) {
      const { error, outputs } = await follow(options(secret) as ProvisionOptions);
      expect(error).toBeInstanceOf(Error);
      expectNoLeaks(canaries, outputs, recording.outputs());
    }
  });
});

describe('a symmetric key HSM given', () => {
  const cases: readonly (readonly [name: string, options: (secret: string) => object])[] = [
    ['as the path of the key', (file) => ({ key: { file } })],
    ['as the path of the group key', (groupKey) => ({ groupKey: { file: groupKey } })],
    ['as the path of the second key', (file) => ({ key: KEYS.device, secondaryKey: { file } })],
    ['with a letter too many', (key) => ({ key: `${key}#` })],
    ['cut', (key) => ({ key: key.slice(0, -3) })],
    ['twice', (key) => ({ key: `${key}${key}` })],
    ['in an object', (key) => ({ key: { value: key } })],
    ['in a list', (key) => ({ key: [key] })],
    ['as bytes', (key) => ({ key: Buffer.from(key) })],
    ['as an unknown option', (primaryKey) => ({ key: KEYS.device, primaryKey })],
    ['beside a group key', (groupKey) => ({ key: KEYS.device, groupKey })],
    ['as the registration id, in part', (key) => ({ key, registrationId: `${key} ` })],
  ];

  it.each(cases)('a secret %s', async (_name, options) => {
    const { canaries } = await makeSecrets();
    for (const [, secret] of PASTED) {
      const given = { registrationId: INDIVIDUAL, ...options(secret) };
      const error = await symmetricKeyHsm(given as never).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(Error);
      expectNoLeaks(canaries, errorOutputs('error', error));
    }
  });

  it('a key file that holds something else', async () => {
    const { canaries, certified } = await makeSecrets();
    const folder = temporaryFolder();
    const contents = [...PASTED.slice(1), ['PEM', certified.keyPem] as const, ['JSON', JSON.stringify(KEYS)] as const];
    for (const [, text] of contents) {
      const file = privateFile(folder, 'file', `${text}!`);
      const error = await symmetricKeyHsm({ registrationId: INDIVIDUAL, key: { file } }).catch(
        (reason: unknown) => reason,
      );
      expect(error).toBeInstanceOf(Error);
      expectNoLeaks(canaries, errorOutputs('error', error));
    }
  });
});

describe('an X.509 HSM given', () => {
  it('keys, certificates and passphrases in each other’s places', async () => {
    const { canaries, certified } = await makeSecrets();
    const folder = temporaryFolder();
    const { certificatePem, keyPem, encryptedKeyPem } = certified;
    const certificate = privateFile(folder, 'device.pem', certificatePem);
    const key = privateFile(folder, 'device.key', keyPem);
    const encrypted = privateFile(folder, 'encrypted.key', encryptedKeyPem);
    const phrase = privateFile(folder, 'phrase', PASSPHRASE);
    const half = keyPem.slice(0, keyPem.length / 2);
    const lines = keyPem.split('\n').slice(1, -2);
    const wrong: readonly object[] = [
      { certificate: key, key: certificate },
      { certificate: keyPem, key },
      { certificate, key: keyPem },
      { certificate, key: lines.join('') },
      { certificate, key: lines[0] },
      { certificate, key: phrase },
      { certificate: phrase, key },
      { certificate, key: encrypted },
      { certificate, key: encrypted, passphrase: `${PASSPHRASE}!` },
      { certificate, key: encrypted, passphrase: { file: key } },
      { certificate, key: encrypted, passphrase: { file: PASSPHRASE } },
      { certificate, key: encrypted, passphrase: { text: PASSPHRASE } },
      { certificate, key: encrypted, passphrase: [PASSPHRASE] },
      { certificate, key, password: PASSPHRASE },
      { certificate, key, clock: keyPem },
      { certificatePem: keyPem, keyPem: certificatePem },
      { certificatePem, keyPem: half },
      { certificatePem, keyPem: `${half}\n-----END PRIVATE KEY-----\n` },
      { certificatePem, keyPem: lines.join('\n') },
      { certificatePem, keyPem: keyPem.replaceAll('PRIVATE', 'RSA PRIVATE') },
      { certificatePem, keyPem: keyPem.replaceAll('PRIVATE KEY', 'CERTIFICATE') },
      { certificatePem, keyPem: keyPem.replace(/[A-Z]{3}/, 'zzz') },
      { certificatePem, keyPem: Buffer.from(keyPem) },
      { certificatePem: keyPem.replaceAll('PRIVATE KEY', 'CERTIFICATE'), keyPem },
      { certificatePem, keyPem, key: keyPem },
    ];
    for (const options of wrong) {
      const error = await x509FileHsm(options as never).catch((reason: unknown) => reason);
      expect(error, Object.keys(options).join()).toBeInstanceOf(Error);
      expectNoLeaks(canaries, errorOutputs(join('error', ...Object.keys(options)), error));
    }
  });
});
