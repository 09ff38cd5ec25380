/** The built command in a process of its own: all that it writes, and all that others can see of it. */
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROGRAM } from '../cli/command-process.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { publishPacket, readPublish } from '../fakes/mqtt-bytes.js';
import { startHttpProxy } from '../fakes/proxy-peer.js';
import { startTlsPeer, type Wire } from '../fakes/wire-peer.js';
import {
  GROUP_MEMBER,
  INDIVIDUAL,
  KEYS,
  makeSecrets,
  PASSPHRASE,
  PROXY_PASSWORD,
  privateFile,
  temporaryFolder,
} from './bench.js';
import { dpsToken, hubToken } from './canaries.js';
import { expectNoLeaks } from './channels.js';
import { type Scene, START_MS, stage, start } from './command-bench.js';

/** What a preloaded module can see of the process as it ends: its environment, and what a crash report would hold. */
const PEEK = `
  import { writeFileSync } from 'node:fs';
  const { PEEK_FILE } = process.env;
  process.on('exit', () => {
    writeFileSync(PEEK_FILE, JSON.stringify([process.argv, process.env, process.report.getReport()]));
  });
`;

/** Breaks what the command is going to use, with a message as Node makes them. */
const BREAK = `
  import net from 'node:net';
  import tls from 'node:tls';
  import { syncBuiltinESMExports } from 'node:module';
  const boom = () => {
    throw new TypeError("The argument is wrong. Received '" + Buffer.from(process.env.RECEIVED, 'hex') + "'");
  };
  if (process.env.BROKEN === 'net') net.Socket.prototype.connect = boom;
  if (process.env.BROKEN === 'tls') tls.connect = boom;
  syncBuiltinESMExports();
`;

/** The environment of a process that loads this module first. */
function preloading({ file }: Scene, code: string): Record<string, string> {
  return { NODE_OPTIONS: `--import=${file('preload.mjs', code)}` };
}

