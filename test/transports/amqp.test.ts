import { describe, expect, it } from 'vitest';
import type { DpsConnection, DpsCredential } from '../../src/core/transport.js';
import { amqpDpsTransport } from '../../src/transports/amqp.js';
import { describeDpsTransport } from '../contracts/dps-transport.js';
import { AMQP_HEADER, readFrame, SASL_HEADER, saslFrame, symbol } from '../fakes/amqp-bytes.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import {
  AMQP_STAGES,
  attachBack,
  begin,
  credit,
  detach,
  open,
  playDps,
  readAttaches,
  readTransfer,
  replyTransfer,
  saslOutcome,
} from '../fakes/dps-over-amqp.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { startTlsPeer, type Wire } from '../fakes/wire-peer.js';

const never = new AbortController().signal;
const REGISTER = { kind: 'register', body: Buffer.from('{"registrationId":"dev-1"}') } as const;
const SAS: DpsCredential = { kind: 'sas', token: 'SharedAccessSignature sr=x' };

/** A connection whose peer says, after the SASL header, what the test has it say. */
async function bench(credential: DpsCredential, script: (wire: Wire) => Promise<void>) {
  const { authority, server } = await benchCertificates();
  const peer = await startTlsPeer(server, script);
  let requests = 0;
  const transport = amqpDpsTransport({
    ca: authority.certificatePem,
    clock: new ManualClock(),
    userAgent: 'dps-device/0.1.0',
    randomUuid: () => {
      requests += 1;
      return `r${requests}`;
    },
  });
  const parameters = { endpoint: peer.endpoint, idScope: '0ne00111111', registrationId: 'dev-1', credential };
  return { peer, opening: transport.open(parameters, never) };
}

async function admit(wire: Wire): Promise<readonly unknown[]> {
  expect(await wire.readBytes(8)).toEqual(SASL_HEADER);
  await wire.write(Buffer.concat([SASL_HEADER, saslFrame(0x40, [symbol('PLAIN')])]));
  const { fields } = await readFrame(wire);
  await wire.write(saslOutcome(0));
  await wire.readBytes(8);
  await readFrame(wire);
  await wire.write(Buffer.concat([AMQP_HEADER, open()]));
  return fields;
}

async function connected(): Promise<{ readonly connection: DpsConnection; readonly wire: Wire }> {
  const { peer, opening } = await bench(SAS, async (wire) => {
    await admit(wire);
  });
  return { connection: await opening, wire: await peer.wire(0) };
}

describe('amqpDpsTransport', () => {
  describeDpsTransport({ create: amqpDpsTransport, stages: AMQP_STAGES, play: playDps });

  it('goes by the name of amqp', () => {
    expect(amqpDpsTransport({ clock: new ManualClock(), randomUuid: () => 'r' }).name).toBe('amqp');
  });

  it('gives the token in SASL PLAIN, and asks for no SASL layer with a certificate', async () => {
    let init: readonly unknown[] = [];
    const withToken = await bench(SAS, async (wire) => {
      init = await admit(wire);
    });
    await (await withToken.opening).close();
    const response = Buffer.from('\0' + '0ne00111111/registrations/dev-1\0SharedAccessSignature sr=x');
    expect(init).toEqual(['PLAIN', response, 'localhost']);
    const { device } = await benchCertificates();
    const withCertificate = await bench({ kind: 'x509', tls: device }, async (wire) => {
      expect(await wire.readBytes(8)).toEqual(AMQP_HEADER);
      await readFrame(wire);
      await wire.write(Buffer.concat([AMQP_HEADER, open()]));
    });
    await (await withCertificate.opening).close();
  });

  it('sends what the service wants to know of a request', async () => {
    const { connection, wire } = await connected();
    const first = connection.exchange(REGISTER, never);
    const links = await readAttaches(wire);
    for (const { attach } of links) {
      expect(attach.fields[13]).toEqual([
        ...['com.microsoft:api-version', '2021-06-01'],
        ...['com.microsoft:client-version', 'dps-device/0.1.0'],
      ]);
    }
    await wire.write(Buffer.concat([begin(), ...links.map(attachBack), credit(links)]));
    const register = await readTransfer(wire);
    expect(register).toMatchObject({
      correlationId: 'r2',
      applicationProperties: { 'iotdps-operation-type': 'iotdps-register', 'iotdps-forceRegistration': false },
      body: REGISTER.body,
    });
    await wire.write(replyTransfer(links, 0, 'r2', { status: 202, body: '{}', retryAfter: '3' }));
    expect(await first).toMatchObject({ status: 202, retryAfter: '3' });
    // The links are there already.
    const second = connection.exchange({ kind: 'operationStatus', operationId: '5.71cf' }, never);
    expect((await readTransfer(wire)).applicationProperties).toEqual({
      'iotdps-operation-type': 'iotdps-get-operationstatus',
      'iotdps-operation-id': '5.71cf',
    });
    await wire.write(replyTransfer(links, 1, 'r3', { status: 200, body: '{}' }));
    expect(await second).toMatchObject({ status: 200 });
    await connection.close();
  });

  it('takes the detach of a link for the reply that it is', async () => {
    const { connection, wire } = await connected();
    const exchange = connection.exchange(REGISTER, never);
    const links = await readAttaches(wire);
    const [link] = links;
    if (link === undefined) throw new Error('no link');
    const body = '{"errorCode":401002,"message":"CA certificate not found"}';
    const refusal = detach(link, 'amqp:unauthorized-access', body);
    await wire.write(Buffer.concat([begin(), ...links.map(attachBack), refusal]));
    expect(await exchange).toEqual({ kind: 'reply', status: 401, body: new Uint8Array(Buffer.from(body)) });
    await connection.close();
  });

  it('takes an outcome of the SASL layer for one, too, at the first request', async () => {
    const { opening } = await bench(SAS, async (wire) => {
      await wire.readBytes(8);
      await wire.write(Buffer.concat([SASL_HEADER, saslFrame(0x40, [symbol('PLAIN')])]));
      await readFrame(wire);
      await wire.write(saslOutcome(1));
    });
    const connection = await opening;
    expect(await connection.exchange(REGISTER, never)).toEqual({ kind: 'reply', status: 401, body: new Uint8Array(0) });
    await expect(connection.exchange(REGISTER, AbortSignal.abort('enough'))).rejects.toBe('enough');
    await connection.close();
  });

  it('refuses what DPS does not offer over AMQP', async () => {
    const { connection } = await connected();
    const lookup = connection.exchange({ kind: 'statusLookup', body: Buffer.from('{}') }, never);
    await expect(lookup).rejects.toMatchObject({ code: 'ERR_DPS_CONFIG_UNSUPPORTED' });
    await connection.close();
  });
});
