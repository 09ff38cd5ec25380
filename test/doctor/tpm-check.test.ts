import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { tpm2Hsm } from '../../hsm/tpm2.js';
import { checkTpm } from '../../src/doctor/tpm-check.js';
import { scratchFolder } from '../hsm/key-store/store-bench.js';
import { HANDLES, signal, TpmBench } from '../hsm/tpm2/tpm-bench.js';

const READING = new Map([
  [0x144, 'Startup'],
  [0x17a, 'GetCapability'],
  [0x173, 'ReadPublic'],
]);

let bench: TpmBench;

beforeAll(async () => {
  bench = await TpmBench.start();
});

afterAll(() => bench.stop());

async function check(options: Parameters<typeof checkTpm>[0]): Promise<string[]> {
  const findings = await checkTpm(options, signal);
  return findings.map(({ check: name, verdict, message, fix = '' }) => `${name} ${verdict}: ${message} ${fix}`.trim());
}

/** What the TPM was asked, by name; a number is a command that changes something. */
async function spied(): Promise<{ link: Awaited<ReturnType<TpmBench['tapped']>>; asked: unknown[] }> {
  const asked: unknown[] = [];
  const link = await bench.tapped((command, pass) => {
    const code = command.readUInt32BE(6);
    asked.push(READING.get(code) ?? code);
    return pass();
  });
  return { link, asked };
}

describe('checkTpm', () => {
  it('asks a new TPM who made it, and makes nothing in it', async () => {
    const { link, asked } = await spied();
    expect(await check({ link })).toEqual([
      `tpm ok: The TPM at ${link.place} answers, made by IBM. EK and SRK will be made in it at first use.`,
      'registration-id skipped: It follows from the EK of the TPM, which dps-device identity makes and shows.',
    ]);
    expect(asked).toEqual(['GetCapability', 'ReadPublic', 'ReadPublic']);
    expect(await bench.probe.persistent()).toEqual([]);
  });

  it('makes nothing where keys are not kept either', async () => {
    const { link, asked } = await spied();
    expect(await check({ link, transientPrimaries: true, registrationId: 'dev-1' })).toEqual([
      `tpm ok: The TPM at ${link.place} answers, made by IBM. EK and SRK are made whenever they are needed.`,
      'registration-id ok: The device registers as dev-1.',
    ]);
    expect(asked).toEqual(['GetCapability']);
  });

  it('finds the keys that are there, and the name that follows from them, without the passwords', async () => {
    const hsm = await bench.device();
    const registrationId = await hsm.registrationId(signal);
    expect((await check({ link: bench.swtpm.uri }))[0]).toContain('SRK will be made in it at first use.');
    await hsm.endorsement(signal);
    const before = await bench.probe.persistent();
    const passwords = { ownerAuth: { file: join(scratchFolder(), 'none') }, endorsementAuth: 'wrong' };
    const { link, asked } = await spied();
    expect(await check({ link, ...passwords })).toEqual([
      `tpm ok: The TPM at ${link.place} answers, made by IBM. EK and SRK are in it.`,
      `registration-id ok: The device registers as ${registrationId}.`,
    ]);
    expect(new Set(asked)).toEqual(new Set(['GetCapability', 'ReadPublic']));
    expect(await bench.probe.persistent()).toEqual(before);
  });

  it('says what is in the way of a key, as provision would', async () => {
    await bench.probe.occupy('ecc', 0x8100_0300);
    const options = { link: bench.swtpm.uri, handles: { storageRootKey: 0x8100_0300 } };
    const [finding, ...rest] = await checkTpm(options, signal);
    const hsm = await tpm2Hsm(options);
    onTestFinished(() => hsm.close());
    const expected = await hsm.endorsement(signal).catch((error: unknown) => error);
    expect([finding?.check, finding?.verdict, finding?.error, rest]).toEqual(['tpm', 'failed', expected, []]);
    expect(finding?.error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_HANDLE' });
    expect(await bench.probe.persistent()).toContain(HANDLES.ek);
  });

  it.each([
    ['nobody there', `tpm2:swtpm:path=${join('/nowhere', 'tpm.sock')}`, 'ERR_DPS_HSM_TPM_UNREACHABLE'],
    ['no device', 'tpm2:/nowhere/tpmrm0', 'ERR_DPS_HSM_TPM_UNREACHABLE'],
  ])('says that it cannot be reached: %s', async (_, link, code) => {
    const [finding] = await checkTpm({ link }, signal);
    expect(finding).toMatchObject({ check: 'tpm', verdict: 'failed', error: { code } });
    expect(finding?.fix).toMatch(/\w{3}/);
  });

  it('says that what answers is no TPM 2.0', async () => {
    const link = await bench.tapped(async () => Buffer.from('00c40000000a00000000', 'hex'));
    const [finding] = await checkTpm({ link }, signal);
    expect(finding).toMatchObject({ check: 'tpm', verdict: 'failed', error: { code: 'ERR_DPS_HSM_TPM_RESPONSE' } });
  });

  it('lets go of it', async () => {
    const ended: string[] = [];
    const link = await bench.tapped((_, pass) => pass());
    const close = async (): Promise<void> => void ended.push('closed');
    await checkTpm({ link: { ...link, close } }, signal);
    await checkTpm({ link: { ...link, close, transceive: () => Promise.reject(new Error('x')) } }, signal);
    expect(ended).toEqual(['closed', 'closed']);
  });

  it('ends with its signal', async () => {
    const controller = new AbortController();
    const link = await bench.tapped(async (_, pass) => {
      controller.abort();
      return pass();
    });
    await expect(checkTpm({ link }, controller.signal)).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED' });
  });
});
