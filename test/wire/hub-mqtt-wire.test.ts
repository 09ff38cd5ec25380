import { describe, expect, it } from 'vitest';
import type { CloudToDeviceMessage, HubSession, HubTransport } from '../../src/core/hub.js';
import { hubDialer } from '../../src/hub/hub-connection.js';
import { mqttHubTransport } from '../../src/hub/session.js';
import type { MqttCarrier } from '../../src/net/mqtt-carrier.js';
import { webSocketCarrier } from '../../src/net/websocket.js';
import { systemClock } from '../../src/system-clock.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { HubClock } from '../fakes/hub-clock.js';
import { fakeSymmetricKeyHsm } from '../fakes/hub-identity.js';
import { WebSocketWire } from '../fakes/websocket-wire.js';
import { startTlsPeer, type Wire, type WirePeer } from '../fakes/wire-peer.js';

/** Everything here is written out by hand after MQTT 3.1.1 and hub-protocol sections 0 to 3; no codec takes part. */
const HUB = 'myhub.azure-devices.net';

const word = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const utf8 = (text: string): Buffer => Buffer.concat([word(Buffer.byteLength(text)), Buffer.from(text)]);

/** Fixed header, section 2.2: type and flags, then the remaining length in sevens of bits. */
function packet(firstByte: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const digits: number[] = [];
  let left = body.length;
  do {
    digits.push(left >= 128 ? (left % 128) | 0x80 : left);
    left = Math.floor(left / 128);
  } while (left > 0);
  return Buffer.concat([Buffer.from([firstByte, ...digits]), body]);
}

const CONNACK = Buffer.from([0x20, 0x02, 0x00, 0x00]);
const DISCONNECT = Buffer.from([0xe0, 0x00]);
const publishQos0 = (topic: string, payload: string): Buffer => packet(0x30, utf8(topic), Buffer.from(payload));
/** The identifier of a SUBSCRIBE, or of a PUBLISH after its topic, is the client's to choose. */
const subackFor = (subscribe: Buffer, ...granted: readonly number[]): Buffer =>
  packet(0x90, subscribe.subarray(2, 4), Buffer.from(granted));

const CONNECT_SAS = packet(
  0x10,
  utf8('MQTT'),
  // Level 4; user name and password, clean session 0; keep-alive 240 s.
  Buffer.from([0x04, 0xc0, 0x00, 0xf0]),
  utf8('dev-1'),
  utf8('myhub.azure-devices.net/dev-1/?api-version=2021-04-12&DeviceClientType=dps-device%2F0.1.0'),
  utf8(
    'SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fdev-1&sig=NAD%2FqUDk3aZ%2BnFRBASQAa05j2ZIJ6G2vybMpkNttIXo%3D&se=1795222800',
  ),
);

const CONNECT_X509 = packet(
  0x10,
  utf8('MQTT'),
  // The same without a password.
  Buffer.from([0x04, 0x80, 0x00, 0xf0]),
  utf8('dev-1'),
  utf8('myhub.azure-devices.net/dev-1/?api-version=2021-04-12&DeviceClientType=dps-device%2F0.1.0'),
);

const subscribeTwin = (id: Buffer): Buffer =>
  packet(
    0x82,
    id,
    utf8('$iothub/twin/res/#'),
    Buffer.from([0]),
    utf8('$iothub/twin/PATCH/properties/desired/#'),
    Buffer.from([0]),
  );

/** The real dialer; only host and port lead to the peer, so that the bytes do not depend on its port. */
async function transportTo(peer: WirePeer, carrier?: MqttCarrier): Promise<HubTransport> {
  const { authority } = await benchCertificates();
  const dial = hubDialer({ ca: authority.certificatePem, connectTimeoutMs: 60_000, clock: systemClock, carrier });
  let requests = 0;
  return mqttHubTransport({
    clock: new HubClock(),
    random: () => 0,
    newRequestId: () => {
      requests += 1;
      return `a${requests}`;
    },
    userAgent: 'dps-device/0.1.0',
    openConnection: (request, signal) => dial({ ...request, host: 'localhost', port: peer.port }, signal),
  });
}

/** A peer that does nothing by itself: the test reads and writes. */
async function startSilentPeer(): Promise<WirePeer> {
  const { server, authority } = await benchCertificates();
  return startTlsPeer(
    { ...server, ca: authority.certificatePem, requestCert: true, rejectUnauthorized: false },
    async () => {},
  );
}

