import { createHash, createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeSymmetricKey } from '../../hsm/software-key-store.js';
import { identityCommand } from '../../src/cli/identity-command.js';
import { main } from '../../src/cli/main.js';
import { provision } from '../../src/compose.js';
import { type Emulator, issueCertificate, makeAuthority, startEmulator } from '../../src/emulator/index.js';
import type { HsmDescription } from '../../src/provision-options.js';
import { systemClock } from '../../src/system-clock.js';
import { base64Of, certified, makeTestStore, symmetric } from '../hsm/key-store/store-bench.js';
import { HANDLES, TpmBench } from '../hsm/tpm2/tpm-bench.js';
import { startRawPeer } from '../hsm/tpm2/tpm-peer.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith, temporaryFolder } from './temporary-folder.js';

const KEY = Buffer.alloc(32, 5).toString('base64');
const CSV_HEADER = 'registrationId,attestation,sha1Thumbprint,sha256Thumbprint,notAfter,endorsementKey\n';

interface Told {
  readonly status: number;
  readonly io: FakeIo;
}

async function tell(args: readonly string[], setup: FakeIoOptions = {}): Promise<Told> {
  const io = fakeIo(setup);
  const status = await main(['identity', ...args], io);
  expect(io.clock.pending).toBe(0);
  expect(io.listeners()).toBe(0);
  return { status, io };
}

/** All forms of one identity; nothing else is said. */
async function allForms(args: readonly string[], setup: FakeIoOptions = {}): Promise<Record<string, string>> {
  const forms: Record<string, string> = {};
  for (const form of ['json', 'csv', 'enrollment']) {
    const { status, io } = await tell([...args, '--format', form], setup);
    expect([status, io.err()]).toEqual([0, '']);
    expect(io.out()).toMatch(/[^\n]\n$/);
    forms[form] = io.out();
  }
  // The document is what comes without a word.
  expect((await tell(args, setup)).io.out()).toBe(forms.json);
  return forms;
}

function documentOf(forms: Record<string, string>): Record<string, unknown> {
  const document = JSON.parse(forms.json ?? '') as Record<string, unknown>;
  expect(JSON.parse(forms.enrollment ?? '')).toEqual(document.enrollment);
  return document;
}

/** Neither as it was given nor decoded, in whatever the command printed. */
function expectHidden(forms: Record<string, string>, ...secrets: readonly string[]): void {
  const all = Object.values(forms).join('');
  for (const secret of secrets) expect(all).not.toContain(secret);
}

let emulator: Emulator;
beforeAll(async () => {
  emulator = await startEmulator({ retryAfterSeconds: 0 });
});
afterAll(() => emulator.close());

/** Where the enrollment is all that the operator has. */
async function becomes(enrollment: unknown, hsm: HsmDescription): Promise<string> {
  emulator.enroll(enrollment as Parameters<Emulator['enroll']>[0]);
  const { https } = emulator.endpoints.dps;
  const { idScope, caPem: ca } = emulator;
  return (await provision({ idScope, ca, hsm, endpoint: https, transport: 'https' })).deviceId;
}

describe('a symmetric key', () => {
  const name = ['--registration-id', 'sensor-17'];

  it.each([
    ['of this device', 'symmetric-key'],
    ['of a group, which says nothing of the group', 'group-key'],
  ])('%s', async (_, secret) => {
    const forms = await allForms([...name, `--${secret}-file`, fileWith(`${KEY}\n`)]);
    expect(documentOf(forms)).toEqual({
      registrationId: 'sensor-17',
      attestation: 'symmetricKey',
      enrollment: { registrationId: 'sensor-17', attestation: { type: 'symmetricKey' } },
    });
    expect(forms.csv).toBe('sensor-17,symmetricKey,,,,\n');
    expectHidden(forms, KEY);
  });

  it('from the environment, and from standard input', async () => {
    const env = { DPS_REGISTRATION_ID: 'sensor-17', DPS_SYMMETRIC_KEY: KEY, DPS_FORMAT: 'csv' };
    expect((await tell([], { env })).io.out()).toBe('sensor-17,symmetricKey,,,,\n');
    const stdin = await tell([...name, '--symmetric-key-file', '-', '--format=csv'], { stdin: KEY });
    expect(stdin.io.out()).toBe('sensor-17,symmetricKey,,,,\n');
  });

  it('makes an enrollment to which the service makes the keys', async () => {
    const forms = await allForms([...name, '--symmetric-key-file', fileWith(KEY)]);
    const { enrollment } = documentOf(forms);
    const { attestation } = emulator.enroll(enrollment as Parameters<Emulator['enroll']>[0]);
    expect(attestation).toMatchObject({ symmetricKey: { primaryKey: expect.any(String) } });
  });
});