describe('dps-device provision', () => {
  const identities: readonly (readonly [
    name: string,
    give: (scene: Scene) => { device: string; args?: string[]; env?: Record<string, string>; stdin?: string },
  ])[] = [
    [
      'a key in the environment',
      () => ({
        device: INDIVIDUAL,
        env: { DPS_SYMMETRIC_KEY: KEYS.device, DPS_SECONDARY_SYMMETRIC_KEY: KEYS.secondary },
      }),
    ],
    [
      'a key file',
      ({ file }) => ({ device: INDIVIDUAL, args: ['--symmetric-key-file', file('device.key', KEYS.device)] }),
    ],
    [
      'a key on standard input',
      () => ({ device: INDIVIDUAL, args: ['--symmetric-key-file', '-'], stdin: `${KEYS.device}\n` }),
    ],
    [
      'a group key in a systemd credential',
      ({ folder }) => {
        mkdirSync(join(folder, 'credentials'));
        writeFileSync(join(folder, 'credentials', 'dps-group-key'), KEYS.group);
        return { device: GROUP_MEMBER, env: { CREDENTIALS_DIRECTORY: join(folder, 'credentials') } };
      },
    ],
    [
      'an encrypted key with its passphrase in the environment',
      ({ file, certified }) => ({
        device: '',
        args: [
          '--cert-file',
          file('device.pem', certified.certificatePem),
          '--cert-key-file',
          file('device.key', certified.encryptedKeyPem),
        ],
        env: { DPS_KEY_PASSPHRASE: PASSPHRASE },
      }),
    ],
    [
      'a private key in the environment',
      ({ file, certified }) => ({
        device: '',
        args: ['--cert-file', file('device.pem', certified.certificatePem)],
        env: { DPS_CERT_KEY: certified.keyPem },
      }),
    ],
  ];

  it.each(identities)('is silent about %s', async (_name, give) => {
    const scene = await stage();
    const { device, args = [], env = {}, stdin = '' } = give(scene);
    for (const [transport, form] of [
      ['mqtt', []],
      ['https', ['--json-log']],
      ['mqtt', ['--quiet']],
    ] as const) {
      const peek = join(scene.folder, 'peek');
      const more = { PEEK_FILE: peek, ...preloading(scene, PEEK) };
      const { child, ended } = start([...scene.flags(transport, device), ...args, ...form], { ...env, ...more });
      child.stdin?.end(stdin);
      const { status, outputs, err } = await ended;
      expect(status, err).toBe(0);
      scene.expectSilence(outputs, new Map([['the process as it ends', readFileSync(peek, 'utf8')]]));
    }
  });

  it('is silent on a terminal, where one line is drawn again and again', async () => {
    const scene = await stage();
    const command = [process.execPath, PROGRAM, ...scene.flags('mqtt')].map((word) => `'${word}'`).join(' ');
    // script(1) gives the command a terminal of its own.
    const program = ['script', '--quiet', '--return', '--command', command, '/dev/null'];
    const { ended } = start([], { DPS_SYMMETRIC_KEY: KEYS.device, TERM: 'xterm' }, program);
    const { status, out, outputs } = await ended;
    expect(status, out).toBe(0);
    expect(out).toContain('\r\u001b[K');
    expect(out).toContain('"status": "provisioned"');
    scene.expectSilence(outputs);
  });

  it('puts the connection string into its file and nowhere else', async () => {
    const scene = await stage();
    const target = join(scene.folder, 'connection');
    const { ended } = start([...scene.flags('mqtt'), '--write-connection', target, '--json-log'], {
      DPS_SYMMETRIC_KEY: KEYS.device,
    });
    const { status, err, outputs } = await ended;
    expect(status, err).toBe(0);
    expect(readFileSync(target, 'utf8')).toContain(`SharedAccessKey=${KEYS.device}`);
    expect(statSync(target).mode & 0o777).toBe(0o600);
    expect(readdirSync(scene.folder).sort()).toEqual(['ca.pem', 'connection']);
    scene.expectSilence(outputs);
  });

  it('shows no secret to who lists processes', async () => {
    const scene = await stage({ retryAfterSeconds: 120 });
    const { child, ended, seen } = start([...scene.flags('mqtt'), '--json-log'], { DPS_SYMMETRIC_KEY: KEYS.device });
    await seen('"type":"waiting"');
    const proc = (name: string): string => readFileSync(`/proc/${child.pid}/${name}`, 'latin1').replaceAll('\0', ' ');
    scene.expectSilence(new Map(['cmdline', 'comm', 'stat', 'status'].map((name) => [name, proc(name)])));
    // What the process was started with stays to be read there by its own user and root: no process can take that back.
    // Files and systemd credentials do not have this.
    expect(proc('environ')).toContain(KEYS.device);
    expect(statSync(`/proc/${child.pid}/environ`).mode & 0o077).toBe(0);
    child.kill('SIGTERM');
    const { status, outputs } = await ended;
    expect(status).toBe(143);
    scene.expectSilence(outputs);
  });

  const refused: readonly (readonly [name: string, status: number, env: Record<string, string>, args: string[]])[] = [
    ['a wrong key', 77, { DPS_SYMMETRIC_KEY: KEYS.wrong }, []],
    ['a key that is cut', 71, { DPS_SYMMETRIC_KEY: KEYS.device.slice(0, -5) }, []],
    ['a key as the path of a key', 71, {}, ['--symmetric-key-file', KEYS.unpadded]],
    ['a key as a flag', 64, {}, ['--symmetric-key', KEYS.device]],
    ['a key after an equals sign', 64, {}, [`--key=${KEYS.device}`]],
    ['a passphrase as the path of one', 71, {}, ['--key-passphrase-file', PASSPHRASE]],
    ['a timeout', 75, { DPS_SYMMETRIC_KEY: KEYS.device }, ['--timeout', '0.001']],
    ['nobody at home', 69, { DPS_SYMMETRIC_KEY: KEYS.device }, ['--endpoint', '127.0.0.1:1', '--timeout', '0.9']],
  ];

  it.each(refused)('fails silently: %s', async (name, status, env, args) => {
    const scene = await stage();
    const { certified, file } = scene;
    const certificate = name.includes('passphrase')
      ? [
          '--cert-file',
          file('device.pem', certified.certificatePem),
          '--cert-key-file',
          file('device.key', certified.encryptedKeyPem),
        ]
      : [];
    const flags = scene.flags('mqtt', certificate.length > 0 ? '' : INDIVIDUAL);
    const kept = flags.filter((word, index) => !args.includes(word) && !args.includes(flags[index - 1] ?? ''));
    for (const form of [[], ['--json-log']]) {
      const ended = await start([...kept, ...certificate, ...args, ...form], env).ended;
      expect(ended.status, ended.err).toBe(status);
      scene.expectSilence(ended.outputs);
    }
  });
});

