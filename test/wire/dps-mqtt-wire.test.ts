import { describe, expect, it } from 'vitest';
import type { DpsCredential } from '../../src/core/transport.js';
import { mqttDpsTransport } from '../../src/transports/mqtt.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { bytes } from '../fakes/mqtt-bytes.js';
import { startTlsPeer, type Wire } from '../fakes/wire-peer.js';

// MQTT 3.1.1 by hand, field by field: fixed header and remaining length, then lengths, text and packet identifiers.

const never = new AbortController().signal;
const OPERATION_ID = '5.71cf7e385566aa10.4469ed4c-dc19-4af8-8b36-9ef6396ac1b3';
const REQUEST_IDS = ['11111111-2222-4333-8444-555555555555', '66666666-7777-4888-9999-aaaaaaaaaaaa'];

const USER_NAME = "'0ne00111111/registrations/dev-1/api-version=2021-06-01&ClientVersion=dps-device%2F0.1.0'";
const TOKEN = 'SharedAccessSignature sr=s&sig=c&se=1&skn=registration';
const CONNECT_SAS = bytes(`10 a2 01 0004 'MQTT' 04 c2 00b4 0005 'dev-1' 0057 ${USER_NAME} 0036 '${TOKEN}'`);
const CONNECT_X509 = bytes(`10 6a 0004 'MQTT' 04 82 00b4 0005 'dev-1' 0057 ${USER_NAME}`);
const CONNACK = bytes('20 02 00 00');

const SUBSCRIBE = bytes("82 1d 0001 0018 '$dps/registrations/res/#' 01");
const REGISTER = bytes(
  `32 6f 0051 '$dps/registrations/PUT/iotdps-register/?$rid=${REQUEST_IDS[0]}' 0002 '{"registrationId":"dev-1"}'`,
);
const SUBACK_AND_PUBACK = bytes('90 03 0001 01 40 02 0002');
const ASSIGNING_BODY = `{"operationId":"${OPERATION_ID}","status":"assigning"}`;
const ASSIGNING = bytes(
  `32 b5 01 0053 '$dps/registrations/res/202/?$rid=${REQUEST_IDS[0]}&retry-after=3' 0001 '${ASSIGNING_BODY}'`,
);
const PUBACK_OF_REPLY = bytes('40 02 0001');

const POLL = bytes(
  `32 a4 01 00a0 '$dps/registrations/GET/iotdps-get-operationstatus/?$rid=${REQUEST_IDS[1]}&operationId=${OPERATION_ID}' 0003`,
);
// At QoS 0, as DPS answers a client that subscribed so: without packet identifier.
const ASSIGNED_BODY = '{"status":"assigned"}';
const ASSIGNED = bytes(`30 5c 0045 '$dps/registrations/res/200/?$rid=${REQUEST_IDS[1]}' '${ASSIGNED_BODY}'`);
const DISCONNECT = bytes('e0 00');

async function connect(credential: DpsCredential) {
  const { authority, server } = await benchCertificates();
  const peer = await startTlsPeer(server, async () => {});
  const ids = [...REQUEST_IDS];
  const transport = mqttDpsTransport({
    ca: authority.certificatePem,
    userAgent: 'dps-device/0.1.0',
    clock: new ManualClock(),
    randomUuid: () => ids.shift() ?? '',
  });
  const identity = { idScope: '0ne00111111', registrationId: 'dev-1' };
  const opening = transport.open({ endpoint: peer.endpoint, ...identity, credential }, never);
  return { opening, wire: await peer.wire(0) };
}

async function expectBytes(wire: Wire, expected: Buffer): Promise<void> {
  expect((await wire.readBytes(expected.length)).toString('latin1')).toBe(expected.toString('latin1'));
}

describe('DPS over MQTT, byte by byte', () => {
  it('registers and polls with a SAS token', async () => {
    const { opening, wire } = await connect({ kind: 'sas', token: TOKEN });
    await expectBytes(wire, CONNECT_SAS);
    await wire.write(CONNACK);
    const connection = await opening;

    const body = Buffer.from('{"registrationId":"dev-1"}');
    const registering = connection.exchange({ kind: 'register', body }, never);
    await expectBytes(wire, Buffer.concat([SUBSCRIBE, REGISTER]));
    await wire.write(SUBACK_AND_PUBACK);
    await wire.write(ASSIGNING);
    expect(await registering).toEqual({
      kind: 'reply',
      status: 202,
      retryAfter: '3',
      body: new Uint8Array(Buffer.from(ASSIGNING_BODY)),
    });
    await expectBytes(wire, PUBACK_OF_REPLY);

    const polling = connection.exchange({ kind: 'operationStatus', operationId: OPERATION_ID }, never);
    await expectBytes(wire, POLL);
    await wire.write(bytes('40 02 0003'));
    await wire.write(ASSIGNED);
    expect(await polling).toEqual({ kind: 'reply', status: 200, body: new Uint8Array(Buffer.from(ASSIGNED_BODY)) });

    await connection.close();
    await wire.closed;
    expect(wire.unread).toEqual(DISCONNECT);
  });

  it('connects with a certificate, and without a password', async () => {
    const { device } = await benchCertificates();
    const { opening, wire } = await connect({ kind: 'x509', tls: device });
    await expectBytes(wire, CONNECT_X509);
    await wire.write(CONNACK);
    await (await opening).close();
    await wire.closed;
    expect(wire.unread).toEqual(DISCONNECT);
  });
});
