import { peerName } from '../net/connection-errors.js';
import { type Finding, ok, warning } from './finding.js';

type Environment = Readonly<Record<string, string | undefined>>;

/** The first that is set counts, as in `proxyRule`. */
const PROXIES = ['https_proxy', 'HTTPS_PROXY', 'all_proxy', 'ALL_PROXY'];

/** Where a connection goes first. */
export interface Hop {
  readonly kind: string;
  readonly host: string;
  readonly port: number;
}

/**
 * The proxy that connections take and what names it, or one that other programs would take and these do not. Of its URL
 * only host and port are repeated: passwords stand in it.
 *
 * @param option the option that was given, in its user's spelling.
 */
export function checkProxy(env: Environment, hop: Hop | undefined, option?: string): Finding {
  const given = PROXIES.filter((name) => isSet(env[name]?.trim()));
  if (hop !== undefined) {
    const proxy = `the ${hop.kind} proxy ${peerName(hop.host, hop.port)}`;
    return ok('proxy', `Connections go by ${proxy}, as ${option ?? given[0]} says; it looks up the names.`);
  }
  if (option !== undefined) return ok('proxy', `Connections go directly, as ${option} says.`);
  if (given.length === 0) return ok('proxy', 'No proxy is set in the environment.');
  return warning(
    'proxy',
    `${given.join(' and ')}: set, but not used for this host, which is in NO_PROXY or on this machine; connections to it go directly.`,
    'Let the firewall pass connections to DPS and to the hubs, on port 8883 or 443.',
  );
}

/** Which Node this is, and what it was told about whom to trust. */
export function checkNodeSettings(env: Environment, hasOwnAuthorities: boolean): Finding {
  if (isSet(env.NODE_EXTRA_CA_CERTS) && hasOwnAuthorities) {
    const fix = 'Put all authorities that are needed into the one file.';
    return warning('environment', 'NODE_EXTRA_CA_CERTS has no effect beside option ca.', fix);
  }
  return ok('environment', `Node ${process.version}, ${process.platform} ${process.arch}.`);
}

function isSet(value: string | undefined): boolean {
  return value !== undefined && value !== '';
}
