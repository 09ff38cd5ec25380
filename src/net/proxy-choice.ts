import { BlockList, isIP } from 'node:net';
import { mayHoldSecret } from '../core/json-body.js';
import { ConfigurationError } from '../errors.js';

/** A proxy, as its URL names it. Holds a secret: never logged. */
export interface ProxyAddress {
  /** `http`: CONNECT (RFC 9110, section 9.3.6); `socks5`: RFC 1928. Either looks the target's name up itself. */
  readonly kind: 'http' | 'socks5';
  readonly host: string;
  readonly port: number;
  readonly username?: string;
  readonly password?: string;
}

export interface ProxyTarget {
  readonly host: string;
  readonly port: number;
}

/** The proxy on the way to a target; undefined where there is none. */
export type ProxyRule = (target: ProxyTarget) => ProxyAddress | undefined;

export interface ProxySettings {
  /** URL of the proxy for all targets, or `none`; wins over the environment, `NO_PROXY` included. */
  readonly proxy?: string | undefined;
  /** Of `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either case; lower case wins, as with curl. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/**
 * Which targets are reached by way of which proxy. Undefined: none ever is.
 *
 * ```
 * http://user:p%40ss@proxy.example:3128   socks5://10.0.0.1   socks5h://proxy.example   proxy.example:3128
 * NO_PROXY=localhost,.example.com,192.168.0.0/16,[2001:db8::]/32,hub.example:8883
 * ```
 *
 * Loopback addresses are reached directly, unless an explicit proxy says otherwise.
 *
 * @throws {ConfigurationError} `ERR_DPS_CONFIG_OPTION` for what is no URL of a proxy; the URL is not shown.
 */
export function proxyRule({ proxy, env }: ProxySettings): ProxyRule | undefined {
  if (proxy?.toLowerCase() === 'none') return undefined;
  if (proxy !== undefined) {
    const address = parseProxyUrl(proxy, 'proxy');
    return () => address;
  }
  const source = ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'].find((name) => env[name]?.trim());
  const url = source === undefined ? undefined : env[source]?.trim();
  if (source === undefined || url === undefined) return undefined;
  const address = parseProxyUrl(url, source);
  const exemptions = (env.no_proxy ?? env.NO_PROXY ?? '').split(/[\s,]+/).filter((entry) => entry !== '');
  return (target) => (isLoopback(target.host) || isExempt(target, exemptions) ? undefined : address);
}

const DEFAULT_PORTS = { http: 80, socks5: 1080 } as const;

const KINDS: Readonly<Record<string, ProxyAddress['kind']>> = {
  'http:': 'http',
  'socks5:': 'socks5',
  'socks5h:': 'socks5',
};

/** RFC 1929 gives the length of either in one byte. */
const MAX_SOCKS_TEXT_BYTES = 255;

function parseProxyUrl(text: string, option: string): ProxyAddress {
  const url = urlOf(text.includes('://') ? text : `http://${text}`);
  if (url === undefined || url.hostname === '')
    throw wrongProxy(option, 'it is not a URL such as http://proxy.example:3128');
  // Said again in errors and by doctor.
  if (mayHoldSecret(url.hostname)) throw wrongProxy(option, 'its host looks like a secret, and is not shown');
  const kind = KINDS[url.protocol];
  if (kind === undefined) {
    throw wrongProxy(option, `${url.protocol}// is not supported; use http://, socks5:// or socks5h://`);
  }
  const username = decodedText(url.username);
  const password = decodedText(url.password);
  if (username === undefined || password === undefined)
    throw wrongProxy(option, 'its user name or password is not percent-encoded UTF-8');
  if (kind === 'http' && username.includes(':'))
    throw wrongProxy(option, 'its user name contains a colon, which Basic authentication cannot carry');
  const longest = Math.max(Buffer.byteLength(username), Buffer.byteLength(password));
  if (kind === 'socks5' && longest > MAX_SOCKS_TEXT_BYTES)
    throw wrongProxy(
      option,
      `its user name or password is longer than the ${MAX_SOCKS_TEXT_BYTES} bytes that SOCKS5 allows`,
    );
  return {
    kind,
    host: withoutBrackets(url.hostname),
    port: url.port === '' ? DEFAULT_PORTS[kind] : Number(url.port),
    ...(url.username === '' ? {} : { username, password }),
  };
}

function urlOf(text: string): URL | undefined {
  try {
    return new URL(text);
  } catch {
    return undefined;
  }
}

function decodedText(encoded: string): string | undefined {
  try {
    return decodeURIComponent(encoded);
  } catch {
    return undefined;
  }
}

function wrongProxy(option: string, problem: string): ConfigurationError {
  const what = option === 'proxy' ? 'Option proxy' : `The proxy in the environment (${option})`;
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    option,
    message: `${what} cannot be used: ${problem}.`,
  });
}

function isLoopback(host: string): boolean {
  const name = normalName(host);
  if (name === 'localhost' || name.endsWith('.localhost')) return true;
  return isWithin(name, '127.0.0.0/8') || isWithin(name, '::1/128');
}

function isExempt({ host, port }: ProxyTarget, exemptions: readonly string[]): boolean {
  const name = normalName(host);
  return exemptions.some((entry) => {
    if (entry === '*') return true;
    const { pattern, port: onlyPort } = splitEntry(entry);
    if (onlyPort !== undefined && onlyPort !== port) return false;
    return isIP(name) === 0 ? isNameWithin(name, pattern) : name === pattern || isWithin(name, pattern);
  });
}

/** `example.com`, `.example.com` and `*.example.com` all stand for the name and whatever ends in it, as with curl. */
function isNameWithin(name: string, pattern: string): boolean {
  const domain = pattern.replace(/^\*?\./, '');
  return domain !== '' && (name === domain || name.endsWith(`.${domain}`));
}

function splitEntry(entry: string): { readonly pattern: string; readonly port: number | undefined } {
  const [, bracketed, bracketedTail = ''] = /^\[([^\]]*)\](.*)$/.exec(entry) ?? [];
  const [, plain, plainTail = ''] = /^([^:]*)(:\d+)?$/.exec(entry) ?? [];
  const tail = bracketed === undefined ? plainTail : bracketedTail;
  const pattern = normalName(bracketed ?? plain ?? entry) + (tail.startsWith('/') ? tail : '');
  return { pattern, port: tail.startsWith(':') ? Number(tail.slice(1)) : undefined };
}

/** Whether an address is in a block such as `10.0.0.0/8`; what is no block holds nothing. */
function isWithin(address: string, block: string): boolean {
  const [network = '', prefix = ''] = block.split('/', 2);
  const family = isIP(network);
  if (family === 0 || isIP(address) !== family || !/^\d{1,3}$/.test(prefix)) return false;
  if (Number(prefix) > (family === 4 ? 32 : 128)) return false;
  const type = family === 4 ? 'ipv4' : 'ipv6';
  const list = new BlockList();
  list.addSubnet(network, Number(prefix), type);
  return list.check(address, type);
}

/** Names are compared without case and without the dot that ends an absolute one. */
function normalName(host: string): string {
  return withoutBrackets(host).toLowerCase().replace(/\.$/, '');
}

function withoutBrackets(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1');
}
