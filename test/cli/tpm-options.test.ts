import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { doctorCommand } from '../../src/cli/doctor.js';
import { main } from '../../src/cli/main.js';
import { type Emulator, startEmulator } from '../../src/emulator/index.js';
import { HANDLES, signal, TpmBench } from '../hsm/tpm2/tpm-bench.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { fileWith, KEY_FLAGS, run } from './provision-bench.js';
import { temporaryFolder } from './temporary-folder.js';

/** All that `tpm2Hsm()` takes, said on the command line. */

const OWNER = 'own-canary-4711';
const ENDORSEMENT = 'endorsed-canary-4712';
const FLAGS = ['--id-scope', '0ne1', '--tpm', 'tpm2:/dev/tpmrm0'];

describe('the options of a TPM', () => {
  it('say where its passwords are, what its keys are made from and where they live', async () => {
    const { options, status } = await run([
      ...FLAGS,
      ...['--tpm-owner-auth-file', 'owner.auth', '--tpm-endorsement-auth-file', 'ek.auth'],
      ...['--tpm-template', 'azure-java', '--tpm-transient-primaries'],
      ...['--tpm-handles', 'storageRootKey=0x81000002,identity=2164261376'],
    ]);
    expect([status, options?.hsm]).toEqual([
      0,
      {
        kind: 'tpm',
        link: 'tpm2:/dev/tpmrm0',
        template: 'azure-java',
        handles: { storageRootKey: 0x8100_0002, identity: 0x8100_0200 },
        transientPrimaries: true,
        ownerAuth: { file: 'owner.auth' },
        endorsementAuth: { file: 'ek.auth' },
      },
    ]);
  });

  it('come from the environment, which keeps no password', async () => {
    const env = {
      DPS_TPM: 'tpm2:/dev/tpmrm0',
      DPS_TPM_OWNER_AUTH: OWNER,
      DPS_TPM_TEMPLATE: 'azure-node-c',
      DPS_TPM_HANDLES: 'endorsementKey=0x81010002',
      DPS_TPM_TRANSIENT_PRIMARIES: '1',
      CREDENTIALS_DIRECTORY: join(fileWith(`${ENDORSEMENT}\n`, 'dps-tpm-endorsement-auth'), '..'),
    };
    const { io, options } = await run(['--id-scope', '0ne1'], { env });
    expect(options?.hsm).toEqual({
      kind: 'tpm',
      link: 'tpm2:/dev/tpmrm0',
      template: 'azure-node-c',
      handles: { endorsementKey: 0x8101_0002 },
      transientPrimaries: true,
      ownerAuth: OWNER,
      endorsementAuth: ENDORSEMENT,
    });
    expect(JSON.stringify(io.env)).not.toContain(OWNER);
  });

  it('come from a configuration, and a password from standard input', async () => {
    const config = fileWith(
      JSON.stringify({
        idScope: '0ne1',
        attestation: 'tpm',
        tpmOwnerAuthFile: 'owner.auth',
        tpmTransientPrimaries: true,
        tpmHandles: 'identity=0x81000200',
      }),
    );
    const { options } = await run(['--config', config, '--tpm-endorsement-auth-file', '-'], {
      stdin: `${ENDORSEMENT}\r\n`,
    });
    expect(options?.hsm).toEqual({
      kind: 'tpm',
      handles: { identity: 0x8100_0200 },
      transientPrimaries: true,
      ownerAuth: { file: join(config, '..', 'owner.auth') },
      endorsementAuth: ENDORSEMENT,
    });
  });

  it.each([
    [['--tpm-template', 'azure-nod'], 'Did you mean azure-node-c?'],
    [['--tpm-template', 'ecc'], '--tpm-template: it must be one of tcg, azure-node-c, azure-java.'],
    [['--tpm-handles', '0x81000200'], '--tpm-handles: it must be KEY=HANDLE, several with commas in between'],
    [['--tpm-handles', 'srk=0x81000200'], 'KEY is one of endorsementKey, storageRootKey, identity, stagedIdentity.'],
    [['--tpm-handles', 'identity=0x81000200,'], '--tpm-handles: it must be KEY=HANDLE'],
    [['--tpm-handles', 'identity=0x81800000'], '--tpm-handles: identity must be from 0x81000000 to 0x817fffff, where'],
    [['--tpm-handles', 'identity=0x81000200,identity=0x81000201'], '--tpm-handles: it has identity twice.'],
    [['--tpm-handles', 'identity=0x81000001'], '--tpm-handles: it names one handle twice'],
    [['--tpm-transient-primaries=1'], '--tpm-transient-primaries takes no value.'],
    [['--tpm-owner-auth', OWNER], 'Use --tpm-owner-auth-file FILE (- for standard input), DPS_TPM_OWNER_AUTH in the'],
  ])('%j is refused', async (args, words) => {
    const { status, io, options } = await run([...FLAGS, ...args]);
    expect([status, options, io.out()]).toEqual([64, undefined, '']);
    expect(io.err()).toContain(words);
    expect(io.err()).not.toContain(OWNER);
  });

  it('as they are wrong in environment or configuration are a matter of configuration', async () => {
    const env = { DPS_TPM_HANDLES: 'identity=1' };
    const fromEnvironment = await run(FLAGS, { env });
    expect([fromEnvironment.status, fromEnvironment.io.err()]).toEqual([
      78,
      expect.stringContaining('DPS_TPM_HANDLES: identity must be from 0x81000000'),
    ]);
    const config = fileWith(JSON.stringify({ tpmOwnerAuth: OWNER }));
    const fromFile = await run([...FLAGS, '--config', config]);
    expect([fromFile.status, fromFile.io.err()]).toEqual([
      78,
      expect.stringContaining('Secrets do not go into the configuration'),
    ]);
    expect(fromFile.io.err()).not.toContain(OWNER);
    const nearly = await run(FLAGS, { env: { DPS_TPM_TEMPLAT: 'tcg' } });
    expect(nearly.io.err()).toContain('Did you mean DPS_TPM_TEMPLATE?');
  });

  it.each([
    [['--tpm-template', 'tcg'], '--tpm-template'],
    [['--tpm-handles', 'identity=0x81000200'], '--tpm-handles'],
    [['--tpm-transient-primaries'], '--tpm-transient-primaries'],
    [['--tpm-owner-auth-file', 'x'], '--tpm-owner-auth-file'],
    [['--tpm-endorsement-auth-file', 'x'], '--tpm-endorsement-auth-file'],
  ])('%j go with a TPM, and with nothing else', async (args, label) => {
    const alone = await run(['--id-scope', '0ne1', ...args]);
    expect([alone.status, alone.io.err()]).toEqual([64, expect.stringContaining('--tpm is missing: give the link')]);
    const both = await run([...KEY_FLAGS, ...args]);
    expect([both.status, both.io.err()]).toEqual([
      64,
      expect.stringContaining(`different identities: --symmetric-key-file, ${label}.`),
    ]);
  });

  it('that is switched off says nothing of a TPM', async () => {
    const { status } = await run(KEY_FLAGS, { env: { DPS_TPM_TRANSIENT_PRIMARIES: '0' } });
    expect(status).toBe(0);
  });
});

