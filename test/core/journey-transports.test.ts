import { describe, expect, it } from 'vitest';
import type { JourneyConfig } from '../../src/core/journey.js';
import type { DeviceRecord } from '../../src/core/record.js';
import { TransportError } from '../../src/errors.js';
import {
  ASSIGNED,
  assignedTo,
  found,
  hubStatus,
  JourneyDriver,
  RECORD,
  refused,
  transportError,
  untrusted,
} from './journey-driver.js';

const CHOICE: Partial<JourneyConfig> = {
  transport: 'mqtt',
  transports: ['mqtt', 'mqtt-ws', 'https'],
  hubTransport: 'mqtt',
  hubTransports: ['mqtt', 'mqtt-ws'],
  hasStore: true,
};

const closed = (): TransportError => transportError('ERR_DPS_CONNECT', true);

/** By what each connection was ordered, DPS's and hubs'. */
const orders = ({ effects }: JourneyDriver): string[] =>
  effects.flatMap((effect) =>
    effect.type === 'OpenConnection' || effect.type === 'OpenHub' ? [effect.transport ?? 'the only one'] : [],
  );

/** Up to the order to connect to DPS. */
const setOut = (config: Partial<JourneyConfig> = CHOICE): JourneyDriver => {
  const driver = new JourneyDriver(config);
  if (config.hasStore === true) driver.load({ kind: 'none' });
  else driver.start();
  return driver.feed({ type: 'CredentialReady', ticket: driver.ticket });
};

/** Everything from an open connection to DPS to the saved record, by way of the hub. */
const arrive = (driver: JourneyDriver): JourneyDriver => driver.answer(ASSIGNED).hubReached().saved();

const stored = (change: Partial<DeviceRecord>) => found({ ...RECORD, ...change });