describe('a certificate', () => {
  it('is told by its thumbprints, and the enrollment lets the device in', async () => {
    const root = await makeAuthority({ commonName: 'Root' });
    const leaf = await issueCertificate(root, { commonName: 'pump-3', usage: 'client' });
    const certificate = fileWith(leaf.certificatePem);
    const key = fileWith(leaf.privateKeyPem);
    const args = ['--cert-file', certificate, '--cert-key-file', key, '--chain-file', fileWith(root.certificatePem)];
    const forms = await allForms(args);
    const { raw, validTo } = new X509Certificate(leaf.certificatePem);
    const digest = (hash: string): string => createHash(hash).update(raw).digest('hex').toUpperCase();
    const notAfter = new Date(validTo).toISOString();
    const document = documentOf(forms);
    expect(document).toEqual({
      registrationId: 'pump-3',
      attestation: 'x509',
      sha1Thumbprint: digest('sha1'),
      sha256Thumbprint: digest('sha256'),
      notAfter,
      enrollment: {
        registrationId: 'pump-3',
        attestation: {
          type: 'x509',
          x509: { clientCertificates: { primary: { certificate: new X509Certificate(raw).toString() } } },
        },
      },
    });
    expect(forms.csv).toBe(`pump-3,x509,${digest('sha1')},${digest('sha256')},${notAfter},\n`);
    expectHidden(forms, leaf.privateKeyPem.split('\n')[1] ?? '', 'PRIVATE KEY');
    expect(await becomes(document.enrollment, { kind: 'x509', certificate, key })).toBe('pump-3');
  });

  it('with a key that needs a passphrase shows neither', async () => {
    const root = await makeAuthority({ commonName: 'Root' });
    const leaf = await issueCertificate(root, { commonName: 'pump-4', usage: 'client' });
    const sealed = createPrivateKey(leaf.privateKeyPem)
      .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'canary phrase' })
      .toString();
    const args = ['--cert-file', fileWith(leaf.certificatePem), '--cert-key-file', fileWith(sealed)];
    const forms = await allForms(args, { env: { DPS_KEY_PASSPHRASE: 'canary phrase' } });
    expect(documentOf(forms)).toMatchObject({ registrationId: 'pump-4' });
    expectHidden(forms, 'canary phrase', 'PRIVATE KEY');
  });
});

describe('a key store', () => {
  it('gives what each of its entries is', async () => {
    const { store, options } = await makeTestStore();
    const key = makeSymmetricKey();
    await store.add('plain', symmetric('sensor-18', key));
    await store.add('signed', await certified('pump-5'));
    await store.close();
    const sealing = options.sealingKey as { readonly file: string };
    const args = ['--key-store', String(options.directory), '--key-store-key-file', sealing.file];
    const plain = await allForms([...args, '--key-name', 'plain']);
    expect(documentOf(plain)).toMatchObject({ registrationId: 'sensor-18', attestation: 'symmetricKey' });
    const signed = await allForms([...args, '--key-name', 'signed']);
    expect(documentOf(signed)).toMatchObject({ registrationId: 'pump-5', attestation: 'x509' });
    expect(signed.csv).toMatch(/^pump-5,x509,[0-9A-F]{40},[0-9A-F]{64},\d{4}-\d\d-\d\dT[\d:.]+Z,\n$/);
    expectHidden(plain, base64Of(key));
    expectHidden(signed, 'PRIVATE KEY');
  });
});

