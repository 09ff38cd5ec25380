// The same from CommonJS.
const { isDpsError, provision } = require('dps-device');
const { startEmulator } = require('dps-device/emulator');

async function main() {
  const emulator = await startEmulator();
  emulator.enroll({ registrationId: 'sensor-1', attestation: { symmetricKey: {} } });
  try {
    const hsm = { kind: 'symmetricKey', registrationId: 'sensor-1', key: Buffer.alloc(32).toString('base64') };
    await provision({
      idScope: emulator.idScope,
      endpoint: emulator.endpoints.dps.https,
      transport: 'https',
      ca: emulator.caPem,
      hsm,
    });
  } catch (error) {
    console.log(isDpsError(error), error.code);
  } finally {
    await emulator.close();
  }
}

void main();
