import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { EmulatorConfig } from '../../src/emulator/index.js';
import { provision } from '../../src/index.js';
import { CuttingRelay } from './cutting-relay.js';
import { DeviceProcess, EmulatorProcess } from './processes.js';

/** Accelerated with the rest, these bounds would strike on a slow machine: nothing here is about them. */
const PATIENT = { connectTimeoutMs: 1e8, requestTimeoutMs: 1e8, deadlineMs: 1e9, tokenLifeSeconds: 366 * 24 * 3_600 };

const INITIAL = { tags: {}, properties: { desired: { interval: 60 } } };

/** The service's side, kept over the rows of the table: DPS and two hubs, each behind a relay. */
export class ServiceSide {
  readonly dps: CuttingRelay = new CuttingRelay();
  readonly hubs: Readonly<Record<'hub-a' | 'hub-b', CuttingRelay>> = {
    'hub-a': new CuttingRelay(),
    'hub-b': new CuttingRelay(),
  };
  emulator: EmulatorProcess = new EmulatorProcess();
  idScope = '';
  ca = '';
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'dps-device-guidance-'));

  /** Starts, also after `kill()`. */
  async start(names: readonly ('hub-a' | 'hub-b')[] = ['hub-a', 'hub-b']): Promise<void> {
    await this.dps.up();
    for (const name of ['hub-a', 'hub-b'] as const) await this.hubs[name].up();
    const config: EmulatorConfig = {
      retryAfterSeconds: 0,
      stateFile: join(this.#folder, 'state.json'),
      hubs: names.map((name) => ({ name, hostName: this.hubs[name].address })),
    };
    const { idScope, ca, endpoints } = await this.emulator.start(config);
    this.idScope = idScope;
    this.ca = ca;
    this.dps.target = endpoints.dps.mqtt;
    for (const { name, mqtt } of endpoints.hubs) this.hubs[name as 'hub-a'].target = mqtt;
    for (const name of ['hub-a', 'hub-b'] as const) if (!names.includes(name)) await this.hubs[name].down();
  }

  /** The power fails there. What was written to the state file is still there at the next start. */
  async kill(): Promise<void> {
    await this.emulator.kill('SIGKILL');
    this.emulator = new EmulatorProcess();
  }

  /** Starts again with these hubs alone. */
  async restart(names: readonly ('hub-a' | 'hub-b')[]): Promise<void> {
    await this.emulator.close();
    await this.kill();
    await this.start(names);
  }

  async close(): Promise<void> {
    await this.emulator.kill('SIGKILL');
    for (const relay of [this.dps, ...Object.values(this.hubs)]) await relay.down();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

export interface BenchOptions {
  readonly registrationId: string;
  /** Of the device's clock. Default 50. */
  readonly speed?: number;
  /** Each draw of chance. Default 0. */
  readonly draw?: number;
}

interface SymmetricKeys {
  readonly primaryKey: string;
  readonly secondaryKey: string;
}

/** One device of its own for a row of the table, and what the row can do to it. */
export class GuidanceBench {
  readonly side: ServiceSide;
  readonly registrationId: string;
  readonly #speed: number;
  readonly #draw: number;
  readonly #folder: string = mkdtempSync(join(tmpdir(), 'dps-device-guidance-'));
  #identity: object = {};
  #keys: SymmetricKeys = { primaryKey: '', secondaryKey: '' };

  constructor(side: ServiceSide, { registrationId, speed = 50, draw = 0 }: BenchOptions) {
    this.side = side;
    this.registrationId = registrationId;
    this.#speed = speed;
    this.#draw = draw;
    onTestFinished(() => rmSync(this.#folder, { recursive: true, force: true }));
  }

  get emulator(): EmulatorProcess {
    return this.side.emulator;
  }

  /** An individual enrollment, and both its keys for the device. */
  async enroll(): Promise<void> {
    const { attestation } = (await this.emulator.operate('enroll', {
      registrationId: this.registrationId,
      attestation: { symmetricKey: {} },
      iotHubs: ['hub-a'],
      reprovisionPolicy: { updateHubAssignment: true, migrateDeviceData: true },
      initialTwin: INITIAL,
    })) as { attestation: { symmetricKey: SymmetricKeys } };
    this.#keys = attestation.symmetricKey;
    const { primaryKey: key, secondaryKey } = this.#keys;
    this.#identity = { kind: 'symmetricKey', registrationId: this.registrationId, key, secondaryKey };
  }

  /** The operator rolls the primary key, in the enrollment and at the hub. */
  async rollPrimaryKey(): Promise<void> {
    const keys: SymmetricKeys = { ...this.#keys, primaryKey: randomBytes(64).toString('base64') };
    await this.change({ attestation: { symmetricKey: keys } });
    const authentication = { type: 'sas', ...keys };
    await this.emulator.hub('hub-a', 'addDevice', { deviceId: this.registrationId, authentication });
  }

  /** The operator changes the enrollment. */
  async change(changes: object): Promise<void> {
    await this.emulator.operate('updateEnrollment', this.registrationId, changes);
  }

  /** The operator, or a service, at the device's first hub. */
  atHub(method: string, ...args: unknown[]): Promise<unknown> {
    return this.emulator.hub('hub-a', method, this.registrationId, ...args);
  }

  /** A certificate for the device instead, under an authority that the service knows. */
  async certify(certificatePem: string, keyPem: string): Promise<void> {
    await this.emulator.operate('removeEnrollment', this.registrationId);
    this.#identity = { kind: 'x509', certificatePem, keyPem };
  }

  /** A key that is none. */
  damageKey(): void {
    this.#identity = { kind: 'symmetricKey', registrationId: this.registrationId, key: 'not Base64' };
  }

  /** An earlier life left its record behind; its packets do not count. */
  async leaveRecord(): Promise<void> {
    await provision(this.#options() as never);
    this.side.dps.accepted = 0;
  }

  /** Power on. */
  async boot({ wallMs }: { readonly wallMs?: number } = {}): Promise<DeviceProcess> {
    const device = new DeviceProcess();
    onTestFinished(async () => {
      await device.kill('SIGKILL');
      await this.emulator.clearFaults();
    });
    const options = {
      ...this.#options(),
      ...PATIENT,
      reprovisionOn: { method: 'reprovision', desiredProperty: 'again' },
    };
    await device.start({ options, speed: this.#speed, draw: this.#draw, ...(wallMs === undefined ? {} : { wallMs }) });
    return device;
  }

  /** Somebody registers with this identity elsewhere: a second board, or a tool in the factory. */
  async registerElsewhere(): Promise<void> {
    const { state: _, ...options } = this.#options();
    await provision(options as never);
  }

  /** The body of the latest, as text. */
  async lastTelemetry(hub: 'hub-a' | 'hub-b'): Promise<string> {
    const taken: readonly { readonly body: Uint8Array }[] = await this.emulator.hub(
      hub,
      'telemetry',
      this.registrationId,
    );
    return Buffer.from(Object.values(taken.at(-1)?.body ?? {})).toString();
  }

  /** What went to DPS in the device's name. */
  packetsToDps(): Promise<number> {
    return this.emulator.count({ service: 'dps', device: this.registrationId });
  }

  #options(): { readonly state: string } & Record<string, unknown> {
    const { idScope, ca, dps } = this.side;
    return { idScope, ca, endpoint: dps.address, hsm: this.#identity, state: join(this.#folder, 'state') };
  }
}
