import { describe, expect, it } from 'vitest';
import type { DpsConnection, DpsCredential } from '../../src/core/transport.js';
import { ConfigurationError, ProtocolError } from '../../src/errors.js';
import { mqttDpsTransport } from '../../src/transports/mqtt.js';
import { describeDpsTransport } from '../contracts/dps-transport.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { MQTT_STAGES, nextRequest, playDps } from '../fakes/dps-over-mqtt.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { bytes, publishPacket } from '../fakes/mqtt-bytes.js';
import { startTlsPeer, type Wire } from '../fakes/wire-peer.js';

const never = new AbortController().signal;
const CONNACK = bytes('20 02 00 00');
const SUBACK = bytes('90 03 0001 01');
const REGISTER = { kind: 'register', body: Buffer.from('{}') } as const;

interface Bench {
  readonly connection: DpsConnection;
  readonly wire: Wire;
}

/** A connection whose SUBACK, PUBACK and replies the test sends itself. */
async function connectedBench(): Promise<Bench> {
  const { authority, server } = await benchCertificates();
  const peer = await startTlsPeer(server, async (wire) => {
    await wire.readMqttPacket();
    await wire.write(CONNACK);
  });
  let requests = 0;
  const transport = mqttDpsTransport({
    ca: authority.certificatePem,
    clock: new ManualClock(),
    randomUuid: () => {
      requests += 1;
      return `r${requests}`;
    },
  });
  const identity = { idScope: '0ne00111111', registrationId: 'dev-1' };
  const credential: DpsCredential = { kind: 'sas', token: 'token' };
  const connection = await transport.open({ endpoint: peer.endpoint, ...identity, credential }, never);
  return { connection, wire: await peer.wire(0) };
}

const replyOn = (topic: string, payload = '{}') => publishPacket({ topic, packetId: 9, payload: Buffer.from(payload) });

