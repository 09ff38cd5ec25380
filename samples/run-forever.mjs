// A device that lives until it is told to stop: telemetry, a method, desired properties, through lost connections, renewed
// tokens and moved hubs. Run: node samples/run-forever.mjs
import { run } from 'dps-device';
import { startRig } from './rig.mjs';

const rig = await startRig(); // on a real device: your ID scope, your key file, and no endpoint and no ca

const device = run({
  idScope: rig.idScope,
  endpoint: rig.endpoints.mqtt,
  ca: rig.ca,
  hsm: { kind: 'symmetricKey', registrationId: 'sensor-1', key: { file: rig.files.key } },
  state: rig.files.state, // the next start goes straight to the hub
  reprovisionOn: { method: 'reprovision' }, // for the day it is to move
});
const { session } = device; // one handle for life: what is sent while there is no connection waits for the next

let timer;
async function apply({ telemetryIntervalSeconds: seconds }) {
  if (seconds === undefined) return;
  clearInterval(timer);
  timer = setInterval(send, seconds * 1000);
  console.log('reported version', await session.report({ telemetryIntervalSeconds: seconds }));
}
async function send() {
  try {
    await session.sendTelemetry({ body: { temperature: 20 + Math.random() } });
    console.log('telemetry sent');
  } catch (error) {
    console.log('telemetry dropped:', error.code); // too much is waiting, or this is the end
  }
}
session.onMethod('identify', () => ({ status: 200, payload: { blinking: true } }));
session.onDesiredChange(({ patch }) => apply(patch));
device.ready.then(
  ({ assignedHub, twin }) => {
    console.log(`living at ${assignedHub}`);
    return apply(twin.desired.properties);
  },
  () => {}, // closed tells it, too
);
process.once('SIGTERM', () => device.close()); // saves what it knows, says goodbye
void operate();

const failure = await device.closed; // what only a person can mend; undefined after close()
clearInterval(timer);
console.log(failure?.message ?? 'stopped');
process.exitCode = failure === undefined ? 0 : 1;
await rig.close();

/** What an operator does meanwhile, at the service's side; and the end, which a real device does not come to by itself. */
async function operate() {
  const { trace } = rig.emulator;
  const hub = rig.emulator.hub();
  await trace.waitFor({ event: 'twinPatch' });
  const { sequence } = trace.entries().at(-1);
  hub.patchDesired('sensor-1', { telemetryIntervalSeconds: 0.2 });
  const first = await trace.waitFor({ event: 'telemetry' }, sequence);
  console.log('method answered', await hub.invokeMethod('sensor-1', 'identify'));
  hub.disconnectDevice('sensor-1'); // it comes back by itself
  const back = await trace.waitFor({ service: 'hub', event: 'connect' }, first.sequence);
  const second = await trace.waitFor({ event: 'telemetry' }, back.sequence);
  await trace.waitFor({ event: 'telemetry' }, second.sequence);
  process.kill(process.pid, 'SIGTERM');
}
