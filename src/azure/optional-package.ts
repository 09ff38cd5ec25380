import type { ConfigurationError } from '../errors.js';
import { unsupported } from './option-bag.js';

/**
 * One export of an optional peer package, loaded when it is first asked for.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_UNSUPPORTED` that says what to install, or what went wrong.
 */
export async function loadFromPackage(packageName: string, exportName: string): Promise<unknown> {
  const found = memberOf(await importPackage(packageName), exportName);
  if (found !== undefined) return found;
  throw unsupported(
    packageName,
    `The installed package ${packageName} has no export ${exportName}. Install a version that has it: npm install ${packageName}@latest`,
  );
}

async function importPackage(packageName: string): Promise<unknown> {
  try {
    // A variable, so that no bundler takes the peer in, or looks for it where it is not installed.
    return await import(packageName);
  } catch (error) {
    throw loadError(packageName, error);
  }
}

/** CommonJS seen from ESM: its `module.exports` is the default export, and what else shows depends on the loader. */
function memberOf(loaded: unknown, exportName: string): unknown {
  const namespace = loaded as Readonly<Record<string, unknown>>;
  const commonJs = namespace.default as Readonly<Record<string, unknown>> | undefined;
  return namespace[exportName] ?? commonJs?.[exportName];
}

function loadError(packageName: string, error: unknown): ConfigurationError {
  const install = `npm install ${packageName}`;
  if (isNotFound(packageName, error)) {
    return unsupported(packageName, `The package ${packageName} is needed here and not installed: ${install}`, error);
  }
  const message = error instanceof Error ? error.message : String(error);
  return unsupported(
    packageName,
    `The package ${packageName} could not be loaded: ${message}. Install it anew: ${install}`,
    error,
  );
}

/** The package itself, not something that it in turn fails to find. */
function isNotFound(packageName: string, error: unknown): boolean {
  const { code, message } = error as { readonly code?: unknown; readonly message?: unknown };
  return code === 'ERR_MODULE_NOT_FOUND' && typeof message === 'string' && message.includes(`'${packageName}'`);
}
