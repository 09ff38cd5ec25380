// A device with a certificate and its key in PEM files. Run: node samples/x509-files.mjs
import { isDpsError, provision } from 'dps-device';
import { startRig } from './rig.mjs';

const rig = await startRig(); // on a real device: your ID scope, your files, and no endpoint and no ca

try {
  const device = await provision({
    idScope: rig.idScope,
    endpoint: rig.endpoints.mqtt,
    ca: rig.ca,
    // The registration id is the certificate's common name.
    hsm: { kind: 'x509', certificate: rig.files.certificate, key: rig.files.certificateKey },
    deadlineMs: 120_000,
  });
  console.log(`provisioned at ${device.assignedHub} as ${device.deviceId}`);
  console.log('initial twin', device.twin);
  // For a client library of your own: options for MQTT.js, or a connection string.
  const { host, port, clientId, username } = await device.mqttOptions();
  console.log('MQTT options', { host, port, clientId, username });
  console.log('connection string', await device.connectionString());
} catch (error) {
  if (!isDpsError(error)) throw error;
  console.error(`${error.code}: ${error.message}`);
  process.exitCode = 1; // the command line has a finer table, see the README
} finally {
  await rig.close();
}
