// Provisioned here, at home in azure-iot-device: npm install azure-iot-device azure-iot-device-mqtt. Run: node samples/azure-client.mjs
import { provision } from 'dps-device';
import { azureDeviceClient } from 'dps-device/azure';
import { startRig } from './rig.mjs';

const rig = await startRig(); // on a real device: your ID scope, your key file, and no endpoint and no ca

const device = await provision({
  idScope: rig.idScope,
  endpoint: rig.endpoints.mqtt,
  ca: rig.ca,
  hsm: { kind: 'symmetricKey', registrationId: 'sensor-1', key: { file: rig.files.key } },
});
console.log(`provisioned at ${device.assignedHub} as ${device.deviceId}`);

// From here on it is Microsoft's client, with tokens made and renewed by our HSM.
const client = await azureDeviceClient(device);
await client.open();
const twin = await client.getTwin();
console.log('initial desired properties', twin.properties.desired);
await new Promise((resolve, reject) =>
  twin.properties.reported.update({ firmware: '1.2.0' }, (error) => (error ? reject(error) : resolve())),
);
console.log('reported', rig.emulator.hub().twin('sensor-1').reported.properties);

client.onDeviceMethod('identify', (_request, response) => response.send(200, { blinking: true }));
const changed = new Promise((resolve) =>
  twin.on('properties.desired', (delta) => delta.telemetryIntervalSeconds === 30 && resolve({ ...delta })),
);
await subscriptions(3); // answers to the twin, changes of it, methods

// What an operator does meanwhile, at the service's side:
rig.emulator.hub().patchDesired('sensor-1', { telemetryIntervalSeconds: 30 });
console.log('desired change', await changed);
console.log('method answered', await rig.emulator.hub().invokeMethod('sensor-1', 'identify', null));

await client.close();
await rig.close();

/** Microsoft's client subscribes some time after its listeners are there, and tells nobody. */
async function subscriptions(count) {
  const { trace } = rig.emulator;
  let after = trace.entries({ service: 'hub', event: 'connect' }).at(-1).sequence;
  for (let seen = 0; seen < count; seen += 1) {
    after = (await trace.waitFor({ service: 'hub', event: 'subscribe' }, after)).sequence;
  }
}
