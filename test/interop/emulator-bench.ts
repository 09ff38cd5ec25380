import { createHmac, randomBytes } from 'node:crypto';
import type { Emulator, EmulatorConfig } from '../../src/emulator/index.js';
import { start } from '../emulator/emulator-bench.js';

/** An emulator that ends with the test, and announces no waiting between polls. */
export function startBench(config: EmulatorConfig = {}): Promise<Emulator> {
  return start({ retryAfterSeconds: 0, ...config });
}

/** As the service makes them: 64 bytes, Base64. */
export function makeKey(): string {
  return randomBytes(64).toString('base64');
}

/** The device's key under a group, as Microsoft documents it. */
export function deriveKey(groupKey: string, registrationId: string): string {
  return createHmac('sha256', Buffer.from(groupKey, 'base64')).update(registrationId, 'utf8').digest('base64');
}