describe.each(['provision', 'run', 'identity', 'doctor'])('%s --help', (command) => {
  it('tells them, within 100 columns', async () => {
    const io = fakeIo();
    expect(await main([command, '--help'], io)).toBe(0);
    for (const words of ['--tpm-owner-auth-file FILE\n', '--tpm-template tcg|azure-node-c|azure-java\n']) {
      expect(io.out()).toContain(`  ${words}`);
    }
    expect(io.out()).toMatch(/--tpm-endorsement-auth-file +DPS_TPM_ENDORSEMENT_AUTH +dps-tpm-endorsement-auth\n/);
    expect(
      io
        .out()
        .split('\n')
        .filter((line) => line.length > 100),
    ).toEqual([]);
  });
});

interface Told {
  readonly status: number;
  readonly io: FakeIo;
}

/** A TPM of which both hierarchies have a password. */
describe('a real TPM', () => {
  let bench: TpmBench;
  let emulator: Emulator;
  beforeAll(async () => {
    bench = await TpmBench.start();
    emulator = await startEmulator({ retryAfterSeconds: 0 });
    await bench.probe.changeAuth('owner', OWNER);
    await bench.probe.changeAuth('endorsement', ENDORSEMENT);
  });
  afterAll(async () => {
    await emulator.close();
    await bench.stop();
  });

  async function tell(args: readonly string[], setup: FakeIoOptions = {}, { swtpm } = bench): Promise<Told> {
    const io = fakeIo(setup);
    const status = await main([...args, '--tpm', swtpm.uri], io);
    for (const secret of [OWNER, ENDORSEMENT]) expect(io.out() + io.err()).not.toContain(secret);
    return { status, io };
  }

  it('says what is missing in the words of the command line', async () => {
    const { status, io } = await tell(['identity']);
    expect([status, io.out()]).toEqual([71, '']);
    expect(io.err()).toContain('error ERR_DPS_HSM_TPM_AUTH: ');
    expect(io.err()).toMatch(/--tpm-(owner|endorsement)-auth-file FILE/);
    expect(io.err()).not.toMatch(/option hsm|hsm\./);
  });

  it('says where the wrong password came from', async () => {
    const wrong = fileWith(`${ENDORSEMENT}x\n`);
    const { status, io } = await tell(['identity', '--tpm-endorsement-auth-file', wrong], {
      env: { DPS_TPM_OWNER_AUTH: `${OWNER}x` },
    });
    expect(status).toBe(71);
    expect(io.err()).toContain('error ERR_DPS_HSM_TPM_AUTH: ');
    const places = `DPS_TPM_OWNER_AUTH and --tpm-endorsement-auth-file ${wrong}`;
    expect(io.err()).toContain(`  identity:       TPM at ${bench.swtpm.uri}, password from ${places}\n`);
    expect(io.err()).not.toMatch(/option hsm|hsm\./);
  });

  it('is enrolled and provisioned with its passwords, at handles of its own', async () => {
    const passwords = ['--tpm-owner-auth-file', fileWith(`${OWNER}\n`), '--tpm-endorsement-auth-file', '-'];
    const handles = ['--tpm-handles', 'identity=0x81000200,stagedIdentity=0x81000201,storageRootKey=0x81000002'];
    const setup = { stdin: `${ENDORSEMENT}\n` };
    const told = await tell(['identity', '--format', 'enrollment', ...passwords, ...handles], setup);
    expect([told.status, told.io.err()]).toEqual([0, '']);
    emulator.enroll(JSON.parse(told.io.out()) as Parameters<Emulator['enroll']>[0]);
    const service = ['--endpoint', emulator.endpoints.dps.https, '--ca-file', fileWith(emulator.caPem)];
    const provisioned = await tell(
      ['provision', '--id-scope', emulator.idScope, ...service, ...passwords, ...handles],
      setup,
    );
    expect([provisioned.status, provisioned.io.err()]).toEqual([0, expect.stringContaining('provisioned: ')]);
    expect(await bench.probe.persistent()).toEqual([0x8100_0002, 0x8100_0200, HANDLES.ek]);
  });

  it('has another name by another template, and keeps no key for it', async () => {
    const env = { DPS_TPM_OWNER_AUTH: OWNER, DPS_TPM_ENDORSEMENT_AUTH: ENDORSEMENT };
    const before = await bench.probe.persistent();
    const idWith = async (...args: readonly string[]): Promise<unknown> => {
      const { status, io } = await tell(['identity', '--tpm-transient-primaries', ...args], { env: { ...env } });
      expect([status, io.err()]).toEqual([0, '']);
      return (JSON.parse(io.out()) as { registrationId: string }).registrationId;
    };
    const link = bench.swtpm.uri;
    const ids = [await idWith(), await idWith('--tpm-template', 'azure-node-c')];
    const expected = [];
    for (const template of ['tcg', 'azure-node-c'] as const) {
      const auth = { ownerAuth: OWNER, endorsementAuth: ENDORSEMENT };
      const hsm = await bench.device({ link, template, transientPrimaries: true, ...auth });
      expected.push(await hsm.registrationId(signal));
    }
    expect(ids).toEqual(expected);
    expect(new Set(ids).size).toBe(2);
    expect(await bench.probe.persistent()).toEqual(before);
  });

  it('names the option for a handle that is taken', async () => {
    await bench.probe.changeAuth('owner', '', OWNER);
    await bench.probe.occupy('ecc', 0x8100_0300);
    await bench.probe.changeAuth('owner', OWNER);
    const { status, io } = await tell(['identity', '--tpm-handles', 'storageRootKey=0x81000300'], {
      env: { DPS_TPM_OWNER_AUTH: OWNER, DPS_TPM_ENDORSEMENT_AUTH: ENDORSEMENT },
    });
    expect(status).toBe(71);
    expect(io.err()).toContain('for storageRootKey with --tpm-handles, or set --tpm-transient-primaries.');
  });

  it('that was cleared has lost its hub key, and its passwords with it', async () => {
    const cleared = await TpmBench.start();
    onTestFinished(() => cleared.stop());
    emulator.enroll((await (await cleared.device()).identity(signal)).enrollment);
    await cleared.probe.changeAuth('owner', OWNER);
    const service = ['--endpoint', emulator.endpoints.dps.https, '--ca-file', fileWith(emulator.caPem)];
    const state = ['--state', join(temporaryFolder(), 'state')];
    const args = ['provision', '--id-scope', emulator.idScope, ...service, ...state];
    const env = { DPS_TPM_OWNER_AUTH: OWNER };
    expect((await tell(args, { env: { ...env } }, cleared)).status).toBe(0);
    await cleared.probe.clear();
    const withPassword = await tell(args, { env: { ...env } }, cleared);
    expect([withPassword.status, withPassword.io.err()]).toEqual([
      71,
      expect.stringContaining(
        'as DPS_TPM_OWNER_AUTH and that of the endorsement hierarchy as --tpm-endorsement-auth-file',
      ),
    ]);
    expect(withPassword.io.err()).toContain('none where there is none: TPM2_Clear removes both.');
    const without = await tell(args, {}, cleared);
    expect(without.status).toBe(0);
    expect(without.io.err()).toContain('back to DPS, the TPM holds no hub key: ERR_DPS_HSM_TPM_NO_IDENTITY\n');
    expect(without.io.err()).not.toContain('refused');
  });
});

