/**
 * What can go wrong, as a user meets it: the built command line in a process of its own against the emulator. Each row
 * must end by itself, with a typed error, the exit status of its class, nothing on stdout and nothing unhandled.
 */
import { execFile } from 'node:child_process';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { AbFile } from '../src/durable/ab-file.js';
import {
  type CertificateAuthority,
  type Emulator,
  type Fault,
  issueCertificate,
  makeAuthority,
  startEmulator,
} from '../src/emulator/index.js';
import { type FileRecordStore, fileRecordStore } from '../src/state/file-store.js';

const CLI = fileURLToPath(new URL('../dist/dps-device.mjs', import.meta.url));
/** Not a speed limit: a process that is still there after this hangs. */
const HANGS_AFTER_MS = 50_000;

const folder = mkdtempSync(join(tmpdir(), 'dps-device-bad-input-'));
let emulator: Emulator;
let devices: CertificateAuthority;
let strangers: CertificateAuthority;
let mute: Server;
let web: Server;
let proxy: Server;
/** Held open, as by another process. */
const stores: FileRecordStore[] = [];
const NEVER = new AbortController().signal;
let count = 0;

interface Ended {
  readonly exit: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly error: { readonly code?: string; readonly message?: string; readonly exitStatus?: number };
}

/** Everything a row may use; `device` is its own, so that rows run side by side. */
interface Scene {
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

interface Row {
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
  await Promise.all(stores.map((store) => store.close()));
  for (const server of [mute, web, proxy]) server.close();
  rmSync(folder, { recursive: true, force: true });
});

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('not listening');
  return address.port;
}