describe('a TPM', () => {
  let bench: TpmBench;
  beforeAll(async () => {
    bench = await TpmBench.start();
  });
  afterAll(() => bench.stop());

  it('is told by its endorsement key, and the enrollment lets the device in', async () => {
    const { uri } = bench.swtpm;
    const forms = await allForms(['--tpm', uri]);
    const { endorsementKey, registrationId, ...rest } = documentOf(forms) as Record<string, string>;
    expect(endorsementKey).toMatch(/^AToAAQALAAMAsgAg/);
    expect(registrationId).toMatch(/^[a-z2-7]{52}$/);
    const enrollment = { registrationId, attestation: { type: 'tpm', tpm: { endorsementKey } } };
    const storageRootKey = expect.stringMatching(/^ARoAAQALAAMEcgAA/);
    expect(rest).toEqual({ attestation: 'tpm', storageRootKey, enrollment });
    expect(forms.csv).toBe(`${registrationId},tpm,,,,${endorsementKey}\n`);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.ek]);
    expect(await bench.probe.leaks()).toEqual([]);
    expect(await becomes(enrollment, { kind: 'tpm', link: uri })).toBe(registrationId);
  });

  it('goes by the name that it is given', async () => {
    const forms = await allForms(['--tpm', bench.swtpm.uri, '--registration-id', 'meter-9']);
    expect(documentOf(forms)).toMatchObject({ registrationId: 'meter-9', enrollment: { registrationId: 'meter-9' } });
  });

  it.each([
    ['tpm2:swtpm:path=/nowhere/tpm.sock', 71, 'ERR_DPS_HSM_TPM_UNREACHABLE'],
    ['tpm2:/dev/null', 71, 'it takes a command and gives nothing back'],
    ['tpm2:floppy:', 64, '--tpm: it names no kind of link'],
    ['tpm2:tabrmd:', 64, '--tpm: it must reach tabrmd through tpm2-tss: give tpm2:tcti:tabrmd:'],
    ['tpm2:swtpm:host=127.0.0.1,port=70000', 64, '--tpm: it needs a port from 1 to 65535.'],
    ['/dev/tpmrm0', 64, '--tpm: it must begin with tpm2:, such as tpm2:/dev/tpmrm0'],
  ])('at %s is missed with status %i', async (link, status, words) => {
    const told = await tell(['--tpm', link]);
    expect([told.status, told.io.out()]).toEqual([status, '']);
    expect(told.io.err()).toContain(words);
    if (status === 71) expect(told.io.err()).toContain(`  identity:       TPM at ${link}\n`);
  });

  it('at a link from the environment that is none is an error of the configuration', async () => {
    const told = await tell([], { env: { DPS_TPM: 'tpm2:floppy:' } });
    expect([told.status, told.io.out()]).toEqual([78, '']);
    expect(told.io.err()).toContain('ERR_DPS_CONFIG_OPTION: DPS_TPM: it names no kind of link');
  });

  it.each([
    ['the flag', ['--timeout', '7'], {}],
    ['the configuration', [], { timeout: 7 }],
  ])('that does not answer is waited for until the timeout of %s', async (_, args, configuration) => {
    let asked = (): void => undefined;
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    const peer = await startRawPeer(() => {
      asked();
      return 'silence';
    });
    const { place } = peer.link(systemClock);
    const tpm = `tpm2:swtpm:host=127.0.0.1,port=${place.split(':').at(-1)}`;
    const io = fakeIo();
    const told = main(['identity', '--config', fileWith(JSON.stringify({ tpm, ...configuration })), ...args], io);
    await isAsked;
    io.clock.advance(7_000);
    // What the TPM is at is waited for, a little.
    await peer.close();
    expect([await told, io.out()]).toEqual([75, '']);
    expect(io.err()).toContain('7000 ms');
  });
});

describe('csv', () => {
  it('has its header before there is a device', async () => {
    const { status, io } = await tell(['--format', 'csv-header']);
    expect([status, io.out(), io.err()]).toEqual([0, CSV_HEADER, '']);
    const env = { DPS_FORMAT: 'csv-header', DPS_REGISTRATION_ID: 'dev-1' };
    expect((await tell([], { env })).io.out()).toBe(CSV_HEADER);
  });
});

