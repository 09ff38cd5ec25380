import { isIP } from 'node:net';
import type { CancelSignal } from '../core/cancel-signal.js';
import { type Clock, isPlausibleWallMs } from '../core/clock.js';
import { isNetworkFailure } from '../core/transport-order.js';
import { ClockError, type DpsError, TransportError } from '../errors.js';
import { peerName } from '../net/connection-errors.js';
import { compareClocks } from './clock-check.js';
import { type Attempted, attempt, type Finding, failed, ok, skipped, warning } from './finding.js';

/** What the checks ask of the network. */
export interface Network {
  /** The addresses of a host, which may be the proxy on the way to another. Fails with `ERR_DPS_DNS`. */
  resolve(host: string, signal: CancelSignal, wayTo?: string): Promise<readonly string[]>;
  /** Connects as a transport would, and closes again. Fails as `openTlsSocket` does. */
  connect(service: Service, signal: CancelSignal): Promise<ServerFacts>;
}

/** Where DPS listens for one transport. */
export interface Service {
  readonly transport: 'mqtt' | 'amqp' | 'https';
  readonly host: string;
  readonly port: number;
}

/** What a server that was trusted showed of itself. */
export interface ServerFacts {
  readonly tlsVersion: string;
  readonly subject: string;
  /** The last issuer of its chain: the authority that it is trusted by. */
  readonly authority: string;
  readonly validToMs: number;
  /** By its own clock, if it told. */
  readonly dateMs: number | undefined;
}

export interface NetworkCheck {
  readonly chosen: Service;
  /** What is connected to first instead: a proxy. */
  readonly hop: { readonly host: string } | undefined;
  /** Other ways to DPS, if the same host may offer them: only to be advised. */
  readonly others: readonly Service[];
  /** Where the network does not let the chosen one through, `provision` goes there by itself, in this order. */
  readonly areOthersTried?: boolean;
  readonly clock: Clock;
  readonly signal: CancelSignal;
}

/** Follows the way to DPS, name, port and TLS, up to where the device would send its first request. */
export async function checkNetwork(network: Network, check: NetworkCheck): Promise<Finding[]> {
  const { chosen, others, hop, signal } = check;
  const { host } = hop ?? chosen;
  const names: Finding[] = [];
  // An address needs no looking up.
  if (isIP(host) === 0) {
    const wayTo = hop === undefined ? undefined : peerName(chosen.host, chosen.port);
    const resolved = await attempt(() => network.resolve(host, signal, wayTo));
    if (resolved.error !== undefined) {
      return [failed('dns', resolved.error), ...skipConnection(chosen, 'the name could not be looked up')];
    }
    names.push(ok('dns', `${host} is at ${resolved.value.join(', ')}.`));
  }
  const ways = await Promise.all(
    [chosen, ...others].map(async (service) => ({
      service,
      outcome: await attempt(() => network.connect(service, signal)),
    })),
  );
  const facts = ways.map(({ outcome }) => outcome.value);
  return [...names, ...judge(ways, check), ...compare(facts, check)];
}

/** A service that was connected to, and what came of it. */
interface Way {
  readonly service: Service;
  readonly outcome: Attempted<ServerFacts>;
}

/** What `provision` passes by fails nothing, if it comes through elsewhere. */
function judge(ways: readonly Way[], check: NetworkCheck): Finding[] {
  const decisive = check.areOthersTried === true ? ways.findIndex(({ outcome }) => !isBlocked(outcome.error)) : 0;
  const passedBy = ways.slice(0, Math.max(decisive, 0));
  const [way, ...rest] = ways.slice(passedBy.length);
  if (way === undefined) return [];
  const { service, outcome } = way;
  return [
    ...passedBy.map(warnOfBlocked),
    ...(outcome.error === undefined ? reached(service, outcome.value, check) : missed(service, outcome.error)),
    ...rest.map((other) => adviseOther(other, check)),
  ];
}

const PASSED_BY =
  'provision tries the other transports by itself; with --state it begins with the one that got through.';

function warnOfBlocked({ service, outcome }: Way): Finding {
  return warning('port', `${nameOf(service)} cannot be used from here (${outcome.error?.code}).`, PASSED_BY);
}

function isBlocked(error: DpsError | undefined): boolean {
  return error !== undefined && isNetworkFailure(error);
}

function reached(service: Service, facts: ServerFacts, { clock }: NetworkCheck): Finding[] {
  const { tlsVersion, subject, authority, validToMs } = facts;
  const end = new Date(validToMs).toISOString();
  const server = `${tlsVersion}; the server's certificate (${subject}, by ${authority}) is trusted, and valid until ${end}.`;
  const doubt = isPlausibleWallMs(clock.wallMs()) ? '' : ' Its dates were judged by a clock that is not set.';
  return [ok('port', `${nameOf(service)} can be reached.`), ok('tls', `${server}${doubt}`)];
}

function missed(service: Service, error: DpsError): Finding[] {
  const phase = error instanceof TransportError ? error.phase : undefined;
  const unreached = skipped('tls', `${nameOf(service)} could not be reached.`);
  if (phase === 'proxy') return [failed('proxy', error), unreached];
  if (phase === 'resolve' || phase === 'connect') return [failed('port', error), unreached];
  return [ok('port', `${nameOf(service)} can be reached.`), failed('tls', error)];
}

function skipConnection(service: Service, reason: string): Finding[] {
  const message = `${nameOf(service)} was not tried: ${reason}.`;
  return [skipped('port', message), skipped('tls', message)];
}

/** A fault of the way that the device does not take fails nothing, but tells where the fault lies. */
function adviseOther({ service, outcome: { error } }: Way, { hop }: NetworkCheck): Finding {
  const name = nameOf(service);
  const { transport } = service;
  if (error === undefined) return ok('port', `${name} can be reached, too: --transport ${transport} would work.`);
  const because = error instanceof ClockError ? 'by this clock' : 'from here';
  return warning(
    'port',
    `${name} cannot be used ${because} (${error.code}).`,
    `Stay away from --transport ${transport}, or see to it that ${cureFor(error, hop)}.`,
  );
}

/** Behind a proxy the firewall is that one's. */
function cureFor(error: DpsError, hop: NetworkCheck['hop']): string {
  const phase = error instanceof TransportError ? error.phase : undefined;
  if (error.code === 'ERR_DPS_PROXY_AUTH')
    return `the proxy ${hop?.host} gets the user name and password that it wants`;
  if (phase === 'proxy') return `the proxy ${hop?.host} lets it through`;
  const isHopLost = hop !== undefined && (phase === 'resolve' || phase === 'connect');
  return isHopLost ? `the proxy ${hop.host} can be reached` : 'a firewall lets it through';
}

function compare(facts: readonly (ServerFacts | undefined)[], { chosen, clock }: NetworkCheck): Finding[] {
  const dated = facts.find((each) => each?.dateMs !== undefined);
  const isSet = isPlausibleWallMs(clock.wallMs());
  return dated?.dateMs === undefined || !isSet ? [] : [compareClocks(clock, dated.dateMs, chosen.host)];
}

function nameOf({ transport, host, port }: Service): string {
  return `${peerName(host, port)} (${transport.toUpperCase()})`;
}