function stage(): Scene {
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

function run(
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

const usual = (transport: 'mqtt' | 'https' = 'mqtt'): string[] => [
  'provision',
  '--json-log',
  ...['--id-scope', emulator.idScope, '--ca-file', join(folder, 'ca.pem')],
  ...['--transport', transport, '--endpoint', emulator.endpoints.dps[transport]],
];
/** Short bounds for peers that never answer: the row takes that long and no longer. */
const SHORT = ['--connect-timeout', '2', '--request-timeout', '2', '--timeout', '5'];
const PEM_CUT = '-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIQ\n';

/** Rows that hold over both transports: same reply on the wire, same code. */
const BOTH: readonly Row[] = [
  {
    name: 'unknown device',
    exit: 77,
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    says: /not enrolled/i,
    args: ({ device, file }) => [
      '--registration-id',
      device,
      '--symmetric-key-file',
      file('key', Buffer.alloc(32, 7).toString('base64')),
    ],
  },
  {
    name: 'wrong key',
    exit: 77,
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    says: /key/i,
    args: ({ enrolled, file }) => [
      ...enrolled(),
      '--symmetric-key-file',
      file('wrong', Buffer.alloc(64, 7).toString('base64')),
    ],
  },
  {
    name: 'certificate of a foreign CA',
    exit: 77,
    code: 'ERR_DPS_SERVICE_UNAUTHORIZED',
    says: /certificate/i,
    args: ({ certified }) => certified({ authority: strangers }),
  },
  {
    name: 'disabled enrollment',
    exit: 77,
    code: 'ERR_DPS_REGISTRATION_DISABLED',
    says: /disabled/,
    args: ({ enrolled }) => enrolled({ provisioningStatus: 'disabled' }),
  },
  {
    name: 'failed operation',
    exit: 65,
    code: 'ERR_DPS_REGISTRATION_FAILED',
    says: /400207/,
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.register',
        action: {
          kind: 'outcome',
          status: 'failed',
          errorCode: 400207,
          errorMessage: 'Custom allocation failed with status code: 400',
        },
      });
      return enrolled();
    },
  },
  {
    name: 'HTML instead of JSON',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_BODY',
    says: /proxy|portal/i,
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.register',
        action: {
          kind: 'respond',
          status: 200,
          text: '<html><body>Please log in</body></html>',
          headers: { 'content-type': 'text/html' },
        },
      });
      return enrolled();
    },
  },
  {
    name: 'empty body',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_BODY',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.status', action: { kind: 'respond', status: 200, text: '' } });
      return enrolled();
    },
  },
  {
    name: 'invalid UTF-8',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_BODY',
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.status',
        action: { kind: 'respond', status: 200, base64: Buffer.from([0x7b, 0xff, 0x7d]).toString('base64') },
      });
      return enrolled();
    },
  },
  {
    name: 'request refused as wrong',
    exit: 65,
    code: 'ERR_DPS_SERVICE_BAD_REQUEST',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'respond', status: 400 } });
      return enrolled();
    },
  },
  {
    name: 'endless 429',
    exit: 75,
    code: 'ERR_DPS_SERVICE_THROTTLED',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'respond', status: 429, retryAfter: '0' } });
      return [...enrolled(), '--timeout', '4'];
    },
  },
  {
    name: 'endless 500',
    exit: 75,
    code: 'ERR_DPS_SERVICE_UNAVAILABLE',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'respond', status: 500 } });
      return [...enrolled(), '--timeout', '4'];
    },
  },
  {
    name: 'endless assigning',
    exit: 75,
    code: 'ERR_DPS_DEADLINE',
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.register', action: { kind: 'delay', polls: 1_000_000 } });
      return [...enrolled(), '--timeout', '5'];
    },
  },
  ...(['dps.register', 'dps.status', 'hub.connack', 'hub.suback', 'hub.twinGet'] as const).flatMap((at): Row[] => [
    {
      name: `no answer at ${at}`,
      exit: 69,
      code: /^ERR_DPS_(REQUEST|CONNECT)_TIMEOUT$|^ERR_DPS_DEADLINE$/,
      args: ({ enrolled, fault }) => {
        fault({ at, action: { kind: 'silent' } });
        fault({ at: 'dps.register', action: { kind: 'retryAfter', value: '1' } });
        return [...enrolled(), ...SHORT];
      },
    },
    {
      name: `connection cut at ${at}`,
      exit: 69,
      code: /^ERR_DPS_CONNECTION_LOST$|^ERR_DPS_DEADLINE$/,
      args: ({ enrolled, fault }) => {
        fault({ at, action: { kind: 'cut' } });
        fault({ at: 'dps.register', action: { kind: 'retryAfter', value: '1' } });
        return [...enrolled(), '--timeout', '6'];
      },
    },
  ]),
  {
    name: 'wrong CA',
    exit: 78,
    code: 'ERR_DPS_TLS_UNTRUSTED',
    says: /CA|authorit/i,
    args: ({ enrolled }) => [...enrolled(), '--ca-file', join(folder, 'other-ca.pem')],
  },
  {
    name: 'DNS failure',
    exit: 69,
    code: 'ERR_DPS_DNS',
    args: ({ enrolled }) => [...enrolled(), '--endpoint', 'no-such-host.invalid', '--timeout', '3'],
  },
  {
    name: 'peer that accepts and stays mute',
    exit: 69,
    code: /^ERR_DPS_CONNECT_TIMEOUT$|^ERR_DPS_DEADLINE$/,
    args: ({ enrolled }) => [...enrolled(), '--endpoint', `127.0.0.1:${portOf(mute)}`, ...SHORT],
  },
  {
    name: 'peer that does not speak TLS',
    exit: 69,
    code: 'ERR_DPS_TLS_HANDSHAKE',
    args: ({ enrolled }) => [...enrolled(), '--endpoint', `127.0.0.1:${portOf(web)}`, '--timeout', '3'],
  },
  {
    name: 'hub that refuses the credential',
    exit: 77,
    code: 'ERR_DPS_CONNACK_UNAUTHORIZED',
    args: ({ enrolled, fault }) => {
      fault({ at: 'hub.connack', action: { kind: 'connack', code: 5 } });
      return [...enrolled(), '--timeout', '8'];
    },
  },
];

