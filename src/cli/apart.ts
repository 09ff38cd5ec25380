import { ConfigurationError } from '../errors.js';

/**
 * Loads a part of the command line that is no part of its one file (see `tools/build.mjs`).
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` where the file was copied without the package around it.
 */
export async function loadApart<T>(load: () => Promise<T>, what: string): Promise<T> {
  try {
    return await load();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ERR_MODULE_NOT_FOUND') throw error;
    throw new ConfigurationError({
      code: 'ERR_DPS_CONFIG_UNSUPPORTED',
      message: `This file was copied without the package that it is from, and ${what} stayed there. Install dps-device where you need it: npm install -g dps-device.`,
      cause: error,
    });
  }
}
