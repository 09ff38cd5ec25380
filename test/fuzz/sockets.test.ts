import { afterAll } from 'vitest';
import { describeFuzz } from './fuzz-suite.js';
import { GarblingPeer, socketTargets } from './socket-targets.js';

const peer = await GarblingPeer.start();
afterAll(() => peer.close());

describeFuzz(socketTargets(peer), {
  claim: 'end in a reply or a typed error, and the connection is let go',
  cases: 250,
  reaches: ['reply', 'ERR_DPS_CONNECTION_LOST'],
});
