import { describe, expect, it } from 'vitest';
import type { HubTransportConfig } from '../../src/azure/credential-desk.js';
import {
  HubCertificateProvider,
  type HubCredentialsSource,
  HubTokenProvider,
} from '../../src/azure/hub-credentials.js';
import type { CancelSignal } from '../../src/core/cancel-signal.js';
import type { MqttClientOptions } from '../../src/core/hub.js';
import { ClockError, HsmError } from '../../src/errors.js';
import { ManualClock } from '../fakes/manual-clock.js';

const HOST = 'hub.example:8883';

/** Gives tokens `token-1`, `token-2`, … that live `lifeSeconds` by the clock; or what `next` holds instead. */
function bench(lifeSeconds = 3600) {
  const clock = new ManualClock();
  const state = { made: 0, lifeSeconds, next: undefined as Error | 'hang' | undefined, signals: [] as CancelSignal[] };
  const source: HubCredentialsSource = {
    host: HOST,
    deviceId: 'dev-1',
    clock,
    random: () => 0.5,
    timeoutMs: 30_000,
    mqttOptions: async (signal) => {
      state.signals.push(signal);
      if (state.next === 'hang') return new Promise(() => {});
      if (state.next !== undefined) throw state.next;
      state.made += 1;
      return tokenOptions(`token-${state.made}`, clock.wallMs() / 1000 + state.lifeSeconds);
    },
  };
  const provider = new HubTokenProvider(source);
  const announced: string[] = [];
  provider.on('newTokenAvailable', ({ sharedAccessSignature }: HubTransportConfig) =>
    announced.push(sharedAccessSignature ?? ''),
  );
  return { clock, state, source, provider, announced };
}

const tokenOptions = (password: string, passwordExpiresAtSeconds: number): MqttClientOptions =>
  ({ password, passwordExpiresAtSeconds }) as Partial<MqttClientOptions> as MqttClientOptions;

const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** 82.5 percent of an hour: 80, and half of the 5 that are left to chance. */
const RENEWAL_MS = 2_970_000;

