import { describeFuzz } from './fuzz-suite.js';
import { loopTarget } from './loop-targets.js';

describeFuzz([loopTarget()], {
  claim: 'settles in time and leaves nothing behind, whatever its parts do',
  cases: 600,
  reaches: ['provisioned', 'ERR_DPS_DEADLINE', 'ERR_DPS_CANCELLED'],
});
