import { describe, expect, it } from 'vitest';
import { exportHubKey, makeHubCredential, TokenLife } from '../../src/hub/credentials.js';
import { failureOf } from '../fakes/hub-bench.js';
import { HubClock } from '../fakes/hub-clock.js';
import { DEVICE_KEY, fakeSymmetricKeyHsm, fakeTpmHsm, fakeX509Hsm } from '../fakes/hub-identity.js';

const NEVER = new AbortController().signal;

// 2026-11-21T00:00:00Z is 1795219200.
const sources = () => ({ clock: new HubClock(), random: () => 0, tokenLifeSeconds: 3600 });

describe('makeHubCredential', () => {
  it('signs host and device, percent-encoded, and the expiry', async () => {
    const hsm = fakeSymmetricKeyHsm();
    const parameters = { hostName: 'myhub.azure-devices.net', deviceId: 'dev-1', hsm, slot: 0 };
    const credential = await makeHubCredential(parameters, sources(), NEVER);
    expect(hsm.signed).toEqual(['myhub.azure-devices.net%2Fdevices%2Fdev-1\n1795222800']);
    // Signature computed by another implementation of HMAC-SHA256 (Python's).
    expect(credential).toMatchObject({
      kind: 'sas',
      expirySeconds: 1795222800,
      token:
        'SharedAccessSignature sr=myhub.azure-devices.net%2Fdevices%2Fdev-1&sig=NAD%2FqUDk3aZ%2BnFRBASQAa05j2ZIJ6G2vybMpkNttIXo%3D&se=1795222800',
    });
  });

  it('uses the key of the slot that DPS accepted', async () => {
    const second = `B${DEVICE_KEY.slice(1)}`;
    const both = { hsm: fakeSymmetricKeyHsm([DEVICE_KEY, second]), slot: 1 };
    const alone = { hsm: fakeSymmetricKeyHsm([second]), slot: 0 };
    const tokens = [both, alone].map(async (identity) =>
      makeHubCredential({ hostName: 'h', deviceId: 'd', ...identity }, sources(), NEVER),
    );
    const [a, b] = await Promise.all(tokens);
    expect(a?.kind === 'sas' && a.token).toBe(b?.kind === 'sas' && b.token);
  });

  it('signs by TPM as by key, and brings the certificate of X.509', async () => {
    const tpm = await makeHubCredential({ hostName: 'h', deviceId: 'd', hsm: fakeTpmHsm(), slot: 0 }, sources(), NEVER);
    expect(tpm.kind).toBe('sas');
    const x509 = await makeHubCredential(
      { hostName: 'h', deviceId: 'd', hsm: fakeX509Hsm(), slot: 0 },
      sources(),
      NEVER,
    );
    expect(x509).toEqual({
      kind: 'x509',
      tls: { certificateChainPem: 'CHAIN', privateKeyPem: 'PRIVATE', passphrase: 'PASSPHRASE' },
    });
  });

  it.each([0, Date.UTC(2025, 11, 31, 23, 59, 59), 5e15, 9e18])(
    'makes no token when the clock says %d',
    async (wallMs) => {
      const world = { ...sources(), clock: new HubClock(wallMs) };
      const hsm = fakeSymmetricKeyHsm();
      const making = makeHubCredential({ hostName: 'h', deviceId: 'd', hsm, slot: 0 }, world, NEVER);
      expect(await failureOf(making)).toMatchObject({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE' });
      expect(hsm.signed).toEqual([]);
    },
  );

  it('lets X.509 pass by a wrong clock: no token is made', async () => {
    const world = { ...sources(), clock: new HubClock(0) };
    const parameters = { hostName: 'h', deviceId: 'd', hsm: fakeX509Hsm(), slot: 0 };
    expect((await makeHubCredential(parameters, world, NEVER)).kind).toBe('x509');
  });
});

describe('an HSM of the application’s own', () => {
  const fails = (): never => {
    throw new Error('no');
  };

  it.each<[string, unknown]>([
    ['a symbol', Symbol('s')],
    ['an object without a text form', { toString: fails }],
    ['an object without a prototype', Object.create(null)],
    ['an error that keeps its message', Object.defineProperty(new Error('x'), 'message', { get: fails })],
    ['nothing', undefined],
  ])('may throw anything (%s)', async (_name, thrown) => {
    const hsm = { ...fakeSymmetricKeyHsm(), sign: () => Promise.reject(thrown) };
    const making = makeHubCredential({ hostName: 'h', deviceId: 'd', hsm, slot: 0 }, sources(), NEVER);
    const error = await failureOf(making);
    expect(error).toMatchObject({ name: 'HsmError', code: 'ERR_DPS_HSM_OPERATION', operation: 'sign the hub token' });
    expect(Object.is(error.cause, thrown)).toBe(true);
  });

  it.each<[string, unknown]>([
    ['undefined', undefined],
    ['a text', 'c2VjcmV0'],
    ['31 bytes', new Uint8Array(31)],
  ])('may sign with %s, and is found out', async (got, signature) => {
    const hsm = { ...fakeSymmetricKeyHsm(), sign: async () => signature as Uint8Array };
    const making = makeHubCredential({ hostName: 'h', deviceId: 'd', hsm, slot: 0 }, sources(), NEVER);
    expect(await failureOf(making)).toMatchObject({
      code: 'ERR_DPS_HSM_OPERATION',
      message: expect.stringContaining(`not ${got}.`),
    });
  });

  it('may give no certificate, or no key to export, and is found out', async () => {
    const x509 = { ...fakeX509Hsm(), tlsCredential: async () => ({}) as never };
    expect(
      await failureOf(makeHubCredential({ hostName: 'h', deviceId: 'd', hsm: x509, slot: 0 }, sources(), NEVER)),
    ).toMatchObject({ code: 'ERR_DPS_HSM_OPERATION', message: expect.stringContaining('certificateChainPem') });
    const key = { ...fakeSymmetricKeyHsm(), exportKey: async () => undefined as never };
    expect(await failureOf(exportHubKey(key, 0, NEVER))).toMatchObject({ code: 'ERR_DPS_HSM_OPERATION' });
  });
});

describe('TokenLife', () => {
  it('is due after 80 to 85 percent and over after 100, by the monotonic clock', () => {
    const clock = new HubClock();
    const [early, late] = [new TokenLife(clock, () => 0, 1000), new TokenLife(clock, () => 0.999, 1000)];
    expect([early.untilRenewalMs(), late.untilRenewalMs()]).toEqual([800_000, 849_950]);
    clock.advance(800_000);
    expect(early.untilRenewalMs()).toBe(0);
    expect(early.isOver()).toBe(false);
    clock.advance(199_999);
    expect(early.isOver()).toBe(false);
    clock.advance(1);
    expect(early.isOver()).toBe(true);
  });
});
