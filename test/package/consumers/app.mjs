// An ESM consumer, without top-level await so that it can be bundled into CommonJS too.
import { provision } from 'dps-device';
import { runTrials } from './trials.mjs';

void runTrials(provision, process.argv[2]);
