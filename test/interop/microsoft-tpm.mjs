// A process with Microsoft's azure-iot-security-tpm in it, as it is published; `npm run rig` has installed it. Takes one
// command as JSON from its argument, prints its result as JSON. It speaks to the reference simulator's protocol only.
import https from 'node:https';
import { createRequire } from 'node:module';
import tls from 'node:tls';

const peers = createRequire(new URL('../../.rig/tpm-peers/package.json', import.meta.url));
const project = createRequire(import.meta.url);
const { TpmAuthenticationProvider, TpmSecurityClient } = peers('azure-iot-security-tpm');
const { Tpm } = peers('tss.js');

const COMMANDS = { identify, activate, register };

const { command, port, ...options } = JSON.parse(process.argv[2]);
const security = new TpmSecurityClient(undefined, new Tpm(true, '127.0.0.1', port));
const result = await COMMANDS[command](options);
process.stdout.write(JSON.stringify(result), () => process.exit());

/** One of their functions, whose last parameter is a callback. */
function call(name, ...parameters) {
  return new Promise((resolve, reject) => {
    security[name](...parameters, (error, value) => (error ? reject(error) : resolve(value)));
  });
}

async function identify() {
  return {
    registrationId: await call('getRegistrationId'),
    endorsementKey: (await call('getEndorsementKey')).toString('base64'),
    storageRootKey: (await call('getStorageRootKey')).toString('base64'),
  };
}

/** Takes the blob in, and signs each text (Base64) with the key that was in it. */
async function activate({ blob, texts }) {
  await call('activateIdentityKey', Buffer.from(blob, 'base64'));
  const signatures = [];
  for (const text of texts) {
    signatures.push((await call('signWithIdentity', Buffer.from(text, 'base64'))).toString('hex'));
  }
  return signatures;
}

/** Registers by their provisioning client, then takes the twin from the hub with tokens that the TPM signs. */
async function register({ transport, endpoint, idScope, ca }) {
  const { ProvisioningDeviceClient } = peers('azure-iot-provisioning-device');
  const [host, dpsPort] = endpoint.split(':');
  const ways = {
    https: overHttps,
    amqp: overAmqp,
    'amqp-ws': overAmqpWebSocket,
    mqtt: overMqtt('Mqtt'),
    'mqtt-ws': overMqtt('MqttWs'),
  };
  const { where, how, undo } = ways[transport](host, Number(dpsPort));
  const answer = await ProvisioningDeviceClient.create(where, idScope, how, security).register();
  undo?.();
  const state = answer.registrationState;
  const hubTransport =
    transport === 'amqp' ? project('azure-iot-device-amqp').Amqp : project('azure-iot-device-mqtt').Mqtt;
  return { state, twin: await takeTwin(state, hubTransport, ca) };
}

/** Their transport knows port 443 only; but for the port, this is the agent that Node comes with. */
function overHttps(host, port) {
  const { Http } = peers('azure-iot-provisioning-device-http');
  https.globalAgent = new https.Agent({ keepAlive: true, scheduling: 'lifo', timeout: 5000, port });
  return { where: host, how: new Http() };
}

function overAmqp(host, port) {
  const { Amqp } = project('azure-iot-provisioning-device-amqp');
  return { where: `${host}:${port}`, how: new Amqp() };
}

/** Either is refused before it connects. */
function overMqtt(name) {
  const { [name]: Transport } = project('azure-iot-provisioning-device-mqtt');
  return (host) => ({ where: host, how: new Transport() });
}

/** This one knows port 443 only, too, and with a TPM takes no agent: what opens TLS connections knows better. */
function overAmqpWebSocket(host, port) {
  const { AmqpWs } = project('azure-iot-provisioning-device-amqp');
  const { connect } = tls;
  tls.connect = (options) => connect({ ...options, port });
  const undo = () => {
    tls.connect = connect;
  };
  return { where: host, how: new AmqpWs(), undo };
}

async function takeTwin({ deviceId, assignedHub }, hubTransport, ca) {
  const { Client } = project('azure-iot-device');
  const provider = TpmAuthenticationProvider.fromTpmSecurityClient(deviceId, assignedHub, security);
  const client = Client.fromAuthenticationProvider(provider, hubTransport);
  await client.setOptions({ ca });
  await client.open();
  const { desired } = (await client.getTwin()).properties;
  await client.close();
  return JSON.parse(JSON.stringify(desired));
}
