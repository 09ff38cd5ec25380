import {
  type Journey,
  type JourneyConfig,
  type JourneyEffect,
  type JourneyInput,
  journeyWakeAtMs,
  newJourney,
  stepJourney,
} from '../../src/core/journey.js';
import type { DeviceRecord } from '../../src/core/record.js';
import type { Twin } from '../../src/core/twin.js';
import { TransportError } from '../../src/errors.js';
import { FuzzRandom } from '../fuzz/fuzz-random.js';
import { EventQueue } from '../life/event-queue.js';
import { ConnectionGate } from './quota.js';
import { HUB_NAME, ID_SCOPE, ServiceDesk } from './service-desk.js';

export interface FleetSettings {
  readonly devices: number;
  readonly startSpreadMs: number;
  readonly registrationsPerMinute: number;
  readonly operationsPerMinute: number;
  readonly hubConnectionsPerSecond: number;
  /** Every device remembers its hub: the power was away for a moment. */
  readonly hasRecords: boolean;
  readonly seed: number;
}

export interface FleetResult {
  readonly settings: FleetSettings;
  /** When each device was at its hub with its twin, in order. */
  readonly arrivalsMs: Float64Array;
  readonly registerRequests: number;
  readonly statusRequests: number;
  /** 429 to register and to polls. */
  readonly throttled: number;
  readonly hubConnections: number;
  readonly hubRefusals: number;
  /** What one device has sent to DPS at most. */
  readonly mostRequests: number;
  /** Requests to DPS, by minute. */
  readonly requestsByMinute: readonly number[];
}

/** What each way to the service and back takes, from this to twice this. */
const LATENCY_MS = 50;
/** The hub's traffic shaping: a connection is held for so long before others are refused. */
const HUB_QUEUE_MS = 5_000;
const TWIN: Twin = { desired: { version: 1, properties: {} }, reported: { version: 1, properties: {} } };

/** All devices get power at the same moment; ends when each is at its hub. */
export function runFleet(settings: FleetSettings): FleetResult {
  return new Fleet(settings).run();
}

interface Device {
  readonly registrationId: string;
  journey: Journey;
  token: string;
  /** Numbers what it waits for: whatever else comes is late. */
  waiting: number;
  requests: number;
  hasArrived: boolean;
}

interface Coming {
  readonly device: Device;
  readonly waiting: number;
  readonly input: JourneyInput;
}

class Fleet {
  readonly #settings: FleetSettings;
  readonly #random: FuzzRandom;
  readonly #queue: EventQueue<Coming> = new EventQueue();
  readonly #desk: ServiceDesk;
  readonly #gate: ConnectionGate;
  readonly #arrivalsMs: number[] = [];
  readonly #requestsByMinute: number[] = [];
  #hubConnections = 0;
  #mostRequests = 0;
  #nowMs = 0;

  constructor(settings: FleetSettings) {
    this.#settings = settings;
    this.#random = new FuzzRandom(settings.seed);
    this.#desk = new ServiceDesk(settings, this.#random, () => this.#nowMs);
    this.#gate = new ConnectionGate(settings.hubConnectionsPerSecond, HUB_QUEUE_MS);
  }

