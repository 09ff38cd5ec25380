import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { MssimLink } from '../../../hsm/tpm2/links/mssim.js';
import { SwtpmLink } from '../../../hsm/tpm2/links/swtpm.js';
import { tpm2Hsm } from '../../../hsm/tpm2.js';
import { systemClock } from '../../../src/system-clock.js';
import { ManualClock } from '../../fakes/manual-clock.js';
import { freePortPair } from './swtpm-process.js';
import { expectSignsWith, failureOf, TpmBench } from './tpm-bench.js';
import { startMssimPeer } from './tpm-peer.js';
import { bytesOf, hexOf } from './vectors.js';

/** GetCapability(TPM_PT_MANUFACTURER), as it is in the reference. */
const COMMAND = '80010000001600 00017a000000060000010500000001'.replace(' ', '');
const RESPONSE = '80010000001b0000000001000000060000000100000105 49424d00'.replace(' ', '');

const servers: Server[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => new Promise((resolve) => server.close(resolve))));
});

/** Answers the bytes it expects, in order, with the bytes given; keeps all that it got. */
async function literalServer(
  port: number,
  script: readonly (readonly [expected: string, answer: string])[],
): Promise<{ got: () => string }> {
  let all = '';
  const server = createServer((socket: Socket) => {
    let got = '';
    const left = [...script];
    socket.on('data', (chunk: Buffer) => {
      got += chunk.toString('hex');
      all += chunk.toString('hex');
      for (let [next] = left; next !== undefined && got.startsWith(next[0]); [next] = left) {
        got = got.slice(next[0].length);
        left.shift();
        if (next[1] !== '') socket.write(bytesOf(next[1]));
      }
    });
    socket.on('error', () => undefined);
  });
  servers.push(server);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return { got: () => all };
}

const framed = (command: string): string => `0000000800${(command.length / 2).toString(16).padStart(8, '0')}${command}`;
const answered = (response: string): string =>
  `${(response.length / 2).toString(16).padStart(8, '0')}${response}00000000`;

describe('the reference simulator', () => {
  it('gets these frames, and no others', async () => {
    const port = await freePortPair();
    const platform = await literalServer(port + 1, [
      ['00000001', '00000000'],
      ['0000000b', '00000000'],
    ]);
    const command = await literalServer(port, [
      [framed(COMMAND), answered(RESPONSE)],
      [framed(COMMAND), answered(RESPONSE)],
    ]);
    const link = new MssimLink({ host: '127.0.0.1', port }, new ManualClock());
    expect(hexOf(await link.transceive(bytesOf(COMMAND), 1_000))).toBe(RESPONSE);
    expect(hexOf(await link.transceive(bytesOf(COMMAND), 1_000))).toBe(RESPONSE);
    link.rest();
    await link.close();
    while (!command.got().endsWith('00000014')) await new Promise((resolve) => setImmediate(resolve));
    expect(platform.got()).toBe('00000001' + '0000000b' + '00000014');
    expect(command.got()).toBe(`${framed(COMMAND).repeat(2)}00000014`);
  });

  it('is switched on again when it was switched off meanwhile', async () => {
    const peer = await startMssimPeer(() => ({ response: bytesOf(RESPONSE) }));
    const link = peer.link(new ManualClock());
    expect(hexOf(await link.transceive(bytesOf(COMMAND), 1_000))).toBe(RESPONSE);
    peer.isOn = false;
    expect(hexOf(await link.transceive(bytesOf(COMMAND), 1_000))).toBe(RESPONSE);
    expect(peer.signals).toEqual([1, 11, 20, 1, 11, 20]);
    await link.close();
    await peer.close();
  });

  it.each([
    ['it refuses the switch', [['00000001', '00000001']], [], 'acknowledges with 1'],
    ['it announces too much', switchesOn(), [[framed(COMMAND), '00001001']], 'announces 4097 bytes'],
    ['it announces another size', switchesOn(), [[framed(COMMAND), `0000001c${RESPONSE}0000000000`]], 'another size'],
    [
      'it does not acknowledge',
      switchesOn(),
      [[framed(COMMAND), `0000001b${RESPONSE}00000007`]],
      'acknowledges with 7',
    ],
    ['more follows', switchesOn(), [[framed(COMMAND), `${answered(RESPONSE)}00`]], 'follow the response'],
    ['it has no power', switchesOn(), [[framed(COMMAND), '0000000000000000']], 'has no power'],
  ] as const)('is not believed when %s', async (_, switches, commands, words) => {
    const port = await freePortPair();
    await literalServer(port + 1, switches);
    await literalServer(port, [...commands, ...commands]);
    const link = new MssimLink({ host: '127.0.0.1', port }, new ManualClock());
    const error = await failureOf(link.transceive(bytesOf(COMMAND), 1_000));
    expect(error.code).toMatch(/^ERR_DPS_HSM_TPM_(RESPONSE|NOT_STARTED)$/);
    expect(error.message).toContain(words);
    expect(error.message).toContain(`mssim at 127.0.0.1:${port}`);
    await link.close();
  });

  it('carries a device the whole way, through a bridge to swtpm, and lets others in between', async () => {
    const bench = await TpmBench.start({ flags: 'not-need-init' });
    const inner = new SwtpmLink({ path: bench.swtpm.socketPath }, systemClock);
    const peer = await startMssimPeer(async (command) => ({ response: await inner.transceive(command, 60_000) }));
    try {
      const link = `tpm2:mssim:host=127.0.0.1,port=${peer.port}`;
      const hsm = await tpm2Hsm({ link });
      const key = await bench.provision(hsm);
      await expectSignsWith(hsm, key, Buffer.alloc(2500, 7));
      // One connection is served at a time: this would wait for ever if the first kept its own.
      const other = await tpm2Hsm({ link });
      await expectSignsWith(other, key);
      await expectSignsWith(hsm, key);
      await bench.swtpm.powerCycle();
      await expectSignsWith(other, key);
      await hsm.close();
      await other.close();
      expect(await peer.openEnds()).toBe(0);
    } finally {
      await peer.close();
      await bench.stop();
    }
  });
});

function switchesOn(): readonly (readonly [string, string])[] {
  return [
    ['00000001', '00000000'],
    ['0000000b', '00000000'],
  ];
}
