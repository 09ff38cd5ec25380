import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from './built-package.js';

const door = async (path: string): Promise<Record<string, unknown>> => import(join(ROOT, 'dist', path));

describe('errors of two doors', () => {
  it('are recognised by the other door’s classes', async () => {
    const { ConfigurationError, DpsError, HsmError, isDpsError } = await door('src/index.js');
    const { symmetricKeyHsm } = await door('hsm/symmetric-key.js');
    const refusal: unknown = await Promise.resolve()
      .then(() => (symmetricKeyHsm as (options: object) => unknown)({}))
      .then(() => 'nothing was refused')
      .catch((error: unknown) => error);

    expect((refusal as Error).constructor).not.toBe(ConfigurationError);
    expect(refusal).toBeInstanceOf(ConfigurationError);
    expect(refusal).toBeInstanceOf(DpsError);
    expect(refusal).not.toBeInstanceOf(HsmError);
    expect((isDpsError as (value: unknown) => boolean)(refusal)).toBe(true);
  });
});
