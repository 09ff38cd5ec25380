import { describe, expect, it, onTestFinished } from 'vitest';
import { type Emulator, type EmulatorConfig, startEmulator } from '../../src/emulator/index.js';
import * as amqp from '../fakes/amqp-bytes.js';
import { ManualClock } from '../fakes/manual-clock.js';
import { AmqpProbe } from './amqp-probe.js';
import { SoftwareTpm } from './software-tpm.js';
import { DEVICE_KEY, dpsToken } from './tokens.js';

const SCOPE = '0ne00111111';
const TPM = new SoftwareTpm();
const FAR_FUTURE = 4_000_000_000;
const USER = `${SCOPE}/registrations/dev-1`;

const REGISTER = [amqp.text('iotdps-operation-type'), amqp.text('iotdps-register')];

async function bench(config: EmulatorConfig = {}): Promise<Emulator> {
  const attestation = { symmetricKey: { primaryKey: DEVICE_KEY } };
  const emulator = await startEmulator({ idScope: SCOPE, ...config }, { clock: new ManualClock() });
  emulator.enroll({ registrationId: 'dev-1', attestation });
  onTestFinished(() => emulator.close());
  return emulator;
}

const plain = (token = dpsToken(SCOPE, 'dev-1', DEVICE_KEY, FAR_FUTURE), user = USER): Buffer =>
  Buffer.from(`\0${user}\0${token}`);

