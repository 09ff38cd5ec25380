import { createServer } from 'node:net';
import { describe, expect, it } from 'vitest';
import { listen } from '../../src/emulator/listener.js';

describe('a listener', () => {
  it.each(['127.0.0.1', undefined])('outlives a connection that could not be taken (host %s)', async (host) => {
    const troubles: Error[] = [];
    const server = createServer();
    const listening = await listen(server, host, 0, 'port', (error) => troubles.push(error));
    server.emit('error', new Error('accept EMFILE'));
    expect(troubles.map(({ message }) => message)).toEqual(['accept EMFILE']);
    await listening.close();
  });
});
