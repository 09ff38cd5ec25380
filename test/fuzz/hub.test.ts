import { describeFuzz } from './fuzz-suite.js';
import { hubTarget } from './hub-targets.js';

describeFuzz([hubTarget()], {
  claim: 'opens or fails with a typed error, and closes without a trace, whatever the hub sends',
  cases: 400,
  reaches: ['session', 'session with changes', 'ERR_DPS_PROTOCOL_TWIN', 'ERR_DPS_REQUEST_TIMEOUT'],
});
