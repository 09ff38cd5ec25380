// This package, as an application uses it.
import { provision } from 'dps-device';

const journey = JSON.parse(process.env.BENCH_JOURNEY);
const { idScope, registrationId, ca, transport } = journey;
const device = await provision({
  idScope,
  endpoint: journey[transport],
  transport,
  ca,
  hsm: journey.key
    ? { kind: 'symmetricKey', registrationId, key: journey.key }
    : { kind: 'x509', certificate: journey.certificate, key: journey.certificateKey },
});
const { assignedHub, deviceId, twin } = device;
process.stdout.write(JSON.stringify({ assignedHub, deviceId, desired: twin.desired.properties }));
