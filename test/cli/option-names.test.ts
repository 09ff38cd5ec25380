import { createPrivateKey } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { main } from '../../src/cli/main.js';
import { findOptionNames, type OptionNames, respell, respellOption } from '../../src/cli/option-names.js';
import { readOptions } from '../../src/cli/options.js';
import { PROVISION_SPEC } from '../../src/cli/provision-spec.js';
import { findSecrets, takeEnvironmentSecrets } from '../../src/cli/secrets.js';
import { issueCertificate, makeAuthority } from '../../src/emulator/index.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith } from './temporary-folder.js';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

async function namesFor(args: readonly string[], setup: FakeIoOptions = {}): Promise<OptionNames> {
  const io = fakeIo(setup);
  const { signal } = new AbortController();
  const taken = takeEnvironmentSecrets(io.env, PROVISION_SPEC.secrets);
  const options = await readOptions(args, PROVISION_SPEC, io, signal);
  return findOptionNames(
    PROVISION_SPEC,
    options,
    await findSecrets(PROVISION_SPEC.secrets, options, taken, io, signal),
  );
}

describe('a message of the library', () => {
  it.each<[string, string]>([
    ['Option hsm.registrationId is missing.', '--registration-id ID is missing.'],
    ['Encrypted: give { file: … } as option hsm.passphrase.', 'Encrypted: give --key-passphrase-file FILE.'],
    ['Give it with option ca.', 'Give it with --ca-file FILE.'],
    ['Option hubTransport: no.', '--hub-transport mqtt|mqtt-ws|auto: no.'],
    ['Option hsm.key.file must be a path.', '--symmetric-key-file FILE must be a path.'],
    ['Option clock must be an object.', 'Option clock must be an object.'],
    ['Option hsm.keys is unknown.', 'Option hsm.keys is unknown.'],
    ['See /my option ca/x and option ca.pem.', 'See /my option ca/x and option ca.pem.'],
    ['The options ca and payload.', 'The options ca and payload.'],
  ])('%j says how to give what was not given', async (message, expected) => {
    expect(respell(message, await namesFor([]))).toBe(expected);
  });

  it('says where it was given, with the file', async () => {
    const path = fileWith('{"chainFile":"chain.pem","timeout":5}');
    const names = await namesFor(['--config', path, '--ca-file', 'ca.pem', '--id-scope', '0ne1'], {
      env: { DPS_SYMMETRIC_KEY: 'S3CRET', DPS_PAYLOAD_FILE: 'payload.json' },
    });
    const cases = {
      'Option ca holds no certificate.': '--ca-file ca.pem holds no certificate.',
      'Option payload: too long.': 'DPS_PAYLOAD_FILE=payload.json: too long.',
      'Option idScope: wrong.': '--id-scope: wrong.',
      'Option deadlineMs: wrong.': `${path}: timeout: wrong.`,
      'The text of option hsm.key is not Base64.': 'The text of DPS_SYMMETRIC_KEY is not Base64.',
      'Give { file: … } as option hsm.key.': 'Give --symmetric-key-file FILE.',
      'In option hsm.chain.': `In ${path}: chainFile ${join(path, '..', 'chain.pem')}.`,
    };
    const spelled = Object.keys(cases).map((message) => respell(message, names));
    expect(spelled).toEqual(Object.values(cases));
    expect(
      ['ca', 'hsm.key', 'hsm.key.file', 'hsm.passphrase', 'clock'].map((name) => respellOption(name, names)),
    ).toEqual(['--ca-file', 'DPS_SYMMETRIC_KEY', 'DPS_SYMMETRIC_KEY', '--key-passphrase-file', 'clock']);
  });

  it('takes a name that several options stand for as the one that was given', async () => {
    const names = await namesFor(['--cert-file', 'a.pem', '--cert-key-file', '-'], { stdin: 'S3CRET' });
    expect(respell('In option hsm.key', names)).toBe('In --cert-key-file (standard input)');
    expect(respell('In option hsm.certificatePem', names)).toBe('In --cert-file a.pem');
  });

  it('never repeats as a path what may be a secret', async () => {
    const key = Buffer.alloc(48, 'k3Y').toString('base64');
    const names = await namesFor(['--symmetric-key-file', key, '--payload-file', '{"a":1}']);
    expect(respell('Option hsm.key: x', names)).toBe('--symmetric-key-file: x');
    expect(respell('Option payload: x', names)).toBe('--payload-file: x');
  });
});

