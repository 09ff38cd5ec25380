/** Puts the emulator together and starts it. */
import { randomBytes } from 'node:crypto';
import type { Clock } from '../core/clock.js';
import { splitHostPort } from '../core/identifiers.js';
import { ConfigurationError } from '../errors.js';
import { systemClock } from '../system-clock.js';
import { AmqpEndpoint } from './amqp-endpoint.js';
import { protocolOfFirst } from './carrier.js';
import { checkedHub, checkedScope, checkedTrace } from './checked-controls.js';
import { type EmulatorConfig, type ResolvedConfig, type ResolvedScope, resolveConfig } from './config.js';
import { openSection, optional, readFunction, readJsonObject, readText } from './config-reader.js';
import type { EmulatorContext } from './context.js';
import { type FaultControls, FaultSwitches } from './faults.js';
import { listenHttps } from './https-endpoint.js';
import type { HubControls } from './hub-controls.js';
import { type Listening, makeTlsOptions } from './listener.js';
import { formatTraceEntry } from './log.js';
import type { TakeOver } from './mqtt-connection.js';
import { MqttEndpoint } from './mqtt-endpoint.js';
import type { CertificateAuthority } from './pki.js';
import { EmulatedScope, type ScopeControls } from './scope.js';
import { makeServerIdentity, obtainAuthority } from './server-identity.js';
import { damaged, loadState, StateWriter } from './state-file.js';
import type { StoredState } from './state-reader.js';
import { Trace, type TraceControls, type TraceEntry } from './trace.js';
import { WebSocketDoor } from './websocket-door.js';
import type { World } from './world.js';

export interface EmulatorOptions {
  /** Default: the machine's. */
  readonly clock?: Clock;
  /** Makes ids and keys. Default: `node:crypto`. */
  readonly random?: (size: number) => Uint8Array;
  /** Gets a readable line for everything that happens; never a secret. */
  readonly log?: (line: string) => void;
  /** Gets what happens as entries of the trace; `log` then gets only what is no part of that. */
  readonly onTrace?: (entry: TraceEntry) => void;
  /** Where files that the configuration names are looked for. Default: the working directory. */
  readonly baseDirectory?: string;
}

export interface EmulatorEndpoints {
  /** `host:port`, as clients take it. */
  readonly dps: { readonly mqtt: string; readonly amqp: string; readonly https: string };
  readonly hubs: readonly {
    readonly name: string;
    readonly idScope: string;
    /** What devices are told by DPS. */
    readonly hostName: string;
    /** Where the hub's listener is. */
    readonly mqtt: string;
  }[];
}

/** A running emulator. Its own scope controls are those of the first ID scope. */
export interface Emulator extends ScopeControls {
  /** The CA certificate to trust. */
  readonly caPem: string;
  readonly endpoints: EmulatorEndpoints;
  readonly faults: FaultControls;
  readonly trace: TraceControls;
  /** All ID scopes. */
  readonly idScopes: readonly string[];
  /** The controls of one scope; default the first. @throws {ConfigurationError} when there is no such scope. */
  scope(idScope?: string): ScopeControls;
  /** The controls of one hub; default the first. @throws {ConfigurationError} when there is no such hub. */
  hub(name?: string): HubControls;
  /** Ends every connection, frees the ports, writes the state file. Safe to call twice. */
  close(): Promise<void>;
}

/**
 * Starts an offline DPS with its IoT hubs.
 *
 * @throws {ConfigurationError} when the configuration is wrong, naming the path; nothing is left open then.
 */
export async function startEmulator(config: EmulatorConfig = {}, options: EmulatorOptions = {}): Promise<Emulator> {
  checkOptions(options);
  const baseDirectory = options.baseDirectory ?? process.cwd();
  const resolved = resolveConfig(config, baseDirectory);
  const parts = await assemble(resolved, baseDirectory, options);
  const authority = await restoring(resolved.stateFile, parts.stored, () =>
    obtainAuthority(resolved.authority, parts.stored?.authority),
  );
  const listening: Listening[] = [];
  const closeAll = async (): Promise<void> => {
    await Promise.all(listening.map((each) => each.close()));
    for (const scope of parts.scopes) for (const hub of scope.hubs) hub.close();
    parts.trace.close();
  };
  try {
    const endpoints = await listenEverywhere(resolved, parts, authority, listening);
    const writer = await parts.startWriting(authority);
    return makeControls(parts, authority, endpoints, async () => {
      await closeAll();
      await writer?.flush();
    });
  } catch (error) {
    await closeAll();
    throw error;
  }
}