describe('mqttDpsTransport', () => {
  describeDpsTransport({
    create: mqttDpsTransport,
    stages: MQTT_STAGES,
    play: playDps,
  });

  it('goes by the name of mqtt', () => {
    expect(mqttDpsTransport({ clock: new ManualClock(), randomUuid: () => 'r' }).name).toBe('mqtt');
  });

  it('sends SUBSCRIBE and the first request together, and SUBSCRIBE once', async () => {
    const { connection, wire } = await connectedBench();
    const first = connection.exchange(REGISTER, never);
    expect((await wire.readMqttPacket())[0]).toBe(0x82);
    expect((await wire.readMqttPacket())[0]).toBe(0x32);
    await wire.write(Buffer.concat([SUBACK, bytes('40 02 0002'), replyOn('$dps/registrations/res/202/?$rid=r1')]));
    await first;
    const second = connection.exchange(REGISTER, never);
    expect((await nextRequest(wire)).topic).toContain('$rid=r2');
    await wire.write(replyOn('$dps/registrations/res/202/?$rid=r2'));
    await second;
    await connection.close();
  });

  it('fails when the subscription is refused, even if there is a reply', async () => {
    const { connection, wire } = await connectedBench();
    const exchange = connection.exchange(REGISTER, never);
    await nextRequest(wire);
    await wire.write(Buffer.concat([replyOn('$dps/registrations/res/202/?$rid=r1'), bytes('90 03 0001 80')]));
    await expect(exchange).rejects.toMatchObject({ code: 'ERR_DPS_PROTOCOL_MQTT' });
    await expect(connection.exchange(REGISTER, never)).rejects.toBeInstanceOf(ProtocolError);
    await connection.close();
  });

  it('waits for the SUBACK also when the reply comes first', async () => {
    const { connection, wire } = await connectedBench();
    const exchange = connection.exchange(REGISTER, never);
    await nextRequest(wire);
    await wire.write(Buffer.concat([replyOn('$dps/registrations/res/202/?$rid=r1'), SUBACK]));
    expect(await exchange).toMatchObject({ status: 202 });
    await connection.close();
  });

  it('passes over replies to others and other topics, and acknowledges them all', async () => {
    const { connection, wire } = await connectedBench();
    const exchange = connection.exchange(REGISTER, never);
    await nextRequest(wire);
    await wire.write(
      Buffer.concat([
        SUBACK,
        replyOn('$dps/registrations/res/500/?$rid=somebody-else', 'not for us'),
        replyOn('some/other/topic', 'not for us'),
        replyOn('$dps/registrations/res/202/?$rid=r1&retry-after=3&later=1', 'for us'),
      ]),
    );
    expect(await exchange).toEqual({
      kind: 'reply',
      status: 202,
      retryAfter: '3',
      body: new Uint8Array(Buffer.from('for us')),
    });
    for (let index = 0; index < 3; index += 1) expect(await wire.readMqttPacket()).toEqual(bytes('40 02 0009'));
    await connection.close();
  });

  it('fails the exchange in flight on a reply topic that it cannot read, and goes on', async () => {
    const { connection, wire } = await connectedBench();
    const exchange = connection.exchange(REGISTER, never);
    await nextRequest(wire);
    await wire.write(Buffer.concat([SUBACK, replyOn('$dps/registrations/res/ok/?$rid=r1')]));
    await expect(exchange).rejects.toMatchObject({ code: 'ERR_DPS_PROTOCOL_TOPIC' });
    const next = connection.exchange(REGISTER, never);
    await nextRequest(wire);
    await wire.write(replyOn('$dps/registrations/res/202/?$rid=r2'));
    expect(await next).toMatchObject({ status: 202 });
    await connection.close();
  });

  it('takes a reply that comes together with the end of the connection', async () => {
    const { connection, wire } = await connectedBench();
    const exchange = connection.exchange(REGISTER, never);
    await nextRequest(wire);
    wire.end(Buffer.concat([SUBACK, bytes('40 02 0002'), replyOn('$dps/registrations/res/401/?$rid=r1')]));
    expect(await exchange).toMatchObject({ status: 401 });
    await connection.close();
  });

  it('says what CONNACK 3 means at DPS', async () => {
    const { authority, server } = await benchCertificates();
    const peer = await startTlsPeer(server, (wire) => wire.write(bytes('20 02 00 03')));
    const transport = mqttDpsTransport({
      ca: authority.certificatePem,
      clock: new ManualClock(),
      randomUuid: () => 'r',
    });
    const identity = { idScope: '0neTYPO', registrationId: 'dev-1' };
    const opening = transport.open(
      { endpoint: peer.endpoint, ...identity, credential: { kind: 'sas', token: 'token' } },
      never,
    );
    await expect(opening).rejects.toMatchObject({ code: 'ERR_DPS_CONNACK_UNAVAILABLE', retryable: true });
    await expect(opening).rejects.toThrow(/unavailable.*ID scope "0neTYPO" is wrong/);
  });

  it('refuses what DPS does not offer over MQTT', async () => {
    const transport = mqttDpsTransport({ clock: new ManualClock(), randomUuid: () => 'r' });
    const key = Uint8Array.of(1);
    const tpm: DpsCredential = { kind: 'tpm', endorsementKey: key, storageRootKey: key };
    const opening = transport.open(
      { endpoint: 'dps.example', idScope: 's', registrationId: 'r', credential: tpm },
      never,
    );
    await expect(opening).rejects.toBeInstanceOf(ConfigurationError);
    await expect(opening).rejects.toMatchObject({ code: 'ERR_DPS_CONFIG_UNSUPPORTED' });
    await expect(opening).rejects.toThrow('DPS does not take a TPM over MQTT; use https or amqp.');
    const { connection } = await connectedBench();
    const lookup = connection.exchange({ kind: 'statusLookup', body: Buffer.from('{}') }, never);
    await expect(lookup).rejects.toMatchObject({ code: 'ERR_DPS_CONFIG_UNSUPPORTED' });
    await connection.close();
  });
});
