'use strict';
// Microsoft's packages, as their samples use them.
const { readFileSync } = require('node:fs');
const tls = require('node:tls');

const journey = JSON.parse(process.env.BENCH_JOURNEY);

// Their provisioning client has no option for a certificate authority, and over HTTPS none for a port. This sets what such
// options would have set; NODE_EXTRA_CA_CERTS would make the process read all built-in roots once more.
const { connect } = tls;
const [httpsHost, httpsPort] = journey.https.split(':');
// rhea gives port and host before the options.
tls.connect = (...given) =>
  connect(
    ...given.map((each) => (Object.prototype.toString.call(each) === '[object Object]' ? corrected(each) : each)),
  );

function corrected(options) {
  const port = options.port === 443 ? Number(httpsPort) : options.port;
  return { ...options, port, ca: options.ca ?? journey.ca };
}

const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Client } = require('azure-iot-device');
const { Mqtt: HubMqtt } = require('azure-iot-device-mqtt');

void main();

async function main() {
  const identity = journey.key ? symmetricKey() : certificate();
  const client = ProvisioningDeviceClient.create(
    journey.transport === 'https' ? httpsHost : journey[journey.transport],
    journey.idScope,
    dpsTransport(),
    identity.security,
  );
  const { assignedHub, deviceId } = await client.register();
  const hub = Client.fromConnectionString(`HostName=${assignedHub};DeviceId=${deviceId};${identity.proof}`, HubMqtt);
  if (identity.options !== undefined) await hub.setOptions(identity.options);
  await hub.open();
  const { $version: _, ...desired } = (await hub.getTwin()).properties.desired;
  await hub.close();
  process.stdout.write(JSON.stringify({ assignedHub, deviceId, desired }));
}

function dpsTransport() {
  if (journey.transport === 'https') return new (require('azure-iot-provisioning-device-http').Http)();
  if (journey.transport === 'amqp') return new (require('azure-iot-provisioning-device-amqp').Amqp)();
  return new (require('azure-iot-provisioning-device-mqtt').Mqtt)();
}

function symmetricKey() {
  const { SymmetricKeySecurityClient } = require('azure-iot-security-symmetric-key');
  return {
    security: new SymmetricKeySecurityClient(journey.registrationId, journey.key),
    proof: `SharedAccessKey=${journey.key}`,
  };
}

function certificate() {
  const { X509Security } = require('azure-iot-security-x509');
  const options = {
    cert: readFileSync(journey.certificate, 'utf8'),
    key: readFileSync(journey.certificateKey, 'utf8'),
  };
  return { security: new X509Security(journey.registrationId, options), proof: 'x509=true', options };
}