describe('the way to DPS', () => {
  it('goes on to the next transport within one attempt, without a wait, and tells why', () => {
    const driver = setOut().fails(closed()).fails(closed());
    expect(orders(driver)).toEqual(['mqtt', 'mqtt-ws', 'https']);
    expect(driver.state).toBe('Registering');
    const events = driver.events().slice(1);
    expect(events).toEqual([
      expect.objectContaining({ type: 'started', transport: 'mqtt' }),
      { type: 'connecting', to: 'dps', peer: 'dps.example', attempt: 1, transport: 'mqtt' },
      {
        type: 'next-transport',
        to: 'dps',
        transport: 'mqtt-ws',
        after: 'mqtt',
        code: 'ERR_DPS_CONNECT',
        message: 'ERR_DPS_CONNECT',
      },
      expect.objectContaining({ type: 'next-transport', transport: 'https', after: 'mqtt-ws' }),
    ]);
    driver.feed({ type: 'ConnectionOpened', ticket: driver.ticket });
    expect(driver.events().at(-2)).toEqual({ type: 'connected', to: 'dps', peer: 'dps.example', transport: 'https' });
  });

  it('waits when none got through, names them all, and begins with the first again', () => {
    const driver = setOut().fails(closed()).fails(closed()).fails(closed());
    expect(driver.events().at(-1)).toMatchObject({ type: 'waiting', reason: 'network', detail: 'ERR_DPS_CONNECT' });
    driver.wake();
    expect(orders(driver)).toEqual(['mqtt', 'mqtt-ws', 'https', 'mqtt']);
    const { deadlineMs } = driver.journey.config;
    driver.pass(deadlineMs).feed({ type: 'Woke' });
    expect(driver.error).toMatchObject({ code: 'ERR_DPS_DEADLINE' });
    expect(String((driver.error.cause as Error).message)).toMatch(
      /^No transport came through\. mqtt: .* mqtt-ws: .* https: /,
    );
  });

  it.each([
    ['refused credentials', refused()],
    ['a server that is not trusted', untrusted()],
  ])('is over with %s', (_what, error) => {
    const driver = setOut().fails(error);
    expect(driver.error.code).toBe(error.code);
    expect(orders(driver)).toEqual(['mqtt']);
  });

  it('comes back by what worked, and falls back again when the network has changed', () => {
    const driver = setOut().fails(closed());
    driver.feed({ type: 'ConnectionOpened', ticket: driver.ticket });
    driver.fails(transportError('ERR_DPS_CONNECTION_LOST', true)).wake();
    driver.fails(closed());
    expect(orders(driver)).toEqual(['mqtt', 'mqtt-ws', 'mqtt-ws', 'mqtt']);
  });

  it('tells the registration of a connection that is lost with the challenge that its token answers', () => {
    const tpm = { endorsementKey: Uint8Array.of(1), storageRootKey: Uint8Array.of(2) };
    const names = ['amqp', 'amqp-ws'];
    const driver = setOut({ attestation: 'tpm', tpm, transport: 'amqp', transports: names });
    driver.feed({ type: 'ConnectionOpened', ticket: driver.ticket });
    const reply = { kind: 'challenge', authenticationKey: Uint8Array.of(3) } as const;
    driver.feed({ type: 'ReplyReceived', ticket: driver.ticket, reply });
    driver.feed({ type: 'ChallengeActivated', ticket: driver.ticket });
    // A failure that would end it, were there no other transport.
    const closedForGood = transportError('ERR_DPS_PROXY_REFUSED', false);
    driver.feed({ type: 'CredentialReady', ticket: driver.ticket }).fails(closedForGood);
    expect(driver.events().slice(-2)).toMatchObject([
      { type: 'next-transport', transport: 'amqp-ws', after: 'amqp' },
      { type: 'waiting', reason: 'network' },
    ]);
    driver.wake();
    expect(orders(driver)).toEqual(['amqp', 'amqp', 'amqp-ws']);
    driver.feed({ type: 'ConnectionOpened', ticket: driver.ticket });
    driver.feed({ type: 'ReplyReceived', ticket: driver.ticket, reply });
    expect(driver.events().at(-1)).toEqual({ type: 'challenged' });
  });

  it('keeps what has reached the service, when the service says no', () => {
    const busy = transportError('ERR_DPS_CONNACK_UNAVAILABLE', true);
    const driver = setOut().fails(closed()).fails(busy).wake();
    expect(orders(driver)).toEqual(['mqtt', 'mqtt-ws', 'mqtt-ws']);
  });

  it('makes a new token first when the one in hand has run out on the way', () => {
    const driver = setOut({ ...CHOICE, tokenLifeSeconds: 60 })
      .pass(59_000)
      .fails(closed());
    expect(driver.events().slice(-2)).toMatchObject([
      { type: 'next-transport', transport: 'mqtt-ws' },
      { type: 'waiting', reason: 'network' },
    ]);
    driver.wake();
    expect(driver.effects.at(-1)).toMatchObject({ type: 'PrepareCredential' });
    expect(orders(driver.feed({ type: 'CredentialReady', ticket: driver.ticket }))).toEqual(['mqtt', 'mqtt-ws']);
  });

  it('says at the deadline what became of those that were tried', () => {
    const driver = setOut().fails(closed());
    driver.pass(driver.journey.config.deadlineMs).feed({ type: 'Woke' });
    expect(driver.error).toMatchObject({ code: 'ERR_DPS_DEADLINE', cause: { code: 'ERR_DPS_CONNECT' } });
  });

  it('begins each registration with the first', () => {
    const driver = new JourneyDriver({ ...CHOICE, purpose: 'keep' }).load(stored({})).hubReached().reprovision();
    driver.feed({ type: 'CredentialReady', ticket: driver.ticket }).fails(closed());
    driver.pass(driver.journey.config.deadlineMs).feed({ type: 'Woke' });
    expect(driver.state).toBe('AwaitingReturn');
    driver.reprovision().feed({ type: 'CredentialReady', ticket: driver.ticket });
    expect(orders(driver).slice(1)).toEqual(['mqtt', 'mqtt-ws', 'mqtt']);
  });

  it('says nothing of transports where there is one', () => {
    const driver = setOut({}).fails(closed());
    expect(orders(driver)).toEqual(['the only one']);
    expect(driver.events().map(({ type }) => type)).toEqual(['started', 'connecting', 'waiting']);
    expect(driver.events()[1]).not.toHaveProperty('transport');
  });
});

