import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { provision } from '../../src/compose.js';
import type { Clock } from '../../src/core/clock.js';
import type { ProgressEvent } from '../../src/core/progress.js';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import { type Emulator, issueCertificate, makeAuthority, startEmulator } from '../../src/emulator/index.js';
import type { ProvisionOptions } from '../../src/provision-options.js';
import { systemClock } from '../../src/system-clock.js';
import { Canaries, canaryBytes, canaryKey, derivedKey, dpsToken, hubToken } from './canaries.js';
import { errorOutputs, type Outputs, printed } from './channels.js';

/** The secrets of every bench. Nothing of them may show, whatever happens. */
export const KEYS = {
  device: canaryKey('device'),
  secondary: canaryKey('secondary'),
  group: canaryKey('group'),
  secondaryGroup: canaryKey('secondary group'),
  /** Base64 without padding: looks like a path. */
  unpadded: canaryKey('unpadded', 48),
  wrong: canaryKey('wrong'),
} as const;
export const PASSPHRASE = 'Xu7qCanary phrase/of 29 letters';
/** Of signs that no word and no number has: bytes in decimal are looked for, too. */
export const PROXY_PASSWORD = 'zQ7vK:xW@9jH/pB %41~Yg2Tk';
/** What a service seals to a TPM. */
export const TPM_BLOB: string = canaryBytes('authentication key', 192).toString('base64');

export const INDIVIDUAL = 'canary-1';
export const GROUP_MEMBER = 'canary-of-group';
export const CERTIFIED = 'canary-x509';

/** By the clocks of device and emulator alike it is always this time: so tokens are known beforehand. */
const WALL_MS = Date.UTC(2026, 4, 1, 12);
export const CLOCK: Clock = { ...systemClock, wallMs: () => WALL_MS };

export interface Certified {
  readonly certificatePem: string;
  readonly keyPem: string;
  readonly encryptedKeyPem: string;
}

export interface Bench {
  readonly emulator: Emulator;
  readonly canaries: Canaries;
  readonly certified: Certified;
  /** Options that would lead to success, changed by the given ones. */
  options(transport: 'mqtt' | 'https', changes: Partial<ProvisionOptions>): ProvisionOptions;
  /** The token that the device sends. */
  dpsToken(key: string, registrationId: string): string;
  hubToken(key: string, deviceId: string): string;
  /** The emulator's log and trace so far, and the emulator itself. */
  outputs(): Outputs;
  /** Writes a file that only its owner may read. */
  file(name: string, text: string): string;
}

/** An emulator that enrolls the canaries. Ends with the test. */
export async function startBench(): Promise<Bench> {
  const log: string[] = [];
  const emulator = await startEmulator({ retryAfterSeconds: 0 }, { clock: CLOCK, log: (line) => log.push(line) });
  onTestFinished(() => emulator.close());
  const { certified, authorityPem, canaries } = await makeSecrets();
  enroll(emulator, authorityPem);
  const { idScope, endpoints } = emulator;
  const folder = temporaryFolder();
  const hubName = endpoints.hubs[0]?.hostName ?? '';
  const bench: Bench = {
    emulator,
    canaries,
    certified,
    options: (transport, changes) => ({
      idScope,
      clock: CLOCK,
      transport,
      endpoint: endpoints.dps[transport],
      ca: emulator.caPem,
      hsm: { kind: 'symmetricKey', registrationId: INDIVIDUAL, key: KEYS.device },
      ...changes,
    }),
    dpsToken: (key, registrationId) => dpsToken(key, idScope, registrationId, { wallMs: WALL_MS }),
    hubToken: (key, deviceId) => hubToken(key, hubName, deviceId, { wallMs: WALL_MS }),
    outputs: () =>
      new Map([
        ['emulator log', log.join('\n')],
        ['emulator trace', JSON.stringify(emulator.trace.entries())],
        ...printed('emulator', emulator),
        ...printed('emulator hub', emulator.hub()),
        ...printed('emulator scope', emulator.scope()),
      ]),
    file: (name, text) => privateFile(folder, name, text),
  };
  watchTokens(bench);
  return bench;
}

export interface Secrets {
  readonly certified: Certified;
  readonly authorityPem: string;
  readonly canaries: Canaries;
}

const made: Map<number, Promise<Secrets>> = new Map();

/** All the secrets there are, and the certificate of the X.509 device; the canaries are the caller's own to add to. */
export async function makeSecrets(nowMs: number = WALL_MS): Promise<Secrets> {
  const making = made.get(nowMs) ?? makeSecretsAt(nowMs);
  made.set(nowMs, making);
  const secrets = await making;
  return { ...secrets, canaries: new Canaries(secrets.canaries) };
}

