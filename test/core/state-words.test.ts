import { describe, expect, it } from 'vitest';
import type { CancelledError, DeadlineError, DpsError } from '../../src/errors.js';
import { ROADS as JOURNEY_ROADS, type UnfinishedState } from './journey-roads.js';
import { CONFIG, Driver, lost, ROADS as REGISTRATION_ROADS } from './registration-driver.js';

/** Every state of the two machines, what a stop in it leads to, and the end of its time. */
const STATES: readonly (readonly [string, () => DpsError, () => DpsError | undefined])[] = [
  ...Object.entries(REGISTRATION_ROADS).map(
    ([name, road]) =>
      [
        name,
        () => road().feed({ type: 'CancelRequested' }).error,
        () => {
          const driver = road();
          driver.nowMs += CONFIG.deadlineMs;
          return name === 'Idle' ? undefined : driver.feed({ type: 'Woke' }).error;
        },
      ] as const,
  ),
  ...(Object.keys(JOURNEY_ROADS) as UnfinishedState[])
    // What happens within a registration, and after a stop, has words of its own.
    .filter((name) => name !== 'Registering' && name !== 'AwaitingLastSave')
    .map(
      (name) =>
        [
          `${name} of a journey`,
          () => {
            const driver = JOURNEY_ROADS[name]({}).cancel();
            return driver.state === 'AwaitingLastSave' ? driver.wake().error : driver.error;
          },
          () => {
            const driver = JOURNEY_ROADS[name]({});
            const { deadlineAtMs } = driver.journey.memory;
            if (deadlineAtMs === Number.POSITIVE_INFINITY || name === 'AwaitingSave') return undefined;
            return driver.pass(deadlineAtMs).feed({ type: 'Woke' }).error;
          },
        ] as const,
    ),
];

describe('an error of a machine says what the device was doing', () => {
  it.each(STATES)('%s', (described, cancel, runOut) => {
    const name = described.split(' ')[0];
    const cancelled = cancel() as CancelledError;
    expect(cancelled.message).toMatch(/^Cancelled while [a-z]+(ing|ed) [^.]+\.( The last failure before that: .+)?$/);
    const late = runOut() as DeadlineError | undefined;
    if (late !== undefined)
      expect(late.message).toMatch(
        /^Not finished within \d+ ms: time ran out while [a-z]+(ing|ed) [^.]+\. Allow more time/,
      );
    for (const error of [cancelled, late ?? cancelled]) {
      expect(error.message).not.toMatch(/Awaiting|Idle|Online|Registering/);
      // What programs read stays as it is.
      expect(error.state).toBe(name);
    }
  });

  it.each([
    ['AwaitingPollTime', 'waiting for the assignment'],
    ['AwaitingRetryTime', 'waiting to try DPS again'],
    ['AwaitingActivation', 'answering the challenge to the TPM'],
  ] as const)('%s is told as %s', (name, words) => {
    const { message } = REGISTRATION_ROADS[name]().feed({ type: 'CancelRequested' }).error;
    expect(message.replace(/ The last failure.*/, '')).toBe(`Cancelled while ${words}.`);
  });

  it('with the failure that it was waiting for to pass', () => {
    const driver = new Driver().start().connect().fails(lost());
    driver.nowMs += CONFIG.deadlineMs;
    expect(driver.feed({ type: 'Woke' }).error.message).toBe(
      `Not finished within ${CONFIG.deadlineMs} ms: time ran out while waiting to try DPS again. Allow more time, or look at the cause.`,
    );
  });
});