describe('the password of a proxy', () => {
  const REFUSED = 'HTTP/1.1 407 Proxy Authentication Required\r\n\r\n';
  const basic = Buffer.from(`u:${PROXY_PASSWORD}`).toString('base64');

  const ways: readonly (readonly [
    name: string,
    give: (scene: Scene) => { args?: string[]; env?: Record<string, string>; stdin?: string },
  ])[] = [
    ['a file', ({ file }) => ({ args: ['--proxy-password-file', file('password', PROXY_PASSWORD)] })],
    ['standard input', () => ({ args: ['--proxy-password-file', '-'], stdin: PROXY_PASSWORD })],
    ['the environment', () => ({ env: { DPS_PROXY_PASSWORD: PROXY_PASSWORD, NODE_DEBUG: 'dps-device,net,tls,http' } })],
    [
      'a systemd credential',
      ({ folder }) => {
        writeFileSync(join(folder, 'dps-proxy-password'), PROXY_PASSWORD);
        return { env: { CREDENTIALS_DIRECTORY: folder } };
      },
    ],
    [
      'a file that the configuration names',
      ({ file }) => {
        file('password', PROXY_PASSWORD);
        return { args: ['--config', file('config.json', '{"proxyPasswordFile":"password"}')] };
      },
    ],
  ];

  it.each(ways)('from %s reaches the proxy and nobody else', async (_name, give) => {
    const scene = await stage();
    const { args = [], env = {}, stdin = '' } = give(scene);
    const [, ...flags] = [...scene.flags('mqtt'), '--symmetric-key-file', scene.file('key', KEYS.device), ...args];
    const peek = join(scene.folder, 'peek');
    const more = { ...env, PEEK_FILE: peek, ...preloading(scene, PEEK) };
    for (const [command, answer, expected] of [
      ['provision', undefined, 0],
      ['provision', REFUSED, 78],
      ['doctor', undefined, 0],
      ['doctor', REFUSED, 78],
    ] as const) {
      const proxy = await startHttpProxy(answer);
      const words = [command, ...flags, '--proxy', `http://u@127.0.0.1:${proxy.port}`];
      const { child, ended } = start([...words, ...(command === 'doctor' ? [] : ['--json-log'])], more);
      child.stdin?.end(stdin);
      const { status, outputs, err } = await ended;
      expect([status, proxy.asked[0]], err).toEqual([
        expected,
        expect.stringContaining(`Proxy-Authorization: Basic ${basic}`),
      ]);
      scene.expectSilence(outputs, new Map([['the process as it ends', readFileSync(peek, 'utf8')]]));
    }
  });

  it('is in none of the files and results of a run', async () => {
    const scene = await stage();
    const [, ...flags] = scene.flags('mqtt');
    const proxy = await startHttpProxy();
    const state = join(scene.folder, 'state');
    const words = ['run', ...flags, '--state', state, '--proxy', `http://u@127.0.0.1:${proxy.port}`];
    const { child, ended, seen } = start(words, {
      DPS_SYMMETRIC_KEY: KEYS.device,
      DPS_PROXY_PASSWORD: PROXY_PASSWORD,
    });
    await seen('the record is stored');
    child.kill('SIGTERM');
    const { status, outputs, err } = await ended;
    expect(status, err).toBe(0);
    const records = readdirSync(state).map((name) => [name, readFileSync(join(state, name), 'latin1')] as const);
    expect(records).not.toEqual([]);
    const shown = await start(['status', '--state', state]).ended;
    scene.expectSilence(outputs, new Map(records), shown.outputs);
  });
});

