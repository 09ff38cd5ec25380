import { describe, expect, it } from 'vitest';
import { attempt, failed, worstError } from '../../src/doctor/finding.js';
import { CancelledError, ConfigurationError, TransportError } from '../../src/errors.js';

const configuration = (message: string): ConfigurationError =>
  new ConfigurationError({ code: 'ERR_DPS_CONFIG_FILE', message });
const network = new TransportError({
  code: 'ERR_DPS_CONNECT',
  message: 'm',
  phase: 'connect',
  peer: 'p',
  retryable: true,
});

const FIX = 'Check for a proxy in between, and the certificates of both sides.';

describe('failed', () => {
  it.each([
    ['The file a.pem is empty. Write it again.', 'The file a.pem is empty.', 'Write it again.'],
    ['--id-scope is missing: give the ID scope.', '--id-scope is missing.', 'Give the ID scope.'],
    ['It is not trusted: its chain ends. Add it. Or not.', 'It is not trusted: its chain ends.', 'Add it. Or not.'],
    ['--a: DPS takes no b; give c.', '--a: DPS takes no b; give c.', FIX],
    ['No more words', 'No more words', FIX],
  ])('parts %j into what is wrong and what to do', (message, problem, fix) => {
    const finding = failed('tls', configuration(message));
    expect([finding.verdict, finding.message, finding.fix]).toEqual(['failed', problem, fix]);
  });
});

describe('worstError', () => {
  it('is rather one that waiting does not mend', () => {
    const lasting = configuration('m');
    expect(worstError([failed('port', network), failed('configuration', lasting)])).toBe(lasting);
    expect(worstError([failed('port', network)])).toBe(network);
    expect(worstError([{ check: 'clock', verdict: 'ok', message: '' }])).toBeUndefined();
  });
});

describe('attempt', () => {
  it('keeps what a step failed with, but neither cancellation nor bugs', async () => {
    expect(await attempt(() => 5)).toEqual({ value: 5 });
    expect(await attempt(() => Promise.reject(network))).toEqual({ error: network });
    await expect(attempt(() => Promise.reject(new TypeError('x')))).rejects.toThrow(TypeError);
    await expect(attempt(() => Promise.reject(new CancelledError({ state: 'x' })))).rejects.toThrow(CancelledError);
  });
});
