import { describe, expect, it } from 'vitest';
import type { Now } from '../../src/core/clock.js';
import { type JourneyConfig, newJourney, stepJourney } from '../../src/core/journey.js';
import { newRegistration, stepRegistration } from '../../src/core/registration.js';
import { reportedPatchProblem } from '../../src/core/reported-patch.js';
import type { JsonValue } from '../../src/core/twin.js';
import { dpsAmqpRefusal } from '../../src/core/wire/dps-amqp.js';
import { parseHubTopic } from '../../src/core/wire/hub-mqtt.js';
import { SASL_TPM_START, stepSaslTpm } from '../../src/core/wire/sasl-tpm.js';
import { HsmError, ProtocolError } from '../../src/errors.js';
import { requirePrintable } from './properties.js';

/** What fuzzing found, each case once more by itself. */

const CONFIG: JourneyConfig = {
  idScope: '0ne00111111',
  registrationId: 'dev-1',
  attestation: 'symmetricKey',
  slots: 1,
  transport: 'fake',
  endpoint: 'dps.example',
  deadlineMs: 100_000,
  connectTimeoutMs: 20_000,
  requestTimeoutMs: 10_000,
  hubTimeoutMs: 50_000,
  tokenLifeSeconds: 3_600,
};

const at = (monotonicMs: number): Now => ({ monotonicMs, wallMs: Date.UTC(2026, 10, 21) + monotonicMs, random: 0.5 });

describe('a credential that could not be made at the first try', () => {
  it('is made at the next, before the connection is opened', () => {
    const busy = new HsmError({ code: 'ERR_DPS_HSM_OPERATION', message: 'busy', operation: 'sign', retryable: true });
    let { registration } = stepRegistration(newRegistration(CONFIG), { type: 'Started' }, at(0));
    ({ registration } = stepRegistration(registration, { type: 'OperationFailed', ticket: 1, error: busy }, at(1)));
    const { effects } = stepRegistration(registration, { type: 'Woke' }, at(5_000));
    expect(effects.map(({ type }) => type)).toEqual(['PrepareCredential']);
  });
});

describe('a hub identity whose staging is cut short', () => {
  it.each([
    ['by the caller', { type: 'CancelRequested' }],
    ['by the deadline', { type: 'Woke' }],
  ] as const)('%s is discarded, for the TPM may have taken it in', (_name, input) => {
    let { journey } = stepJourney(newJourney({ ...CONFIG, attestation: 'tpm' }), { type: 'Started' }, at(0));
    const body = new TextEncoder().encode(
      JSON.stringify({
        status: 'assigned',
        operationId: 'op',
        registrationState: { assignedHub: 'hub.example', deviceId: 'dev-1', tpm: { authenticationKey: 'AAAA' } },
      }),
    );
    for (const step of [
      { type: 'CredentialReady', ticket: 1 },
      { type: 'ConnectionOpened', ticket: 2 },
      { type: 'ReplyReceived', ticket: 3, reply: { kind: 'reply', status: 200, body } },
    ] as const) {
      ({ journey } = stepJourney(journey, step, at(1)));
    }
    expect(journey.state.name).toBe('AwaitingStaging');
    const { effects } = stepJourney(journey, input, at(200_000));
    expect(effects.map(({ type }) => type)).toEqual(['DiscardIdentity', 'CloseHub', 'ReportProgress', 'FinishJourney']);
  });
});

describe('a connection profile', () => {
  it('is not in the error as it came', () => {
    let { registration } = stepRegistration(newRegistration(CONFIG), { type: 'Started' }, at(0));
    const connectionProfile = `\u007f\u202e${'x y '.repeat(100)}`;
    const state = { assignedHub: 'hub.example', deviceId: 'dev-1', connectionProfile };
    const body = new TextEncoder().encode(JSON.stringify({ status: 'assigned', registrationState: state }));
    ({ registration } = stepRegistration(registration, { type: 'CredentialReady', ticket: 1 }, at(1)));
    ({ registration } = stepRegistration(registration, { type: 'ConnectionOpened', ticket: 2 }, at(1)));
    const reply = { kind: 'reply', status: 200, body } as const;
    ({ registration } = stepRegistration(registration, { type: 'ReplyReceived', ticket: 3, reply }, at(1)));
    const { state: end } = registration;
    const message = end.name === 'Done' && end.outcome.kind === 'failed' ? end.outcome.error.message : '';
    expect(message).toContain('asks for connection profile "x y x y');
    expect(() => requirePrintable(message)).not.toThrow();
    expect(message.length).toBeLessThan(300);
  });
});

describe('a topic of a hub', () => {
  it('that moves the cursor of a terminal is not in the error as it is', () => {
    const topic = 'devices/dev-1/messages/devicebound/%2x\u009b2J\u202e';
    let error: unknown;
    try {
      parseHubTopic(topic, 'dev-1');
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(ProtocolError);
    expect(() => requirePrintable((error as ProtocolError).message)).not.toThrow();
  });
});

describe('a refusal over AMQP', () => {
  it.each(['constructor', '__proto__', 'toString'])('that is called %s has a status all the same', (condition) => {
    expect(dpsAmqpRefusal({ condition, description: '', info: {} })).toMatchObject({ status: 500 });
  });
});

describe('a service that challenges a TPM', () => {
  it('for ever with what it has been answered is not answered again', () => {
    const first = stepSaslTpm(SASL_TPM_START, Uint8Array.of(0), Uint8Array.of(7));
    if (first.kind !== 'respond') throw new Error('it is no blob');
    expect(() => stepSaslTpm(first.progress, Uint8Array.of(0), Uint8Array.of(7))).toThrow(ProtocolError);
  });
});

describe('reported properties', () => {
  it('that hold one part in very many places are refused in bounded time', () => {
    let value: JsonValue = null;
    for (let level = 0; level < 60; level += 1) value = [value, value];
    expect(reportedPatchProblem({ value })?.problem).toBe('more than 100000 values');
  });
});