describe('debug output', () => {
  // Node itself prints requests with NODE_DEBUG=http, and warns of it; what our part can do is not to hand it the token
  // where it would print it. Node's other debug logs have no content of TLS connections.
  it.each([
    ['NODE_DEBUG', 'dps-device'],
    ['NODE_DEBUG', 'tls,net,https,stream,timer'],
    ['NODE_DEBUG', 'http'],
    ['DEBUG', '*'],
  ])('of %s=%s has no secret', async (variable, value) => {
    const scene = await stage();
    for (const transport of ['mqtt', 'https'] as const) {
      const env = { DPS_SYMMETRIC_KEY: KEYS.device, [variable]: value };
      const { status, err, outputs } = await start(scene.flags(transport), env).ended;
      expect(status, err).toBe(0);
      if (variable === 'NODE_DEBUG' && transport === 'https') expect(err).toMatch(/^[A-Z-]+ \d+: /m);
      scene.expectSilence(outputs);
    }
  });
});

describe('a crash', () => {
  const received = Buffer.from(KEYS.device).toString('hex');

  it.each([
    ['in words', [], 'This is a bug in dps-device'],
    ['as JSON', ['--json-log'], '"exitStatus":70'],
  ] as const)(
    'that is caught ends in 70 with a stack, and without what Node received, %s',
    async (_form, flags, said) => {
      const scene = await stage();
      const env = { DPS_SYMMETRIC_KEY: KEYS.device, RECEIVED: received, BROKEN: 'net', ...preloading(scene, BREAK) };
      const { status, err, outputs } = await start([...scene.flags('mqtt'), ...flags], env).ended;
      expect([status, err]).toEqual([70, expect.stringContaining(said)]);
      expect(err).toContain('The argument is wrong.');
      expect(err).toMatch(/ {4}at /);
      scene.expectSilence(outputs);
    },
  );

  // An exception in an event of Node's goes past everybody to Node, which prints its message, where it was thrown, and
  // the line of code that threw it. None of the secrets of the command is in any of these.
  it('that Node reports has no secret of the command', async () => {
    const scene = await stage();
    const env = { DPS_SYMMETRIC_KEY: KEYS.device, RECEIVED: '', BROKEN: 'tls', ...preloading(scene, BREAK) };
    const { status, err, outputs } = await start(scene.flags('mqtt'), env).ended;
    expect(status).not.toBe(0);
    expect(err).toContain('The argument is wrong.');
    scene.expectSilence(outputs);
  });
});

