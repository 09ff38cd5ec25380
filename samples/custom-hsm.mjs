// An HSM of your own in 30 lines: here the "secure element" is a closure. Run: node samples/custom-hsm.mjs
import { createHmac } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { provision } from 'dps-device';
import { startRig } from './rig.mjs';

/** Stands for a chip that holds a key, and only ever hands out what it signed. */
function secureElement(base64Key) {
  const key = Buffer.from(base64Key, 'base64');
  return { hmacSha256: async (data) => new Uint8Array(createHmac('sha256', key).update(data).digest()) };
}

const rig = await startRig();
const chip = secureElement(await readFile(rig.files.key, 'utf8'));

/** @type {import('dps-device').SymmetricKeyHsm} */
const hsm = {
  kind: 'symmetricKey',
  registrationId: async () => 'sensor-1',
  sign: (data) => chip.hmacSha256(data),
};

const device = await provision({
  idScope: rig.idScope,
  endpoint: rig.endpoints.https,
  transport: 'https',
  ca: rig.ca,
  hsm,
});
console.log(`provisioned at ${device.assignedHub} as ${device.deviceId}`);
console.log('initial twin', device.twin);
await device.connectionString().catch((error) => console.log(`as it should be: ${error.code}`));
await rig.close();
