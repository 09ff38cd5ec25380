import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { expectSignsWith, HANDLES, signal, signatureOf, TpmBench } from './tpm-bench.js';

const run = promisify(execFile);

describe('tpm2-tools see the same in the same TPM', () => {
  let bench: TpmBench;
  const file = (name: string): string => join(bench.swtpm.folder, name);
  const tool = async (name: string, ...arguments_: string[]): Promise<string> => {
    const env = { ...process.env, TPM2TOOLS_TCTI: `swtpm:host=127.0.0.1,port=${bench.swtpm.port}` };
    return (await run(name, arguments_, { env })).stdout;
  };
  const handle = (value: number): string => `0x${value.toString(16)}`;
  beforeAll(async () => {
    bench = await TpmBench.start({ tcp: true });
  });
  afterAll(() => bench.stop());

  it('public areas and names of EK and SRK', async () => {
    const hsm = await bench.device();
    const { endorsementKey, storageRootKey } = await hsm.endorsement(signal);
    const keys = { ek: { at: HANDLES.ek, ours: endorsementKey }, srk: { at: HANDLES.srk, ours: storageRootKey } };
    const { nameOf } = await import('../../../hsm/tpm2/structures.js');
    for (const [name, { at, ours }] of Object.entries(keys)) {
      await tool('tpm2_readpublic', '-Q', '-c', handle(at), '-f', 'tss', '-o', file(name), '-n', file(`${name}.name`));
      expect(readFileSync(file(name)).equals(ours)).toBe(true);
      expect(readFileSync(file(`${name}.name`)).equals(nameOf(ours.subarray(2)))).toBe(true);
    }
  });

  it('the EK that tpm2_createek makes is the one of our default template', async () => {
    const ours = await (await bench.device({ transientPrimaries: true })).endorsement(signal);
    await tool('tpm2_createek', '-Q', '-c', file('ek.ctx'), '-G', 'rsa', '-u', file('ek.pub'), '-f', 'tss');
    await tool('tpm2_flushcontext', '-t');
    expect(readFileSync(file('ek.pub')).equals(ours.endorsementKey)).toBe(true);
  });

  it('the SRK that tpm2_createprimary makes with an empty unique is the one of azure-node-c', async () => {
    const ours = await (await bench.device({ transientPrimaries: true, template: 'azure-node-c' })).endorsement(signal);
    const attributes = 'fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt';
    await tool(
      'tpm2_createprimary',
      '-Q',
      '-C',
      'o',
      '-G',
      'rsa2048:aes128cfb',
      '-a',
      attributes,
      '-c',
      file('srk.ctx'),
    );
    await tool('tpm2_readpublic', '-Q', '-c', file('srk.ctx'), '-f', 'tss', '-o', file('srk.pub'));
    await tool('tpm2_flushcontext', '-t');
    expect(readFileSync(file('srk.pub')).equals(ours.storageRootKey)).toBe(true);
  });

  it('the HMAC of the identity, short and long', async () => {
    const { hsm, key } = await bench.provisioned();
    for (const length of [100, 3000]) {
      const data = randomBytes(length);
      writeFileSync(file('data'), data);
      await tool('tpm2_hmac', '-Q', '-c', handle(HANDLES.identity), '-o', file('mac'), file('data'));
      expect(readFileSync(file('mac')).toString('hex')).toBe(await signatureOf(hsm, data));
      await expectSignsWith(hsm, key, data);
    }
  });

  it('nothing is left loaded', async () => {
    for (const kind of ['handles-transient', 'handles-loaded-session', 'handles-saved-session']) {
      expect(await tool('tpm2_getcap', kind)).toBe('');
    }
    expect((await tool('tpm2_getcap', 'handles-persistent')).trim().split('\n')).toEqual([
      '- 0x81000001',
      '- 0x81000100',
      '- 0x81010001',
    ]);
  });

  it('the keys that swtpm_setup leaves are taken as they are', async () => {
    const other = await TpmBench.start({ tcp: true });
    try {
      await other.swtpm.powerOff();
      const folder = other.swtpm.folder;
      await run('swtpm_setup', [
        '--tpm2',
        '--tpmstate',
        folder,
        '--createek',
        '--create-spk',
        '--overwrite',
        '--pcr-banks',
        'sha256',
      ]);
      await other.swtpm.powerOn();
      const before = await other.probe.persistent();
      expect(before).toContain(HANDLES.ek);
      const { hsm, key } = await other.provisioned();
      await expectSignsWith(hsm, key);
      expect(await other.probe.persistent()).toEqual([...before, HANDLES.identity].sort((a, b) => a - b));
    } finally {
      await other.stop();
    }
  });
});
