import { afterAll } from 'vitest';
import { doorTargets, startDoor } from './door-targets.js';
import { describeFuzz } from './fuzz-suite.js';

const emulator = await startDoor();
afterAll(() => emulator.close());

describeFuzz(doorTargets(emulator), {
  claim: 'lets go of every client, shows no secret, and serves the honest ones',
  cases: 250,
  reaches: ['reply', 'telemetry', 'violation', 'refused', 'challenge'],
});
