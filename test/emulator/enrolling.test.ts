import { describe, expect, expectTypeOf, it, onTestFinished } from 'vitest';
import {
  type Emulator,
  type EnrollmentGroup,
  type IndividualEnrollment,
  startEmulator,
} from '../../src/emulator/index.js';

async function start(): Promise<Emulator> {
  const emulator = await startEmulator();
  onTestFinished(() => emulator.close());
  return emulator;
}

/** Compiled with the tests: `npm run typecheck` holds what is said of types here. */
describe('an enrollment given with symmetric keys', () => {
  it('comes back with both of them, as texts', async () => {
    const emulator = await start();
    const given = { registrationId: 'dev-1', attestation: { symmetricKey: {} } } as const;
    for (const scope of [emulator, emulator.scope()]) {
      const { attestation } = scope.enroll(given);
      expectTypeOf(attestation.symmetricKey.primaryKey).toEqualTypeOf<string>();
      expectTypeOf(attestation.symmetricKey.secondaryKey).toEqualTypeOf<string>();
      expect(Buffer.from(attestation.symmetricKey.primaryKey, 'base64')).toHaveLength(64);
      expect(Buffer.from(attestation.symmetricKey.secondaryKey, 'base64')).toHaveLength(64);
    }
  });

  it('does so as a group', async () => {
    const emulator = await start();
    const given = { enrollmentGroupId: 'meters', attestation: { symmetricKey: {} } } as const;
    for (const scope of [emulator, emulator.scope()]) {
      const { attestation } = scope.enrollGroup(given);
      expectTypeOf(attestation.symmetricKey.primaryKey).toEqualTypeOf<string>();
      expectTypeOf(attestation.symmetricKey.secondaryKey).toEqualTypeOf<string>();
      expect(Buffer.from(attestation.symmetricKey.primaryKey, 'base64')).toHaveLength(64);
    }
  });

  it('keeps the type of what may have any attestation', async () => {
    const emulator = await start();
    const any: IndividualEnrollment = { registrationId: 'dev-1', attestation: { type: 'symmetricKey' } };
    expectTypeOf(emulator.enroll(any)).toEqualTypeOf<IndividualEnrollment>();
    const group: EnrollmentGroup = { enrollmentGroupId: 'meters', attestation: { type: 'symmetricKey' } };
    expectTypeOf(emulator.enrollGroup(group)).toEqualTypeOf<EnrollmentGroup>();
  });
});

describe('what is no enrollment', () => {
  it.each([undefined, null, 'dev-1', []])('is called by its name (%j)', async (value) => {
    const emulator = await start();
    expect(() => emulator.enroll(value as never)).toThrow(
      expect.objectContaining({
        code: 'ERR_DPS_CONFIG_OPTION',
        option: 'enrollment',
        message: expect.stringMatching(/^enrollment must be an object, not (undefined|null|a \w+)\.$/),
      }),
    );
    expect(() => emulator.enrollGroup(value as never)).toThrow(
      /^enrollment group must be an object, not (undefined|null|a \w+)\.$/,
    );
    await expect(startEmulator((value ?? null) as never)).rejects.toThrow('configuration must be an object, not ');
  });
});