function checkOptions(options: unknown): void {
  const section = openSection(options, 'options', ['clock', 'random', 'log', 'onTrace', 'baseDirectory']);
  for (const name of ['random', 'log', 'onTrace']) optional(section, name, readFunction);
  optional(section, 'baseDirectory', readText);
  optional(section, 'clock', (clock, path) => {
    // A clock may well be the instance of a class, whose methods are not its own.
    const methods = readJsonObject(clock, path);
    for (const name of ['monotonicMs', 'wallMs', 'after']) readFunction(methods[name], `${path}.${name}`);
  });
}

interface Parts {
  readonly context: EmulatorContext;
  readonly trace: Trace;
  readonly faults: FaultSwitches;
  readonly scopes: readonly EmulatedScope[];
  readonly stored: StoredState | undefined;
  /** From here on changes are written, if there is a state file. @throws {ConfigurationError} when it cannot be. */
  startWriting(authority: CertificateAuthority): Promise<StateWriter | undefined>;
}

async function assemble(config: ResolvedConfig, baseDirectory: string, options: EmulatorOptions): Promise<Parts> {
  const clock = options.clock ?? systemClock;
  const world: World = { wallMs: () => clock.wallMs(), randomBytes: options.random ?? ((size) => randomBytes(size)) };
  const trace = new Trace(world.wallMs, (entry) => tell(options, entry));
  const faults = new FaultSwitches();
  for (const fault of config.faults) faults.add(fault);
  const stored = config.stateFile === undefined ? undefined : loadState(config.stateFile);
  let writer: StateWriter | undefined;
  const makeScope = (scope: ResolvedScope): EmulatedScope =>
    new EmulatedScope(scope, {
      clock,
      world,
      baseDirectory,
      rules: config,
      stored: stored?.scopes.find(({ idScope }) => idScope === scope.idScope),
      onChange: () => writer?.changed(),
    });
  const scopes = await restoring(config.stateFile, stored, () => config.scopes.map(makeScope));
  let connections = 0;
  const context: EmulatorContext = {
    clock,
    world,
    scopes: new Map(scopes.map((scope) => [scope.idScope, scope.service])),
    hubs: scopes.flatMap((scope) => scope.hubs),
    faults,
    unknownTopic: config.unknownTopic,
    note: (note) => trace.add(note),
    nextConnection: () => {
      connections += 1;
      return connections;
    },
  };
  const startWriting = async (authority: CertificateAuthority): Promise<StateWriter | undefined> => {
    if (config.stateFile === undefined) return undefined;
    const { certificatePem, privateKeyPem } = authority;
    const take = (): StoredState => ({
      version: 1,
      authority: { certificatePem, privateKeyPem },
      scopes: scopes.map((scope) => scope.snapshot()),
    });
    const first = new StateWriter(config.stateFile, take, (error) =>
      log(options, `The state file could not be written: ${error instanceof Error ? error.message : String(error)}`),
    );
    await first.begin();
    writer = first;
    // What changed during the first write.
    writer.changed();
    return writer;
  };
  return { context, trace, faults, scopes, stored, startWriting };
}

/** What goes wrong while an earlier state is read back is the file's fault, unless the configuration says it is its own. */
async function restoring<T>(
  file: string | undefined,
  stored: StoredState | undefined,
  work: () => T | Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (file === undefined || stored === undefined) throw error;
    if (error instanceof ConfigurationError && !error.option?.startsWith('stateFile')) throw error;
    throw damaged(file, error);
  }
}

