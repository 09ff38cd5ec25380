'use strict';
// Preloaded into every contestant: says at its exit, on descriptor 3, how much memory it had at its peak. VmHWM is read
// instead of ru_maxrss, which a process inherits from whoever started it.
const { readFileSync, writeSync } = require('node:fs');

process.once('exit', () => {
  const peakKiB = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
  writeSync(3, JSON.stringify({ peakKiB: Number(peakKiB) }));
});
