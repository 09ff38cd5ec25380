import { describe, expect, it } from 'vitest';
import { describeProgress } from '../../src/cli/progress-text.js';
import type { ProgressEvent } from '../../src/core/progress.js';

const PEER = 'h:8883';

describe('describeProgress', () => {
  it.each<[ProgressEvent, string | undefined]>([
    [
      { type: 'started', idScope: '0ne1', registrationId: 'd', attestation: 'tpm', transport: 'https' },
      'registering d in 0ne1 by a TPM over https',
    ],
    [{ type: 'connecting', to: 'dps', peer: PEER, attempt: 1 }, 'connecting to DPS at h:8883'],
    [{ type: 'connecting', to: 'hub', peer: PEER, attempt: 3 }, 'connecting to IoT hub at h:8883, attempt 3'],
    [{ type: 'connected', to: 'hub', peer: PEER }, 'connected to IoT hub at h:8883'],
    [
      { type: 'connecting', to: 'dps', peer: PEER, attempt: 2, transport: 'mqtt' },
      'connecting to DPS at h:8883 over mqtt, attempt 2',
    ],
    [{ type: 'connected', to: 'dps', peer: PEER, transport: 'https' }, 'connected to DPS at h:8883 over https'],
    [
      { type: 'next-transport', to: 'hub', transport: 'mqtt-ws', after: 'mqtt', code: 'ERR_X', message: 'It is shut.' },
      'mqtt does not get through to IoT hub (ERR_X: It is shut.); trying mqtt-ws',
    ],
    [{ type: 'registering', attempt: 1 }, 'asking for registration'],
    [{ type: 'challenged' }, 'answering the challenge to the TPM'],
    [{ type: 'assigning', operationId: '5.a' }, 'the service is assigning a hub, operation 5.a'],
    [{ type: 'waiting', forMs: 3000, reason: 'poll' }, 'waiting 3.0 s, as the service asked'],
    [
      { type: 'waiting', forMs: 61_400, reason: 'network', detail: 'ECONNREFUSED' },
      'waiting 61 s, the connection failed: ECONNREFUSED',
    ],
    [{ type: 'polling', operationId: '5.a', attempt: 2 }, 'asking how the registration is going, attempt 2'],
    [{ type: 'next-credential', slot: 1 }, 'refused; trying credential 2'],
    [
      { type: 'assigned', assignedHub: 'hub', deviceId: 'd', substatus: 'initialAssignment' },
      'assigned to hub as d, initialAssignment',
    ],
    [{ type: 'twin', desiredVersion: 4, reportedVersion: 9 }, 'twin received, desired version 4, reported version 9'],
    [{ type: 'provisioned', assignedHub: 'hub', deviceId: 'd', source: 'stored' }, 'provisioned: d at hub'],
    [{ type: 'looking-up' }, 'asking what the service knows of this device'],
    [{ type: 'waiting', forMs: 500, reason: 'spread' }, 'waiting 0.5 s, so that not all devices ask at once'],
    [{ type: 'record', outcome: 'found' }, 'the stored record leads to a hub'],
    [{ type: 'record', outcome: 'unsaved', detail: 'disk full' }, 'the record could not be stored: disk full'],
    [{ type: 'reprovisioning', reason: 'refused', detail: '' }, 'back to DPS, the hub refused the device'],
    [
      { type: 'reprovisioning', reason: 'refused', detail: 'ERR_DPS_HSM_TPM_NO_IDENTITY' },
      'back to DPS, the TPM holds no hub key: ERR_DPS_HSM_TPM_NO_IDENTITY',
    ],
    [
      { type: 'waiting', forMs: 30_000, reason: 'refused', detail: 'ERR_DPS_HSM_TPM_NO_IDENTITY' },
      'waiting 30 s, the TPM holds no hub key: ERR_DPS_HSM_TPM_NO_IDENTITY',
    ],
    [
      { type: 'reprovisioning', reason: 'refused', detail: 'ERR_DPS_CONNACK_UNAUTHORIZED' },
      'back to DPS, the hub refused the device: ERR_DPS_CONNACK_UNAUTHORIZED',
    ],
    [
      { type: 'waiting', forMs: 900_000, reason: 'refused', detail: 'ERR_DPS_TLS_UNTRUSTED' },
      'waiting 900 s, the server is not trusted: ERR_DPS_TLS_UNTRUSTED',
    ],
    [
      { type: 'waiting', forMs: 900_000, reason: 'refused', detail: 'ERR_DPS_CLOCK_IMPLAUSIBLE' },
      'waiting 900 s, the clock seems wrong: ERR_DPS_CLOCK_IMPLAUSIBLE',
    ],
    [{ type: 'offline', code: 'c', message: 'The connection broke off.' }, 'offline: The connection broke off.'],
    [{ type: 'ended', code: 'c', message: 'm' }, undefined],
  ])('%j', (event, text) => {
    expect(describeProgress(event)).toBe(text);
  });
});
