// Device and service in one program, as an application's own tests would have them.
import { provision } from 'dps-device';
import { startEmulator } from 'dps-device/emulator';

const emulator = await startEmulator();
const { attestation } = emulator.enroll({ registrationId: 'sensor-1', attestation: { symmetricKey: {} } });
emulator.faults.add({ at: 'dps.register', action: { kind: 'retryAfter', value: '0' } });
const device = await provision({
  idScope: emulator.idScope,
  endpoint: emulator.endpoints.dps.mqtt,
  ca: emulator.caPem,
  hsm: { kind: 'symmetricKey', registrationId: 'sensor-1', key: attestation.symmetricKey.primaryKey },
});
await emulator.close();
console.log(device.deviceId);
