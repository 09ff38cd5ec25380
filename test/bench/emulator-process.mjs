// The emulator in a process of its own, driven over IPC. Counts the packets of each connection.
import { syncBuiltinESMExports } from 'node:module';
import tls from 'node:tls';
import { counterFor } from './packet-counter.mjs';

const DESIRED = { telemetryIntervalSeconds: 60, thresholds: { high: 80, low: 10 } };

const counts = { packetsUp: 0, packetsDown: 0, connections: 0 };
let open = 0;
let whenIdle;

// The emulator's trace leaves packets out; its TLS servers see them all.
const { createServer } = tls;
tls.createServer = (...given) => createServer(...given).on('secureConnection', watch);
syncBuiltinESMExports();
const { issueCertificate, makeAuthority, startEmulator } = await import('dps-device/emulator');

const handlers = {
  async start({ links, devices }) {
    const emulator = await startEmulator({
      retryAfterSeconds: 0,
      scopes: links.map(({ idScope, hubName }, index) => ({
        idScope,
        hubs: [{ name: `hub-${index}`, ...(hubName === undefined ? {} : { hostName: hubName }) }],
      })),
    });
    const authority = await makeAuthority({ commonName: 'Bench Device CA' });
    const identities = await enroll(emulator, authority, links, devices);
    return { ca: emulator.caPem, endpoints: emulator.endpoints, identities, properties: DESIRED };
  },
  async take() {
    if (open > 0) await idle();
    const taken = { ...counts };
    Object.assign(counts, { packetsUp: 0, packetsDown: 0, connections: 0 });
    return taken;
  },
};

process.on('message', async ({ id, call, ...parameters }) => {
  process.send({ id, result: await handlers[call](parameters) });
});
// Whoever started this is gone.
process.on('disconnect', () => process.exit());

function idle() {
  return new Promise((resolve) => {
    whenIdle = resolve;
  });
}

/** Each device in every scope, with the same key or certificate. */
async function enroll(emulator, authority, links, devices) {
  const initialTwin = { properties: { desired: DESIRED } };
  for (const { idScope } of links) {
    emulator.scope(idScope).enrollGroup({
      enrollmentGroupId: 'certificates',
      attestation: { x509: { signingCertificates: { primary: { certificate: authority.certificatePem } } } },
      initialTwin,
    });
  }
  const identities = {};
  for (const { registrationId, attestation } of devices) {
    if (attestation === 'x509') {
      const { chainPem, privateKeyPem } = await issueCertificate(authority, {
        commonName: registrationId,
        usage: 'client',
      });
      identities[registrationId] = { chainPem, privateKeyPem };
      continue;
    }
    let symmetricKey = {};
    for (const { idScope } of links) {
      const enrollment = { registrationId, attestation: { symmetricKey }, initialTwin };
      symmetricKey = emulator.scope(idScope).enroll(enrollment).attestation.symmetricKey;
    }
    identities[registrationId] = { key: symmetricKey.primaryKey };
  }
  return identities;
}

function watch(socket) {
  counts.connections += 1;
  open += 1;
  let up;
  let down;
  socket.prependListener('data', (chunk) => {
    // The client speaks first, and shows what is spoken.
    up ??= counterFor(chunk, () => {
      counts.packetsUp += 1;
    });
    down ??= counterFor(chunk, () => {
      counts.packetsDown += 1;
    });
    up.add(chunk);
  });
  const { write } = socket;
  socket.write = (chunk, ...rest) => {
    down?.add(chunk);
    return write.call(socket, chunk, ...rest);
  };
  socket.once('close', () => {
    open -= 1;
    if (open === 0) whenIdle?.();
  });
}