async function listenEverywhere(
  config: ResolvedConfig,
  parts: Parts,
  authority: CertificateAuthority,
  listening: Listening[],
): Promise<EmulatorEndpoints> {
  const { host, hostName } = config;
  const hubs = config.scopes.flatMap((scope) => scope.hubs.map((hub) => ({ ...hub, idScope: scope.idScope })));
  const names = [hostOf(hostName), ...(host === undefined ? [] : [host]), ...config.serverNames];
  const hubNames = hubs.flatMap((hub) => (hub.hostName === undefined ? [] : [hostOf(hub.hostName)]));
  const identity = await makeServerIdentity(authority, [...names, ...hubNames]);
  const tls = makeTlsOptions(identity, config.maxVersion);
  const mqtt = new MqttEndpoint(parts.context);
  const amqp = new AmqpEndpoint(parts.context);
  const webSockets = new WebSocketDoor(parts.context, {
    mqtt: (carrier, hub) => mqtt.take(carrier, { hub }),
    amqp: (carrier, hub) => amqp.take(carrier, hub),
  });
  const upgrade: WebSocketDoor['take'] = (...request) => webSockets.take(...request);
  const opened = async (opening: Promise<Listening>): Promise<string> => {
    const each = await opening;
    listening.push(each);
    return `${hostName}:${each.port}`;
  };
  const dpsMqtt = await opened(mqtt.listen({ tls, host, port: config.mqttPort, option: 'ports.mqtt' }));
  const dpsAmqp = await opened(amqp.listen({ tls, host, port: config.amqpPort }));
  let https = '';
  https = await opened(
    listenHttps(parts.context, { tls, host, port: config.httpsPort, publicName: () => https, upgrade }),
  );
  const hubEndpoints: EmulatorEndpoints['hubs'][number][] = [];
  for (const [index, { name, idScope, port, portOption }] of hubs.entries()) {
    const hub = parts.context.hubs[index];
    // Devices are told one port, whatever they speak.
    const takeOver: TakeOver = (first) => {
      const protocol = protocolOfFirst(first);
      if (protocol === 'amqp') return (carrier) => amqp.take(carrier, hub);
      return protocol === 'http' ? ({ stream }) => webSockets.takeConnection(stream, hub) : undefined;
    };
    const address = await opened(mqtt.listen({ tls, host, port, option: portOption, takeOver }));
    hub?.setListeningNames([address, ...['localhost', '127.0.0.1', '[::1]'].map((at) => `${at}:${portIn(address)}`)]);
    hubEndpoints.push({ name, idScope, hostName: hub?.hostName ?? address, mqtt: address });
  }
  return { dps: { mqtt: dpsMqtt, amqp: dpsAmqp, https }, hubs: hubEndpoints };
}

function makeControls(
  parts: Parts,
  authority: CertificateAuthority,
  endpoints: EmulatorEndpoints,
  close: () => Promise<void>,
): Emulator {
  const findScope = (idScope?: string): EmulatedScope => {
    const found = idScope === undefined ? parts.scopes[0] : parts.scopes.find((each) => each.idScope === idScope);
    if (found !== undefined) return found;
    throw unknownName(
      'ID scope',
      idScope,
      parts.scopes.map((each) => each.idScope),
    );
  };
  const { hubs } = parts.context;
  const first = findScope();
  let closing: Promise<void> | undefined;
  return {
    ...checkedScope(first),
    caPem: authority.rootPem,
    endpoints,
    faults: parts.faults,
    trace: checkedTrace(parts.trace),
    idScopes: parts.scopes.map((each) => each.idScope),
    scope: (idScope) => checkedScope(findScope(idScope)),
    hub: (name) => {
      const found = name === undefined ? hubs[0] : hubs.find((hub) => hub.name === name || hub.hostName === name);
      if (found !== undefined) return checkedHub(found);
      throw unknownName(
        'hub',
        name,
        hubs.map((hub) => hub.name),
      );
    },
    close: () => {
      closing ??= close();
      return closing;
    },
  };
}

function unknownName(what: string, name: string | undefined, known: readonly string[]): ConfigurationError {
  return new ConfigurationError({
    code: 'ERR_DPS_CONFIG_OPTION',
    message: `There is no ${what} "${name ?? ''}"; there are: ${known.join(', ') || '(none)'}.`,
    option: what,
  });
}

function tell(options: EmulatorOptions, entry: TraceEntry): void {
  if (options.onTrace === undefined) log(options, formatTraceEntry(entry));
  else guard(() => options.onTrace?.(entry));
}

function log(options: EmulatorOptions, line: string): void {
  guard(() => options.log?.(line));
}

/** A listener that fails must not take a connection with it. */
function guard(listener: () => void): void {
  try {
    listener();
  } catch {
    // Its own affair.
  }
}

function hostOf(hostPort: string): string {
  return splitHostPort(hostPort, 8883)?.host ?? hostPort;
}

function portIn(hostPort: string): number {
  return splitHostPort(hostPort, 8883)?.port ?? 0;
}