describe('the names of options', () => {
  it('that messages of the library mention are all known here, but for what only programs have', () => {
    const sources = ['hsm', 'hsm/tpm2', 'hsm/tpm2/links', 'src/net', 'src/transports', 'src/core', 'src/hub'].flatMap(
      (folder) =>
        readdirSync(join(ROOT, folder), { encoding: 'utf8' })
          .filter((name) => name.endsWith('.ts'))
          .map((name) => readFileSync(join(ROOT, folder, name), 'utf8').replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '')),
    );
    const mentioned = new Set(
      sources.flatMap((text) => [...text.matchAll(/\b[Oo]ption ((?:hsm\.)?[a-z][A-Za-z]+)/g)]).map(([, name]) => name),
    );
    const known = [...PROVISION_SPEC.options, ...PROVISION_SPEC.secrets].flatMap(({ standsFor = [] }) => standsFor);
    expect([...mentioned].sort()).toEqual(expect.arrayContaining(['ca', 'hsm.passphrase', 'hsm.registrationId']));
    expect([...mentioned].filter((name) => !known.includes(`${name}`)).sort()).toEqual([
      'hsm',
      'hsm.clock',
      'hsm.commandTimeoutMs',
    ]);
  });
});

/** With the providers themselves: they fail before anything is sent. */
describe('provision says in its own words', () => {
  const SCOPE = ['--id-scope', '0ne1', '--endpoint', 'localhost:1'];

  async function fail(args: string[], setup: FakeIoOptions = {}): Promise<FakeIo> {
    const io = fakeIo(setup);
    expect(await main(['provision', ...SCOPE, ...args], io)).toBe(71);
    expect(io.out()).toBe('');
    expect(io.err()).not.toMatch(/option|hsm\.|\{ file/);
    return io;
  }

  it('that a text is no key, and where it came from', async () => {
    const io = await fail(['--registration-id', 'dev-1'], { env: { DPS_SYMMETRIC_KEY: 'c2VjcmV0' } });
    expect(io.err()).toContain(
      'error ERR_DPS_HSM_KEY_INVALID: The text of DPS_SYMMETRIC_KEY decodes to 6 bytes; a key has 16 to 64 bytes. Copy the whole key from the enrollment.\n',
    );
    expect(io.err()).toContain('  identity:       symmetric key from DPS_SYMMETRIC_KEY\n');
  });

  it('how to read a key from a file', async () => {
    const io = await fail(['--registration-id', 'dev-1'], { env: { DPS_SYMMETRIC_KEY: '/etc/device.key' } });
    expect(io.err()).toContain(
      ' Copy the whole key from the enrollment. To read it from a file give --symmetric-key-file FILE.\n',
    );
    expect(io.err()).not.toContain('/etc/device.key');
  });

  it('that a key is encrypted, for keys from files and from the environment', async () => {
    const { encryptedKey, certificate } = await makeFiles();
    const file = fileWith(encryptedKey);
    const fromFile = await fail(['--cert-file', certificate, '--cert-key-file', file]);
    expect(fromFile.err()).toContain(`: The private key in ${file} is encrypted: give --key-passphrase-file FILE.\n`);
    expect(fromFile.err()).toContain(
      `  identity:       certificate from --cert-file ${certificate}, key from --cert-key-file ${file}\n`,
    );
    const fromText = await fail(['--cert-file', certificate], { env: { DPS_CERT_KEY: encryptedKey } });
    expect(fromText.err()).toContain(
      ': The private key in DPS_CERT_KEY is encrypted: give --key-passphrase-file FILE.\n',
    );
  });

  it('that certificate and key were swapped, whatever the mode', async () => {
    const { certificate } = await makeFiles();
    const io = await fail(['--cert-file', certificate, '--cert-key-file', certificate]);
    expect(io.err()).toContain(
      `: ${certificate} holds a certificate and no private key. Were certificate and key swapped?\n`,
    );
    expect(io.err()).not.toContain('chmod');
  });

  it('that the registration id is another one', async () => {
    const { certificate, key } = await makeFiles();
    const config = fileWith(JSON.stringify({ certFile: certificate, certKeyFile: key, registrationId: 'other' }));
    const io = await fail(['--config', config]);
    expect(io.err()).toContain(
      `: ${config}: registrationId says "other", but the certificate in ${certificate} is for "dev-1".`,
    );
    expect(io.err()).toContain(
      `  identity:       certificate from ${config}: certFile ${certificate}, key from ${config}: certKeyFile ${key}\n`,
    );
  });
});

async function makeFiles(): Promise<{ certificate: string; key: string; encryptedKey: string }> {
  const issuer = await makeAuthority({ commonName: 'CA' });
  const { chainPem, privateKeyPem } = await issueCertificate(issuer, { commonName: 'dev-1', usage: 'client' });
  const encryptedKey = createPrivateKey(privateKeyPem)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'p' })
    .toString();
  return { certificate: fileWith(chainPem, 0o644), key: fileWith(privateKeyPem), encryptedKey };
}
