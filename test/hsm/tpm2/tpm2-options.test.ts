import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { readTpm2Options, type Tpm2HsmOptions } from '../../../hsm/tpm2/tpm2-options.js';

const folder = mkdtempSync(join(tmpdir(), 'dps-device-tpm-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('options of the TPM HSM', () => {
  it('have defaults', async () => {
    const { link, handles, template, ownerAuth, commandTimeoutMs } = await readTpm2Options({});
    expect(link.place).toBe('/dev/tpmrm0');
    expect(handles).toEqual({
      endorsementKey: 0x8101_0001,
      storageRootKey: 0x8100_0001,
      identity: 0x8100_0100,
      stagedIdentity: 0x8100_0101,
    });
    expect(template).toBe('tcg');
    expect(ownerAuth).toHaveLength(0);
    expect(commandTimeoutMs).toBe(60_000);
  });

  it('read passwords from text, and from files without the end of the line', async () => {
    for (const [content, expected] of [
      ['päss\n', 'päss'],
      ['pass\r\n', 'pass'],
      ['pass\n\n', 'pass\n'],
      [' p ', ' p '],
    ]) {
      const file = join(folder, 'auth');
      writeFileSync(file, content ?? '', { mode: 0o600 });
      const { ownerAuth } = await readTpm2Options({ ownerAuth: { file } });
      expect(Buffer.from(ownerAuth).toString()).toBe(expected);
    }
    const { endorsementAuth } = await readTpm2Options({ endorsementAuth: 'päss' });
    expect(Buffer.from(endorsementAuth).toString()).toBe('päss');
  });

  it.each([
    [{ lnik: 'tpm2:/dev/tpm0' }, 'Did you mean hsm.link?'],
    [{ link: 7 }, 'must be a text or a link, not a number'],
    [{ link: {} }, 'must be a text or a link'],
    [{ link: 'tabrmd:' }, 'must begin with tpm2:'],
    [{ handles: 1 }, 'must be an object'],
    [{ handles: { ek: 1 } }, '"ek" is none of them'],
    [{ handles: { identity: 0x8180_0000 } }, 'from 0x81000000 to 0x817fffff'],
    [{ handles: { identity: 0x100 } }, 'not 0x00000100'],
    [{ handles: { identity: '0x81000100' } }, 'not a text'],
    [{ handles: { identity: 0x8100_0101 } }, 'names one handle twice'],
    [{ template: 'microsoft' }, 'tcg, azure-node-c, azure-java'],
    [{ transientPrimaries: 'yes' }, 'must be true or false'],
    [{ encryptParameters: 0 }, 'must be true or false'],
    [{ ownerAuth: 5 }, 'must be a text or { file: path }'],
    [{ ownerAuth: 'x'.repeat(65) }, 'has 65 bytes'],
    [{ commandTimeoutMs: 0 }, 'above 0'],
    [{ commandTimeoutMs: Number.POSITIVE_INFINITY }, 'above 0'],
    [{ clock: {} }, 'must have after()'],
    [null, 'must be an object'],
  ])('refuse %j', async (options, words) => {
    const reading = readTpm2Options(options as Tpm2HsmOptions);
    await expect(reading).rejects.toMatchObject({ name: 'ConfigurationError' });
    await expect(readTpm2Options(options as Tpm2HsmOptions)).rejects.toThrow(words);
  });

  it('name a password file that cannot be read', async () => {
    const reading = readTpm2Options({ endorsementAuth: { file: join(folder, 'none') } });
    await expect(reading).rejects.toMatchObject({ code: 'ERR_DPS_HSM_FILE_UNREADABLE' });
    await expect(reading).rejects.toThrow('TPM password');
  });

  it('refuse a registration id that cannot be one', async () => {
    await expect(readTpm2Options({ registrationId: 'no spaces' })).rejects.toMatchObject({
      code: 'ERR_DPS_HSM_REGISTRATION_ID',
    });
  });
});