/** Rows that the device settles by itself, or that only one transport has. */
const ONCE: readonly Row[] = [
  {
    name: 'wrong ID scope over MQTT: CONNACK 3',
    exit: 69,
    code: 'ERR_DPS_CONNACK_UNAVAILABLE',
    says: /ID scope/,
    args: ({ enrolled }) => [...enrolled(), '--id-scope', '0ne0FFFFFFF'],
  },
  {
    name: 'wrong ID scope over HTTPS: 404',
    exit: 65,
    code: 'ERR_DPS_SERVICE_NOT_FOUND',
    says: /ID scope/,
    args: ({ enrolled }) => [
      ...enrolled(),
      '--id-scope',
      '0ne0FFFFFFF',
      '--transport',
      'https',
      '--endpoint',
      emulator.endpoints.dps.https,
    ],
  },
  {
    name: 'closed port',
    exit: 69,
    code: 'ERR_DPS_CONNECT',
    args: ({ enrolled }) => [...enrolled(), '--endpoint', '127.0.0.1:1', '--timeout', '3'],
  },
  {
    name: 'no CONNACK',
    exit: 69,
    code: /TIMEOUT|DEADLINE/,
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.connack', action: { kind: 'silent' } });
      return [...enrolled(), ...SHORT];
    },
  },
  {
    name: 'no SUBACK',
    exit: 69,
    code: /TIMEOUT|DEADLINE/,
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.suback', action: { kind: 'silent' } });
      return [...enrolled(), ...SHORT];
    },
  },
  {
    name: 'refused subscription',
    exit: 76,
    code: /^ERR_DPS_PROTOCOL/,
    args: ({ enrolled, fault }) => {
      fault({ at: 'dps.suback', action: { kind: 'suback', code: 128 } });
      return enrolled();
    },
  },
  {
    name: 'malformed MQTT',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_MQTT',
    args: ({ enrolled, fault }) => {
      fault({
        at: 'dps.connack',
        action: { kind: 'raw', base64: Buffer.from('HTTP/1.1 200 OK\r\n\r\n').toString('base64') },
      });
      return enrolled();
    },
  },
  {
    name: 'twin that is no twin',
    exit: 76,
    code: 'ERR_DPS_PROTOCOL_TWIN',
    args: ({ enrolled, fault }) => {
      fault({ at: 'hub.twinGet', action: { kind: 'respond', status: 200, text: '[]' } });
      return enrolled();
    },
  },
  {
    name: 'expired certificate',
    exit: 71,
    code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED',
    says: /expired/i,
    args: ({ certified }) => certified({ notAfterMs: Date.UTC(2026, 1, 1) }),
  },
  {
    name: 'key of another certificate',
    exit: 71,
    code: 'ERR_DPS_HSM_KEY_MISMATCH',
    args: async ({ certified, file }) => {
      const other = await issueCertificate(devices, { commonName: 'other', usage: 'client' });
      return [...(await certified()), '--cert-key-file', file('other.key', other.privateKeyPem)];
    },
  },
  {
    name: 'common name that is no registration id',
    exit: 71,
    code: 'ERR_DPS_HSM_REGISTRATION_ID',
    args: ({ certified }) => certified({ commonName: 'not a registration id' }),
  },
  {
    name: 'PEM cut short',
    exit: 71,
    code: 'ERR_DPS_HSM_CERTIFICATE_INVALID',
    args: async ({ certified, file }) => [...(await certified()), '--cert-file', file('cut.pem', PEM_CUT)],
  },
  {
    name: 'key file that is no key',
    exit: 71,
    code: 'ERR_DPS_HSM_KEY_INVALID',
    args: async ({ certified, file }) => [...(await certified()), '--cert-key-file', file('no.key', 'nothing')],
  },
  {
    name: 'key that is not Base64',
    exit: 71,
    code: 'ERR_DPS_HSM_KEY_INVALID',
    args: ({ enrolled, file }) => [...enrolled(), '--symmetric-key-file', file('bad', 'not/base64!')],
  },
  {
    name: 'world-readable key file',
    exit: 71,
    code: 'ERR_DPS_HSM_FILE_MODE',
    says: /chmod 600/,
    args: ({ enrolled, file }) => [
      ...enrolled(),
      '--symmetric-key-file',
      file('open', Buffer.alloc(32).toString('base64'), 0o644),
    ],
  },
  {
    name: 'missing key file',
    exit: 71,
    code: 'ERR_DPS_HSM_FILE_UNREADABLE',
    args: ({ enrolled }) => [...enrolled(), '--symmetric-key-file', join(folder, 'nowhere')],
  },
  {
    name: 'folder instead of a key file',
    exit: 71,
    code: 'ERR_DPS_HSM_FILE_UNREADABLE',
    args: ({ enrolled }) => [...enrolled(), '--symmetric-key-file', folder],
  },
  {
    name: 'illegal registration id',
    exit: 64,
    code: /.*/,
    args: ({ enrolled }) => [...enrolled(), '--registration-id', 'a b'],
  },
  {
    name: 'unknown flag',
    exit: 64,
    code: /.*/,
    says: /--id-scope/,
    args: ({ enrolled }) => [...enrolled(), '--id-skope', 'x'],
  },
  {
    name: 'a key as a flag’s value',
    exit: 64,
    code: /.*/,
    says: /file/,
    args: ({ enrolled }) => [...enrolled(), '--symmetric-key', 'c2VjcmV0'],
  },
  {
    name: 'unknown configuration key',
    exit: 78,
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    says: /idScope/,
    args: ({ enrolled, file }) => [...enrolled(), '--config', file('config.json', '{"idScop":"x"}')],
  },
  {
    name: 'configuration that is not JSON',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    args: ({ enrolled, file }) => [...enrolled(), '--config', file('config.json', '{')],
  },
  {
    name: 'configuration nested without end',
    exit: 78,
    code: /^ERR_DPS_CONFIG/,
    args: ({ file }) => ['--config', file('deep.json', '['.repeat(200_000))],
  },
  {
    name: 'configuration with a key of 900 kB',
    exit: 78,
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    args: ({ file }) => ['--config', file('long.json', `{"${'k'.repeat(900_000)}":1}`)],
  },
  {
    name: 'damaged certificate after a good one in the CA file',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    says: /Certificate 2 in /,
    args: ({ enrolled, file }) => {
      const { caPem } = emulator;
      return [...enrolled(), '--ca-file', file('ca.pem', `${caPem}${caPem.replace(/MII.{8}/, 'MII')}`)];
    },
  },
  {
    name: 'connection file in a folder that is missing',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    says: /does not exist/,
    args: ({ device, enrolled }) => [...enrolled(), '--write-connection', join(folder, device, 'connection')],
  },
  {
    name: 'folder of systemd credentials that is a file',
    exit: 78,
    code: 'ERR_DPS_CONFIG_FILE',
    says: /CREDENTIALS_DIRECTORY/,
    env: { CREDENTIALS_DIRECTORY: '/dev/null' },
    args: ({ device }) => ['--registration-id', device],
  },
  {
    name: 'unknown transport',
    exit: 64,
    code: /.*/,
    args: ({ enrolled }) => [...enrolled(), '--transport', 'carrier-pigeon'],
  },
  {
    name: 'state folder for everybody',
    exit: 78,
    code: 'ERR_DPS_STORE_MODE',
    says: /chmod 700/,
    args: ({ enrolled, state }) => [...enrolled(), '--state', state((path) => chmodSync(path, 0o755))],
  },
  {
    name: 'state folder of another user',
    exit: 78,
    code: 'ERR_DPS_STORE_OWNER',
    says: /belongs to user .*chown/,
    args: ({ enrolled, state }) => [
      ...enrolled(),
      '--state',
      process.getuid?.() === 0 ? state((path) => chownSync(path, 65_534, 65_534)) : '/usr',
    ],
  },
  {
    name: 'file instead of a state folder',
    exit: 78,
    code: 'ERR_DPS_STORE_UNWRITABLE',
    says: /not a folder/,
    args: ({ enrolled, file }) => [...enrolled(), '--state', file('state', 'x')],
  },
  {
    name: 'state folder in a folder that is missing',
    exit: 78,
    code: 'ERR_DPS_STORE_UNWRITABLE',
    says: /mkdir -p/,
    args: ({ device, enrolled }) => [...enrolled(), '--state', join(folder, device, 'nowhere', 'state')],
  },
  {
    name: 'state folder that another process uses',
    exit: 75,
    code: 'ERR_DPS_STORE_LOCKED',
    says: new RegExp(`${process.pid}`),
    args: async ({ enrolled, state }) => {
      const directory = state();
      const store = fileRecordStore({ directory });
      stores.push(store);
      await store.load(NEVER);
      return [...enrolled(), '--state', directory];
    },
  },
  {
    name: 'record of a newer release',
    exit: 78,
    code: 'ERR_DPS_STORE_NEWER_FORMAT',
    says: /later release/,
    args: async ({ enrolled, state }) => {
      const directory = state();
      const file = new AbFile({ directory, name: 'device', maxBytes: 1_000 });
      await file.write(Buffer.from('{"format":2}'), NEVER);
      return [...enrolled(), '--state', directory];
    },
  },
  {
    name: 'key as the state folder',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /not shown/,
    args: ({ enrolled }) => [...enrolled(), '--state', Buffer.alloc(48, 'k3Y').toString('base64')],
  },
  {
    name: 'no state folder at all',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    args: ({ enrolled }) => [...enrolled(), '--state='],
  },
  {
    name: 'start spread of more than a day',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /from 0 to 86400/,
    args: ({ enrolled }) => [...enrolled(), '--start-spread', '1e9'],
  },
  {
    name: 'proxy that refuses connections',
    exit: 69,
    code: 'ERR_DPS_CONNECT',
    says: /It is the proxy on the way to/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', 'http://127.0.0.1:1', '--timeout', '3'],
  },
  {
    name: 'proxy that wants a password (407)',
    exit: 78,
    code: 'ERR_DPS_PROXY_AUTH',
    says: /user name and password/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://127.0.0.1:${portOf(proxy)}`],
  },
  {
    name: 'proxy that wants another password (407)',
    exit: 78,
    code: 'ERR_DPS_PROXY_AUTH',
    says: /Check the user name and password/,
    env: { DPS_PROXY_PASSWORD: 'S3CRET' },
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://u@127.0.0.1:${portOf(proxy)}`],
  },
  {
    name: 'web server instead of a proxy',
    exit: 69,
    code: /^ERR_DPS_PROXY_(REFUSED|PROTOCOL)$/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://127.0.0.1:${portOf(web)}`, '--timeout', '3'],
  },
  {
    name: 'HTTP proxy addressed as SOCKS5',
    exit: 69,
    code: 'ERR_DPS_PROXY_PROTOCOL',
    says: /Check the scheme and the port/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `socks5://127.0.0.1:${portOf(web)}`, '--timeout', '3'],
  },
  {
    name: 'proxy that accepts and stays mute',
    exit: 69,
    code: /^ERR_DPS_CONNECT_TIMEOUT$|^ERR_DPS_DEADLINE$/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', `http://127.0.0.1:${portOf(mute)}`, ...SHORT],
  },
  {
    name: 'proxy that is no URL',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /http:\/\/\[USER@\]HOST:PORT/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', 'ftp://???'],
  },
  {
    name: 'proxy in the environment that is no URL',
    exit: 78,
    code: 'ERR_DPS_CONFIG_OPTION',
    says: /HTTPS_PROXY/,
    env: { HTTPS_PROXY: 'ftp://proxy.example' },
    args: ({ enrolled }) => enrolled(),
  },
  {
    name: 'password in the proxy’s URL',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /--proxy-password-file/,
    args: ({ enrolled }) => [...enrolled(), '--proxy', 'http://u:S3CRET@proxy.example'],
  },
  {
    name: 'password of a proxy that is not given',
    exit: 64,
    code: 'ERR_DPS_USAGE',
    says: /there is no --proxy/,
    env: { DPS_PROXY_PASSWORD: 'S3CRET' },
    args: ({ enrolled }) => enrolled(),
  },
  {
    name: 'unknown environment variable',
    exit: 78,
    code: 'ERR_DPS_CONFIG_UNKNOWN_OPTION',
    says: /DPS_ID_SCOPE/,
    env: { DPS_ID_SCOP: 'x' },
    args: ({ enrolled }) => enrolled(),
  },
];

