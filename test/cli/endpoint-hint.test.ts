import { describe, expect, it } from 'vitest';
import { doctorCommand } from '../../src/cli/doctor.js';
import { describeFailure } from '../../src/cli/failure-report.js';
import { main } from '../../src/cli/main.js';
import { runCommand } from '../../src/cli/run.js';
import type { Network } from '../../src/doctor/network-check.js';
import { ConfigurationError, DeadlineError, TransportError } from '../../src/errors.js';
import { systemClock } from '../../src/system-clock.js';
import { fakeIo } from './fake-io.js';
import { fakeProvision } from './fake-provision.js';
import { fakeRun } from './fake-run.js';
import { KEY_FLAGS, run } from './provision-bench.js';

const HINT =
  /us was taken for the name of a host\. It can be HOST, HOST:PORT, or one of public, china, usGovernment; the default, public, is global\.azure-devices-provisioning\.net\.$/m;

function notFound(host: string): TransportError {
  return new TransportError({
    code: 'ERR_DPS_DNS',
    message: `The name ${host} could not be looked up (ENOTFOUND). Check its spelling.`,
    phase: 'resolve',
    peer: `${host}:8883`,
    retryable: true,
  });
}

/** A journey that waits once because a name is not found, and fails. */
function lost(host: string, end: Error = notFound(host)): ReturnType<typeof fakeProvision> {
  return fakeProvision(async (_, log) => {
    const { code: detail, message } = notFound(host);
    log.append({ type: 'waiting', forMs: 1_000, reason: 'network', detail, message });
    throw end;
  });
}

describe('an endpoint that is not found', () => {
  it('and has no dot is explained at once, and at the end', async () => {
    const { status, io } = await run([...KEY_FLAGS, '--endpoint', 'us'], {}, lost('us'));
    expect(status).toBe(69);
    const [waiting = '', ...rest] = io.err().split('\n');
    expect(waiting).toMatch(/^waiting 1\.0 s, .*Check its spelling\. --endpoint us was taken for/);
    expect(waiting).toMatch(HINT);
    expect(rest.find((line) => line.startsWith('  hint:'))).toMatch(HINT);
  });

  it('is explained in the words of who gave it, and behind the deadline, too', async () => {
    const late = new DeadlineError({ state: 'connecting', deadlineMs: 5, cause: notFound('us') });
    const { status, io } = await run(KEY_FLAGS, { env: { DPS_ENDPOINT: 'us:443' } }, lost('us', late));
    expect([status, io.err()]).toEqual([75, expect.stringMatching(/\n {2}hint: +DPS_ENDPOINT us was taken/)]);
  });

  it('is explained to machines', async () => {
    const { io } = await run([...KEY_FLAGS, '--endpoint', 'us', '--json-log'], {}, lost('us'));
    expect(JSON.parse(io.err().trim().split('\n').at(-1) ?? '')).toMatchObject({ hint: expect.stringMatching(HINT) });
  });

  it.each([
    ['us.example', 'us.example'],
    ['[::1]', '::1'],
    ['public', 'global.azure-devices-provisioning.net'],
    // It was found, and the hub was not.
    ['dps-emulator:8883', 'hub-1'],
  ])('%s, when %s is not found, is not', async (endpoint, host) => {
    const { io } = await run([...KEY_FLAGS, '--endpoint', endpoint], {}, lost(host));
    expect(io.err()).toContain('ERR_DPS_DNS');
    expect(io.err()).not.toMatch(/hint|taken for/);
  });

  it('is not explained where it was found, and did not answer', async () => {
    const { phase, peer } = notFound('us');
    const message = 'No TCP connection to us at all.';
    const closed = new TransportError({ code: 'ERR_DPS_CONNECT', message, phase, peer, retryable: true });
    const fake = fakeProvision(() => Promise.reject(closed));
    expect((await run([...KEY_FLAGS, '--endpoint', 'us'], {}, fake)).io.err()).not.toContain('hint');
  });

  it('is not refused: it may be a name of the local network', async () => {
    const { status, options } = await run([...KEY_FLAGS, '--endpoint', 'dps-emulator']);
    expect([status, options?.endpoint]).toEqual([0, 'dps-emulator']);
  });

  it('needs no hint for what has another reason', () => {
    const context = { lines: {}, optionNames: new Map(), hint: () => undefined };
    const error = new ConfigurationError({ code: 'ERR_DPS_CONFIG_OPTION', message: 'm' });
    expect(describeFailure(error, 78, context).event).not.toHaveProperty('hint');
  });
});

describe('run and doctor', () => {
  const US = [...KEY_FLAGS, '--endpoint', 'us', '--proxy', 'none'];

  it('run explains it, too', async () => {
    const io = fakeIo();
    const life = fakeRun();
    const commands = { run: { summary: '', load: async () => runCommand(async () => life.run) } };
    const ending = main(['run', ...US], io, commands);
    await expect.poll(() => life.calls.length, { timeout: 30_000 }).toBe(1);
    const { code: detail, message } = notFound('us');
    life.step({ type: 'waiting', forMs: 1_000, reason: 'network', detail, message });
    life.end(notFound('us'));
    expect(await ending).toBe(69);
    expect(io.err().match(/--endpoint us was taken for the name of a host/g)?.length).toBe(2);
  });

  it('doctor explains it, too', async () => {
    const io = fakeIo();
    const network = (): Network => ({
      resolve: (host) => Promise.reject(notFound(host)),
      connect: () => Promise.reject(new TypeError('not asked for')),
    });
    const commands = { doctor: { summary: '', load: async () => doctorCommand({ clock: systemClock, network }) } };
    await main(['doctor', ...US], io, commands);
    const { findings } = JSON.parse(io.out()) as { findings: { check: string; fix?: string }[] };
    expect(findings.find(({ check }) => check === 'dns')?.fix).toMatch(
      /^Check its spelling\. --endpoint us was taken for/,
    );
  });
});
