import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cleanEnvironment } from './measurement.mjs';
import { ServiceProcess } from './service-process.mjs';

/** What a device connects to, each through a relay of its own. */
const RELAYED = ['mqtt', 'https', 'amqp', 'hub'];

/**
 * The emulator and the relays, each in its own process, and every contestant's device in every scope. A link is a round
 * trip time in ms, 0 for none and no relay; each has a scope whose hub is told to devices by the address they must use.
 */
export async function startRig(tasks, linksMs) {
  const folder = await mkdtemp(join(tmpdir(), 'dps-device-bench-'));
  const start = (name) => new ServiceProcess(fileURLToPath(new URL(name, import.meta.url)), cleanEnvironment());
  const emulator = start('emulator-process.mjs');
  const relay = start('relay-process.mjs');
  const close = async () => {
    await Promise.all([emulator.close(), relay.close()]);
    await rm(folder, { recursive: true, force: true });
  };
  try {
    const ports = await relay.call('listen', { roundTripsMs: linksMs.flatMap((ms) => RELAYED.map(() => ms)) });
    const links = linksMs.map((roundTripMs, index) => {
      const own = ports.slice(index * RELAYED.length);
      const relay = Object.fromEntries(RELAYED.map((service, at) => [service, own[at]]));
      return { roundTripMs, idScope: `0ne0000000${index}`, relay };
    });
    const devices = devicesOf(tasks);
    const world = await emulator.call('start', {
      links: links.map(({ roundTripMs, idScope, relay: { hub } }) => ({
        idScope,
        ...(roundTripMs === 0 ? {} : { hubName: `localhost:${hub}` }),
      })),
      devices,
    });
    await relay.call('target', { pairs: links.flatMap((link, index) => targetsOf(link, index, world.endpoints)) });
    return {
      links,
      properties: world.properties,
      journey: (task, contestant, link) => prepareJourney({ folder, world, task, contestant, link }),
      /** What went over the wire since the last call, once everything is closed. */
      take: async () => ({ ...(await relay.call('take')), ...(await emulator.call('take')) }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function devicesOf(tasks) {
  return tasks.flatMap((task) =>
    task.contestants
      .filter(({ isIdle }) => !isIdle)
      .map((contestant) => ({ registrationId: deviceName(task, contestant), attestation: task.attestation })),
  );
}

function deviceName(task, contestant) {
  return `${task.name}-${contestant.name}`;
}

function targetsOf({ relay }, index, { dps, hubs }) {
  return [
    [relay.mqtt, portOf(dps.mqtt)],
    [relay.https, portOf(dps.https)],
    [relay.amqp, portOf(dps.amqp)],
    [relay.hub, portOf(hubs[index].mqtt)],
  ];
}

function portOf(address) {
  return Number(address.split(':').at(-1));
}

/** What a contestant is told, in its environment; the command line gets the same in files. */
async function prepareJourney({ folder, world, task, contestant, link }) {
  const registrationId = deviceName(task, contestant);
  const identity = world.identities[registrationId];
  if (identity === undefined) return {};
  const name = join(folder, `${registrationId}-${link.roundTripMs}`);
  const at = (service) => (link.roundTripMs === 0 ? world.endpoints.dps[service] : `localhost:${link.relay[service]}`);
  const files = identity.key === undefined ? await writeCertificate(name, identity) : await writeKey(name, identity);
  const { idScope } = link;
  const { transport } = task;
  await writeFile(`${name}.ca.pem`, world.ca);
  const configFile = `${name}.json`;
  const endpoint = at(transport);
  const caFile = `${name}.ca.pem`;
  await writeFile(
    configFile,
    JSON.stringify({ idScope, endpoint, transport, caFile, registrationId, ...files.options }),
  );
  const dps = { mqtt: at('mqtt'), https: at('https'), amqp: at('amqp') };
  const journey = { idScope, transport, registrationId, ...dps, ca: world.ca };
  return { configFile, journey: { ...journey, ...files.journey } };
}

async function writeKey(name, { key }) {
  const symmetricKeyFile = `${name}.key`;
  await writeFile(symmetricKeyFile, key, { mode: 0o600 });
  return { options: { symmetricKeyFile }, journey: { key } };
}

async function writeCertificate(name, { chainPem, privateKeyPem }) {
  const certificate = `${name}.pem`;
  const certificateKey = `${name}.key`;
  await writeFile(certificate, chainPem);
  await writeFile(certificateKey, privateKeyPem, { mode: 0o600 });
  return {
    options: { certFile: certificate, certKeyFile: certificateKey },
    journey: { certificate, certificateKey },
  };
}