function check(row: Row, ended: Ended): void {
  const { exit, stdout, stderr, error } = ended;
  expect(stderr).not.toContain('S3CRET');
  expect(stderr).not.toMatch(/unhandled|UnhandledPromise|\bat .*node:internal/i);
  // A deadline that strikes while the last attempt is pending is "try later"; which of the two comes first is the clock's choice.
  const allowed = error.code === 'ERR_DPS_DEADLINE' ? [row.exit, 75] : [row.exit];
  expect(allowed, stderr).toContain(exit);
  expect(stdout).toBe('');
  expect(error.code ?? '', stderr).toMatch(typeof row.code === 'string' ? new RegExp(`^${row.code}$`) : row.code);
  if (row.says !== undefined) expect(`${error.message ?? stderr}`).toMatch(row.says);
  if (error.exitStatus !== undefined) expect(error.exitStatus).toBe(exit);
}

async function perform(row: Row, transport: 'mqtt' | 'https'): Promise<void> {
  const scene = stage();
  check(row, await run([...usual(transport), ...(await row.args(scene))], row.env));
}

describe.concurrent('over MQTT', () => {
  it.each(BOTH.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row, 'mqtt'));
});

describe.concurrent('over HTTPS', () => {
  it.each(BOTH.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row, 'https'));
});

