import { AMQP_TARGETS } from './amqp-targets.js';
import { describeFuzz } from './fuzz-suite.js';
import { PROXY_TARGETS } from './proxy-targets.js';
import { TEXT_TARGETS } from './text-targets.js';
import { WIRE_TARGETS } from './wire-targets.js';

describeFuzz([...WIRE_TARGETS, ...AMQP_TARGETS, ...PROXY_TARGETS, ...TEXT_TARGETS], {
  claim: 'gives a value or a typed error, whatever it is fed',
  cases: 1_000,
});
