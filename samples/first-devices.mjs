// `npm start`: two devices go from nothing to their initial twins, each step shown, no cloud needed.
import { provision } from 'dps-device';
import { startRig } from './rig.mjs';

const rig = await startRig();

async function show(title, options) {
  console.log(`\n── ${title} ${'─'.repeat(Math.max(0, 90 - title.length))}`);
  const journey = provision({ idScope: rig.idScope, ca: rig.ca, ...options });
  for await (const { type, ...details } of journey.events) console.log(`   ${type.padEnd(13)} ${describe(details)}`);
  const device = await journey;
  console.log(`   hub           ${device.assignedHub}`);
  console.log(`   device id     ${device.deviceId}`);
  console.log(`   initial twin  ${JSON.stringify(device.twin, undefined, 2).replaceAll('\n', '\n                 ')}`);
}

function describe(details) {
  return Object.entries(details)
    .map(([name, value]) => `${name}=${typeof value === 'number' ? Math.round(value) : value}`)
    .join('  ');
}

try {
  await show('valve-7: MQTT, X.509 certificate from files', {
    endpoint: rig.endpoints.mqtt,
    transport: 'mqtt',
    hsm: { kind: 'x509', certificate: rig.files.certificate, key: rig.files.certificateKey },
  });
  await show('sensor-1: HTTPS, symmetric key', {
    endpoint: rig.endpoints.https,
    transport: 'https',
    hsm: { kind: 'symmetricKey', registrationId: 'sensor-1', key: { file: rig.files.key } },
  });
  console.log('\nBoth devices are provisioned.');
} finally {
  await rig.close();
}
