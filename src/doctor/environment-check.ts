import { type Finding, ok, warning } from './finding.js';

type Environment = Readonly<Record<string, string | undefined>>;

const PROXIES = ['HTTPS_PROXY', 'https_proxy', 'ALL_PROXY', 'all_proxy'];

/** Where a connection goes first. */
export interface Hop {
  readonly kind: string;
  readonly host: string;
  readonly port: number;
}

/**
 * The proxy that connections take, or one that other programs would take and these do not. Of its URL only host and port
 * are repeated: passwords stand in it.
 */
export function checkProxy(env: Environment, hop: Hop | undefined): Finding {
  if (hop !== undefined) {
    return ok('proxy', `Connections go by the ${hop.kind} proxy ${hop.host}:${hop.port}, which looks up the names.`);
  }
  const given = PROXIES.filter((name) => isSet(env[name]));
  if (given.length === 0) return ok('proxy', 'No proxy is set in the environment.');
  return warning(
    'proxy',
    `${given.join(' and ')}: set, but not used here; connections go to the service directly.`,
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
