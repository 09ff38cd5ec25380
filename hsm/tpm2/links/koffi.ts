import { ConfigurationError } from '../../../src/errors.js';
import type { Koffi } from './tcti-library.js';

const PACKAGE = 'koffi';

/**
 * The optional package that calls functions of C, loaded when it is first needed.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` that says what to install, or what went wrong.
 */
export async function loadKoffi(importPackage: (name: string) => Promise<unknown> = importInstalled): Promise<Koffi> {
  const loaded = (await importPackage(PACKAGE).catch(refuse)) as { readonly default?: unknown };
  const koffi = (loaded.default ?? loaded) as Partial<Koffi>;
  // Version 3 gives pointers as numbers, which the link counts on.
  if (/^3\./.test(String((koffi as { readonly version?: unknown }).version))) return koffi as Koffi;
  throw unsupported(`The installed package ${PACKAGE} is not of version 3: npm install ${PACKAGE}@3`);
}

/** A variable, so that no bundler takes the package in, or looks for it where it is not installed. */
const importInstalled = (name: string): Promise<unknown> => import(name);

function refuse(error: unknown): never {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  const install = `npm install ${PACKAGE}`;
  if (code === 'ERR_MODULE_NOT_FOUND' && typeof message === 'string' && message.includes(`'${PACKAGE}'`)) {
    throw unsupported(
      `The package ${PACKAGE} is needed for links of the kind tcti and not installed: ${install}`,
      error,
    );
  }
  const words = error instanceof Error ? error.message : String(error);
  throw unsupported(`The package ${PACKAGE} could not be loaded: ${words}. Install it anew: ${install}`, error);
}

function unsupported(message: string, cause?: unknown): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_UNSUPPORTED',
    message,
    option: 'hsm.link',
    ...(cause === undefined ? {} : { cause }),
  });
}
