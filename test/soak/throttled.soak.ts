import { describe, expect, it } from 'vitest';
import { startEmulator } from '../../src/emulator/index.js';
import { isDpsError } from '../../src/errors.js';
import { provision } from '../../src/index.js';

const EIGHT_SECONDS_MS = 8_000;

/** The real clock, real sockets, and a service that throttles for ever and asks for no pause. */
describe.each(['mqtt', 'https'] as const)('eight seconds of 429 with Retry-After 0 over %s', (transport) => {
  it.each([
    ['each time', undefined],
    ['while assigning', '0'],
  ] as const)('%s: at most ten requests', async (_name, assigningFor) => {
    const fault =
      assigningFor === undefined
        ? ({ at: 'dps.register', action: { kind: 'respond', status: 429, retryAfter: '0' } } as const)
        : ({ at: 'dps.register', action: { kind: 'delay', polls: 1_000_000 } } as const);
    const emulator = await startEmulator({ retryAfterSeconds: 0, faults: [fault] });
    try {
      const { attestation } = emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: {} } });
      const error: unknown = await provision({
        idScope: emulator.idScope,
        endpoint: emulator.endpoints.dps[transport],
        transport,
        ca: emulator.caPem,
        hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key: attestation.symmetricKey.primaryKey },
        deadlineMs: EIGHT_SECONDS_MS,
      }).then(
        () => undefined,
        (reason: unknown) => reason,
      );
      const requests = emulator.trace.count({ event: 'register' }) + emulator.trace.count({ event: 'status' });
      const code = isDpsError(error) ? error.code : String(error);
      console.log(`${transport}, ${_name}: ${requests} requests in 8 s, then ${code}`);
      expect(isDpsError(error)).toBe(true);
      expect(requests).toBeGreaterThan(0);
      expect(requests).toBeLessThanOrEqual(10);
    } finally {
      await emulator.close();
    }
  });
});
