// What a factory and an operator would have done: an emulated DPS with its hub, two enrollments, and the device's files.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { issueCertificate, makeAuthority, startEmulator } from 'dps-device/emulator';

/** Starts the rig; `close()` ends it and removes the files. */
export async function startRig() {
  const folder = await mkdtemp(join(tmpdir(), 'dps-device-sample-'));
  const authority = await makeAuthority({ commonName: 'Sample Device CA' });
  const device = await issueCertificate(authority, { commonName: 'valve-7', usage: 'client' });

  const emulator = await startEmulator();
  const sensor = emulator.enroll({
    registrationId: 'sensor-1',
    attestation: { symmetricKey: {} }, // keys are generated
    initialTwin: { properties: { desired: { telemetryIntervalSeconds: 60, thresholds: { high: 80, low: 10 } } } },
  });
  emulator.enrollGroup({
    enrollmentGroupId: 'valves',
    attestation: { x509: { signingCertificates: { primary: { certificate: authority.certificatePem } } } },
    initialTwin: { tags: { line: 3 }, properties: { desired: { position: 'closed', greeting: 'Grüße aus dem Werk' } } },
  });

  const files = {
    key: join(folder, 'sensor-1.key'),
    certificate: join(folder, 'valve-7.pem'),
    certificateKey: join(folder, 'valve-7.key'),
    state: join(folder, 'state'),
  };
  await writeFile(files.key, sensor.attestation.symmetricKey.primaryKey, { mode: 0o600 });
  await writeFile(files.certificate, device.chainPem);
  await writeFile(files.certificateKey, device.privateKeyPem, { mode: 0o600 });

  return {
    emulator,
    idScope: emulator.idScope,
    endpoints: emulator.endpoints.dps,
    ca: emulator.caPem,
    files,
    async close() {
      await emulator.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
