// The built package on Microsoft's TPM 2.0 reference simulator (ms-tpm-20-ref), through the mssim link. No part of the test
// suite, because the simulator is in no package: docs/tpm.md says how it is built. After `npm run build`:
//
//   node test/hsm/tpm2/reference-simulator/run.mjs --simulator …/TPMCmd/Simulator/src/tpm2-simulator [--port 2321]
//
// Starts it in a folder of its own, stops it, prints what was done, and ends in 0 when all of it went well.
import { equal, match, ok, rejects } from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { provision } from 'dps-device';
import { startEmulator } from 'dps-device/emulator';
import { tpm2Hsm } from 'dps-device/hsm/tpm2';
import { ReferenceSimulator } from './simulator-process.mjs';

const { values } = parseArgs({
  options: { simulator: { type: 'string' }, port: { type: 'string', default: '2321' } },
});
if (values.simulator === undefined) throw new Error('Give --simulator, the path of the executable tpm2-simulator.');

/** Of every simulator of the debug build whose EK is made from the template of Microsoft's Node SDK. */
const DEBUG_BUILD_ID = 'ko5rabbvxlh7jx2vmnw6iid4nsaxreesyceqpujx5k2jgfk6n4ja';
const signal = AbortSignal.timeout(300_000);
const folder = mkdtempSync(join(tmpdir(), 'dps-device-mssim-'));
const simulator = new ReferenceSimulator(resolve(values.simulator), Number(values.port), folder);
const emulator = await startEmulator({ retryAfterSeconds: 0 });
let registrationId = '';
let passed = 0;

try {
  await simulator.start();
  await check('EK and SRK are made and read', makesKeys);
  await check('an old enrollment keeps its EK', knowsOldTemplate);
  await check('registration over HTTPS, hub key, twin', () => provisions({}, 'registered'));
  await check('nothing is left but EK, SRK and hub key', leavesNothing);
  await check('start from the record', () => provisions({}, 'stored'));
  await check('power cut: off by the platform port', () => cutsPower(() => simulator.powerOff()));
  await check('power cut: kill -9 and a new process', () => cutsPower(() => simulator.restart()));
  await check('a second registration replaces the hub key', () => provisions({ reprovision: true }, 'registered'));
  await check('HMAC sequence over 5,000 bytes', signsLong);
  await check('a key that was changed on its way', refusesChangedKey);
  await check('TPM2_Clear, and a clear error', clears);
  await check('registration after it, same enrollment', () => provisions({}, 'registered'));
  await check('nothing is left but EK, SRK and hub key', leavesNothing);
  await check('the owner hierarchy has a password', needsPassword);
  console.log(`${passed} passed, 0 failed`);
} finally {
  await emulator.close();
  await simulator.stop();
  rmSync(folder, { recursive: true, force: true });
}

async function check(name, work) {
  const start = performance.now();
  const said = await work();
  passed += 1;
  console.log(`ok    ${name} (${Math.round(performance.now() - start)} ms)${said === undefined ? '' : `: ${said}`}`);
}

/** A device of its own, as every start of a program is one. */
async function withDevice(options, work) {
  const hsm = await tpm2Hsm({ link: simulator.link, ...options });
  try {
    return await work(hsm);
  } finally {
    await hsm.close();
  }
}

async function makesKeys() {
  const [first, second] = [await withDevice({}, identityOf), await withDevice({}, identityOf)];
  equal(JSON.stringify(second), JSON.stringify(first));
  match(first.endorsementKey, /^AToAAQALAAMAsgAg/);
  match(first.storageRootKey, /^ARoAAQALAAMEcgAA/);
  emulator.enroll({ ...first.enrollment, initialTwin: { properties: { desired: { fan: 'on' } } } });
  registrationId = first.registrationId;
  return registrationId;
}

async function knowsOldTemplate() {
  const options = { template: 'azure-node-c', transientPrimaries: true };
  const { registrationId: id } = await withDevice(options, identityOf);
  return id === DEBUG_BUILD_ID ? `${id}, as every debug build` : `${id}, no debug build`;
}

async function provisions(options, source) {
  const device = await provision({
    idScope: emulator.idScope,
    endpoint: emulator.endpoints.dps.https,
    ca: emulator.caPem,
    hsm: { kind: 'tpm', link: simulator.link },
    state: join(folder, 'state'),
    signal,
    ...options,
  });
  equal(device.source, source);
  equal(device.deviceId, registrationId);
  equal(device.twin.desired.properties.fan, 'on');
  const session = await device.openHub();
  const version = await session.report({ source });
  await session.close();
  return `${device.source}, at ${device.assignedHub}, reported version ${version}`;
}

async function cutsPower(cut) {
  const before = await withDevice({}, signatureOf);
  await cut();
  equal(await withDevice({}, signatureOf), before);
  return provisions({}, 'stored');
}

async function leavesNothing() {
  equal((await simulator.leaks()).join(' '), '');
  const persistent = (await simulator.persistent()).join(' ');
  equal(persistent, '81000001 81000100 81010001');
  return persistent;
}

async function signsLong() {
  const signature = await withDevice({}, (hsm) => hsm.sign(Buffer.alloc(5_000, 7), 0, signal));
  equal(signature.length, 32);
  equal((await simulator.leaks()).join(' '), '');
}

async function refusesChangedKey() {
  const identity = await withDevice({}, identityOf);
  // Taken from where anybody can: the service challenges whoever says that it has these two keys.
  const { authenticationKey } = await simulator.challengeFrom(emulator, identity);
  const blob = Buffer.from(authenticationKey, 'base64');
  await withDevice({}, (hsm) => hsm.activate(blob, signal));
  // Of each field one byte: the credential, its secret, the key, the seed, the public area.
  const codes = [];
  for (const offset of [30, 154, 372, 556, 754]) {
    const changed = Buffer.from(blob);
    changed[offset] ^= 1;
    const error = await failureOf(withDevice({}, (hsm) => hsm.activate(changed, signal)));
    equal(error.code, 'ERR_DPS_HSM_TPM_BLOB');
    codes.push(/\((0x[0-9a-f]+)/.exec(error.message)?.[1]);
  }
  equal((await simulator.leaks()).join(' '), '');
  return codes.join(' ');
}

async function clears() {
  await simulator.clear();
  const error = await failureOf(withDevice({}, signatureOf));
  equal(error.code, 'ERR_DPS_HSM_TPM_NO_IDENTITY');
  match(error.message, /the TPM was cleared since/);
  equal((await withDevice({}, identityOf)).registrationId, registrationId);
  return `${error.code}: ${error.message}`;
}

async function needsPassword() {
  await simulator.setOwnerPassword('secret');
  await simulator.evict(0x8100_0001, 'secret');
  const error = await failureOf(withDevice({}, identityOf));
  equal(error.code, 'ERR_DPS_HSM_TPM_AUTH');
  ok(!error.message.includes('secret'));
  await rejects(withDevice({ ownerAuth: 'wrong' }, identityOf), { code: 'ERR_DPS_HSM_TPM_AUTH' });
  equal((await withDevice({ ownerAuth: 'secret' }, identityOf)).registrationId, registrationId);
  return error.message;
}

function identityOf(hsm) {
  return hsm.identity(signal);
}

async function signatureOf(hsm) {
  return Buffer.from(await hsm.sign(Buffer.from('hub.example%2Fdevices%2Fdev-1\n1735689600'), 0, signal)).toString(
    'hex',
  );
}

async function failureOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error('It succeeded.');
}
