import { randomUUID } from 'node:crypto';
import { describe, it } from 'vitest';
import { type SymmetricKeyHsmOptions, symmetricKeyHsm } from '../../hsm/symmetric-key.js';
import { x509FileHsm } from '../../hsm/x509-file.js';
import { provision } from '../../src/compose.js';
import { encodeRegisterBody } from '../../src/core/messages.js';
import type { DpsConnection, DpsCredential } from '../../src/core/transport.js';
import { mqttHubTransport } from '../../src/hub/session.js';
import { httpsDpsTransport } from '../../src/transports/https.js';
import { mqttDpsTransport } from '../../src/transports/mqtt.js';
import {
  type Bench,
  CERTIFIED,
  CLOCK,
  GROUP_MEMBER,
  INDIVIDUAL,
  KEYS,
  makeSecrets,
  PASSPHRASE,
  startBench,
} from './bench.js';
import { expectNoLeaks, printed } from './channels.js';

/** Objects that an application holds while secrets are in use: none shows them when it is printed. */

const NEVER: AbortSignal = new AbortController().signal;

describe('an HSM', () => {
  it.each<[name: string, options: SymmetricKeyHsmOptions]>([
    ['with keys', { registrationId: INDIVIDUAL, key: KEYS.device, secondaryKey: KEYS.secondary }],
    ['with group keys', { registrationId: GROUP_MEMBER, groupKey: KEYS.group, secondaryGroupKey: KEYS.secondaryGroup }],
  ])('%s', async (_name, options) => {
    const { canaries } = await makeSecrets();
    const hsm = await symmetricKeyHsm(options);
    await hsm.sign(new Uint8Array(8), 0, NEVER);
    await hsm.exportKey?.(1, NEVER);
    expectNoLeaks(canaries, printed('hsm', hsm));
  });

  it('with a certificate', async () => {
    const { canaries, certified } = await makeSecrets();
    const { certificatePem, encryptedKeyPem } = certified;
    const hsm = await x509FileHsm({ certificatePem, keyPem: encryptedKeyPem, passphrase: PASSPHRASE });
    await hsm.tlsCredential(0, NEVER);
    expectNoLeaks(canaries, printed('hsm', hsm));
  });
});

const TRANSPORTS = { mqtt: mqttDpsTransport, https: httpsDpsTransport } as const;

describe.each(['mqtt', 'https'] as const)('a connection to DPS over %s', (name) => {
  const open = async (bench: Bench, registrationId: string, credential: DpsCredential): Promise<DpsConnection> => {
    const { caPem, idScope, endpoints } = bench.emulator;
    const transport = TRANSPORTS[name]({ ca: caPem, clock: CLOCK, randomUuid: randomUUID });
    expectNoLeaks(bench.canaries, printed('transport', transport));
    return transport.open({ endpoint: endpoints.dps[name], idScope, registrationId, credential }, NEVER);
  };

  it.each<[proof: string, device: string, credential: (bench: Bench) => DpsCredential]>([
    ['a token', INDIVIDUAL, (bench) => ({ kind: 'sas', token: bench.dpsToken(KEYS.device, INDIVIDUAL) })],
    [
      'a certificate',
      CERTIFIED,
      ({ certified }) => ({
        kind: 'x509',
        tls: {
          certificateChainPem: certified.certificatePem,
          privateKeyPem: certified.encryptedKeyPem,
          passphrase: PASSPHRASE,
        },
      }),
    ],
  ])('by %s, open, used and closed', async (_proof, device, credential) => {
    const bench = await startBench();
    const connection = await open(bench, device, credential(bench));
    expectNoLeaks(bench.canaries, printed('open', connection));
    const exchange = connection.exchange(
      { kind: 'register', body: encodeRegisterBody({ registrationId: device }) },
      NEVER,
    );
    expectNoLeaks(bench.canaries, printed('exchange', exchange), printed('busy', connection));
    expectNoLeaks(bench.canaries, printed('reply', await exchange), printed('idle', connection));
    await connection.close();
    expectNoLeaks(bench.canaries, printed('closed', connection));
  });
});

describe('a journey and a hub', () => {
  it('under way', async () => {
    const bench = await startBench();
    const journey = provision(bench.options('mqtt', {}));
    expectNoLeaks(bench.canaries, printed('journey', journey), printed('events', journey.events));
    for await (const _event of journey.events) expectNoLeaks(bench.canaries, printed('journey', journey));
    const { assignedHub: hostName, deviceId } = await journey;
    const hsm = await symmetricKeyHsm({ registrationId: INDIVIDUAL, key: KEYS.device });
    const { caPem: ca } = bench.emulator;
    const hub = mqttHubTransport({ ca, clock: CLOCK, random: Math.random, newRequestId: randomUUID });
    const opening = hub.open({ hostName, deviceId, hsm, slot: 0 }, NEVER);
    expectNoLeaks(bench.canaries, printed('hub', hub), printed('opening', opening));
    const session = await opening;
    const info = hub.connectionInfo({ hostName, deviceId, hsm, slot: 0 });
    expectNoLeaks(bench.canaries, printed('session', session), printed('connection info', info));
    await session.close();
    expectNoLeaks(bench.canaries, printed('closed session', session));
  });
});
