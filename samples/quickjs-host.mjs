// A port in one page: the registration machine runs inside QuickJS, which has nothing but the language. This file is its
// host and performs the effects: HMAC, HTTPS, timers. What a port has to fulfil is in docs/porting.md.
// Run: node samples/quickjs-host.mjs
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { Agent, request as httpsRequest } from 'node:https';
import { build } from 'esbuild';
import { getQuickJS, Scope } from 'quickjs-emscripten';
import { startRig } from './rig.mjs';

// Inside: the core, and one function that takes a call and gives an answer, both JSON. Bytes cross the border as Base64.
const GUEST = `
  import * as core from 'dps-device/core';
  const toHost = (_, value) => (value instanceof Uint8Array ? { base64: core.encodeBase64(value) } : value);
  const fromHost = (_, value) => (typeof value?.base64 === 'string' ? core.decodeBase64(value.base64) : value);
  const failure = { code: 'ERR_DPS_CONNECTION_LOST', phase: 'request', retryable: true };
  let registration;
  const calls = {
    start: (config) => { registration = core.newRegistration(config); },
    step: ({ input, now }) => {
      const { failed } = input;
      if (failed) input.error = new core.TransportError({ ...failure, message: failed, peer: registration.config.endpoint });
      const step = core.stepRegistration(registration, input, now);
      registration = step.registration;
      return { effects: step.effects, wakeAtMs: core.registrationWakeAtMs(registration) };
    },
    textToSign: ({ resource, expirySeconds }) => core.textToSign(resource, expirySeconds),
    formatToken: (parts) => core.formatSasToken({ ...parts, keyName: core.DPS_KEY_NAME }),
  };
  globalThis.call = (name, argument) => JSON.stringify(calls[name](JSON.parse(argument, fromHost)) ?? null, toHost);
`;
const stdin = { contents: GUEST, resolveDir: import.meta.dirname };
const bundling = { bundle: true, format: 'iife', platform: 'neutral', write: false, logLevel: 'error' };
const { outputFiles } = await build({ stdin, ...bundling });
const vm = (await getQuickJS()).newContext();
vm.unwrapResult(vm.evalCode(outputFiles[0].text)).dispose();

function call(name, argument) {
  return Scope.withScope((scope) => {
    const texts = [name, JSON.stringify(argument)].map((text) => scope.manage(vm.newString(text)));
    const guest = scope.manage(vm.getProp(vm.global, 'call'));
    return JSON.parse(vm.getString(scope.manage(vm.unwrapResult(vm.callFunction(guest, vm.undefined, ...texts)))));
  });
}

// Outside: the host. At most one ticketed order is under way; answers to abandoned ones are ignored inside.
const rig = await startRig();
const key = Buffer.from(await readFile(rig.files.key, 'utf8'), 'base64');
const agent = new Agent({ keepAlive: true, ca: rig.ca });
let authorization;
let timer;
let finish;
const finished = new Promise((resolve) => {
  finish = resolve;
});

function feed(input) {
  const now = { monotonicMs: performance.now(), wallMs: Date.now(), random: Math.random() };
  const { effects, wakeAtMs } = call('step', { input, now });
  for (const effect of effects) PERFORM[effect.type](effect);
  clearTimeout(timer);
  if (wakeAtMs !== undefined) timer = setTimeout(() => feed({ type: 'Woke' }), wakeAtMs - performance.now());
}

const PERFORM = {
  PrepareCredential({ ticket, token }) {
    const text = Buffer.from(call('textToSign', token).base64, 'base64');
    const signature = { base64: createHmac('sha256', key).update(text).digest('base64') };
    authorization = call('formatToken', { ...token, signature });
    queueMicrotask(() => feed({ type: 'CredentialReady', ticket }));
  },
  OpenConnection: ({ ticket }) => queueMicrotask(() => feed({ type: 'ConnectionOpened', ticket })), // the agent connects when it must
  SendRequest: ({ ticket, request }) =>
    exchange(request).then(
      (reply) => feed({ type: 'ReplyReceived', ticket, reply }),
      ({ message }) => feed({ type: 'OperationFailed', ticket, failed: message }),
    ),
  CloseConnection: () => agent.destroy(),
  ReportProgress: ({ event }) => console.log('  ', JSON.stringify(event)),
  Finish: ({ outcome }) => finish(outcome),
};

async function exchange({ kind, body, operationId }) {
  const [method, path] = kind === 'register' ? ['PUT', 'register'] : ['GET', `operations/${operationId}`];
  const url = `https://${rig.endpoints.https}/${rig.idScope}/registrations/sensor-1/${path}?api-version=2021-06-01`;
  const headers = { authorization, 'content-type': 'application/json' };
  const request = httpsRequest(url, { agent, headers, method });
  request.end(body && Buffer.from(body.base64, 'base64'));
  const [response] = await once(request, 'response');
  const base64 = Buffer.concat(await response.toArray()).toString('base64');
  const { 'retry-after': retryAfter, date } = response.headers;
  return { kind: 'reply', status: response.statusCode, body: { base64 }, retryAfter, date };
}

const bounds = { deadlineMs: 60_000, connectTimeoutMs: 20_000, requestTimeoutMs: 10_000, tokenLifeSeconds: 3_600 };
const names = { idScope: rig.idScope, registrationId: 'sensor-1', endpoint: rig.endpoints.https, transport: 'https' };
call('start', { ...names, ...bounds, attestation: 'symmetricKey', slots: 1 });
feed({ type: 'Started' });
const { kind, result, error } = await finished;
console.log(kind === 'assigned' ? `assigned to ${result.assignedHub} as ${result.deviceId}` : `failed: ${error.code}`);
await rig.close();