describe('the way to the hub', () => {
  const atHub = (config: Partial<JourneyConfig> = CHOICE): JourneyDriver => setOut(config).answer(ASSIGNED);

  it('goes on to the next transport at once, and tells why', () => {
    const driver = atHub().fails(closed());
    expect(orders(driver)).toEqual(['mqtt', 'mqtt', 'mqtt-ws']);
    expect(driver.state).toBe('AwaitingHub');
    expect(driver.events().at(-1)).toMatchObject({
      type: 'next-transport',
      to: 'hub',
      transport: 'mqtt-ws',
      after: 'mqtt',
    });
    driver.hubReached();
    expect(driver.events()).toContainEqual({ type: 'connected', to: 'hub', peer: 'hub.example', transport: 'mqtt-ws' });
    expect(driver.saved().outcome).toMatchObject({ transport: { dps: 'mqtt', hub: 'mqtt-ws' } });
  });

  it('gives each transport the whole time', () => {
    const driver = atHub().pass(100_000).fails(closed());
    expect(driver.pass(100_000).feed({ type: 'Woke' }).state).toBe('AwaitingHub');
    expect(driver.pass(20_000).feed({ type: 'Woke' }).state).toBe('AwaitingHubRetry');
  });

  it('begins with the first at another hub', () => {
    const driver = new JourneyDriver({ ...CHOICE, purpose: 'keep' }).load(stored({})).fails(closed()).reprovision();
    driver.answer(assignedTo('hub-2.example')).saved();
    expect(driver.hubs()).toEqual(['hub.example', 'hub.example', 'hub-2.example']);
    expect(orders(driver).at(-1)).toBe('mqtt');
  });

  it('says at the deadline what became of those that were tried', () => {
    const driver = atHub().fails(closed());
    driver.pass(driver.journey.config.deadlineMs).feed({ type: 'Woke' });
    expect(driver.error).toMatchObject({ code: 'ERR_DPS_DEADLINE', cause: { code: 'ERR_DPS_CONNECT' } });
  });

  it('counts as one failure when none got through', () => {
    const driver = atHub().fails(closed()).fails(closed());
    expect(driver.state).toBe('AwaitingHubRetry');
    expect(driver.journey.memory).toMatchObject({ hubFailures: 1, lastError: { code: 'ERR_DPS_CONNECT' } });
    expect(driver.journey.memory.lastError?.message).toMatch(/^No transport came through\. mqtt: .* mqtt-ws: /);
    expect(orders(driver.wake())).toEqual(['mqtt', 'mqtt', 'mqtt-ws', 'mqtt']);
  });

  it.each([
    ['a refusal', refused()],
    ['a status', hubStatus(503)],
    [
      'a connection that is lost in use',
      new TransportError({
        code: 'ERR_DPS_CONNECTION_LOST',
        message: '',
        phase: 'established',
        peer: 'hub',
        retryable: true,
      }),
    ],
  ])('stays with its transport after %s', (_what, error) => {
    const driver = atHub().fails(error);
    expect(orders(driver.wake())).toEqual(['mqtt', 'mqtt', 'mqtt']);
  });

  it('comes back by what worked after a session is over, and falls back again when the network has changed', () => {
    const driver = atHub({ ...CHOICE, purpose: 'keep' })
      .fails(closed())
      .hubReached()
      .saved()
      .lost();
    expect(orders(driver.wake().fails(closed())).slice(2)).toEqual(['mqtt-ws', 'mqtt-ws', 'mqtt']);
  });
});

