import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Emulator, type EmulatorConfig, type EmulatorOptions, startEmulator } from '../../src/emulator/index.js';
import { MqttProbe } from './mqtt-probe.js';

/** An emulator that ends with the test. */
export async function start(config?: EmulatorConfig, options?: EmulatorOptions): Promise<Emulator> {
  const emulator = await startEmulator(config, options);
  onTestFinished(() => emulator.close());
  return emulator;
}

/** A folder that goes away with the test. */
export function makeFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'emulator-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A client at this address, over TLS. */
export const open = (emulator: Emulator, address: string): Promise<MqttProbe> =>
  MqttProbe.open({ address, caPem: emulator.caPem });
