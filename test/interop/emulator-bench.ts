import { createHmac, randomBytes } from 'node:crypto';
import { onTestFinished } from 'vitest';
import { type Emulator, type EmulatorConfig, startEmulator } from '../../src/emulator/index.js';

/** An emulator that ends with the test, and announces no waiting between polls. */
export async function startBench(config: EmulatorConfig = {}): Promise<Emulator> {
  const emulator = await startEmulator({ retryAfterSeconds: 0, ...config });
  onTestFinished(() => emulator.close());
  return emulator;
}

/** As the service makes them: 64 bytes, Base64. */
export function makeKey(): string {
  return randomBytes(64).toString('base64');
}

/** The device's key under a group, as Microsoft documents it. */
export function deriveKey(groupKey: string, registrationId: string): string {
  return createHmac('sha256', Buffer.from(groupKey, 'base64')).update(registrationId, 'utf8').digest('base64');
}
