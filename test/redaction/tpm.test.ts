import { createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { TpmHsm } from '../../src/core/attestation.js';
import type { HubSession, HubTransport } from '../../src/core/hub.js';
import type { DpsChallenge, DpsReply, DpsTransport } from '../../src/core/transport.js';
import type { Twin } from '../../src/core/twin.js';
import { benchCertificates } from '../fakes/bench-certificates.js';
import { startTlsPeer } from '../fakes/wire-peer.js';
import { follow, KEYS, makeSecrets, TPM_BLOB } from './bench.js';
import { expectNoLeaks, printed, startRecording } from './channels.js';

const DEVICE = 'canary-tpm';
const TWIN: Twin = { desired: { version: 1, properties: {} }, reported: { version: 1, properties: {} } };

/** Signs with a key that stands for the one in the blob. `fails` is what one of its methods ends in. */
function fakeTpm(fails: Partial<Record<keyof TpmHsm, Error>> = {}): TpmHsm {
  const does = (name: keyof TpmHsm) => async () => {
    if (fails[name] !== undefined) throw fails[name];
  };
  return {
    kind: 'tpm',
    registrationId: async () => DEVICE,
    endorsement: async () => ({ endorsementKey: Uint8Array.of(1, 2, 3), storageRootKey: Uint8Array.of(4, 5, 6) }),
    activate: does('activate'),
    sign: async (data) => {
      await does('sign')();
      return new Uint8Array(createHmac('sha256', Buffer.from(KEYS.device, 'base64')).update(data).digest());
    },
    stage: does('stage'),
    commit: does('commit'),
    discard: does('discard'),
  };
}

const json = (status: number, body: object): DpsReply => ({
  kind: 'reply',
  status,
  body: Buffer.from(JSON.stringify(body)),
});
const CHALLENGE: DpsChallenge = { kind: 'challenge', authenticationKey: Buffer.from(TPM_BLOB, 'base64') };
const ASSIGNED = json(200, {
  operationId: 'op-1',
  status: 'assigned',
  registrationState: {
    registrationId: DEVICE,
    status: 'assigned',
    assignedHub: 'hub.example',
    deviceId: DEVICE,
    tpm: { authenticationKey: TPM_BLOB },
  },
});

function playing(answers: readonly (DpsReply | DpsChallenge)[]): DpsTransport {
  const left = [...answers];
  return {
    name: 'played',
    open: async () => ({
      exchange: async () => left.shift() ?? json(400, {}),
      close: async () => undefined,
    }),
  };
}

const HUB: HubTransport = {
  name: 'played',
  open: async () =>
    ({ twin: TWIN, closed: new Promise(() => {}), close: async () => undefined }) as unknown as HubSession,
  connectionInfo: () => ({
    mqttOptions: () => Promise.reject(new Error('not asked for')),
    connectionString: () => Promise.reject(new Error('not asked for')),
  }),
};

const OPTIONS = { idScope: '0ne00111111', hubTransport: HUB } as const;

describe('a key blob for a TPM', () => {
  it('does not show when all goes well', async () => {
    const recording = startRecording();
    const { canaries } = await makeSecrets();
    const transport = playing([CHALLENGE, ASSIGNED]);
    const { device, error, outputs } = await follow({ ...OPTIONS, transport, hsm: fakeTpm() });
    expect(error).toBeUndefined();
    // Whoever asks for it gets it.
    expect(device?.assignment.tpm?.authenticationKey).toBe(TPM_BLOB);
    expectNoLeaks(canaries, outputs, printed('assignment', device?.assignment), recording.outputs());
  });

  it('does not show where it is not read, being no text', async () => {
    const { canaries } = await makeSecrets();
    const transport = playing([CHALLENGE, withBlob({ value: TPM_BLOB })]);
    const { device, outputs } = await follow({ ...OPTIONS, transport, hsm: fakeTpm() });
    expectNoLeaks(canaries, outputs, printed('assignment', device?.assignment));
  });

  it.each(['activate', 'sign', 'stage', 'commit'] as const)('does not show when the TPM fails to %s', async (name) => {
    const recording = startRecording();
    const { canaries } = await makeSecrets();
    const hsm = fakeTpm({ [name]: new Error('TPM_RC_FAILURE') });
    const { error, outputs } = await follow({ ...OPTIONS, transport: playing([CHALLENGE, ASSIGNED]), hsm });
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_OPERATION' });
    expectNoLeaks(canaries, outputs, recording.outputs());
  });

  it.each<[name: string, answers: (DpsReply | DpsChallenge)[]]>([
    ['a second challenge', [CHALLENGE, CHALLENGE]],
    [
      'a challenge where a status was due',
      [{ ...json(202, { operationId: 'op-1', status: 'assigning' }), retryAfter: '0' }, CHALLENGE],
    ],
    ['a blob that is not Base64', [withBlob(`${TPM_BLOB}!`)]],
    [
      'a blob in the place of the hub',
      [json(200, { status: 'assigned', registrationState: { assignedHub: TPM_BLOB } })],
    ],
    ['a blob in the place of the state', [json(200, { status: 'assigned', registrationState: TPM_BLOB })]],
    ['a blob in the place of the operation', [json(202, { status: 'assigning', operationId: [TPM_BLOB] })]],
    ['an error with a blob', [json(400, { errorCode: 400004, message: 'No.', authenticationKey: TPM_BLOB })]],
    ['JSON with a blob that breaks off', [{ kind: 'reply', status: 200, body: Buffer.from(`{"tpm":"${TPM_BLOB}"`) }]],
  ])('does not show in the error about %s', async (_name, answers) => {
    const recording = startRecording();
    const { canaries } = await makeSecrets();
    const { error, outputs } = await follow({ ...OPTIONS, transport: playing(answers), hsm: fakeTpm() });
    expect(error).toBeInstanceOf(Error);
    expectNoLeaks(canaries, outputs, recording.outputs());
  });

  it.each<[name: string, head: string, body: string]>([
    ['broken Base64', '401 Unauthorized', JSON.stringify({ authenticationKey: `${TPM_BLOB}!`, message: 'resend' })],
    ['another status', '403 Forbidden', JSON.stringify({ authenticationKey: TPM_BLOB, message: TPM_BLOB })],
    ['JSON that breaks off', '401 Unauthorized', `{"authenticationKey":"${TPM_BLOB}","message":`],
    ['a page', '401 Unauthorized', `<html><pre>${TPM_BLOB.replace(/.{28}/g, '$&\n')}</pre></html>`],
  ])('does not show after a challenge over HTTPS in %s', async (_name, head, body) => {
    const recording = startRecording();
    const { canaries } = await makeSecrets();
    const { server, authority } = await benchCertificates();
    const peer = await startTlsPeer(server, async (wire) => {
      await wire.readHttpRequest();
      await wire.write(`HTTP/1.1 ${head}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
    });
    const { endpoint } = peer;
    const options = { ...OPTIONS, transport: 'https', endpoint, ca: authority.rootPem, hsm: fakeTpm() } as const;
    const { error, outputs } = await follow(options);
    expect(error).toBeInstanceOf(Error);
    expectNoLeaks(canaries, outputs, recording.outputs());
  });
});

function withBlob(authenticationKey: unknown): DpsReply {
  return json(200, {
    status: 'assigned',
    registrationState: { assignedHub: 'hub.example', deviceId: DEVICE, tpm: { authenticationKey } },
  });
}
