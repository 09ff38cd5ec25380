import { optionError } from '../../hsm-options.js';

/**
 * Names of links, as in the options and on the command line. What follows `tpm2:` is spelled like a TCTI of tpm2-tss; a
 * path alone is a device.
 *
 * ```
 * tpm2:/dev/tpmrm0                        tpm2:device:/dev/tpmrm0
 * tpm2:swtpm:host=127.0.0.1,port=2321     tpm2:swtpm:path=/run/swtpm.sock
 * tpm2:mssim:host=127.0.0.1,port=2321
 * tpm2:tcti:tabrmd:bus_type=system        any TCTI, through an installed tpm2-tss and the package koffi
 * ```
 */
export type TpmLinkName =
  | { readonly kind: 'device'; readonly path: string }
  | {
      readonly kind: 'swtpm';
      readonly target: { readonly host: string; readonly port: number } | { readonly path: string };
    }
  | { readonly kind: 'mssim'; readonly target: { readonly host: string; readonly port: number } }
  /** `name` as tpm2-tss spells it, such as `tabrmd:bus_type=system`. */
  | { readonly kind: 'tcti'; readonly name: string };

export const DEFAULT_TPM_LINK = 'tpm2:/dev/tpmrm0';

const DEFAULT_HOST = '127.0.0.1';
const DEFAULT_PORT = 2321;
const EXAMPLES = 'tpm2:/dev/tpmrm0, tpm2:swtpm:host=127.0.0.1,port=2321 or tpm2:mssim:host=127.0.0.1,port=2321';

/** @throws {ConfigurationError} that says what is wrong with the name, and what would be right. */
export function parseTpmLink(text: string): TpmLinkName {
  try {
    return readName(text);
  } catch (error) {
    if (!(error instanceof LinkProblem)) throw error;
    throw optionError('ERR_DPS_CONFIG_OPTION', 'link', `Option hsm.link ${error.message}.`);
  }
}

/** What `parseTpmLink` would find wrong, without its subject: `needs a port from 1 to 65535`. */
export function tpmLinkProblem(text: string): string | undefined {
  try {
    readName(text);
    return undefined;
  } catch (error) {
    if (error instanceof LinkProblem) return error.message;
    throw error;
  }
}

class LinkProblem extends Error {}

function readName(text: string): TpmLinkName {
  if (!text.startsWith('tpm2:')) throw problem(`must begin with tpm2:, such as ${EXAMPLES}`);
  const rest = text.slice('tpm2:'.length);
  if (rest.startsWith('/')) return device(rest);
  const [, kind = '', details = ''] = /^([a-z-]*):?(.*)$/s.exec(rest) ?? [];
  switch (kind) {
    case 'device':
      return device(details === '' ? '/dev/tpmrm0' : details);
    case 'swtpm':
      return { kind, target: socketTarget(kind, details) };
    case 'mssim':
      return { kind, target: tcpTarget(kind, details) };
    case 'tcti':
      return { kind, name: tctiName(details) };
    case 'tabrmd':
      throw problem(`must reach ${kind} through tpm2-tss: give tpm2:tcti:${rest}`);
    default:
      throw problem(`names no kind of link that is known; give ${EXAMPLES}`);
  }
}

function device(path: string): TpmLinkName {
  if (path.startsWith('/') && !path.includes('\0')) return { kind: 'device', path };
  throw problem('must give the whole path of the device, such as tpm2:/dev/tpmrm0');
}

/** Without a name tpm2-tss would take whatever it finds first, a simulator included. */
function tctiName(name: string): string {
  if (/^[A-Za-z0-9_./-]+(:|$)/.test(name) && !name.includes('\0')) return name;
  throw problem('must name a TCTI of tpm2-tss after tcti:, such as tpm2:tcti:tabrmd:bus_type=system');
}

function socketTarget(kind: string, details: string): { host: string; port: number } | { path: string } {
  if (!details.startsWith('path=')) return tcpTarget(kind, details);
  const path = details.slice('path='.length);
  if (path.startsWith('/') && !path.includes('\0')) return { path };
  throw problem('must give the whole path of the socket, such as tpm2:swtpm:path=/run/swtpm.sock');
}

function tcpTarget(kind: string, details: string): { host: string; port: number } {
  const pairs = new Map<string, string>();
  for (const pair of details === '' ? [] : details.split(',')) {
    const [, name = '', value = ''] = /^([^=]*)=(.*)$/s.exec(pair) ?? [];
    const isKnown = name === 'host' || name === 'port';
    if (!isKnown || value === '' || pairs.has(name)) {
      throw problem(`takes host= and port= after ${kind}:, each once, such as tpm2:${kind}:host=127.0.0.1,port=2321`);
    }
    pairs.set(name, value);
  }
  const host = (pairs.get('host') ?? DEFAULT_HOST).replace(/^\[(.*)\]$/, '$1');
  if (!/^[A-Za-z0-9._:%-]+$/.test(host)) throw problem('has a host that is neither a name nor an address');
  return { host, port: portOf(pairs.get('port'), kind) };
}

function portOf(text: string | undefined, kind: string): number {
  if (text === undefined) return DEFAULT_PORT;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  // The reference simulator's switches are on the port above.
  const highest = kind === 'mssim' ? 65534 : 65535;
  if (port >= 1 && port <= highest) return port;
  throw problem(`needs a port from 1 to ${highest}`);
}

function problem(what: string): Error {
  return new LinkProblem(what);
}
