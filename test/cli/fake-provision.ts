import type { Provisioning, provision } from '../../src/compose.js';
import type { ProvisionedDevice } from '../../src/core/provisioned-device.js';
import { registrationResultOf } from '../../src/core/registration-result.js';
import { ProgressLog } from '../../src/progress-log.js';
import type { ProvisionOptions } from '../../src/provision-options.js';

/** A stand-in for `provision()` that keeps what it was called with. */
export interface FakeProvision {
  readonly provision: typeof provision;
  readonly calls: readonly ProvisionOptions[];
}

/** `work` is the journey: it may report events, and ends in a device or an error. */
export function fakeProvision(
  work: (options: ProvisionOptions, log: ProgressLog) => Promise<ProvisionedDevice> = goWell,
): FakeProvision {
  const calls: ProvisionOptions[] = [];
  return {
    calls,
    provision(options): Provisioning {
      calls.push(options);
      const log = new ProgressLog();
      const device = work(options, log).finally(() => log.end());
      return Object.assign(device, { events: log });
    },
  };
}

export async function goWell(options: ProvisionOptions, log: ProgressLog): Promise<ProvisionedDevice> {
  const { idScope, hsm } = options;
  const attestation = hsm.kind === 'x509' ? 'x509' : 'symmetricKey';
  log.append({ type: 'started', idScope, registrationId: 'dev-1', attestation, transport: 'mqtt' });
  log.append({ type: 'connecting', to: 'dps', peer: 'localhost:8883', attempt: 2 });
  log.append({ type: 'waiting', forMs: 2500, reason: 'throttled', detail: 'status 429' });
  log.append({ type: 'provisioned', assignedHub: 'hub-1.example', deviceId: 'device-1', source: 'registered' });
  return fakeDevice();
}

export const DEVICE_KEY = 'c2VjcmV0LWRldmljZS1rZXktYnl0ZXM=';
export const CONNECTION_STRING: string = `HostName=hub-1.example;DeviceId=device-1;SharedAccessKey=${DEVICE_KEY}`;

export function fakeDevice(): ProvisionedDevice {
  return {
    assignment: registrationResultOf({
      registrationId: '',
      assignedHub: 'hub-1.example',
      deviceId: 'device-1',
      status: 'assigned',
      substatus: 'initialAssignment',
      createdDateTimeUtc: '2026-05-01T10:00:00.1234567Z',
      lastUpdatedDateTimeUtc: '2026-05-01T10:00:02.7654321Z',
      etag: 'IjY5MDAzNTUyIg==',
      payload: { colour: 'grün' },
      symmetricKey: { enrollmentGroupId: 'group-1', primaryKey: DEVICE_KEY },
      tpm: { authenticationKey: DEVICE_KEY },
      issuedCertificateChain: ['AAEC'],
    }),
    registrationId: 'dev-1',
    attestation: 'symmetricKey',
    assignedHub: 'hub-1.example',
    deviceId: 'device-1',
    source: 'registered',
    transport: { dps: 'mqtt', hub: 'mqtt' },
    twin: {
      desired: { version: 4, properties: { interval: 5 } },
      reported: { version: 9, properties: {} },
    },
    mqttOptions: () => Promise.reject(new Error('not asked for')),
    connectionString: async () => CONNECTION_STRING,
    openHub: () => Promise.reject(new Error('not asked for')),
  };
}