async function makeSecretsAt(nowMs: number): Promise<Secrets> {
  const authority = await makeAuthority({ commonName: 'Canary Device CA', nowMs });
  const leaf = await issueCertificate(authority, { commonName: CERTIFIED, usage: 'client', nowMs });
  const encryptedKeyPem = encrypt(leaf.privateKeyPem);
  const canaries = new Canaries();
  for (const [name, key] of Object.entries(KEYS)) canaries.addKey(`${name} key`, key);
  canaries.addKey('derived key', derivedKey(KEYS.group, GROUP_MEMBER));
  canaries.addKey('secondary derived key', derivedKey(KEYS.secondaryGroup, GROUP_MEMBER));
  canaries.addText('passphrase', PASSPHRASE);
  canaries.addText('proxy password', PROXY_PASSWORD);
  canaries.addKey('TPM authentication key', TPM_BLOB);
  // What any other key has in common with this one is no secret, and the public half is in the certificate.
  const other = generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
  const otherPem = other.export({ type: 'pkcs8', format: 'pem' }).toString();
  canaries.addPem('private key PEM', leaf.privateKeyPem, [leaf.certificatePem, otherPem]);
  canaries.addPem('encrypted private key PEM', encryptedKeyPem, [encrypt(otherPem)]);
  const { d = '' } = createPrivateKey(leaf.privateKeyPem).export({ format: 'jwk' });
  canaries.addBytes('private key', Buffer.from(d, 'base64url'));
  return {
    certified: { certificatePem: leaf.chainPem, keyPem: leaf.privateKeyPem, encryptedKeyPem },
    authorityPem: authority.certificatePem,
    canaries,
  };
}

export function enroll(emulator: Emulator, authorityPem: string): void {
  emulator.enroll({
    registrationId: INDIVIDUAL,
    attestation: { symmetricKey: { primaryKey: KEYS.device, secondaryKey: KEYS.secondary } },
    initialTwin: { properties: { desired: { interval: 5 } } },
  });
  emulator.enrollGroup({
    enrollmentGroupId: 'canaries',
    attestation: { symmetricKey: { primaryKey: KEYS.group, secondaryKey: KEYS.secondaryGroup } },
  });
  emulator.enrollGroup({
    enrollmentGroupId: 'certified',
    attestation: { x509: { signingCertificates: { primary: { certificate: authorityPem } } } },
  });
}

/** A folder that goes away with the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'dps-device-redaction-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

export function privateFile(folder: string, name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  chmodSync(path, 0o600);
  return path;
}

/** How a journey went: its events, and what it ended in, all printed. */
export interface Followed {
  readonly device: ProvisionedDevice | undefined;
  readonly error: unknown;
  readonly outputs: Outputs;
}

/** Provisions and keeps all that was said on the way. `onEvent` may cancel. */
export async function follow(
  options: ProvisionOptions,
  onEvent: (event: ProgressEvent) => void = () => undefined,
): Promise<Followed> {
  const journey = provision(options);
  const events: ProgressEvent[] = [];
  const listening = (async () => {
    for await (const event of journey.events) {
      events.push(event);
      onEvent(event);
    }
  })();
  const [outcome] = await Promise.allSettled([journey, listening]);
  const outputs: Outputs = new Map([...printed('events', events), ...printed('journey', journey)]);
  if (outcome.status === 'fulfilled') {
    return {
      device: outcome.value,
      error: undefined,
      outputs: new Map([...outputs, ...printed('device', outcome.value)]),
    };
  }
  return {
    device: undefined,
    error: outcome.reason,
    outputs: new Map([...outputs, ...errorOutputs('error', outcome.reason)]),
  };
}

function watchTokens({ canaries, dpsToken: dps, hubToken: hub }: Bench): void {
  const owners: readonly (readonly [string, string])[] = [
    [KEYS.device, INDIVIDUAL],
    [KEYS.secondary, INDIVIDUAL],
    [KEYS.wrong, INDIVIDUAL],
    [derivedKey(KEYS.group, GROUP_MEMBER), GROUP_MEMBER],
    [derivedKey(KEYS.secondaryGroup, GROUP_MEMBER), GROUP_MEMBER],
  ];
  for (const [key, device] of owners) {
    canaries.addToken('DPS token', dps(key, device));
    canaries.addToken('hub token', hub(key, device));
  }
}

function encrypt(keyPem: string): string {
  const cipher = { cipher: 'aes-256-cbc', passphrase: PASSPHRASE };
  return createPrivateKey(keyPem)
    .export({ type: 'pkcs8', format: 'pem', ...cipher })
    .toString();
}
