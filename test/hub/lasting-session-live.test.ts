import { describe, expect, it, onTestFinished } from 'vitest';
import { run } from '../../src/compose.js';
import { startEmulator } from '../../src/emulator/index.js';

/** The real engine, over real connections: a fake session ends at once, a real one a little after what was under way on it. */
describe('a session for life, over connections that are cut', () => {
  it('sends again what was under way', async () => {
    const emulator = await startEmulator({ retryAfterSeconds: 0 });
    onTestFinished(() => emulator.close());
    const { attestation } = emulator.enroll({ registrationId: 'dev-1', attestation: { symmetricKey: {} } });
    const running = run({
      idScope: emulator.idScope,
      endpoint: emulator.endpoints.dps.mqtt,
      ca: emulator.caPem,
      hsm: { kind: 'symmetricKey', registrationId: 'dev-1', key: attestation.symmetricKey?.primaryKey ?? '' },
      // Backoff without its jitter: as short as it gets.
      random: () => 0,
    });
    onTestFinished(() => running.close());
    await running.ready;

    for (let round = 0; round < 5; round += 1) {
      const sent = running.session.sendTelemetry({ body: { round } });
      const reported = running.session.report({ round });
      emulator.hub('hub-1').disconnectDevice('dev-1');
      await expect(Promise.all([sent, reported])).resolves.toHaveLength(2);
    }
  });
});