const identity = { hostName: HUB, deviceId: 'dev-1', slot: 0 };

/** Plays the opening of hub-protocol section 0. */
async function openTwin(wire: Pick<Wire, 'readMqttPacket' | 'write'>): Promise<void> {
  await wire.write(CONNACK);
  const subscribe = await wire.readMqttPacket();
  await wire.readMqttPacket();
  await wire.write(subackFor(subscribe, 0, 0));
  await wire.write(
    publishQos0('$iothub/twin/res/200/?$rid=a1', '{"desired":{"$version":4},"reported":{"$version":9}}'),
  );
}

async function openSession(): Promise<{ readonly session: HubSession; readonly wire: Wire }> {
  const peer = await startSilentPeer();
  const transport = await transportTo(peer);
  const opening = transport.open({ ...identity, hsm: fakeSymmetricKeyHsm() }, new AbortController().signal);
  const wire = await peer.wire(0);
  await wire.readMqttPacket();
  await openTwin(wire);
  return { session: await opening, wire };
}

describe('the bytes of a hub session', () => {
  it('are the same over WebSocket, one packet a message, with a Close at the end', async () => {
    const peer = await startSilentPeer();
    const transport = await transportTo(peer, webSocketCarrier);
    const opening = transport.open({ ...identity, hsm: fakeSymmetricKeyHsm() }, new AbortController().signal);
    const webSocket = new WebSocketWire(await peer.wire(0));
    expect(await webSocket.accept()).toMatch(/^GET \/\$iothub\/websocket HTTP\/1\.1\r\n/);
    expect(await webSocket.readMqttPacket()).toEqual(CONNECT_SAS);
    expect(webSocket.messageSizes).toEqual([CONNECT_SAS.length]);
    await openTwin(webSocket);
    const session = await opening;
    expect(session.twin.desired.version).toBe(4);
    const closing = session.close();
    expect(await webSocket.readBytes(2)).toEqual(DISCONNECT);
    expect(webSocket.messageSizes.at(-1)).toBe(2);
    await closing;
    await (await peer.wire(0)).closed;
  });

  it('open it in one go: CONNECT, then SUBSCRIBE and GET before either is answered', async () => {
    const peer = await startSilentPeer();
    const transport = await transportTo(peer);
    const opening = transport.open({ ...identity, hsm: fakeSymmetricKeyHsm() }, new AbortController().signal);
    const wire = await peer.wire(0);
    expect(await wire.readMqttPacket()).toEqual(CONNECT_SAS);
    await wire.write(CONNACK);
    const subscribe = await wire.readMqttPacket();
    expect(subscribe).toEqual(subscribeTwin(subscribe.subarray(2, 4)));
    expect(await wire.readMqttPacket()).toEqual(publishQos0('$iothub/twin/GET/?$rid=a1', ''));
    await wire.write(subackFor(subscribe, 0, 0));
    await wire.write(
      publishQos0('$iothub/twin/PATCH/properties/desired/?$version=5', '{"fan":null,"led":{"on":true},"$version":5}'),
    );
    await wire.write(
      publishQos0('$iothub/twin/res/200/?$rid=a1', '{"desired":{"fan":3,"$version":4},"reported":{"$version":9}}'),
    );
    const session = await opening;
    expect(session.twin.desired).toEqual({ version: 5, properties: { led: { on: true } } });

    const closing = session.close();
    expect(await wire.readMqttPacket()).toEqual(DISCONNECT);
    await closing;
    await wire.closed;
  });

  it('bring no password for X.509', async () => {
    const peer = await startSilentPeer();
    const transport = await transportTo(peer);
    const { device } = await benchCertificates();
    const hsm = { kind: 'x509' as const, registrationId: async () => 'dev-1', tlsCredential: async () => device };
    const opening = transport.open({ ...identity, hsm }, new AbortController().signal);
    const wire = await peer.wire(0);
    expect(await wire.readMqttPacket()).toEqual(CONNECT_X509);
    await openTwin(wire);
    await (await opening).close();
  });

  it('report properties', async () => {
    const { session, wire } = await openSession();
    const reporting = session.report({ fw: '1.2.0' });
    expect(await wire.readMqttPacket()).toEqual(
      publishQos0('$iothub/twin/PATCH/properties/reported/?$rid=a2', '{"fw":"1.2.0"}'),
    );
    await wire.write(publishQos0('$iothub/twin/res/204/?$rid=a2&$version=10', ''));
    expect(await reporting).toBe(10);
    await session.close();
  });

  it('send telemetry at QoS 1', async () => {
    const { session, wire } = await openSession();
    const sending = session.sendTelemetry({ body: { t: 21 }, messageId: 'm/1 2', properties: { 'p a': 'v&=' } });
    const sent = await wire.readMqttPacket();
    const topic =
      'devices/dev-1/messages/events/%24.mid=m%2F1%202&%24.ct=application%2Fjson&%24.ce=utf-8&p%20a=v%26%3D';
    const id = sent.subarray(4 + topic.length, 6 + topic.length);
    expect(sent).toEqual(packet(0x32, utf8(topic), id, Buffer.from('{"t":21}')));
    await wire.write(packet(0x40, id));
    await sending;
    await session.close();
  });

  it('take a cloud-to-device message, and complete it by PUBACK', async () => {
    const { session, wire } = await openSession();
    const received = new Promise<CloudToDeviceMessage>((resolve) => {
      session.onMessage(resolve);
    });
    const subscribe = await wire.readMqttPacket();
    expect(subscribe).toEqual(
      packet(0x82, subscribe.subarray(2, 4), utf8('devices/dev-1/messages/devicebound/#'), Buffer.from([1])),
    );
    await wire.write(subackFor(subscribe, 1));
    await wire.write(
      packet(
        0x32,
        utf8(
          'devices/dev-1/messages/devicebound/%24.to=%2Fdevices%2Fdev-1%2Fmessages%2Fdevicebound&%24.mid=m7&iothub-ack=full',
        ),
        word(0x1234),
        Buffer.from('hello'),
      ),
    );
    const message = await received;
    expect(Buffer.from(message.body).toString()).toBe('hello');
    expect(message).toMatchObject({ messageId: 'm7', properties: { 'iothub-ack': 'full' } });
    expect(await wire.readMqttPacket()).toEqual(packet(0x40, word(0x1234)));
    await session.close();
  });

  it('answer a direct method', async () => {
    const { session, wire } = await openSession();
    session.onMethod('reboot', (payload) => ({ status: 200, payload: { after: payload } }));
    const subscribe = await wire.readMqttPacket();
    expect(subscribe).toEqual(packet(0x82, subscribe.subarray(2, 4), utf8('$iothub/methods/POST/#'), Buffer.from([0])));
    await wire.write(subackFor(subscribe, 0));
    await wire.write(publishQos0('$iothub/methods/POST/reboot/?$rid=1f', '5'));
    expect(await wire.readMqttPacket()).toEqual(publishQos0('$iothub/methods/res/200/?$rid=1f', '{"after":5}'));
    await session.close();
  });

  it('end in an error that lists the causes when CONNACK says 5', async () => {
    const peer = await startSilentPeer();
    const transport = await transportTo(peer);
    const opening = transport.open({ ...identity, hsm: fakeSymmetricKeyHsm() }, new AbortController().signal);
    const wire = await peer.wire(0);
    await wire.readMqttPacket();
    await wire.write(Buffer.from([0x20, 0x02, 0x00, 0x05]));
    await expect(opening).rejects.toMatchObject({
      code: 'ERR_DPS_CONNACK_UNAUTHORIZED',
      retryable: false,
      message: expect.stringMatching(/key .*clock .*2026-11-21.*disabled or deleted.*moved/),
    });
    await wire.closed;
  });

  it('end in an error when a filter is refused', async () => {
    const peer = await startSilentPeer();
    const transport = await transportTo(peer);
    const opening = transport.open({ ...identity, hsm: fakeSymmetricKeyHsm() }, new AbortController().signal);
    const wire = await peer.wire(0);
    await wire.readMqttPacket();
    await wire.write(CONNACK);
    const subscribe = await wire.readMqttPacket();
    await wire.readMqttPacket();
    await wire.write(subackFor(subscribe, 0, 0x80));
    await expect(opening).rejects.toMatchObject({ code: 'ERR_DPS_PROTOCOL_MQTT' });
    await wire.closed;
  });

  it('end the session, and what is under way, when the connection breaks', async () => {
    const { session, wire } = await openSession();
    const reporting = session.report({ a: 1 });
    await wire.readMqttPacket();
    wire.cut();
    await expect(reporting).rejects.toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST', retryable: true });
    expect(await session.closed).toMatchObject({ code: 'ERR_DPS_CONNECTION_LOST' });
  });
});
