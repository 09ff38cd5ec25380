// A CommonJS consumer.
const { provision } = require('dps-device');

void import('./trials.mjs').then(({ runTrials }) => runTrials(provision, process.argv[2]));