  run(): FleetResult {
    for (let index = 0; index < this.#settings.devices; index += 1)
      this.#feed(this.#makeDevice(index), { type: 'Started' });
    while (this.#arrivalsMs.length < this.#settings.devices) this.#next();
    return {
      settings: this.#settings,
      arrivalsMs: Float64Array.from(this.#arrivalsMs),
      registerRequests: this.#desk.registerRequests,
      statusRequests: this.#desk.statusRequests,
      throttled: this.#desk.registers.refused + this.#desk.operations.refused,
      hubConnections: this.#hubConnections,
      hubRefusals: this.#gate.refused,
      mostRequests: this.#mostRequests,
      requestsByMinute: this.#requestsByMinute,
    };
  }

  #makeDevice(index: number): Device {
    const registrationId = `device-${index}`;
    const journey = newJourney(configOf(registrationId, this.#settings));
    return { registrationId, journey, token: '', waiting: 0, requests: 0, hasArrived: false };
  }

  #next(): void {
    const atMs = this.#queue.nextAtMs;
    const coming = this.#queue.pop();
    if (coming === undefined) throw new Error(`nothing happens any more, and ${this.#arrivalsMs.length} have arrived`);
    this.#nowMs = Math.max(this.#nowMs, Math.ceil(atMs));
    if (coming.waiting === coming.device.waiting) this.#feed(coming.device, coming.input);
  }

  #feed(device: Device, input: JourneyInput): void {
    const now = { monotonicMs: this.#nowMs, wallMs: this.#desk.wallMs(), random: this.#random.fraction() };
    const step = stepJourney(device.journey, input, now);
    device.journey = step.journey;
    device.waiting += 1;
    const waitingBefore = this.#queue.size;
    for (const effect of step.effects) this.#perform(device, effect);
    // Nothing here is silent: what is under way comes before the bound on it.
    const wakeAtMs = this.#queue.size > waitingBefore ? undefined : journeyWakeAtMs(step.journey);
    if (wakeAtMs !== undefined) this.#push(device, wakeAtMs - this.#nowMs, { type: 'Woke' });
  }

  #push(device: Device, afterMs: number, input: JourneyInput): void {
    this.#queue.push(this.#nowMs + afterMs, { device, waiting: device.waiting, input });
  }

  #latencyMs(): number {
    return LATENCY_MS * (2 + 2 * this.#random.fraction());
  }

  #perform(device: Device, effect: JourneyEffect): void {
    switch (effect.type) {
      case 'LoadRecord':
        this.#push(device, 1, {
          type: 'RecordLoaded',
          ticket: effect.ticket,
          loaded: { kind: 'record', record: recordOf(device.registrationId, device.journey.config) },
        });
        break;
      case 'PrepareCredential': {
        const { resource, expirySeconds } = effect.token ?? { resource: '', expirySeconds: 0 };
        device.token = this.#desk.tokenFor(device.registrationId, resource, expirySeconds);
        this.#push(device, 1, { type: 'CredentialReady', ticket: effect.ticket });
        break;
      }
      case 'OpenConnection':
        this.#push(device, 2 * this.#latencyMs(), { type: 'ConnectionOpened', ticket: effect.ticket });
        break;
      case 'SendRequest':
        this.#send(device, effect);
        break;
      case 'OpenHub':
        this.#openHub(device, effect.ticket);
        break;
      case 'HandOutSession':
        if (!device.hasArrived) this.#arrivalsMs.push(this.#nowMs);
        device.hasArrived = true;
        break;
      case 'FinishJourney':
        throw new Error(`${device.registrationId} has given up`);
      default:
        break;
    }
  }

  #send(device: Device, { ticket, request }: Extract<JourneyEffect, { type: 'SendRequest' }>): void {
    device.requests += 1;
    this.#mostRequests = Math.max(this.#mostRequests, device.requests);
    const minute = Math.floor(this.#nowMs / 60_000);
    this.#requestsByMinute[minute] = (this.#requestsByMinute[minute] ?? 0) + 1;
    const reply = this.#desk.answer(request, device.registrationId, device.token);
    this.#push(device, this.#latencyMs(), { type: 'ReplyReceived', ticket, reply });
  }

  #openHub(device: Device, ticket: number): void {
    this.#hubConnections += 1;
    const waitMs = this.#gate.enter(this.#nowMs);
    const isKnown = this.#settings.hasRecords || this.#desk.knows(device.registrationId);
    if (!isKnown) throw new Error(`${device.registrationId} is not known at its hub`);
    if (waitMs === undefined) {
      this.#push(device, this.#latencyMs(), { type: 'OperationFailed', ticket, error: BUSY });
      return;
    }
    this.#push(device, waitMs + 3 * this.#latencyMs(), { type: 'HubReached', ticket, twin: TWIN });
  }
}

const BUSY = new TransportError({
  code: 'ERR_DPS_CONNACK_UNAVAILABLE',
  message: 'busy',
  phase: 'mqtt-connect',
  peer: HUB_NAME,
  retryable: true,
});

function configOf(registrationId: string, { startSpreadMs, hasRecords }: FleetSettings): JourneyConfig {
  return {
    idScope: ID_SCOPE,
    registrationId,
    attestation: 'symmetricKey',
    slots: 1,
    transport: 'mqtt',
    endpoint: 'dps.example',
    purpose: 'keep',
    hasStore: hasRecords,
    startSpreadMs,
    deadlineMs: 300_000,
    connectTimeoutMs: 60_000,
    requestTimeoutMs: 30_000,
    hubTimeoutMs: 120_000,
    tokenLifeSeconds: 3_600,
  };
}

function recordOf(registrationId: string, config: JourneyConfig): DeviceRecord {
  const { endpoint, idScope, attestation } = config;
  return {
    binding: { endpoint, idScope, registrationId, attestation },
    assignment: { registrationId, assignedHub: HUB_NAME, deviceId: registrationId, status: 'assigned', raw: {} },
    slot: 0,
    dpsTransport: 'mqtt',
    hubTransport: 'mqtt',
    twin: TWIN,
  };
}
