'use strict';
// The least that a Node process can spend on the job: sockets, hand-encoded packets, no error handling, no time-outs.
// `ack` waits for each acknowledgement before it goes on; `pipelined` sends SUBSCRIBE and the first request together.
const { createHmac, randomUUID } = require('node:crypto');
const { readFileSync } = require('node:fs');
const tls = require('node:tls');

const journey = JSON.parse(process.env.BENCH_JOURNEY);
const isPipelined = process.argv[2] === 'pipelined';
const { idScope, registrationId } = journey;
const context = tls.createSecureContext({
  ca: journey.ca,
  ...(journey.certificate && { cert: readFileSync(journey.certificate), key: readFileSync(journey.certificateKey) }),
});

void main();

async function main() {
  const { assignedHub, deviceId } = await (journey.transport === 'https' ? registerOverHttps() : registerOverMqtt());
  const desired = await readTwin(assignedHub, deviceId);
  process.stdout.write(JSON.stringify({ assignedHub, deviceId, desired }));
}

async function registerOverMqtt() {
  const socket = await dial(journey.mqtt);
  const receive = packets(socket);
  socket.write(
    connectPacket(registrationId, `${idScope}/registrations/${registrationId}/api-version=2019-03-31`, dpsToken()),
  );
  await receive();
  const register = publishPacket(
    `$dps/registrations/PUT/iotdps-register/?$rid=${randomUUID()}`,
    JSON.stringify({ registrationId }),
  );
  await subscribeAndAsk(socket, receive, '$dps/registrations/res/#', register);
  let reply = publishBody(await receive());
  while (reply.status === 'assigning') {
    const topic = `$dps/registrations/GET/iotdps-get-operationstatus/?$rid=${randomUUID()}&operationId=${reply.operationId}`;
    socket.write(publishPacket(topic, ''));
    reply = publishBody(await receive());
  }
  hangUp(socket);
  return reply.registrationState;
}

async function registerOverHttps() {
  const [host] = journey.https.split(':');
  const socket = await dial(journey.https);
  const receive = responses(socket);
  const token = dpsToken();
  const headers = `Host: ${host}\r\nContent-Type: application/json\r\n${token === undefined ? '' : `Authorization: ${token}\r\n`}`;
  const path = `/${idScope}/registrations/${registrationId}`;
  const body = JSON.stringify({ registrationId });
  socket.write(
    `PUT ${path}/register?api-version=2019-03-31 HTTP/1.1\r\n${headers}Content-Length: ${body.length}\r\n\r\n${body}`,
  );
  let reply = JSON.parse(await receive());
  while (reply.status === 'assigning') {
    socket.write(`GET ${path}/operations/${reply.operationId}?api-version=2019-03-31 HTTP/1.1\r\n${headers}\r\n`);
    reply = JSON.parse(await receive());
  }
  socket.destroy();
  return reply.registrationState;
}

async function readTwin(hub, deviceId) {
  const socket = await dial(hub);
  const receive = packets(socket);
  const token = journey.key && sasToken(`${hub}/devices/${deviceId}`);
  socket.write(connectPacket(deviceId, `${hub}/${deviceId}/?api-version=2021-04-12`, token));
  await receive();
  await subscribeAndAsk(socket, receive, '$iothub/twin/res/#', publishPacket('$iothub/twin/GET/?$rid=1', ''));
  const { $version: _, ...desired } = publishBody(await receive()).desired;
  hangUp(socket);
  return desired;
}

async function subscribeAndAsk(socket, receive, filter, request) {
  const subscribe = subscribePacket(filter);
  if (isPipelined) {
    socket.write(Buffer.concat([subscribe, request]));
    await receive();
  } else {
    socket.write(subscribe);
    await receive();
    socket.write(request);
  }
}

function dial(address) {
  const [host, port] = address.split(':');
  return new Promise((resolve, reject) => {
    const socket = tls.connect({ host, port: Number(port), servername: host, secureContext: context });
    socket.setNoDelay(true);
    socket.once('secureConnect', () => resolve(socket));
    socket.once('error', reject);
  });
}

function hangUp(socket) {
  socket.end(Buffer.of(0xe0, 0), () => socket.destroy());
}

/** A function that waits for the next whole MQTT packet. */
function packets(socket) {
  return framed(socket, (bytes) => {
    let length = 0;
    for (let at = 1; at < bytes.length; at += 1) {
      length += (bytes[at] & 0x7f) << (7 * (at - 1));
      if (bytes[at] < 0x80) return at + 1 + length;
    }
    return Number.POSITIVE_INFINITY;
  });
}

/** A function that waits for the next HTTP response, which the service sends in chunks, and takes out its body. */
function responses(socket) {
  const lastChunk = '\r\n0\r\n\r\n';
  const receive = framed(socket, (bytes) => {
    const end = bytes.indexOf(lastChunk);
    return end < 0 ? Number.POSITIVE_INFINITY : end + lastChunk.length;
  });
  return async () => {
    const response = (await receive()).toString('latin1');
    let body = '';
    let at = response.indexOf('\r\n\r\n') + 4;
    for (;;) {
      const start = response.indexOf('\r\n', at) + 2;
      const length = Number.parseInt(response.slice(at, start), 16);
      if (length === 0) return body;
      body += response.slice(start, start + length);
      at = start + length + 2;
    }
  };
}

function framed(socket, measure) {
  let bytes = Buffer.alloc(0);
  let waiting;
  const serve = () => {
    const length = measure(bytes);
    if (waiting === undefined || bytes.length < length) return;
    const resolve = waiting;
    waiting = undefined;
    resolve(bytes.subarray(0, length));
    bytes = bytes.subarray(length);
  };
  socket.on('data', (chunk) => {
    bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk]);
    serve();
  });
  return () =>
    new Promise((resolve) => {
      waiting = resolve;
      serve();
    });
}

function connectPacket(clientId, userName, password) {
  const flags = password === undefined ? 0x82 : 0xc2;
  const header = Buffer.of(0, 4, 0x4d, 0x51, 0x54, 0x54, 4, flags, 0, 180);
  const texts = password === undefined ? [clientId, userName] : [clientId, userName, password];
  return packet(0x10, [header, ...texts.map(text)]);
}

function subscribePacket(filter) {
  return packet(0x82, [Buffer.of(0, 1), text(filter), Buffer.of(0)]);
}

function publishPacket(topic, body) {
  return packet(0x30, [text(topic), Buffer.from(body)]);
}

function packet(firstByte, parts) {
  const body = Buffer.concat(parts);
  const header = body.length < 128 ? [body.length] : [(body.length & 0x7f) | 0x80, body.length >> 7];
  return Buffer.concat([Buffer.of(firstByte, ...header), body]);
}

function text(value) {
  const bytes = Buffer.from(value);
  return Buffer.concat([Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes]);
}

function publishBody(bytes) {
  const start = bytes[1] < 0x80 ? 2 : 3;
  return JSON.parse(bytes.subarray(start + 2 + bytes.readUInt16BE(start)));
}

function dpsToken() {
  return journey.key && sasToken(`${idScope}/registrations/${registrationId}`, 'registration');
}

function sasToken(resource, keyName) {
  const scope = encodeURIComponent(resource);
  const expiry = Math.floor(Date.now() / 1000) + 3600;
  const signature = createHmac('sha256', Buffer.from(journey.key, 'base64'))
    .update(`${scope}\n${expiry}`)
    .digest('base64');
  const token = `SharedAccessSignature sr=${scope}&sig=${encodeURIComponent(signature)}&se=${expiry}`;
  return keyName === undefined ? token : `${token}&skn=${keyName}`;
}