describe('what is wrong', () => {
  const key = ['--symmetric-key-file', 'dev.key'];
  const canary = `canary${randomBytes(24).toString('hex')}`;

  it.each<[string, string[], number, string]>([
    ['nothing', [], 64, 'Nothing says how this device proves who it is.'],
    ['an unknown flag', ['--fromat', 'csv'], 64, 'Did you mean --format?'],
    ['an unknown form', ['--format', 'yaml'], 64, '--format: it must be one of json, csv, csv-header, enrollment.'],
    ['a form that is nearly one', ['--format', 'jsn'], 64, 'Did you mean json?'],
    ['no name', key, 64, '--registration-id is missing'],
    ['a name that is none', ['--registration-id', 'no name', ...key], 64, '--registration-id: '],
    ['two identities', ['--registration-id', 'a', '--tpm', 'tpm2:/dev/tpm0', ...key], 64, 'different identities'],
    ['no such file', ['--registration-id', 'a', ...key], 71, 'ERR_DPS_HSM_FILE_UNREADABLE'],
    ['a secret as a value', ['--registration-id', 'a', '--symmetric-key', canary], 64, 'symmetric-key-file'],
    ['a certificate without its key', ['--cert-file', 'dev.pem'], 64, '--cert-key-file is missing'],
    ['a store without a name', ['--key-store', 'keys'], 64, '--key-name is missing'],
    ['a name for a store', ['--key-store', 'k', '--key-name', 'n', '--registration-id', 'a'], 64, 'brings its own'],
    ['a secret for a link', ['--tpm', `tpm2:${canary}`], 64, '--tpm: it must be the link of a TPM'],
    ['an option of run', ['--reprovision-method', 'x'], 64, '--reprovision-method'],
  ])('%s: told, and nothing on standard output', async (_, args, status, words) => {
    const told = await tell(args);
    expect([told.status, told.io.out()]).toEqual([status, '']);
    expect(told.io.err()).toContain(words);
    expect(told.io.err()).not.toContain(canary);
  });

  it('a key that is none: where it came from is told, and not what it was', async () => {
    const path = fileWith(canary);
    const told = await tell(['--registration-id', 'a', '--symmetric-key-file', path, '--json-log']);
    expect([told.status, told.io.out()]).toEqual([71, '']);
    expect(JSON.parse(told.io.err())).toMatchObject({ type: 'error', exitStatus: 71 });
    expect(told.io.err()).toContain(path);
    expect(told.io.err()).not.toContain(canary);
  });

  it('a row that cannot be written is no success', async () => {
    const stdoutFailure = new Error('ENOSPC: no space left on device');
    const told = await tell(['--format', 'csv-header'], { stdoutFailure });
    expect(told.status).toBe(74);
  });

  it('an interruption ends it', async () => {
    const io = fakeIo({ isStdinSilent: true });
    const told = main(['identity', '--registration-id', 'a', '--symmetric-key-file', '-'], io);
    while (io.listeners() === 0) await new Promise((resolve) => setImmediate(resolve));
    io.send('SIGINT');
    expect([await told, io.out()]).toEqual([130, '']);
  });

  it('the HSM is closed also when it cannot say who it is', async () => {
    let closed = 0;
    const hsm = {
      kind: 'symmetricKey' as const,
      registrationId: () => Promise.reject(new TypeError('no')),
      sign: () => Promise.reject(new TypeError('no')),
      close: async () => {
        closed += 1;
      },
    };
    const io = fakeIo();
    const load = async (): Promise<() => Promise<never>> => async () => hsm as never;
    const commands = { identity: { summary: '', load: async () => identityCommand(load) } };
    const args = ['identity', '--registration-id', 'a', '--symmetric-key-file', 'x'];
    expect([await main(args, io, commands), io.out(), closed]).toEqual([70, '', 1]);
  });
});

describe('one configuration for all commands', () => {
  function configured(): string {
    const folder = temporaryFolder();
    writeFileSync(join(folder, 'dev.key'), KEY, { mode: 0o600 });
    const content = {
      idScope: '0ne1',
      registrationId: 'sensor-17',
      symmetricKeyFile: 'dev.key',
      format: 'csv',
      reprovisionMethod: 'renew',
      writeConnection: 'hub.txt',
      state: 'state',
      endpoint: 'localhost:1',
      transport: 'https',
      timeout: 5,
    };
    const path = join(folder, 'device.json');
    writeFileSync(path, JSON.stringify(content));
    return path;
  }

  it('may have what only others take', async () => {
    const { status, io } = await tell(['--config', configured()]);
    expect([status, io.out(), io.err()]).toEqual([0, 'sensor-17,symmetricKey,,,,\n', '']);
  });

  it.each([['provision'], ['run'], ['status'], ['forget'], ['doctor']])(
    'may have the form of identity, for %s',
    async (command) => {
      const path = configured();
      // Past its options it stumbles over the key: 71, or for those that need none, over nothing.
      rmSync(join(path, '..', 'dev.key'));
      const io = fakeIo({ env: { DPS_FORMAT: 'csv' } });
      const status = await main([command, '--config', path], io);
      expect(io.err()).not.toContain('format');
      expect(status).toBe(command === 'status' || command === 'forget' ? 0 : 71);
    },
  );

  it.each([['provision'], ['run']])('does not make it a flag of %s, which is told whose it is', async (command) => {
    const io = fakeIo();
    expect(await main([command, '--format', 'csv'], io)).toBe(64);
    expect(io.err()).toContain('It belongs to dps-device identity.');
  });
});

describe('help', () => {
  it('fits into 100 columns, and has what the command makes use of', async () => {
    const io = fakeIo();
    expect(await main(['identity', '--help'], io)).toBe(0);
    expect(
      io
        .out()
        .split('\n')
        .filter((line) => line.length > 100),
    ).toEqual([]);
    const flags = [...io.out().matchAll(/^ {2}--([a-z-]+)/gm)].map(([, flag]) => flag);
    for (const used of ['tpm', 'cert-file', 'symmetric-key-file', 'key-store', 'format', 'timeout', 'config']) {
      expect(flags).toContain(used);
    }
    for (const unused of ['id-scope', 'endpoint', 'proxy-password-file', 'state', 'write-connection']) {
      expect(flags).not.toContain(unused);
    }
  });
});
