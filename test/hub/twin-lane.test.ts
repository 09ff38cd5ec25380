import { describe, expect, it } from 'vitest';
import { TwinLane } from '../../src/hub/twin-lane.js';
import { failureOf } from '../fakes/hub-bench.js';
import { HubClock } from '../fakes/hub-clock.js';

const answer = { status: 200, version: undefined, body: new Uint8Array(0) };
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function bench() {
  const clock = new HubClock();
  const sent: string[] = [];
  let requests = 0;
  const lane = new TwinLane({
    clock,
    timeoutMs: 100,
    peer: 'hub:8883',
    newRequestId: () => {
      requests += 1;
      return `r${requests}`;
    },
  });
  const attach = (): void =>
    lane.attach(async ({ topic, payload }) => {
      sent.push(`${topic.slice('$iothub/twin/'.length)} ${new TextDecoder().decode(payload)}`.trimEnd());
    });
  return { clock, lane, sent, attach };
}

describe('the twin lane', () => {
  it('sends nothing without a connection, and a read first once there is one', async () => {
    const { lane, sent, attach } = bench();
    const report = lane.report(bytes('1'));
    attach();
    const read = lane.read();
    expect(sent).toEqual(['GET/?$rid=r1']);
    lane.receive('r1', answer);
    expect(sent).toEqual(['GET/?$rid=r1', 'PATCH/properties/reported/?$rid=r2 1']);
    lane.receive('r2', answer);
    await Promise.all([read, report.answer]);
  });

  it('takes only the answer that it waits for', async () => {
    const { lane, attach, clock } = bench();
    attach();
    const read = failureOf(lane.read());
    lane.receive('r9', answer);
    lane.receive('', answer);
    clock.advance(100);
    expect(await read).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT' });
  });

  it('fails what was sent, and every read, when the connection is given up; reports wait for the next', async () => {
    const { lane, sent, attach, clock } = bench();
    attach();
    const first = failureOf(lane.report(bytes('1')).answer);
    const read = failureOf(lane.read());
    const second = lane.report(bytes('2'));
    const lost = new Error('lost');
    lane.detach(lost);
    expect([await first, await read]).toEqual([lost, lost]);
    expect(sent).toHaveLength(1);
    attach();
    const again = lane.read();
    lane.receive('r2', answer);
    lane.receive('r3', answer);
    await Promise.all([again, second.answer]);
    expect(sent.slice(1)).toEqual(['GET/?$rid=r2', 'PATCH/properties/reported/?$rid=r3 2']);
    expect(clock.pending).toBe(0);
  });

  it('is idle when nothing is under way, whatever waits', async () => {
    const { lane, attach } = bench();
    attach();
    await lane.idle();
    const report = lane.report(bytes('1'));
    lane.hold();
    const waiting = lane.report(bytes('2'));
    let isIdle = false;
    const idle = lane.idle().then(() => {
      isIdle = true;
    });
    await Promise.resolve();
    expect(isIdle).toBe(false);
    lane.receive('r1', answer);
    await Promise.all([idle, report.answer]);
    lane.end(new Error('over'));
    await failureOf(waiting.answer);
  });

  it('fails a request that cannot be sent, and goes on', async () => {
    const { lane, clock } = bench();
    const broken = new Error('broken');
    lane.attach(() => Promise.reject(broken));
    expect(await failureOf(lane.read())).toBe(broken);
    expect(await failureOf(lane.report(bytes('1')).answer)).toBe(broken);
    expect(clock.pending).toBe(0);
  });

  it('gives each request its time from when it is first in line', async () => {
    const { lane, sent, attach, clock } = bench();
    attach();
    const first = failureOf(lane.report(bytes('1')).answer);
    const second = failureOf(lane.report(bytes('2')).answer);
    clock.advance(99);
    expect(sent).toHaveLength(1);
    clock.advance(1);
    expect(await first).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT' });
    clock.advance(99);
    lane.receive('r1', answer);
    clock.advance(1);
    expect(await second).toMatchObject({ code: 'ERR_DPS_REQUEST_TIMEOUT' });
    expect(clock.pending).toBe(0);
  });

  it('refuses everything once it has ended', async () => {
    const { lane, attach, clock } = bench();
    attach();
    const over = new Error('over');
    const open = [failureOf(lane.read()), failureOf(lane.report(bytes('1')).answer)];
    lane.end(over);
    open.push(failureOf(lane.read()));
    expect(await Promise.all(open)).toEqual([over, over, over]);
    expect(clock.pending).toBe(0);
  });
});
