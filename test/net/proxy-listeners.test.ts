import { Duplex } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { openTunnel } from '../../src/net/proxy.js';

const PROXY = { kind: 'http', host: 'proxy.example', port: 3128 } as const;
const TARGET = { host: 'hub.example', port: 8883 };

/** A socket that gives this answer; how the tunnel ended, and how many listeners it has left. */
async function tunnel(answer: string): Promise<{ readonly ended: string; readonly listeners: number }> {
  const socket = new Duplex({ read: () => {}, write: (_chunk, _encoding, done) => done() });
  const ended = new Promise<string>((resolve) => {
    openTunnel(
      socket,
      PROXY,
      TARGET,
      () => resolve('open'),
      () => resolve('failed'),
    );
  });
  socket.push(answer);
  const how = await ended;
  const listeners = socket.listenerCount('readable');
  socket.destroy();
  return { ended: how, listeners };
}

describe('a tunnel that is open, or has failed', () => {
  it.each([
    ['HTTP/1.1 200 OK\r\n\r\n', 'open'],
    ['HTTP/1.1 403 Forbidden\r\n\r\n', 'failed'],
  ])('reads nothing any more, which is another’s by then: %j', async (answer, ended) => {
    expect(await tunnel(answer)).toEqual({ ended, listeners: 0 });
  });
});