describe('the doctor', () => {
  it('looks at the files of passwords', async () => {
    const open = join(fileWith(OWNER, 'owner.auth'));
    chmodSync(open, 0o644);
    const own = fileWith(ENDORSEMENT, 'ek.auth');
    const none = join(temporaryFolder(), 'none');
    const findingsOf = async (...args: readonly string[]): Promise<unknown[]> => {
      const io = fakeIo();
      const network = () => Promise.reject(new TypeError('no network here'));
      const commands = { doctor: { summary: '', load: async () => doctorCommand({ network }) } };
      await main(['doctor', '--tpm', 'tpm2:/nowhere/tpmrm0', '--ca-file', none, ...args], io, commands);
      expect(io.out() + io.err()).not.toMatch(/canary/);
      const { findings } = JSON.parse(io.out()) as { findings: { check: string; verdict: string; code?: string }[] };
      return findings.filter(({ check }) => check === 'permissions').map(({ verdict, code }) => code ?? verdict);
    };
    const found = await findingsOf('--tpm-owner-auth-file', open, '--tpm-endorsement-auth-file', own);
    expect(found).toEqual(['ERR_DPS_HSM_FILE_MODE', 'ok']);
    expect(await findingsOf('--tpm-owner-auth-file', none)).toEqual(['ERR_DPS_HSM_FILE_UNREADABLE']);
  });
});
