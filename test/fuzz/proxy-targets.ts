import { httpConnect, MAX_CONNECT_REPLY_BYTES } from '../../src/net/http-connect.js';
import type { ProxyAddress } from '../../src/net/proxy-choice.js';
import type { ProxyDialogue } from '../../src/net/proxy-dialogue.js';
import { socks5 } from '../../src/net/socks5.js';
import type { FuzzRandom } from './fuzz-random.js';
import type { FuzzTarget } from './fuzz-run.js';
import { mutateBytes } from './mutations.js';
import { ensure, requirePrintable, valueOrCode } from './properties.js';

const TARGET = { host: 'dps.example', port: 8883 };

const HTTP_REPLIES: readonly string[] = [
  'HTTP/1.1 200 Connection established\r\n\r\n',
  'HTTP/1.0 200 OK\r\nVia: 1.1 proxy\r\nContent-Length: 0\r\n\r\n',
  'HTTP/1.1 204 No Content\n\n',
  'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n<html>',
  'HTTP/1.1 403 Forbidden\r\n\r\n',
  'HTTP/1.1 503 Service Unavailable\r\nRetry-After: 3\r\n\r\n',
  'SSH-2.0-OpenSSH_9.2\r\n',
];

export const httpConnectReply: FuzzTarget = {
  name: 'http connect reply',
  run: (random) => judge(random, 'http', httpConnect, Buffer.from(random.pick(HTTP_REPLIES))),
};

const SOCKS_REPLIES: readonly string[] = [
  '0500 05000001 7f000001 01bb',
  '0500 05000003 02 6162 01bb',
  '0500 05000004 00000000000000000000000000000001 01bb',
  '0502 0100 05000001 7f000001 01bb',
  '0502 0101',
  '05ff',
  '0500 05020001 00000000 0000',
];

export const socksReply: FuzzTarget = {
  name: 'socks5 reply',
  run: (random) => judge(random, 'socks5', socks5, Buffer.from(random.pick(SOCKS_REPLIES).replaceAll(' ', ''), 'hex')),
};

/** The parsers of what proxies say. */
export const PROXY_TARGETS: readonly FuzzTarget[] = [httpConnectReply, socksReply];

type Speak = (proxy: ProxyAddress, target: typeof TARGET) => ProxyDialogue;

function judge(random: FuzzRandom, kind: ProxyAddress['kind'], speak: Speak, valid: Uint8Array): string {
  const address = { kind, host: 'proxy.example', port: 3128 };
  const proxy = random.chance(0.5) ? address : { ...address, username: 'device', password: 'open-barley' };
  const said = random.note('said', random.chance(0.2) ? valid : mutateBytes(random, valid));
  const whole = listen(speak(proxy, TARGET), [said]);
  const pieces = listen(speak(proxy, TARGET), cutUp(random, said));
  ensure(whole === pieces, `in pieces it means the same: ${pieces} instead of ${whole}`);
  return whole.replace(/ after .*/, '');
}

/** What comes of it, as `proxy.ts` feeds it. */
function listen(dialogue: ProxyDialogue, pieces: readonly Uint8Array[]): string {
  let unread: Uint8Array = new Uint8Array(0);
  let used = 0;
  for (const piece of pieces) {
    unread = Buffer.concat([unread, piece]);
    for (;;) {
      const taken = valueOrCode(() => dialogue.take(unread), requireDiscreet);
      if ('code' in taken) {
        ensure(
          /^ERR_DPS_PROXY_(AUTH|REFUSED|PROTOCOL)$/.test(taken.code),
          `the code is one of a proxy, not ${taken.code}`,
        );
        return taken.code;
      }
      const step = taken.value;
      if (step.kind === 'wait') break;
      ensure(step.used > 0 && step.used <= unread.length, 'what is used has come');
      used += step.used;
      unread = unread.subarray(step.used);
      if (step.kind === 'open') return `open after ${used}`;
    }
  }
  ensure(unread.length < MAX_CONNECT_REPLY_BYTES, 'a proxy is not listened to for ever');
  return 'wait';
}

function requireDiscreet(message: string): void {
  requirePrintable(message);
  ensure(!message.includes('open-barley'), 'the message does not show the password');
}

function cutUp(random: FuzzRandom, bytes: Uint8Array): readonly Uint8Array[] {
  const size = random.pick([1, 2, 7, 100, 5_000]);
  const pieces: Uint8Array[] = [];
  for (let start = 0; start < bytes.length; start += size) pieces.push(bytes.subarray(start, start + size));
  // One byte at a time, a very long text would be looked at for too long.
  return pieces.length > 2_000 ? [bytes] : pieces;
}
