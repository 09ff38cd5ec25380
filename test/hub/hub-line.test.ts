import { describe, expect, it } from 'vitest';
import { HubLine } from '../../src/hub/hub-line.js';
import { Lifeline } from '../../src/hub/lifeline.js';
import type { MqttConnection } from '../../src/net/mqtt-engine.js';
import { failureOf } from '../fakes/hub-bench.js';
import { settle } from '../fakes/hub-broker.js';
import { HubClock } from '../fakes/hub-clock.js';

const named = (peer: string): MqttConnection => ({ peer }) as MqttConnection;

function bench() {
  const clock = new HubClock();
  const lifeline = new Lifeline();
  const line = new HubLine({ clock, timeoutMs: 100, peer: 'hub:8883', lifeline });
  return { clock, lifeline, line };
}

describe('the hub line', () => {
  it('fails what is under way on a connection that is given up, and nothing else', async () => {
    const { line, clock, lifeline } = bench();
    line.attach(named('first'));
    const signals: boolean[] = [];
    const stuck = failureOf(
      line.run('sending', undefined, (_connection, signal) => {
        signal.addEventListener('abort', () => signals.push(signal.aborted));
        return new Promise(() => {});
      }),
    );
    const lost = new Error('lost');
    line.detach(lost);
    expect(await stuck).toBe(lost);
    expect(signals).toEqual([true]);
    const next = line.run('sending', undefined, async ({ peer }) => peer);
    line.attach(named('second'));
    expect(await next).toBe('second');
    expect([clock.pending, lifeline.listenerCount]).toEqual([0, 0]);
  });

  it('does nothing for a call whose time was up before there was a connection', async () => {
    const { line, clock } = bench();
    let isDone = false;
    const late = failureOf(
      line.run('sending', undefined, async () => {
        isDone = true;
      }),
    );
    clock.advance(100);
    expect(await late).toMatchObject({
      code: 'ERR_DPS_REQUEST_TIMEOUT',
      message: expect.stringMatching(/\(sending\)/),
    });
    line.attach(named('first'));
    await settle();
    expect(isDone).toBe(false);
  });

  it('lets a call wait through more than one change', async () => {
    const { line } = bench();
    const call = line.run('sending', undefined, async ({ peer }) => peer);
    line.attach(named('first'));
    line.detach(new Error('lost at once'));
    await settle();
    line.attach(named('second'));
    expect(await call).toBe('second');
  });

  it('fails what waits and what is under way when the session ends', async () => {
    const { line, lifeline, clock } = bench();
    const waiting = failureOf(line.run('sending', undefined, async () => {}));
    const over = new Error('over');
    lifeline.end(over);
    expect(await waiting).toBe(over);
    expect(await failureOf(line.run('sending', undefined, async () => {}))).toBe(over);
    expect(clock.pending).toBe(0);
  });
});
