import { describe, expect, it } from 'vitest';
import { loadFromPackage } from '../../src/azure/optional-package.js';
import { ConfigurationError } from '../../src/errors.js';
import { runProgram } from './program.js';

describe('loadFromPackage', () => {
  it('finds what a CommonJS package exports', async () => {
    expect(await loadFromPackage('azure-iot-device', 'Client')).toHaveProperty('fromAuthenticationProvider');
    expect(await loadFromPackage('azure-iot-device-mqtt', 'Mqtt')).toBeInstanceOf(Function);
  });

  it('finds what an ESM package exports', async () => {
    expect(await loadFromPackage('vitest', 'expect')).toBe(expect);
  });

  it('says so when a package lacks the export', async () => {
    const refused = loadFromPackage('azure-iot-device', 'Klient');
    await expect(refused).rejects.toBeInstanceOf(ConfigurationError);
    await expect(refused).rejects.toMatchObject({
      code: 'ERR_DPS_CONFIG_UNSUPPORTED',
      message: expect.stringContaining('no export Klient'),
    });
  });

  it('says what to install when a package is missing', async () => {
    // By Node itself: vitest's loader words it differently.
    const { stdout, status } = await runProgram(`
      import { loadFromPackage } from './src/azure/optional-package.ts';
      for (const name of ['azure-iot-not-there', './test/azure/no-such-file.mjs']) {
        const error = await loadFromPackage(name, 'Client').catch((error) => error);
        console.log(JSON.stringify([error.name, error.code, error.option, error.message]));
      }
    `);
    const [missing, broken] = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as string[]);
    expect(status).toBe(0);
    expect(missing).toEqual([
      'ConfigurationError',
      'ERR_DPS_CONFIG_UNSUPPORTED',
      'azure-iot-not-there',
      'The package azure-iot-not-there is needed here and not installed: npm install azure-iot-not-there',
    ]);
    expect(broken?.[3]).toMatch(/could not be loaded/);
  });
});
