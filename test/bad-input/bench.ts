/**
 * What can go wrong, as a user meets it: the built command line in a process of its own against the emulator. Each row
 * must end by itself, with a typed error, the exit status of its class, nothing on stdout and nothing unhandled.
 * One emulator for a test file: the hooks run in each file that imports this.
 */
import { execFile } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect } from 'vitest';
import {
  type CertificateAuthority,
  type Emulator,
  type Fault,
  issueCertificate,
  makeAuthority,
  startEmulator,
} from '../../src/emulator/index.js';

const CLI = fileURLToPath(new URL('../../dist/dps-device.mjs', import.meta.url));
/** Not a speed limit: a process that is still there after this hangs. */
const HANGS_AFTER_MS = 50_000;

export const folder = mkdtempSync(join(tmpdir(), 'dps-device-bad-input-'));
export let emulator: Emulator;
export let devices: CertificateAuthority;
export let strangers: CertificateAuthority;
export let mute: Server;
export let web: Server;
export let proxy: Server;
let count = 0;

interface Told {
  readonly code?: string;
  readonly message?: string;
}

export interface Ended {
  readonly exit: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly error: Told & { readonly exitStatus?: number; readonly causes?: readonly Told[] };
}

/** Everything a row may use; `device` is its own, so that rows run side by side. */
export interface Scene {
  readonly device: string;
  readonly fault: (fault: Omit<Fault, 'when'>) => void;
  readonly file: (name: string, text: string, mode?: number) => string;
  /** A private folder of this device, changed by `change`. */
  readonly state: (change?: (path: string) => void) => string;
  /** Enrolls this device and returns the flags that provision it. */
  readonly enrolled: (extra?: object) => string[];
  readonly certified: (options?: {
    authority?: CertificateAuthority;
    commonName?: string;
    notAfterMs?: number;
  }) => Promise<string[]>;
}

export interface Row {
  readonly name: string;
  readonly exit: number;
  readonly code: string | RegExp;
  readonly says?: RegExp;
  /** Flags beyond the usual, or instead of them. */
  readonly args: (scene: Scene) => string[] | Promise<string[]>;
  readonly env?: Readonly<Record<string, string>>;
}

beforeAll(async () => {
  devices = await makeAuthority({ commonName: 'Devices CA' });
  strangers = await makeAuthority({ commonName: 'Strangers CA' });
  emulator = await startEmulator();
  emulator.enrollGroup({
    enrollmentGroupId: 'certified',
    attestation: { x509: { signingCertificates: { primary: { certificate: devices.certificatePem } } } },
  });
  writeFileSync(join(folder, 'ca.pem'), emulator.caPem);
  writeFileSync(join(folder, 'other-ca.pem'), strangers.certificatePem);
  mute = createServer((socket) => socket.on('error', () => {}));
  web = createServer((socket) => {
    socket.on('error', () => {});
    socket.end('HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>plain HTTP was sent</html>');
  });
  proxy = createServer((socket) => {
    socket.on('error', () => {});
    socket.end('HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n');
  });
  await Promise.all(
    [mute, web, proxy].map((server) => new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))),
  );
});

afterAll(async () => {
  await emulator.close();
  for (const server of [mute, web, proxy]) server.close();
  rmSync(folder, { recursive: true, force: true });
});

export function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return address.port;
}

export function stage(): Scene {
  const device = `device-${++count}`;
  const file = (name: string, text: string, mode = 0o600): string => {
    const path = join(folder, `${device}-${name}`);
    writeFileSync(path, text);
    chmodSync(path, mode);
    return path;
  };
  return {
    device,
    file,
    state: (change = () => {}) => {
      const path = join(folder, `${device}-state`);
      mkdirSync(path, { mode: 0o700 });
      change(path);
      return path;
    },
    fault: (fault) => void emulator.faults.add({ ...fault, when: { device } }),
    enrolled: (extra = {}) => {
      const { attestation } = emulator.enroll({ registrationId: device, attestation: { symmetricKey: {} }, ...extra });
      const key = attestation.symmetricKey?.primaryKey;
      if (key === undefined) throw new Error('no key was made');
      return ['--registration-id', device, '--symmetric-key-file', file('key', key)];
    },
    certified: async ({ authority = devices, commonName = device, ...validity } = {}) => {
      const leaf = await issueCertificate(authority, { commonName, usage: 'client', ...validity });
      return ['--cert-file', file('cert.pem', leaf.chainPem), '--cert-key-file', file('cert.key', leaf.privateKeyPem)];
    },
  };
}

export function run(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  prefix: readonly string[] = [],
): Promise<Ended> {
  const { PATH } = process.env;
  const [program = process.execPath, ...words] = [...prefix, process.execPath, CLI, ...lastOfEach(args)];
  return new Promise((resolve) => {
    execFile(
      program,
      words,
      { env: { PATH, ...env }, timeout: HANGS_AFTER_MS, killSignal: 'SIGKILL' },
      (failure, stdout, stderr) => {
        const last = stderr.trimEnd().split('\n').at(-1) ?? '';
        const error = last.startsWith('{') ? JSON.parse(last) : {};
        resolve({ exit: failure === null ? 0 : (failure.code as number | null), stdout, stderr, error });
      },
    );
  });
}

/** A row's flags replace the usual ones of the same name. */
function lastOfEach(args: readonly string[]): string[] {
  const [command = '', ...flags] = args;
  const kept = new Map<string, string[]>();
  for (let index = 0; index < flags.length; ) {
    const flag = flags[index] ?? '';
    const value = flags[index + 1];
    const words = value === undefined || value.startsWith('--') ? [flag] : [flag, value];
    kept.set(flag, words);
    index += words.length;
  }
  return [command, ...[...kept.values()].flat()];
}

export const usual = (transport: 'mqtt' | 'https' = 'mqtt'): string[] => [
  'provision',
  '--json-log',
  ...['--id-scope', emulator.idScope, '--ca-file', join(folder, 'ca.pem')],
  ...['--transport', transport, '--endpoint', emulator.endpoints.dps[transport]],
];
/** Short bounds for peers that never answer: the row takes that long and no longer. */
export const SHORT = ['--connect-timeout', '2', '--request-timeout', '2', '--timeout', '5'];

/** Holds what came of a row against what should. */
export function check(row: Row, ended: Ended): void {
  const { exit, stdout, stderr, error } = ended;
  expect(stderr).not.toContain('S3CRET');
  expect(stderr).not.toMatch(/unhandled|UnhandledPromise|\bat .*node:internal/i);
  // A deadline that strikes while the last attempt is pending is "try later"; which of the two comes first is the clock's choice.
  const isDeadline = error.code === 'ERR_DPS_DEADLINE';
  expect(isDeadline ? [row.exit, 75] : [row.exit], stderr).toContain(exit);
  expect(stdout).toBe('');
  const code = typeof row.code === 'string' ? new RegExp(`^${row.code}$`) : row.code;
  // Its cause is what the attempts before it failed with.
  const told = isDeadline && !code.test('ERR_DPS_DEADLINE') ? error.causes?.[0] : error;
  expect(told?.code ?? '', stderr).toMatch(code);
  if (row.says !== undefined) expect(`${told?.message ?? stderr}`).toMatch(row.says);
  if (error.exitStatus !== undefined) expect(error.exitStatus).toBe(exit);
}

/** Runs the row and checks its end. */
export async function perform(row: Row, transport: 'mqtt' | 'https' = 'mqtt'): Promise<void> {
  const scene = stage();
  check(row, await run([...usual(transport), ...(await row.args(scene))], row.env));
}
