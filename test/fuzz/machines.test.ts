import { describeFuzz } from './fuzz-suite.js';
import { journeyTarget, registrationTarget } from './machine-targets.js';

const suite = {
  claim: 'ends in time, politely and with a typed outcome, whatever a service answers whenever',
  cases: 1_500,
};

describeFuzz([registrationTarget()], { ...suite, reaches: ['assigned', 'ERR_DPS_DEADLINE', 'ERR_DPS_CANCELLED'] });
describeFuzz([journeyTarget()], { ...suite, reaches: ['provisioned', 'ERR_DPS_DEADLINE', 'ERR_DPS_CANCELLED'] });
