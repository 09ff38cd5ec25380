import { describe, expect, it } from 'vitest';
import { loadApart } from '../../src/cli/apart.js';
import { ConfigurationError } from '../../src/errors.js';

function failWith(error: Error): Promise<unknown> {
  return loadApart(() => Promise.reject(error), 'the emulator').catch((reason: unknown) => reason);
}

describe('loadApart', () => {
  it('gives what is there', async () => {
    expect(await loadApart(async () => 'emulator', 'the emulator')).toBe('emulator');
  });

  it('says what to do where it is not there', async () => {
    const missing = Object.assign(new Error('Cannot find module'), { code: 'ERR_MODULE_NOT_FOUND' });
    const error = await failWith(missing);
    expect(error).toBeInstanceOf(ConfigurationError);
    expect(error).toMatchObject({ code: 'ERR_DPS_CONFIG_UNSUPPORTED', cause: missing, retryable: false });
    expect(String(error)).toContain('the emulator stayed there. Install dps-device');
  });

  it('leaves every other failure as it is', async () => {
    const bug = new SyntaxError('Unexpected token');
    expect(await failWith(bug)).toBe(bug);
    const shortage = Object.assign(new Error('too many open files'), { code: 'EMFILE' });
    expect(await failWith(shortage)).toBe(shortage);
  });
});
