import { afterAll } from 'vitest';
import { carrierTargets, proxyTargets } from './carrier-targets.js';
import { describeFuzz } from './fuzz-suite.js';
import { GarblingPeer } from './garbling-peer.js';
import { socketTargets } from './socket-targets.js';

const peer = await GarblingPeer.start();
const proxy = await GarblingPeer.start('tcp');
afterAll(() => Promise.all([peer.close(), proxy.close()]));

describeFuzz([...socketTargets(peer), ...carrierTargets(peer)], {
  claim: 'end in a reply or a typed error, and the connection is let go',
  cases: 250,
  reaches: ['reply', 'ERR_DPS_CONNECTION_LOST'],
});

describeFuzz(proxyTargets(proxy), {
  claim: 'end in a typed error, and the connection is let go',
  cases: 250,
  reaches: ['open ERR_DPS_PROXY_PROTOCOL', 'open ERR_DPS_CONNECTION_LOST'],
});
