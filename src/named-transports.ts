import { randomUUID } from 'node:crypto';
import type { Clock, Random } from './core/clock.js';
import type { HubTransport } from './core/hub.js';
import type { DpsTransport } from './core/transport.js';
import { AUTO_HUB_TRANSPORTS, AUTO_TPM_TRANSPORTS, AUTO_TRANSPORTS } from './core/transport-order.js';
import { unreachable } from './core/unreachable.js';
import type { StrayErrorSink } from './hub/stray-error.js';
import { amqpWebSocketCarrier } from './net/amqp-websocket.js';
import type { ProxyRule } from './net/proxy-choice.js';
import { webSocketCarrier } from './net/websocket.js';
import type { ProvisionOptions } from './provision-options.js';
import type { DpsTransportName, HubTransportName } from './transport-names.js';

/** What transports are made with. */
export interface TransportSettings {
  readonly clock: Clock;
  readonly random: Random;
  readonly connectTimeoutMs: number;
  /** Default: `connectTimeoutMs`. */
  readonly welcomeTimeoutMs?: number;
  readonly requestTimeoutMs: number;
  readonly tokenLifeSeconds: number;
  readonly userAgent: string;
  readonly ca?: string | readonly string[];
  readonly modelId?: string;
  readonly onStrayError?: StrayErrorSink;
  readonly proxyFor?: ProxyRule;
}

/** To be tried in turn. */
export interface Choice<T> {
  readonly first: T;
  readonly others: readonly T[];
}

/** What option `transport` means. A single one is loaded at once, several when it is their turn. */
export async function dpsTransports(
  option: ProvisionOptions['transport'],
  isTpm: boolean,
  settings: TransportSettings,
): Promise<Choice<DpsTransport>> {
  if (isOwn(option)) return { first: option, others: [] };
  const automatic = isTpm ? AUTO_TPM_TRANSPORTS : AUTO_TRANSPORTS;
  const names = namesIn<DpsTransportName>(option ?? automatic[0], automatic);
  const [first, ...others] = names;
  if (others.length === 0) return { first: await dpsTransport(first, settings), others: [] };
  const lazily = (name: DpsTransportName): DpsTransport => dpsWhenNeeded(name, sharing(settings, names));
  return { first: lazily(first), others: others.map(lazily) };
}

/** What option `hubTransport` means. */
export function hubTransports(
  option: ProvisionOptions['hubTransport'],
  settings: TransportSettings,
): Choice<HubTransport> {
  if (isOwn(option)) return { first: option, others: [] };
  const names = namesIn<HubTransportName>(option ?? AUTO_HUB_TRANSPORTS[0], AUTO_HUB_TRANSPORTS);
  const lazily = (name: HubTransportName): HubTransport => hubWhenNeeded(name, sharing(settings, names));
  const [first, ...others] = names;
  return { first: lazily(first), others: others.map(lazily) };
}

type Names<Name> = readonly [Name, ...Name[]];

function namesIn<Name extends string>(option: Name | 'auto' | readonly Name[], automatic: Names<Name>): Names<Name> {
  if (option === 'auto') return automatic;
  if (typeof option === 'string') return [option];
  const [first = automatic[0], ...others] = option;
  return [first, ...others];
}

function isOwn<T>(option: string | readonly string[] | T | undefined): option is T {
  return typeof option === 'object' && !Array.isArray(option);
}

/** Each has an equal share of the time for the way to the service; the service's own welcome may take as long as ever. */
function sharing(settings: TransportSettings, names: readonly string[]): TransportSettings {
  const { connectTimeoutMs } = settings;
  return {
    ...settings,
    connectTimeoutMs: Math.ceil(connectTimeoutMs / names.length),
    welcomeTimeoutMs: connectTimeoutMs,
  };
}

async function dpsTransport(name: DpsTransportName, settings: TransportSettings): Promise<DpsTransport> {
  const { clock, connectTimeoutMs, welcomeTimeoutMs, userAgent, ca, proxyFor } = settings;
  const options = {
    clock,
    connectTimeoutMs,
    welcomeTimeoutMs,
    userAgent,
    randomUuid: randomUUID,
    proxyFor,
    ...(ca === undefined ? {} : { ca }),
  };
  switch (name) {
    case 'mqtt':
      return (await import('./mqtt-parts.js')).mqttDpsTransport(options);
    case 'mqtt-ws': {
      const { mqttDpsTransport } = await import('./mqtt-parts.js');
      return mqttDpsTransport({ ...options, carrier: webSocketCarrier });
    }
    case 'amqp':
      return (await import('./transports/amqp.js')).amqpDpsTransport(options);
    case 'amqp-ws': {
      const { amqpDpsTransport } = await import('./transports/amqp.js');
      return amqpDpsTransport({ ...options, carrier: amqpWebSocketCarrier });
    }
    case 'https':
      return (await import('./transports/https.js')).httpsDpsTransport(options);
    default:
      return unreachable(name);
  }
}

async function hubTransport(name: HubTransportName, settings: TransportSettings): Promise<HubTransport> {
  const { mqttHubTransport } = await import('./mqtt-parts.js');
  const carrier = name === 'mqtt' ? {} : { carrier: webSocketCarrier };
  return mqttHubTransport({ ...settings, ...carrier, newRequestId: randomUUID });
}

/** Once, when it is first asked for. */
function whenNeeded<T>(load: () => Promise<T>): () => Promise<T> {
  let loading: Promise<T> | undefined;
  return () => {
    loading ??= load();
    return loading;
  };
}

function dpsWhenNeeded(name: DpsTransportName, settings: TransportSettings): DpsTransport {
  const dps = whenNeeded(() => dpsTransport(name, settings));
  return { name, open: async (parameters, signal) => (await dps()).open(parameters, signal) };
}

/** There may be no hub to go to: a registration over HTTPS needs no MQTT, and one that fails needs neither. */
function hubWhenNeeded(name: HubTransportName, settings: TransportSettings): HubTransport {
  const hub = whenNeeded(() => hubTransport(name, settings));
  return {
    name,
    open: async (parameters, signal) => (await hub()).open(parameters, signal),
    connectionInfo: (parameters) => ({
      mqttOptions: async (signal) => (await hub()).connectionInfo(parameters).mqttOptions(signal),
      connectionString: async (signal) => (await hub()).connectionInfo(parameters).connectionString(signal),
    }),
  };
}
