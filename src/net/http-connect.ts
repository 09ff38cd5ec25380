import { peerName } from './connection-errors.js';
import type { ProxyAddress, ProxyTarget } from './proxy-choice.js';
import {
  askForLeave,
  type ProxyDialogue,
  type ProxyStep,
  proxyAuthRefused,
  proxyGarbled,
  proxyRefused,
} from './proxy-dialogue.js';

/** A proxy that says more than this in its header says nothing that is of use here. */
export const MAX_CONNECT_REPLY_BYTES: number = 16 * 1024;

/**
 * HTTP CONNECT with Basic authentication.
 *
 * ```
 * C: CONNECT hub.azure-devices.net:8883 HTTP/1.1 | Host: hub.azure-devices.net:8883 | Proxy-Authorization: Basic dTpw
 * S: HTTP/1.1 200 Connection established
 * ```
 *
 * @see RFC 9110, section 9.3.6
 */
export function httpConnect(proxy: ProxyAddress, target: ProxyTarget): ProxyDialogue {
  return {
    opening: requestBytes(proxy, target),
    take: (received) => takeReply(received, proxy, target),
  };
}

function requestBytes({ username, password }: ProxyAddress, { host, port }: ProxyTarget): Uint8Array {
  const authority = peerName(host.replace(/\.$/, ''), port);
  const lines = [`CONNECT ${authority} HTTP/1.1`, `Host: ${authority}`];
  if (username !== undefined) {
    const credentials = Buffer.from(`${username}:${password ?? ''}`).toString('base64');
    lines.push(`Proxy-Authorization: Basic ${credentials}`);
  }
  return Buffer.from([...lines, '', ''].join('\r\n'));
}

const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})[ \r\n]/;
/** As far as it goes, what has come must be the beginning of a status line. */
const STATUS_LINE_START = 'HTTP/1.';

function takeReply(received: Uint8Array, proxy: ProxyAddress, target: ProxyTarget): ProxyStep {
  const text = Buffer.from(received.subarray(0, MAX_CONNECT_REPLY_BYTES)).toString('latin1');
  if (!text.startsWith(STATUS_LINE_START.slice(0, text.length))) throw proxyGarbled(proxy, 'no HTTP/1.1 status line');
  const status = Number(STATUS_LINE.exec(text)?.[1] ?? Number.NaN);
  const hasLine = text.includes('\n') || text.length >= STATUS_LINE_START.length + 16;
  if (Number.isNaN(status)) {
    if (hasLine) throw proxyGarbled(proxy, 'no HTTP/1.1 status line');
    return { kind: 'wait' };
  }
  if (status < 200 || status > 299) throw refusalOf(status, proxy, target);
  const [end] = /\r?\n\r?\n/.exec(text) ?? [];
  if (end !== undefined) return { kind: 'open', used: text.indexOf(end) + end.length };
  if (received.length >= MAX_CONNECT_REPLY_BYTES) throw proxyGarbled(proxy, 'a header without end');
  return { kind: 'wait' };
}

function refusalOf(status: number, proxy: ProxyAddress, target: ProxyTarget): Error {
  // Some (tinyproxy) say 401 to a wrong password, and 407 to none.
  if (status === 407 || status === 401) return proxyAuthRefused(proxy, target, `HTTP status ${status}`);
  const isPassing = status === 408 || status === 429 || status >= 500;
  return proxyRefused(proxy, target, `HTTP status ${status}`, adviceFor(status, target), isPassing);
}

function adviceFor(status: number, target: ProxyTarget): string {
  if (status === 403) return `It does not allow this. ${askForLeave(target)}`;
  if (status === 501 || status === 405 || status === 400) return 'Check that it is a proxy that takes CONNECT.';
  if (status >= 500) return 'It did not reach the target: look at its log, and at the name and network there.';
  return 'Look at the log of the proxy.';
}