describe('dps-device emulator', () => {
  it.each([[[]], [['--json-log']], [['--quiet']]])(
    'is silent about the keys of its enrollments and the tokens it sees %j',
    async (form) => {
      const { canaries, authorityPem } = await makeSecrets(START_MS);
      const folder = temporaryFolder();
      const config = {
        retryAfterSeconds: 0,
        stateFile: join(folder, 'state.json'),
        enrollments: [
          {
            registrationId: INDIVIDUAL,
            attestation: { symmetricKey: { primaryKey: KEYS.device, secondaryKey: KEYS.secondary } },
          },
        ],
        enrollmentGroups: [
          {
            enrollmentGroupId: 'g',
            attestation: { x509: { signingCertificates: { primary: { certificate: authorityPem } } } },
          },
        ],
      };
      const ca = join(folder, 'ca.pem');
      const emulator = start([
        'emulator',
        '--config',
        privateFile(folder, 'emulator.json', JSON.stringify(config)),
        '--ca-file',
        ca,
        ...form,
      ]);
      const [line] = (await once(emulator.child.stdout ?? expect.fail('no output'), 'data')) as [string];
      const { idScope, endpoints } = JSON.parse(line) as {
        idScope: string;
        endpoints: { dps: Record<string, string>; hubs: { hostName: string }[] };
      };
      const startMs = Date.now();
      for (const [transport, key, status] of [
        ['mqtt', KEYS.device, 0],
        ['https', KEYS.secondary, 0],
        ['mqtt', KEYS.wrong, 77],
      ] as const) {
        const flags = [
          '--id-scope',
          idScope,
          '--registration-id',
          INDIVIDUAL,
          '--ca-file',
          ca,
          '--transport',
          transport,
          '--endpoint',
          endpoints.dps[transport] ?? '',
        ];
        const ended = await start(['provision', ...flags], { DPS_SYMMETRIC_KEY: key }).ended;
        expect(ended.status, ended.err).toBe(status);
      }
      emulator.child.kill('SIGTERM');
      const { status, outputs } = await emulator.ended;
      expect(status).toBe(0);
      for (let wallMs = startMs; wallMs <= Date.now() + 1_000; wallMs += 1_000) {
        for (const key of [KEYS.device, KEYS.secondary, KEYS.wrong]) {
          canaries.addToken('DPS token', dpsToken(key, idScope, INDIVIDUAL, { wallMs }));
          canaries.addToken('hub token', hubToken(key, endpoints.hubs[0]?.hostName ?? '', INDIVIDUAL, { wallMs }));
        }
      }
      expectNoLeaks(canaries, outputs);
      // The state file holds keys, as it says.
      expect(statSync(join(folder, 'state.json')).mode & 0o777).toBe(0o600);
    },
  );
});

describe('a service that says the token back to the command', () => {
  async function sayBackOverMqtt(wire: Wire): Promise<string> {
    const connect = await wire.readMqttPacket();
    const token = connect.subarray(connect.indexOf('SharedAccessSignature')).toString();
    await wire.write(Buffer.from('20020000', 'hex'));
    const subscribe = await wire.readMqttPacket();
    await wire.write(Buffer.from([0x90, 3, subscribe[2] ?? 0, subscribe[3] ?? 0, 1]));
    const { topic, packetId } = readPublish(await wire.readMqttPacket());
    await wire.write(Buffer.from([0x40, 2, packetId >> 8, packetId & 0xff]));
    const payload = Buffer.from(JSON.stringify({ errorCode: 401002, message: token, trackingId: token }));
    const [, rid = ''] = /\$rid=(.*)/.exec(topic) ?? [];
    await wire.write(publishPacket({ topic: `$dps/registrations/res/401/?$rid=${rid}`, packetId: 9, payload }));
    return token;
  }

  async function sayBackOverHttps(wire: Wire): Promise<string> {
    const request = await wire.readHttpRequest();
    const [, token = ''] = /^authorization: (.*)$/im.exec(request) ?? [];
    const body = JSON.stringify({ errorCode: 401002, message: token, trackingId: token });
    await wire.write(`HTTP/1.1 401 Unauthorized\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
    return token;
  }

  it.each([
    ['mqtt', sayBackOverMqtt, []],
    ['mqtt', sayBackOverMqtt, ['--json-log']],
    ['https', sayBackOverHttps, []],
    ['https', sayBackOverHttps, ['--json-log']],
  ] as const)('over %s is not repeated', async (transport, sayBack, form) => {
    const { canaries } = await makeSecrets();
    const { server, authority } = await benchCertificates();
    const tokens: string[] = [];
    const peer = await startTlsPeer(server, async (wire) => void tokens.push(await sayBack(wire)));
    const flags = ['--id-scope', '0ne00111111', '--registration-id', INDIVIDUAL, '--transport', transport];
    const ca = privateFile(temporaryFolder(), 'ca.pem', authority.rootPem);
    const args = ['provision', ...flags, '--endpoint', peer.endpoint, '--ca-file', ca, ...form];
    const { status, err, outputs } = await start(args, { DPS_SYMMETRIC_KEY: KEYS.device }).ended;
    expect(status, err).toBe(77);
    expect(tokens).toHaveLength(1);
    expectNoLeaks(canaries.addToken('token', tokens[0] ?? ''), outputs);
  });
});
