import { type DpsErrorCode, TransportError } from '../errors.js';
import { peerName } from './connection-errors.js';
import type { ProxyAddress, ProxyTarget } from './proxy-choice.js';

/**
 * What is said to a proxy until it opens the way. Knows bytes only; fails with a TransportError that never shows the
 * user name or password.
 */
export interface ProxyDialogue {
  /** What the device says first. */
  readonly opening: Uint8Array;
  /** Judges all that came since the last answer was used up. */
  take(received: Uint8Array): ProxyStep;
}

export type ProxyStep =
  /** Not enough to tell. */
  | { readonly kind: 'wait' }
  /** The first `used` bytes are understood; this is to be said next. */
  | { readonly kind: 'say'; readonly used: number; readonly bytes: Uint8Array }
  /** The way is open after `used` bytes. */
  | { readonly kind: 'open'; readonly used: number };

/** The proxy wants a user name and password, or other ones. */
export function proxyAuthRefused(proxy: ProxyAddress, target: ProxyTarget, said: string): TransportError {
  const advice =
    proxy.username === undefined
      ? 'Give user name and password along with the proxy.'
      : `Check ${proxy.password ? 'the user name and password' : 'the user name; no password was given'}. In a URL, characters such as @ and : must be percent-encoded.`;
  return proxyError(
    proxy,
    'ERR_DPS_PROXY_AUTH',
    `does not let the device through to ${nameOf(target)} (${said}). ${advice}`,
  );
}

/** The proxy will not, or cannot, open the way. */
export function proxyRefused(
  proxy: ProxyAddress,
  target: ProxyTarget,
  said: string,
  advice: string,
  retryable: boolean,
): TransportError {
  return proxyError(
    proxy,
    'ERR_DPS_PROXY_REFUSED',
    `opened no way to ${nameOf(target)} (${said}). ${advice}`,
    retryable,
  );
}

/** For who is not allowed through. Many proxies lead to port 443 and nowhere else. */
export function askForLeave({ port }: ProxyTarget): string {
  return `Have host and port ${port} allowed there${port === 443 ? '' : ', or use a transport over port 443'}.`;
}

/** What answers is no such proxy. */
export function proxyGarbled(proxy: ProxyAddress, got: string): TransportError {
  const kind = proxy.kind === 'http' ? 'an HTTP' : 'a SOCKS5';
  return proxyError(
    proxy,
    'ERR_DPS_PROXY_PROTOCOL',
    `does not answer as ${kind} proxy does (${got}). Check the scheme and the port in the URL of the proxy.`,
  );
}

function nameOf({ host, port }: ProxyTarget): string {
  return peerName(host, port);
}

function proxyError(proxy: ProxyAddress, code: DpsErrorCode, words: string, retryable = false): TransportError {
  const peer = peerName(proxy.host, proxy.port);
  return new TransportError({ code, message: `The proxy ${peer} ${words}`, phase: 'proxy', peer, retryable });
}
