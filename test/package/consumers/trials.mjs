// What a consumer of the package does, with `provision` as the consumer got it: one line of JSON for each trial.
import { readFileSync } from 'node:fs';
import { inspect } from 'node:util';
import { symmetricKeyHsm } from 'dps-device/hsm/symmetric-key';
import { x509FileHsm } from 'dps-device/hsm/x509-file';

/**
 * @param provision of the package under trial.
 * @param file JSON: where the emulated service is (`idScope`, `ca`, `endpoints`), what else there is (a `closedPort`, a
 *   `refusingPort` where no client certificate is good enough, `foreignCa`), and the `files` of the two devices.
 */
export async function runTrials(provision, file) {
  const service = JSON.parse(readFileSync(file, 'utf8'));
  const { idScope, ca, foreignCa, endpoints, closedPort, refusingPort, files } = service;
  const certificate = { kind: 'x509', certificate: files.certificate, key: files.certificateKey };
  const key = { kind: 'symmetricKey', registrationId: 'sensor-1', key: { file: files.key } };
  const valve = (changes) =>
    provision({ idScope, ca, endpoint: endpoints.mqtt, transport: 'mqtt', hsm: certificate, ...changes });
  const sensor = (changes) =>
    provision({ idScope, ca, endpoint: endpoints.https, transport: 'https', hsm: key, ...changes });

  await show('runtime', async () => nameRuntime());
  await show('mqttX509', async () => summarise(await valve()));
  await show('httpsSymmetricKey', async () => summarise(await sensor()));
  await show('amqpX509', async () => summarise(await valve({ endpoint: endpoints.amqp, transport: 'amqp' })));
  await show('webSockets', async () => ({
    mqtt: (await sensor({ transport: 'mqtt-ws', hubTransport: 'mqtt-ws' })).deviceId,
    amqp: (await sensor({ transport: 'amqp-ws' })).deviceId,
  }));
  await show('encryptedKey', async () =>
    summarise(await valve({ hsm: { ...certificate, key: files.encryptedKey, passphrase: 'correct horse' } })),
  );
  await show('hubSession', async () => useHub(await (await sensor()).openHub()));
  await show('secrets', async () => ({ leaks: (await findLeaks(files, await sensor())).join() }));
  await show('failures', async () => ({
    untrustedMqtt: await failureOf(valve({ ca: foreignCa })),
    untrustedHttps: await failureOf(sensor({ ca: foreignCa })),
    nobodyThere: await obstacleOf((signal) => valve({ endpoint: `localhost:${closedPort}`, signal })),
    wrongKey: await failureOf(sensor({ hsm: { ...key, key: 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' } })),
    wrongPassphrase: await failureOf(valve({ hsm: { ...certificate, key: files.encryptedKey, passphrase: 'wrong' } })),
    missingOption: await failureOf(provision({ idScope })),
    cancelled: await failureOf(cancelWhile('connecting', sensor)),
  }));
  await show('refusedCertificate', async () => ({
    obstacle: await obstacleOf((signal) => valve({ endpoint: `localhost:${refusingPort}`, signal })),
  }));
}

function nameRuntime() {
  const { Bun, Deno } = globalThis;
  if (Bun !== undefined) return `Bun ${Bun.version}`;
  return Deno === undefined ? `Node ${process.versions.node}` : `Deno ${Deno.version.deno}`;
}

function summarise({ deviceId, twin }) {
  return { deviceId, desired: twin.desired.properties };
}

async function useHub(session) {
  const reportedVersion = await session.report({ firmware: '1.2.0' });
  await session.sendTelemetry({ body: { temperature: 21.5 } });
  await session.close();
  return { deviceId: session.deviceId, reportedVersion, endedBy: (await session.closed)?.message ?? 'close' };
}

async function cancelWhile(stage, device) {
  const controller = new AbortController();
  const journey = device({ signal: controller.signal });
  for await (const { type } of journey.events) if (type === stage) controller.abort();
  return journey;
}

/** What a journey fails with, or first waits for: it is cancelled then. */
async function obstacleOf(start) {
  const controller = new AbortController();
  const journey = start(controller.signal);
  let obstacle;
  for await (const { type, reason, detail } of journey.events) {
    if (type !== 'waiting') continue;
    obstacle = `${reason}: ${detail}`;
    controller.abort();
  }
  const failure = await failureOf(journey);
  return obstacle ?? failure;
}

/** What shows a key when it is printed, with whatever the host prints with. */
async function findLeaks(files, device) {
  const keyText = readFileSync(files.key, 'utf8').trim();
  const [, pemLine] = readFileSync(files.certificateKey, 'utf8').split('\n');
  const printed = {
    symmetricKeyHsm: await symmetricKeyHsm({ registrationId: 'sensor-1', key: { file: files.key } }),
    x509FileHsm: await x509FileHsm({ certificate: files.certificate, key: files.certificateKey }),
    device,
  };
  const { Bun, Deno } = globalThis;
  const printers = [inspect, Bun?.inspect, Deno?.inspect].filter((printer) => printer !== undefined);
  return Object.entries(printed).flatMap(([name, value]) => {
    const texts = [JSON.stringify(value), ...printers.map((print) => print(value, { depth: 9, showHidden: true }))];
    return texts.some((text) => text.includes(keyText) || text.includes(pemLine)) ? [name] : [];
  });
}

async function failureOf(journey) {
  try {
    await journey;
    return 'no failure';
  } catch (error) {
    return error.code ?? `${error.name}: ${error.message}`;
  }
}

async function show(trial, run) {
  try {
    console.log(JSON.stringify({ trial, result: await run() }));
  } catch (error) {
    console.log(JSON.stringify({ trial, failure: `${error.code ?? error.name}: ${error.message}` }));
  }
}
