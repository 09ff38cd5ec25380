/** Doctor with what holds the key itself: a key store, a TPM. */
import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { doctorCommand } from '../../src/cli/doctor.js';
import { main } from '../../src/cli/main.js';
import type { LiveNetworkOptions } from '../../src/doctor/live-network.js';
import type { Network } from '../../src/doctor/network-check.js';
import { systemClock } from '../../src/system-clock.js';
import { certified, makeTestStore, PASSPHRASE, symmetric } from '../hsm/key-store/store-bench.js';
import { TpmBench } from '../hsm/tpm2/tpm-bench.js';
import { type FakeIo, type FakeIoOptions, fakeIo } from './fake-io.js';
import { temporaryFolder } from './temporary-folder.js';

const FACTS = { tlsVersion: 'TLSv1.3', subject: 's', authority: 'a', validToMs: 0, dateMs: undefined };

interface Examined {
  readonly status: number;
  readonly told: string[];
  readonly out: string;
  readonly way: LiveNetworkOptions | undefined;
}

async function examine(
  args: readonly string[],
  setup: FakeIoOptions = {},
  io: FakeIo = fakeIo(setup),
): Promise<Examined> {
  const ways: LiveNetworkOptions[] = [];
  const network = (way: LiveNetworkOptions): Network => {
    ways.push(way);
    return { resolve: async () => ['192.0.2.9'], connect: async () => FACTS };
  };
  const commands = { doctor: { summary: '', load: async () => doctorCommand({ clock: systemClock, network }) } };
  const status = await main(['doctor', '--id-scope', '0ne1', '--proxy', 'none', ...args], io, commands);
  const { findings } = JSON.parse(io.out()) as { findings: { check: string; verdict: string; code?: string }[] };
  const checks = ['configuration', 'identity', 'permissions', 'key-store', 'tpm', 'key', 'expiry', 'registration-id'];
  expect(io.clock.pending).toBe(0);
  return {
    status,
    told: findings
      .filter(({ check }) => checks.includes(check))
      .map(({ check, verdict, code }) => `${check} ${code ?? verdict}`),
    out: io.out() + io.err(),
    way: ways[0],
  };
}

describe('doctor with a key store', () => {
  it('opens it, and connects with the certificate in it', async () => {
    const { store, options } = await makeTestStore();
    await store.add('device', await certified('dev-1'));
    await store.close();
    const sealing = { DPS_KEY_STORE_KEY_FILE: join(options.directory, '..', 'sealing-7.key') };
    const args = ['--key-store', options.directory, '--key-name', 'device'];
    const { status, told, way, out } = await examine(args, { env: sealing });
    expect([status, told]).toEqual([
      0,
      [
        'configuration ok',
        'identity ok',
        'key-store ok',
        'key ok',
        expect.stringMatching(/^expiry/),
        'registration-id ok',
      ],
    ]);
    expect(new X509Certificate(way?.client?.certificateChainPem ?? '').subject).toBe('CN=dev-1');
    expect(out).not.toMatch(/PRIVATE|were not opened/);
  });

  it('says in the words of the command line that the passphrase is wrong', async () => {
    const { store, options } = await makeTestStore({ sealingKey: undefined, passphrase: PASSPHRASE } as object);
    await store.add('device', symmetric('dev-1'));
    await store.close();
    const args = ['--key-store', options.directory, '--key-name', 'device'];
    const wrong = await examine(args, { env: { DPS_KEY_STORE_PASSPHRASE: 'not the right one' } });
    expect([wrong.status, wrong.told]).toEqual([
      71,
      ['configuration ok', 'identity ok', 'key-store ERR_DPS_HSM_PASSPHRASE'],
    ]);
    expect(wrong.out).toContain('DPS_KEY_STORE_PASSPHRASE');
    expect(wrong.out).not.toMatch(/option hsm|not the right one/);
    const right = await examine(args, { env: { DPS_KEY_STORE_PASSPHRASE: PASSPHRASE } });
    expect([right.status, right.told.slice(2)]).toEqual([0, ['key-store ok', 'key ok', 'registration-id ok']]);
  });

  it('says that the entry is missing', async () => {
    const { store, options } = await makeTestStore();
    await store.close();
    const sealing = { DPS_KEY_STORE_KEY_FILE: join(options.directory, '..', 'sealing-7.key') };
    const { status, told } = await examine(['--key-store', options.directory, '--key-name', 'no'], { env: sealing });
    expect([status, told.slice(2)]).toEqual([71, ['key-store ok', 'key ERR_DPS_HSM_ENTRY_MISSING']]);
  });
});

describe('doctor with a TPM', () => {
  it('looks at it, and names the device as identity does', async () => {
    const bench = await TpmBench.start();
    onTestFinished(() => bench.stop());
    const tpm = ['--tpm', bench.swtpm.uri];
    const before = await examine(tpm);
    expect([before.status, before.told]).toEqual([
      0,
      ['configuration ok', 'identity ok', 'tpm ok', 'registration-id skipped'],
    ]);
    expect(await bench.probe.persistent()).toEqual([]);
    const io = fakeIo();
    await main(['identity', ...tpm], io);
    const { registrationId } = JSON.parse(io.out()) as { registrationId: string };
    const after = await examine(tpm);
    expect([after.status, after.told.at(-1)]).toEqual([0, 'registration-id ok']);
    expect(after.out).toContain(`The device registers as ${registrationId}.`);
  });

  it('says that it is not there, and what to do', async () => {
    const { status, told, out } = await examine(['--tpm', `tpm2:${join(temporaryFolder(), 'tpmrm0')}`]);
    expect([status, told.at(-1)]).toEqual([71, 'tpm ERR_DPS_HSM_TPM_UNREACHABLE']);
    expect(out).not.toMatch(/option hsm/);
  });

  it('waits no longer for it than for a connection', async () => {
    const bench = await TpmBench.start();
    onTestFinished(() => bench.stop());
    bench.swtpm.pause();
    const io = fakeIo();
    let isOver = false;
    const ending = examine(['--tpm', bench.swtpm.uri, '--connect-timeout', '7'], {}, io).finally(() => {
      isOver = true;
    });
    const goOn = (): boolean => {
      io.clock.advance(1_000);
      return isOver;
    };
    await expect.poll(goOn, { timeout: 30_000 }).toBe(true);
    const { status, told, out } = await ending;
    expect([status, told.at(-1)]).toEqual([71, 'tpm ERR_DPS_HSM_TPM_TIMEOUT']);
    expect(out).toContain('7000 ms');
  });

  it('finds a transport that DPS takes no TPM over, whoever names it', async () => {
    const tpm = ['--tpm', 'tpm2:swtpm:path=/nowhere/tpm.sock'];
    const asFlag = await examine([...tpm, '--transport', 'mqtt']);
    expect([asFlag.status, asFlag.told]).toEqual([
      64,
      ['configuration ok', 'identity ok', 'configuration ERR_DPS_USAGE', 'tpm ERR_DPS_HSM_TPM_UNREACHABLE'],
    ]);
    const { status, told } = await examine(tpm, { env: { DPS_TRANSPORT: 'mqtt-ws' } });
    expect([status, told[2]]).toEqual([78, 'configuration ERR_DPS_CONFIG_UNSUPPORTED']);
  });
});
