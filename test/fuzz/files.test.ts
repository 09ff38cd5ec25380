import { afterAll } from 'vitest';
import { CLI_TARGETS } from './cli-targets.js';
import { fileTargets, makeFuzzedFiles } from './file-targets.js';
import { describeFuzz } from './fuzz-suite.js';

const files = await makeFuzzedFiles();
afterAll(() => files.remove());

describeFuzz([...fileTargets(files), ...CLI_TARGETS], {
  claim: 'is taken, or refused with a typed error',
  cases: 400,
});
