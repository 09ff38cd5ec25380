import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { isDeepStrictEqual } from 'node:util';

const PROBE = fileURLToPath(new URL('probe.cjs', import.meta.url));

/** The shell's `time`: what the kernel charged the whole process, from fork to the end of its teardown, to the millisecond. */
const TIMED = 'TIMEFORMAT="%3R %3U %3S"; exec 5>&2 2>&4; time "$@" 2>&5 4>&- 5>&-';

/** A contestant that takes longer than this hangs. */
const PATIENCE_MS = 60_000;

/** Variables that would make Node read more certificates, load more modules or print more; contestants run without. */
const NOISE = /^(NODE_.*|SSL_CERT_.*|DEBUG|DPS_.*|BENCH_.*|VITEST.*)$/;

export function cleanEnvironment() {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !NOISE.test(name)));
}

/**
 * Runs one contestant from start to exit.
 *
 * @throws when it fails, or did not bring the twin that its device has.
 */
export async function measure({ contestant, journey, configFile, properties }) {
  const child = spawn(
    'bash',
    ['-c', TIMED, 'bash', process.execPath, '--require', PROBE, ...contestant.args({ configFile })],
    {
      env: { ...cleanEnvironment(), ...(journey === undefined ? {} : { BENCH_JOURNEY: JSON.stringify(journey) }) },
      stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'pipe'],
      // A group of its own: the shell and what it times end together.
      detached: true,
    },
  );
  const patience = setTimeout(() => process.kill(-child.pid, 'SIGKILL'), PATIENCE_MS);
  const [out, err, probe, times, [code]] = await Promise.all([
    ...child.stdio.slice(1).map((stream) => text(stream)),
    once(child, 'close'),
  ]);
  clearTimeout(patience);
  if (code !== 0) throw new Error(`${contestant.name} ended with status ${code}: ${err}`);
  if (!contestant.isIdle) checkResult(contestant, JSON.parse(out), properties);
  const [wallSeconds, userSeconds, systemSeconds] = times.trim().split(' ').map(Number);
  return {
    wallMs: wallSeconds * 1000,
    cpuMs: (userSeconds + systemSeconds) * 1000,
    peakMiB: JSON.parse(probe).peakKiB / 1024,
  };
}

function checkResult({ name }, { assignedHub, deviceId, desired, twin }, properties) {
  const got = desired ?? twin?.desired.properties;
  if (assignedHub !== undefined && deviceId !== undefined && isDeepStrictEqual(got, properties)) return;
  throw new Error(`${name} did not bring the twin: ${JSON.stringify({ assignedHub, deviceId, got })}`);
}