describe('the record', () => {
  it('holds what got through', () => {
    const driver = setOut().fails(closed()).fails(closed());
    driver.feed({ type: 'ConnectionOpened', ticket: driver.ticket });
    const reply = { kind: 'reply', status: 200, body: new TextEncoder().encode(JSON.stringify(ASSIGNED)) } as const;
    driver.feed({ type: 'ReplyReceived', ticket: driver.ticket, reply }).fails(closed()).hubReached();
    expect(driver.saves()).toMatchObject([{ dpsTransport: 'https', hubTransport: 'mqtt-ws' }]);
  });

  it('says what to begin with', () => {
    const driver = new JourneyDriver({ ...CHOICE, reprovision: true });
    driver.load(stored({ dpsTransport: 'https', hubTransport: 'mqtt-ws' }));
    driver.feed({ type: 'CredentialReady', ticket: driver.ticket }).fails(closed());
    expect(orders(driver)).toEqual(['https', 'mqtt']);
    expect(driver.events()).toContainEqual(expect.objectContaining({ type: 'started', transport: 'https' }));
    arrive(driver);
    expect(orders(driver)).toEqual(['https', 'mqtt', 'mqtt-ws']);
  });

  it('is not written again when the same got through, though DPS was not asked', () => {
    const driver = new JourneyDriver(CHOICE).load(stored({ dpsTransport: 'https', hubTransport: 'mqtt-ws' }));
    expect(orders(driver.hubReached())).toEqual(['mqtt-ws']);
    expect(driver.saves()).toEqual([]);
    expect(driver.outcome).toMatchObject({ transport: { dps: 'https', hub: 'mqtt-ws' } });
  });

  it('keeps what has got through to DPS, when another was asked in vain or is to be asked next time', () => {
    const direct = new JourneyDriver({ ...CHOICE, transport: 'https', transports: ['https'] });
    direct.load(stored({ dpsTransport: 'mqtt-ws', hubTransport: 'mqtt' })).hubReached();
    expect(direct.saves()).toEqual([]);
    expect(direct.outcome).toMatchObject({ transport: { dps: 'mqtt-ws', hub: 'mqtt' } });
    const inVain = new JourneyDriver({ ...CHOICE, purpose: 'keep' }).load(stored({})).hubReached().reprovision();
    inVain.feed({ type: 'CredentialReady', ticket: inVain.ticket }).fails(closed());
    inVain.pass(inVain.journey.config.deadlineMs).feed({ type: 'Woke' }).wake().hubReached();
    expect(inVain.saves()).toEqual([]);
  });

  it('does not bring back a transport that is not among those to try', () => {
    const driver = new JourneyDriver({ ...CHOICE, transports: ['mqtt', 'amqp'], reprovision: true });
    driver.load(stored({ dpsTransport: 'https' })).feed({ type: 'CredentialReady', ticket: driver.ticket });
    expect(orders(driver)).toEqual(['mqtt']);
  });

  it('of another configuration says nothing', () => {
    const driver = new JourneyDriver(CHOICE);
    driver.load(stored({ dpsTransport: 'https', binding: { ...RECORD.binding, idScope: '0ne00222222' } }));
    driver.feed({ type: 'CredentialReady', ticket: driver.ticket });
    expect(orders(driver)).toEqual(['mqtt']);
  });

  it('that is damaged leads to a look-up over HTTPS only, which no other transport has', () => {
    const lookedUp = (transports: readonly string[]): boolean => {
      const driver = new JourneyDriver({ ...CHOICE, transport: 'https', transports });
      driver.load({ kind: 'damaged', what: 'It is cut.' }).answer(ASSIGNED);
      return driver.requests().includes('statusLookup');
    };
    expect([lookedUp(['https']), lookedUp(['https', 'mqtt'])]).toEqual([true, false]);
  });
});