describe('the emulator’s DPS over AMQP', () => {
  it.each([USER, `/${USER}`, `amqps://localhost:5671/${USER}`])('takes the address %s', async (address) => {
    const probe = await AmqpProbe.connect(await bench());
    expect(await probe.sasl('PLAIN', plain())).toEqual([0]);
    await probe.attach(address);
    await probe.next(0x12);
    await probe.request(0, amqp.text('c-1'), ...REGISTER);
    // Settled as accepted first, then answered.
    const settled = await probe.next(0x15);
    expect(settled.fields.slice(0, 5)).toMatchObject([true, 0, 0, true, { code: 0x24 }]);
    const { payload } = await probe.next(0x14);
    expect((amqp.sectionOf(payload, 0x73) as amqp.AmqpValue[])[5]).toBe('c-1');
    expect(amqp.sectionOf(payload, 0x74)).toEqual(['retry-after', 3, 'Retry-After', 3]);
    const body = JSON.parse(String(amqp.sectionOf(payload, 0x75))) as { status: string };
    expect(body.status).toBe('assigning');
  });

  it('answers whoever drains four billion credits', async () => {
    const emulator = await bench();
    const probe = await AmqpProbe.connect(emulator);
    await probe.sasl('PLAIN', plain());
    await probe.attach(USER);
    const session = [amqp.uint(0), amqp.uint(100), amqp.uint(0), amqp.uint(100)];
    const link = [amqp.uint(0), amqp.uint(0), amqp.uint(0xffff_ffff), amqp.uint(0), amqp.TRUE];
    await probe.write(amqp.amqpFrame(0x13, [...session, ...link]));
    await probe.request(0, amqp.text('c-1'), ...REGISTER);
    const { payload } = await probe.next(0x14);
    expect((amqp.sectionOf(payload, 0x73) as amqp.AmqpValue[])[5]).toBe('c-1');
    expect(emulator.trace.count({ protocol: 'amqp', event: 'violation' })).toBe(0);
  });

  it('echoes the correlation id, or none', async () => {
    const probe = await AmqpProbe.connect(await bench());
    await probe.sasl('PLAIN', plain());
    await probe.attach(USER);
    await probe.request(0, amqp.NULL, ...REGISTER);
    const { payload } = await probe.next(0x14);
    expect(amqp.sectionOf(payload, 0x73)).toSatisfy(
      (fields) => fields === undefined || (fields as amqp.AmqpValue[])[5] == null,
    );
  });

  it('rejects with the error body as description, under a condition that clients know', async () => {
    const emulator = await bench();
    emulator.faults.add({ at: 'dps.register', action: { kind: 'respond', status: 429, retryAfter: '7' } });
    const probe = await AmqpProbe.connect(emulator);
    await probe.sasl('PLAIN', plain());
    await probe.attach(USER);
    await probe.request(0, amqp.text('c-1'), ...REGISTER);
    const { fields } = await probe.next(0x15);
    const { code, value } = fields[4] as { code: number; value: amqp.AmqpValue[] };
    const [condition, description, info] = (value[0] as amqp.Described).value as readonly amqp.AmqpValue[];
    expect(code).toBe(0x25);
    expect(condition).toBe('com.microsoft:device-container-throttled');
    expect(JSON.parse(String(description))).toMatchObject({ errorCode: 429001 });
    expect(info).toEqual(['retry-after', 7, 'Retry-After', 7]);
  });

  it('lets a wrong key in, and rejects its first request', async () => {
    const emulator = await bench();
    const probe = await AmqpProbe.connect(emulator);
    expect(await probe.sasl('PLAIN', plain('SharedAccessSignature sr=x&sig=eA%3D%3D&se=1'))).toEqual([0]);
    await probe.attach(USER);
    await probe.request(0, amqp.text('c-1'), ...REGISTER);
    const { fields } = await probe.next(0x15);
    expect(JSON.stringify(fields[4])).toContain('amqp:unauthorized-access');
    expect(emulator.trace.entries({ event: 'refused' })).toMatchObject([{ protocol: 'amqp', status: 401 }]);
  });

  it('is asked without a SASL layer by a device with neither certificate nor key', async () => {
    const probe = await AmqpProbe.connect(await bench());
    await probe.attach(USER);
    await probe.request(0, amqp.text('c-1'), ...REGISTER);
    expect(JSON.stringify((await probe.next(0x15)).fields[4])).toContain('401002');
  });

  it('offers PLAIN and TPM, and refuses what it did not offer', async () => {
    const probe = await AmqpProbe.connect(await bench());
    await probe.write(amqp.SASL_HEADER);
    await probe.readBytes(8);
    const offered = await probe.skipMechanisms();
    for (const name of ['PLAIN', 'TPM', 'MSSBCBS']) expect(offered).toContain(name);
    await probe.write(amqp.saslFrame(0x41, [amqp.symbol('EXTERNAL')]));
    expect((await amqp.readFrame(probe)).fields).toEqual([1]);
    await probe.closed;
  });

  it.each([
    ['a scope that is not there', plain('x', '0neFFFFFFFF/registrations/dev-1')],
    ['a user name of something else', plain('x', 'somebody')],
    ['no password', Buffer.from('\0user')],
  ])('ends the SASL layer for %s', async (_name, response) => {
    const probe = await AmqpProbe.connect(await bench());
    expect(await probe.sasl('PLAIN', response)).toEqual([1]);
    await probe.closed;
  });

  it('challenges a TPM in two segments, 80 and C1', async () => {
    const emulator = await bench();
    const { endorsementKey } = TPM.tpm;
    emulator.enroll({ registrationId: 'tpm-1', attestation: { type: 'tpm', tpm: { endorsementKey } } });
    const probe = await AmqpProbe.connect(emulator);
    const opening = Buffer.concat([Buffer.from(`\0${SCOPE}\0tpm-1\0`), TPM.endorsementKey]);
    const answer = async (response: Uint8Array): Promise<Buffer> => {
      await probe.write(amqp.saslFrame(0x43, [amqp.binary(response)]));
      return (await amqp.readFrame(probe)).fields[0] as Buffer;
    };
    expect(await probe.sasl('TPM', opening)).toEqual([Buffer.of(0)]);
    const first = await answer(Buffer.concat([Buffer.of(0), TPM.storageRootKey]));
    const second = await answer(Buffer.of(0));
    expect([first[0], second[0]]).toEqual([0x80, 0xc1]);
    // Part 5, section 5.3.1: no SASL frame has more than 512 bytes.
    expect(Math.max(first.length, second.length)).toBeLessThan(480);
    const key = TPM.activate(Buffer.concat([first.subarray(1), second.subarray(1)]));
    const token = dpsToken(SCOPE, 'tpm-1', key.toString('base64'), FAR_FUTURE);
    await probe.write(amqp.saslFrame(0x43, [amqp.binary(Buffer.from(`\0${token}`))]));
    expect((await amqp.readFrame(probe)).fields).toEqual([0]);
  });

  it.each([
    ['an older AMQP', '414d515001010009'],
    ['TLS within TLS', '414d515002010000'],
  ])('answers %s with what it speaks, and closes', async (_name, header) => {
    const probe = await AmqpProbe.connect(await bench());
    await probe.write(Buffer.from(header, 'hex'));
    expect(await probe.readBytes(8)).toEqual(amqp.AMQP_HEADER);
    await probe.closed;
  });

  it.each([
    ['HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['a frame first', amqp.amqpFrame(0x10, [amqp.text('probe')])],
    ['a frame that is too large', Buffer.concat([amqp.AMQP_HEADER, Buffer.from('00ffffff02000000', 'hex')])],
    ['a frame of no size', Buffer.concat([amqp.AMQP_HEADER, Buffer.from('0000000002000000', 'hex')])],
    [
      'a frame of a SASL layer that is over',
      Buffer.concat([amqp.AMQP_HEADER, amqp.saslFrame(0x41, [amqp.symbol('PLAIN')])]),
    ],
    ['an array that would fill the memory', Buffer.concat([amqp.AMQP_HEADER, hugeArray()])],
    ['a broken frame', Buffer.concat([amqp.AMQP_HEADER, amqp.amqpFrame(0x12, [amqp.uint(1)])])],
    ['half a SASL frame', Buffer.concat([amqp.SASL_HEADER, Buffer.from('0000000c0201000000534190', 'hex')])],
  ])('survives %s', async (_name, bytes) => {
    const emulator = await bench();
    const probe = await AmqpProbe.connect(emulator);
    await probe.write(bytes);
    await probe.closed;
    expect(emulator.trace.count({ protocol: 'amqp', event: 'violation' })).toBe(1);
    const next = await AmqpProbe.connect(emulator);
    expect(await next.sasl('PLAIN', plain())).toEqual([0]);
  });

  it('shows no token and no key in its trace', async () => {
    const emulator = await bench();
    const probe = await AmqpProbe.connect(emulator);
    await probe.sasl('PLAIN', plain());
    await probe.attach(USER);
    await probe.request(0, amqp.text('c-1'), ...REGISTER);
    await probe.next(0x14);
    const shown = JSON.stringify(emulator.trace.entries());
    expect(shown).not.toContain('SharedAccess');
    expect(shown).not.toContain(DEVICE_KEY.slice(0, 20));
  });
});

/** OPEN whose field is an array of four billion nulls. */
function hugeArray(): Buffer {
  const body = Buffer.from('005310d00000000e00000001f000000006ffffffff40', 'hex');
  const header = Buffer.of(0, 0, 0, body.length + 8, 2, 0, 0, 0);
  return Buffer.concat([header, body]);
}
