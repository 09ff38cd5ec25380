import { writeFileSync } from 'node:fs';
import type { Packet } from 'mqtt-packet';
import { describe, expect, it } from 'vitest';
import { type EmulatorConfig, loadEmulatorConfig, startEmulator } from '../../src/emulator/index.js';
import { askHttps } from '../emulator/https-probe.js';
import { MqttProbe } from '../emulator/mqtt-probe.js';
import { type Bench, INDIVIDUAL, KEYS, makeSecrets, privateFile, startBench, temporaryFolder } from './bench.js';
import { errorOutputs, expectNoLeaks } from './channels.js';

const enrolled = (attestation: unknown) => ({ enrollments: [{ registrationId: INDIVIDUAL, attestation }] });

describe('the error about an emulator configuration', () => {
  const keyed: readonly (readonly [name: string, config: (secret: string) => object | string])[] = [
    ['a key as the configuration', (secret) => secret],
    ['a key in a list', (secret) => [secret]],
    ['an unknown member', (symmetricKey) => ({ symmetricKey })],
    ['a list of keys as enrollments', (secret) => ({ enrollments: [secret] })],
    ['keys by device', (secret) => ({ enrollments: { [INDIVIDUAL]: secret } })],
    ['a key as attestation', (secret) => enrolled(secret)],
    ['a key as symmetric key', (symmetricKey) => enrolled({ symmetricKey })],
    ['a list as key', (secret) => enrolled({ symmetricKey: { primaryKey: [secret] } })],
    ['a key with a letter too many', (secret) => enrolled({ symmetricKey: { primaryKey: `${secret}=` } })],
    ['two keys in one', (secret) => enrolled({ symmetricKey: { primaryKey: `${secret}${secret}` } })],
    ['an unknown key', (key) => enrolled({ symmetricKey: { key } })],
    ['a wrong type', (secret) => enrolled({ type: secret })],
    ['a key as certificate', (certificate) => enrolled({ x509: { clientCertificates: { primary: { certificate } } } })],
    ['a key as reference', (secret) => enrolled({ x509: { caReferences: secret } })],
    [
      'a key as status',
      (provisioningStatus) => ({ enrollments: [{ ...enrolled({}).enrollments[0], provisioningStatus }] }),
    ],
    ['a key as policy', (allocationPolicy) => ({ allocationPolicy })],
    ['a key as hub', (secret) => ({ hubs: [secret] })],
    ['a key as port', (secret) => ({ ports: { mqtt: secret } })],
    ['a key as fault', (secret) => ({ faults: [secret] })],
    ['a key as kind of fault', (kind) => ({ faults: [{ at: 'dps.register', action: { kind } }] })],
    [
      'a key as bytes of a fault',
      (key) => ({ faults: [{ at: 'dps.register', action: { kind: 'raw', base64: `${key}=` } }] }),
    ],
  ];

  it.each(keyed)('%s', async (_name, config) => {
    const { canaries } = await makeSecrets();
    const log: string[] = [];
    for (const secret of Object.values(KEYS)) {
      const starting = startEmulator(config(secret) as EmulatorConfig, { log: (line) => log.push(line) });
      const error = await starting.catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(Error);
      expectNoLeaks(canaries, errorOutputs('error', error), new Map([['log', log.join('\n')]]));
    }
  });

  it('private keys in the wrong place', async () => {
    const { canaries, certified } = await makeSecrets();
    const { keyPem, encryptedKeyPem, certificatePem } = certified;
    const authority = (certificate: unknown, privateKey: unknown) => ({
      tls: { certificateAuthority: { certificate, privateKey } },
    });
    const wrong = [
      authority(keyPem, certificatePem),
      authority(certificatePem, keyPem),
      authority(certificatePem, encryptedKeyPem),
      authority(keyPem.replaceAll('PRIVATE KEY', 'CERTIFICATE'), keyPem),
      enrolled({ x509: { clientCertificates: { primary: { certificate: keyPem } } } }),
      { certificates: [{ name: 'ca', certificate: keyPem }] },
      { certificates: [keyPem] },
      { tls: keyPem },
    ];
    for (const config of wrong) {
      const error = await startEmulator(config as EmulatorConfig).catch((reason: unknown) => reason);
      expect(error).toBeInstanceOf(Error);
      expectNoLeaks(canaries, errorOutputs('error', error));
    }
  });

  it('a file that breaks off, or is not JSON, at any place near a key', async () => {
    const { canaries } = await makeSecrets();
    const folder = temporaryFolder();
    const text = JSON.stringify(enrolled({ symmetricKey: { primaryKey: KEYS.device, secondaryKey: KEYS.secondary } }));
    const start = text.indexOf(KEYS.device);
    const places = Array.from({ length: 60 }, (_, index) => start - 20 + index * 4);
    const broken = places.flatMap((at) => [
      text.slice(0, at),
      `${text.slice(0, at)}?${text.slice(at)}`,
      `${text.slice(0, at)}\n${text.slice(at)}`,
    ]);
    for (const content of [...broken, KEYS.device, `'${KEYS.device}'`, `{"key":${KEYS.device}}`]) {
      const file = privateFile(folder, 'emulator.json', content);
      const error = errorOf(() => loadEmulatorConfig(file));
      if (error !== undefined) expectNoLeaks(canaries, errorOutputs('error', error));
    }
  });

  it('a state file that breaks off', async () => {
    const { canaries } = await makeSecrets();
    const stateFile = privateFile(temporaryFolder(), 'state.json', '{}');
    const emulator = await startEmulator({
      ...enrolled({ symmetricKey: { primaryKey: KEYS.device } }),
    } as EmulatorConfig);
    await emulator.close();
    for (const text of [
      `{"scopes":[{"key":"${KEYS.device}`,
      `{"version":1,"scopes":["${KEYS.device}"]}`,
      `{"version":1,"authority":{"privateKeyPem":"${KEYS.device}"},"scopes":[]}`,
    ]) {
      writeFileSync(stateFile, text);
      const log: string[] = [];
      const outcome = await startEmulator({ stateFile }, { log: (line) => log.push(line) }).catch(
        (reason: unknown) => reason,
      );
      if (!(outcome instanceof Error)) await (outcome as { close(): Promise<void> }).close();
      expectNoLeaks(canaries, errorOutputs('error', outcome), new Map([['log', log.join('\n')]]));
    }
  });
});

