// A device with a TPM 2.0, played by swtpm: from its endorsement key to the twin. Run: node samples/tpm-swtpm.mjs
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { provision } from 'dps-device';
import { startEmulator } from 'dps-device/emulator';
import { tpm2Hsm } from 'dps-device/hsm/tpm2';

const swtpm = await startSwtpm(); // on a real device: its TPM, and link is left out or 'tpm2:/dev/tpmrm0'
const emulator = await startEmulator();
try {
  // In the factory: what identifies the TPM goes to the operator, who enrolls the device with it.
  const hsm = await tpm2Hsm({ link: swtpm.link });
  const { registrationId, enrollment } = await hsm.identity(AbortSignal.timeout(60_000));
  await hsm.close();
  console.log('registration id, from the endorsement key:', registrationId);
  emulator.enroll({ ...enrollment, initialTwin: { properties: { desired: { telemetryIntervalSeconds: 60 } } } });

  // In the field:
  const device = await provision({
    idScope: emulator.idScope,
    endpoint: emulator.endpoints.dps.https, // a real device needs neither endpoint nor ca
    ca: emulator.caPem,
    hsm: { kind: 'tpm', link: swtpm.link },
  });
  console.log(`provisioned at ${device.assignedHub} as ${device.deviceId}`);
  console.log('initial desired properties', device.twin.desired.properties);

  // Every token for the hub is signed inside the TPM, by a key that nobody has ever seen.
  const session = await device.openHub();
  console.log('reported version', await session.report({ firmware: '1.2.0' }));
  await session.close();
} finally {
  await emulator.close();
  await swtpm.stop();
}

/** A TPM of its own in a new folder, behind a Unix socket. */
async function startSwtpm() {
  const folder = await mkdtemp(join(tmpdir(), 'dps-device-swtpm-'));
  const socket = join(folder, 'tpm.sock');
  const channels = ['--server', `type=unixio,path=${socket}`, '--ctrl', `type=unixio,path=${socket}.ctrl`];
  const flags = ['--flags', 'not-need-init,startup-clear'];
  const child = spawn('swtpm', ['socket', '--tpm2', '--tpmstate', `dir=${folder}`, ...channels, ...flags]);
  const gone = once(child, 'exit');
  const failed = once(child, 'error').then(([error]) => {
    throw error.code === 'ENOENT' ? new Error('There is no swtpm here: apt-get install swtpm') : error;
  });
  await Promise.race([failed, isListening(socket)]);
  return {
    link: `tpm2:swtpm:path=${socket}`,
    async stop() {
      child.kill();
      await gone;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function isListening(path) {
  for (;;) {
    const socket = connect(path);
    const isThere = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isThere) return;
    await pause(10);
  }
}