describe('HubTokenProvider', () => {
  it('says that it works with tokens', () => {
    expect(bench().provider.type).toBe(1);
  });

  it('hands out host, device id and token, and announces nothing for the first one', async () => {
    const { provider, announced } = bench();
    const credentials = { host: HOST, deviceId: 'dev-1', sharedAccessSignature: 'token-1' };
    expect(await provider.getDeviceCredentials()).toEqual(credentials);
    const viaCallback = await new Promise((resolve) =>
      provider.getDeviceCredentials((error, config) => resolve([error, config])),
    );
    expect(viaCallback).toEqual([null, credentials]);
    expect(announced).toEqual([]);
  });

  it('makes one token for all who ask while it is being made, and hands it out while it is fresh', async () => {
    const { provider, state, clock } = bench();
    await Promise.all([provider.getDeviceCredentials(), provider.getDeviceCredentials()]);
    provider.stop();
    clock.advance(RENEWAL_MS - 1);
    expect(await provider.getDeviceCredentials()).toMatchObject({ sharedAccessSignature: 'token-1' });
    expect(state.made).toBe(1);
  });

  it('makes a new one for a connection when the old one is due for renewal', async () => {
    const { provider, clock } = bench();
    await provider.getDeviceCredentials();
    provider.stop();
    clock.advance(RENEWAL_MS);
    expect(await provider.getDeviceCredentials()).toMatchObject({ sharedAccessSignature: 'token-2' });
  });

  it('makes a new one after the wall clock was set forward', async () => {
    const { provider, clock } = bench();
    await provider.getDeviceCredentials();
    const wallMs = clock.wallMs() + 3_500_000;
    clock.wallMs = () => wallMs;
    expect(await provider.getDeviceCredentials()).toMatchObject({ sharedAccessSignature: 'token-2' });
  });

  it('starts from the token that was just made for it', async () => {
    const { source, state, clock } = bench();
    const provider = new HubTokenProvider(source, tokenOptions('given', clock.wallMs() / 1000 + 3600));
    provider.stop();
    expect(await provider.getDeviceCredentials()).toMatchObject({ sharedAccessSignature: 'given' });
    expect(state.made).toBe(0);
    provider.stop();
    expect(clock.pending).toBe(0);
  });

  it('renews and announces, again and again, until it is stopped', async () => {
    const { provider, clock, announced } = bench();
    await provider.getDeviceCredentials();
    clock.advance(RENEWAL_MS - 1);
    await settled();
    expect(announced).toEqual([]);
    clock.advance(1);
    await settled();
    expect(announced).toEqual(['token-2']);
    clock.advance(RENEWAL_MS);
    await settled();
    expect(announced).toEqual(['token-2', 'token-3']);
    provider.stop();
    expect(clock.pending).toBe(0);
  });

  it('does not put the renewal off when somebody else asks for credentials meanwhile', async () => {
    const { provider, clock, announced } = bench();
    await provider.getDeviceCredentials();
    clock.advance(2_000_000);
    await provider.getDeviceCredentials();
    clock.advance(RENEWAL_MS - 2_000_000);
    await settled();
    expect(announced).toEqual(['token-2']);
  });

  it('waits for months without renewing before it is due', async () => {
    const { provider, clock, announced } = bench(300 * 24 * 3600);
    const after = clock.after.bind(clock);
    // As Node's timers: 24.8 days at most.
    clock.after = (delayMs, fn) => after(Math.min(delayMs, 0x7fff_ffff), fn);
    await provider.getDeviceCredentials();
    clock.advance(247 * 24 * 3_600_000);
    await settled();
    expect(announced).toEqual([]);
    clock.advance(12 * 3_600_000);
    await settled();
    expect(announced).toEqual(['token-2']);
  });

  it('tries a failed renewal again after 30 s, without an error event', async () => {
    const { provider, clock, state, announced } = bench();
    await provider.getDeviceCredentials();
    state.next = new Error('chip busy');
    clock.advance(RENEWAL_MS);
    await settled();
    clock.advance(29_999);
    await settled();
    expect(state.signals).toHaveLength(2);
    state.next = undefined;
    clock.advance(1);
    await settled();
    expect(announced).toEqual(['token-2']);
  });

  it('tells who asks why there is no token, as a typed error', async () => {
    const { provider, state } = bench();
    state.next = new Error('chip busy');
    const error = await new Promise((resolve) => provider.getDeviceCredentials((failure) => resolve(failure)));
    // Without a code, which their client would take for an error of the network, and try again for four minutes.
    expect(error).toMatchObject({ name: 'HsmError', message: expect.stringContaining('chip busy') });
    expect(error).not.toHaveProperty('code');
    expect(error).toHaveProperty('cause.code', 'ERR_DPS_HSM_OPERATION');
    await expect(provider.getDeviceCredentials()).rejects.toMatchObject({ code: 'ERR_DPS_HSM_OPERATION' });
  });

  it('passes an error that may pass on as it is', async () => {
    const { provider, state } = bench();
    state.next = new ClockError({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', message: 'Not set yet.' });
    const error = await new Promise((resolve) => provider.getDeviceCredentials((failure) => resolve(failure)));
    expect(error).toBe(state.next);
  });

  it('gives up on an HSM that does not answer', async () => {
    const { provider, state, clock } = bench();
    state.next = 'hang';
    const asked = provider.getDeviceCredentials();
    clock.advance(30_000);
    await expect(asked).rejects.toMatchObject({ code: 'ERR_DPS_HSM_OPERATION', retryable: true });
    expect(state.signals[0]?.aborted).toBe(true);
    expect(clock.pending).toBe(0);
  });

  it('ends with an error what is waited for when it is stopped, at once, and starts afresh afterwards', async () => {
    const { provider, state, clock } = bench();
    state.next = 'hang';
    const answers: unknown[] = [];
    provider.getDeviceCredentials((error, config) => answers.push(error, config));
    provider.stop();
    // Before stop() returns: the transport takes a late answer for one to its next question.
    expect(answers).toMatchObject([{ name: 'CancelledError' }, undefined]);
    await settled();
    expect(state.signals[0]?.aborted).toBe(true);
    expect(clock.pending).toBe(0);
    state.next = undefined;
    expect(await provider.getDeviceCredentials()).toMatchObject({ sharedAccessSignature: 'token-1' });
    expect(answers).toHaveLength(2);
  });

  it('announces no renewal that was under way when it was stopped', async () => {
    const { provider, clock, announced } = bench();
    await provider.getDeviceCredentials();
    clock.advance(RENEWAL_MS);
    provider.stop();
    await settled();
    expect(announced).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it('refuses a device that makes no tokens any more', async () => {
    const { provider, source } = bench();
    Object.assign(source, { mqttOptions: async () => ({ cert: 'x', key: 'y' }) });
    await expect(provider.getDeviceCredentials()).rejects.toBeInstanceOf(HsmError);
  });
});

describe('HubCertificateProvider', () => {
  const certificates = (given: Partial<MqttClientOptions>): HubCredentialsSource => ({
    ...bench().source,
    mqttOptions: async () => given as MqttClientOptions,
  });

  it('reads the certificate for each connection', async () => {
    const given = { cert: 'first', key: 'key' };
    const provider = new HubCertificateProvider(certificates(given));
    expect(provider.type).toBe(0);
    const credentials = { host: HOST, deviceId: 'dev-1' };
    expect(await provider.getDeviceCredentials()).toEqual({ ...credentials, x509: { cert: 'first', key: 'key' } });
    Object.assign(given, { cert: 'renewed', passphrase: 'secret' });
    const x509 = { cert: 'renewed', key: 'key', passphrase: 'secret' };
    const viaCallback = await new Promise((resolve) =>
      provider.getDeviceCredentials((error, config) => resolve([error, config])),
    );
    expect(viaCallback).toEqual([null, { ...credentials, x509 }]);
  });

  it('uses the certificate that an application sets by itself', async () => {
    const provider = new HubCertificateProvider(certificates({ cert: 'first', key: 'key' }));
    provider.setX509Options({ cert: 'other', key: 'other key' });
    expect(await provider.getDeviceCredentials()).toMatchObject({ x509: { cert: 'other', key: 'other key' } });
  });

  it('ends with an error what is waited for when it is stopped, at once', async () => {
    const provider = new HubCertificateProvider({ ...bench().source, mqttOptions: () => new Promise(() => {}) });
    const answers: unknown[] = [];
    provider.getDeviceCredentials((error, config) => answers.push(error, config));
    provider.stop();
    expect(answers).toMatchObject([{ name: 'CancelledError' }, undefined]);
  });

  it('passes a failure on', async () => {
    const source = { ...bench().source, mqttOptions: () => Promise.reject(new Error('no chip')) };
    const provider = new HubCertificateProvider(source);
    const error = await new Promise((resolve) => provider.getDeviceCredentials((failure) => resolve(failure)));
    expect(error).toMatchObject({ name: 'HsmError', cause: { code: 'ERR_DPS_HSM_OPERATION' } });
  });
});