function errorOf(work: () => unknown): unknown {
  try {
    work();
    return undefined;
  } catch (error) {
    return error;
  }
}

function publishAt(topic: string): Packet {
  return { cmd: 'publish', topic, payload: '', qos: 0, dup: false, retain: false };
}

/** Clients that say their secrets where they do not belong. */
describe('what the emulator logs and traces of', () => {
  const connectionString = `HostName=hub.example;DeviceId=${INDIVIDUAL};SharedAccessKey=${KEYS.device}`;
  const user = (bench: Bench): string => `${bench.emulator.idScope}/registrations/${INDIVIDUAL}/api-version=2021-06-01`;

  async function probe({ emulator }: Bench): Promise<MqttProbe> {
    return MqttProbe.open({ address: emulator.endpoints.dps.mqtt, caPem: emulator.caPem });
  }

  it.each<[name: string, username: (bench: Bench, token: string) => string]>([
    ['a connection string', () => connectionString],
    ['a token', (_, token) => token],
    ['a token that is not encoded', (_, token) => decodeURIComponent(token)],
    ['a key', () => KEYS.device],
    ['a key in the place of the api-version', (bench) => user(bench).replace('2021-06-01', KEYS.device)],
    ['a token in the user agent', (bench, token) => `${user(bench)}&ClientVersion=${encodeURIComponent(token)}`],
    [
      'a token in the place of the device',
      (bench, token) => `${bench.emulator.idScope}/registrations/${token}/api-version=2021-06-01`,
    ],
    ['a token in the place of the scope', (_, token) => `${token}/registrations/${INDIVIDUAL}/api-version=2021-06-01`],
    ['a token in the place of the module', (_, token) => `hub.example/${INDIVIDUAL}/${token}/?api-version=2021-04-12`],
  ])('an MQTT user name that holds %s', async (_name, username) => {
    const bench = await startBench();
    const token = bench.dpsToken(KEYS.device, INDIVIDUAL);
    for (const key of [KEYS.device, KEYS.secondary, KEYS.group, KEYS.wrong]) {
      const client = await probe(bench);
      const name = username(bench, token).replace(KEYS.device, key);
      await client.connect({ clientId: INDIVIDUAL, username: name, password: token }).catch(() => undefined);
      await client.close();
    }
    await bench.emulator.trace.waitFor({ event: 'close' });
    expectNoLeaks(bench.canaries, bench.outputs());
  });

  it('passwords that are no tokens, client ids and topics', async () => {
    const bench = await startBench();
    const token = bench.dpsToken(KEYS.device, INDIVIDUAL);
    const username = user(bench);
    for (const [clientId, password] of [
      [INDIVIDUAL, KEYS.device],
      [INDIVIDUAL, connectionString],
      [INDIVIDUAL, `${token}&sig=twice`],
      [KEYS.device, token],
      [token, token],
    ] as const) {
      const client = await probe(bench);
      await client.connect({ clientId, username, password });
      client.publish('$dps/registrations/PUT/iotdps-register/?$rid=1', JSON.stringify({ key: KEYS.device }), 1);
      await client.close();
    }
    await bench.emulator.trace.waitFor({ event: 'close' });
    expectNoLeaks(bench.canaries, bench.outputs());
  });

  it.each<[name: string, packet: (topic: string) => Packet]>([
    ['subscribed to', (topic) => ({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 0 }] })],
    ['published at', publishAt],
    ['registered at', (topic) => publishAt(`$dps/registrations/PUT/iotdps-register/?$rid=${topic}`)],
  ])('a topic with a token that is %s', async (_name, packet) => {
    const bench = await startBench();
    const token = bench.dpsToken(KEYS.device, INDIVIDUAL);
    const client = await probe(bench);
    await client.connect({ clientId: INDIVIDUAL, username: user(bench), password: token });
    client.send(packet(token));
    await client.settle().catch(() => undefined);
    await client.close();
    await bench.emulator.trace.waitFor({ event: 'close' });
    expectNoLeaks(bench.canaries, bench.outputs());
  });

  it('HTTPS requests with secrets in paths, queries, headers and bodies', async () => {
    const bench = await startBench();
    const { idScope, endpoints, caPem } = bench.emulator;
    const token = bench.dpsToken(KEYS.device, INDIVIDUAL);
    const encoded = encodeURIComponent(token);
    const register = `/${idScope}/registrations/${INDIVIDUAL}/register?api-version=2021-06-01`;
    const requests: readonly (readonly [path: string, headers: Record<string, string>, body: string])[] = [
      [register, { Authorization: token }, JSON.stringify({ registrationId: INDIVIDUAL, payload: { token } })],
      [register, { Authorization: `${token}x` }, `{"key":"${KEYS.device}`],
      [register, { Authorization: KEYS.device }, KEYS.device],
      [register, { Authorization: token, 'Content-Type': token }, '{}'],
      [register, { 'User-Agent': token }, '{}'],
      [`${register}&token=${encoded}`, {}, '{}'],
      [`${register.replace('2021-06-01', encoded)}`, { Authorization: token }, '{}'],
      [`/${idScope}/registrations/${encoded}/register?api-version=2021-06-01`, {}, '{}'],
      [`/${encoded}/registrations/${INDIVIDUAL}/register?api-version=2021-06-01`, {}, '{}'],
      [`/nowhere/${encoded}`, {}, '{}'],
    ];
    for (const [path, headers, body] of requests) {
      await askHttps(endpoints.dps.https, caPem, 'PUT', path, { headers, body });
    }
    expectNoLeaks(bench.canaries, bench.outputs());
  });
});
