// A device with a symmetric key: provision, then live at the hub. Run: node samples/symmetric-key.mjs
import { provision } from 'dps-device';
import { startRig } from './rig.mjs';

const rig = await startRig(); // on a real device: your ID scope, your key file, and no endpoint and no ca

const device = await provision({
  idScope: rig.idScope,
  endpoint: rig.endpoints.mqtt,
  ca: rig.ca,
  hsm: { kind: 'symmetricKey', registrationId: 'sensor-1', key: { file: rig.files.key } },
});
console.log(`provisioned at ${device.assignedHub} as ${device.deviceId}`);
console.log('initial desired properties', device.twin.desired.properties);

const session = await device.openHub();
session.onMethod('identify', () => ({ status: 200, payload: { blinking: true } }));
const changed = new Promise((resolve) => session.onDesiredChange(resolve));

console.log('reported version', await session.report({ firmware: '1.2.0' }));
await session.sendTelemetry({ body: { temperature: 21.5 }, properties: { unit: 'C' } });

// What an operator does meanwhile, at the service's side:
rig.emulator.hub().patchDesired('sensor-1', { telemetryIntervalSeconds: 30 });
console.log('desired change', (await changed).patch);
console.log('method answered', await rig.emulator.hub().invokeMethod('sensor-1', 'identify', null));

await session.close();
await rig.close();