describe.concurrent('in one place', () => {
  it.each(ONCE.map((row) => [row.name, row] as const))('%s', (_, row) => perform(row, 'mqtt'));

  it.each(['mqtt', 'https'] as const)('a non-ASCII payload comes through over %s', async (transport) => {
    const { enrolled, fault } = stage();
    const payload = { motto: 'Grüße, 世界 🌍' };
    fault({ at: 'dps.register', action: { kind: 'payload', payload } });
    const { exit, stdout, stderr } = await run([...usual(transport), ...enrolled()]);
    expect(exit, stderr).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ payload });
  });

  it('a damaged record is told, and the device registers anew', async () => {
    const { enrolled, state } = stage();
    const directory = state();
    const args = [...usual(), ...enrolled(), '--state', directory];
    expect(await run(args)).toMatchObject({ exit: 0 });
    for (const name of readdirSync(directory)) writeFileSync(join(directory, name), 'junk');
    const { exit, stdout, stderr } = await run(args);
    expect([exit, JSON.parse(stdout)], stderr).toEqual([0, expect.objectContaining({ source: 'registered' })]);
    expect(stderr).toMatch(/"type":"record".*damaged/);
    expect(JSON.parse((await run(args)).stdout)).toMatchObject({ source: 'stored' });
  });

  it('a key file of another user is refused with the fix', async () => {
    const { enrolled, file } = stage();
    const args = [
      ...usual(),
      ...enrolled(),
      '--symmetric-key-file',
      file('locked', Buffer.alloc(32).toString('base64'), 0o000),
    ];
    // root may read everything, unless it gives that right up.
    const asAnyone = process.getuid?.() === 0 ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : [];
    const ended = await run(args, {}, asAnyone);
    check({ name: '', exit: 71, code: 'ERR_DPS_HSM_FILE_UNREADABLE', args: () => [] }, ended);
  });
});
