import { isIP } from 'node:net';
import type { ProxyAddress, ProxyTarget } from './proxy-choice.js';
import {
  askForLeave,
  type ProxyDialogue,
  type ProxyStep,
  proxyAuthRefused,
  proxyGarbled,
  proxyRefused,
} from './proxy-dialogue.js';

const NO_AUTHENTICATION = 0x00;
const USERNAME_PASSWORD = 0x02;
const NO_ACCEPTABLE_METHOD = 0xff;

/**
 * SOCKS5, without authentication or with user name and password; names are looked up by the proxy.
 *
 * ```
 * C: 05 02 00 02          S: 05 02
 * C: 01 01 'u' 01 'p'     S: 01 00
 * C: 05 01 00 03 …        S: 05 00 00 01 <address, 4 bytes> <port, 2 bytes>
 * ```
 *
 * @see RFC 1928 and RFC 1929
 */
export function socks5(proxy: ProxyAddress, target: ProxyTarget): ProxyDialogue {
  const methods = proxy.username === undefined ? [NO_AUTHENTICATION] : [NO_AUTHENTICATION, USERNAME_PASSWORD];
  let take = takeMethod;
  return {
    opening: Uint8Array.of(5, methods.length, ...methods),
    take: (received) => {
      const step = take(received, proxy, target);
      if (step.kind === 'say')
        take = take === takeMethod && received[1] === USERNAME_PASSWORD ? takeVerdict : takeReply;
      return step;
    },
  };
}

function takeMethod([version, method]: Uint8Array, proxy: ProxyAddress, target: ProxyTarget): ProxyStep {
  if (version !== undefined && version !== 5) throw proxyGarbled(proxy, 'no SOCKS version 5');
  if (method === undefined) return { kind: 'wait' };
  if (method === NO_AUTHENTICATION) return { kind: 'say', used: 2, bytes: connectBytes(target) };
  if (method === USERNAME_PASSWORD && proxy.username !== undefined) {
    return { kind: 'say', used: 2, bytes: credentialBytes(proxy) };
  }
  if (method === NO_ACCEPTABLE_METHOD)
    throw proxyAuthRefused(proxy, target, 'no way to authenticate is acceptable to it');
  throw proxyGarbled(proxy, `method ${method}, which was not offered`);
}

function takeVerdict([_version, status]: Uint8Array, proxy: ProxyAddress, target: ProxyTarget): ProxyStep {
  if (status === undefined) return { kind: 'wait' };
  if (status !== 0) throw proxyAuthRefused(proxy, target, `status ${status}`);
  return { kind: 'say', used: 2, bytes: connectBytes(target) };
}

function takeReply(received: Uint8Array, proxy: ProxyAddress, target: ProxyTarget): ProxyStep {
  const [version, code, , addressType, nameLength] = received;
  if (version !== undefined && version !== 5) throw proxyGarbled(proxy, 'no SOCKS version 5');
  if (code === undefined) return { kind: 'wait' };
  if (code !== 0) throw replyRefusal(code, proxy, target);
  if (addressType === undefined || nameLength === undefined) return { kind: 'wait' };
  const addressBytes = { 1: 4, 3: 1 + nameLength, 4: 16 }[addressType];
  if (addressBytes === undefined) throw proxyGarbled(proxy, `address type ${addressType}`);
  const used = 4 + addressBytes + 2;
  return received.length < used ? { kind: 'wait' } : { kind: 'open', used };
}

/** RFC 1928, section 6. Only the wording of the proxy's rules will not pass by itself. */
const REPLIES: Readonly<Record<number, { readonly said: string; readonly retryable: boolean }>> = {
  1: { said: 'general failure', retryable: true },
  2: { said: 'not allowed by its rules', retryable: false },
  3: { said: 'network unreachable', retryable: true },
  4: { said: 'host unreachable', retryable: true },
  5: { said: 'connection refused', retryable: true },
  6: { said: 'TTL expired', retryable: true },
  7: { said: 'command not supported', retryable: false },
  8: { said: 'address type not supported', retryable: false },
};

function replyRefusal(code: number, proxy: ProxyAddress, target: ProxyTarget): Error {
  const { said, retryable } = REPLIES[code] ?? { said: 'unknown', retryable: true };
  const advice = code === 2 ? askForLeave(target) : 'Look at the log of the proxy, and at the name and network there.';
  return proxyRefused(proxy, target, `SOCKS reply ${code}, ${said}`, advice, retryable);
}

function credentialBytes({ username = '', password = '' }: ProxyAddress): Uint8Array {
  const [user, secret] = [Buffer.from(username), Buffer.from(password)];
  return Uint8Array.of(1, user.length, ...user, secret.length, ...secret);
}

function connectBytes({ host, port }: ProxyTarget): Uint8Array {
  return Uint8Array.of(5, 1, 0, ...addressBytes(host), port >> 8, port & 0xff);
}

function addressBytes(host: string): number[] {
  if (isIP(host) === 4) return [1, ...host.split('.').map(Number)];
  if (isIP(host) === 6) return [4, ...ipv6Bytes(host)];
  const name = Buffer.from(host.replace(/\.$/, ''));
  return [3, name.length, ...name];
}

/** By way of the URL parser, which spells every address in one canonical form, embedded IPv4 included. */
function ipv6Bytes(address: string): number[] {
  const { hostname } = new URL(`http://[${address.replace(/%.*$/, '')}]`);
  const [head = '', tail] = hostname.slice(1, -1).split('::');
  const left = groupsOf(head);
  const right = groupsOf(tail ?? '');
  const groups = [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
  return groups.flatMap((group) => [group >> 8, group & 0xff]);
}

function groupsOf(text: string): number[] {
  return text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16));
}
