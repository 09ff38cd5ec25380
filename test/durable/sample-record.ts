import type { DeviceRecord } from '../../src/core/record.js';
import { registrationResultOf } from '../../src/core/registration-result.js';

/** A record that can be told from every other by its number, of about `fillerBytes`. */
export function sampleRecord(number: number, fillerBytes: number = 0): DeviceRecord {
  return {
    binding: {
      endpoint: 'global.azure-devices-provisioning.net',
      idScope: '0ne00111111',
      registrationId: 'dev-1',
      attestation: 'symmetricKey',
    },
    assignment: registrationResultOf({
      registrationId: 'dev-1',
      assignedHub: `hub-${number}.azure-devices.net`,
      deviceId: 'dev-1',
      status: 'assigned',
      substatus: 'initialAssignment',
      payload: { number },
    }),
    slot: 0,
    dpsTransport: 'mqtt',
    hubTransport: 'mqtt',
    twin: {
      desired: { version: number, properties: { filler: String(number % 10).repeat(fillerBytes) } },
      reported: { version: number, properties: {} },
    },
  };
}
