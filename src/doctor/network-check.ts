import type { CancelSignal } from '../core/cancel-signal.js';
import { type Clock, isPlausibleWallMs } from '../core/clock.js';
import { isNetworkFailure } from '../core/transport-order.js';
import { ClockError, type DpsError, TransportError } from '../errors.js';
import { compareClocks } from './clock-check.js';
import { attempt, type Finding, failed, ok, skipped, warning } from './finding.js';

/** What the checks ask of the network. */
export interface Network {
  /** The addresses of a host; of an address, itself. Fails with `ERR_DPS_DNS`. */
  resolve(host: string, signal: CancelSignal): Promise<readonly string[]>;
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
  /** The other way to DPS, if the same host may offer it: only to be advised. */
  readonly other: Service | undefined;
  /** Where the network does not let the chosen one through, `provision` goes there by itself. */
  readonly isOtherTried?: boolean;
  readonly clock: Clock;
  readonly signal: CancelSignal;
}

/** Follows the way to DPS, name, port and TLS, up to where the device would send its first request. */
export async function checkNetwork(network: Network, check: NetworkCheck): Promise<Finding[]> {
  const { chosen, other, hop, signal } = check;
  const { host } = hop ?? chosen;
  const resolved = await attempt(() => network.resolve(host, signal));
  if (resolved.error !== undefined) {
    return [failed('dns', resolved.error), ...skipConnection(chosen, 'the name could not be looked up')];
  }
  const name = ok('dns', `${host} is at ${resolved.value.join(', ')}.`);
  const [way, bypass] = await Promise.all([
    attempt(() => network.connect(chosen, signal)),
    other === undefined ? undefined : attempt(() => network.connect(other, signal)),
  ]);
  const dates = compare([way.value, bypass?.value], check);
  if (other !== undefined && bypass?.value !== undefined && isPassedBy(way.error, check)) {
    const blocked = warning('port', `${nameOf(chosen)} cannot be used from here (${way.error.code}).`, PASSED_BY);
    return [name, blocked, ...reached(other, bypass.value, check), ...dates];
  }
  const findings = way.error === undefined ? reached(chosen, way.value, check) : missed(chosen, way.error);
  const advice = other === undefined || bypass === undefined ? [] : [adviseOther(other, bypass.error)];
  return [name, ...findings, ...advice, ...dates];
}

const PASSED_BY =
  'provision tries the other transports by itself; with --state it begins with the one that got through.';

function isPassedBy(error: DpsError | undefined, { isOtherTried }: NetworkCheck): error is DpsError {
  return isOtherTried === true && error !== undefined && isNetworkFailure(error);
}

function reached(service: Service, facts: ServerFacts, { clock }: NetworkCheck): Finding[] {
  const { tlsVersion, subject, authority, validToMs } = facts;
  const end = new Date(validToMs).toISOString();
  const server = `${tlsVersion}; the server's certificate (${subject}, by ${authority}) is trusted, and valid until ${end}.`;
  const doubt = isPlausibleWallMs(clock.wallMs()) ? '' : ' Its dates were judged by a clock that is not set.';
  return [ok('port', `${nameOf(service)} can be reached.`), ok('tls', `${server}${doubt}`)];
}

function missed(service: Service, error: DpsError): Finding[] {
  const hasConnected = !(error instanceof TransportError) || !['resolve', 'connect', 'proxy'].includes(error.phase);
  if (!hasConnected) return [failed('port', error), skipped('tls', `${nameOf(service)} could not be reached.`)];
  return [ok('port', `${nameOf(service)} can be reached.`), failed('tls', error)];
}

function skipConnection(service: Service, reason: string): Finding[] {
  const message = `${nameOf(service)} was not tried: ${reason}.`;
  return [skipped('port', message), skipped('tls', message)];
}

/** A fault of the way that the device does not take fails nothing, but tells where the fault lies. */
function adviseOther(other: Service, error: DpsError | undefined): Finding {
  const name = nameOf(other);
  if (error === undefined) return ok('port', `${name} can be reached, too: --transport ${other.transport} would work.`);
  const because = error instanceof ClockError ? 'by this clock' : 'from here';
  return warning(
    'port',
    `${name} cannot be used ${because} (${error.code}).`,
    `Stay away from --transport ${other.transport}, or see to it that a firewall lets it through.`,
  );
}

function compare(facts: readonly (ServerFacts | undefined)[], { chosen, clock }: NetworkCheck): Finding[] {
  const dated = facts.find((each) => each?.dateMs !== undefined);
  const isSet = isPlausibleWallMs(clock.wallMs());
  return dated?.dateMs === undefined || !isSet ? [] : [compareClocks(clock, dated.dateMs, chosen.host)];
}

function nameOf({ transport, host, port }: Service): string {
  const shown = host.includes(':') ? `[${host}]` : host;
  return `${shown}:${port} (${transport.toUpperCase()})`;
}
