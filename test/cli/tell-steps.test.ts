import { describe, expect, it } from 'vitest';
import { CommandLog } from '../../src/cli/command-log.js';
import { tellSteps } from '../../src/cli/provision.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import { fakeIo } from './fake-io.js';

const waiting = (message: string): ProgressEvent => ({
  type: 'waiting',
  forMs: 1000,
  reason: 'network',
  detail: 'ERR_DPS_CONNECT',
  message,
});

async function* stream(events: readonly ProgressEvent[]): AsyncIterable<ProgressEvent> {
  yield* events;
}

describe('tellSteps', () => {
  it.each([false, true])(
    'tells in full what makes it wait, once as long as it stays the same (terminal: %s)',
    async (isTerminal) => {
      const io = fakeIo({ isTerminal });
      const failures = ['The port is closed.', 'The port is closed.', 'The name is unknown.'];
      await tellSteps(stream(failures.map(waiting)), new CommandLog(io.stderr, false));
      const lines = io
        .err()
        .split(/[\r\n]+/)
        .filter((line) => line.includes('waiting'));
      expect(lines.map((line) => line.replace(/^.*waiting/, 'waiting'))).toEqual([
        'waiting 1.0 s, the connection failed: ERR_DPS_CONNECT: The port is closed.',
        'waiting 1.0 s, the connection failed: ERR_DPS_CONNECT',
        'waiting 1.0 s, the connection failed: ERR_DPS_CONNECT: The name is unknown.',
      ]);
    },
  );

  it('keeps in sight on a terminal what the next step would take the place of', async () => {
    const io = fakeIo({ isTerminal: true });
    await tellSteps(
      stream([
        { type: 'commit-failed', slot: 1, code: 'ERR_DPS_HSM_OPERATION', message: 'The disk is full.' },
        { type: 'looking-up' },
        { type: 'provisioned', assignedHub: 'hub.example', deviceId: 'dev-1', source: 'stored' },
      ]),
      new CommandLog(io.stderr, false),
    );
    expect(io.err().split('\n')[0]).toBe('the accepted key is not committed: The disk is full.');
    expect(io.err().split('\n').at(-2)).toContain('provisioned: dev-1 at hub.example');
  });
});
