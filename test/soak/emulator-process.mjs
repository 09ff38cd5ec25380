// An emulator in a process of its own, so that what is measured is the device's side alone. Prints one line of JSON about
// itself, and ends when its standard input does.
import { issueCertificate, makeAuthority, startEmulator } from 'dps-device/emulator';

const authority = await makeAuthority({ commonName: 'Soak Device CA' });
const device = await issueCertificate(authority, { commonName: 'certified', usage: 'client' });
const emulator = await startEmulator({ retryAfterSeconds: 0 });
const group = emulator.enrollGroup({ enrollmentGroupId: 'soak', attestation: { symmetricKey: {} } });
emulator.enrollGroup({
  enrollmentGroupId: 'certified',
  attestation: { x509: { signingCertificates: { primary: { certificate: authority.certificatePem } } } },
});

console.log(
  JSON.stringify({
    idScope: emulator.idScope,
    endpoints: emulator.endpoints.dps,
    ca: emulator.caPem,
    groupKey: group.attestation.symmetricKey.primaryKey,
    certificatePem: device.chainPem,
    keyPem: device.privateKeyPem,
  }),
);
process.stdin.resume().once('end', () => emulator.close());
