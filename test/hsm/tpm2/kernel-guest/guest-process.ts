import { createHmac, randomBytes } from 'node:crypto';
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { DeviceLink } from '../../../../hsm/tpm2/links/device.js';
import { type Tpm2Hsm, tpm2Hsm } from '../../../../hsm/tpm2.js';
import { systemClock } from '../../../../src/system-clock.js';
import { sealKey } from '../sealed-key.js';

/**
 * What is checked inside the guest, on the devices of Linux's own TPM driver. Prints a line for each check, and at the
 * end how many passed and failed.
 */
const { signal } = new AbortController();
const REFUSAL = '80010000000a00000143';
/** The resource manager's own answer: no such command, said by its layer. */
const REFUSAL_OF_MANAGER = '80010000000a000b0143';
const START_SESSION = Buffer.from(
  `80010000002b 00000176 40000007 40000007 0010 ${'11'.repeat(16)} 0000 01 0010 000b`.replace(/ /g, ''),
  'hex',
);
const NO_SUCH_COMMAND = Buffer.from('80010000000a00000fff', 'hex');

const checks: readonly [string, () => Promise<void>][] = [
  ['tpmrm0: from the EK to a signature of the hub key', () => wholeWay('/dev/tpmrm0')],
  ['tpm0: from the EK to a signature of the hub key', () => wholeWay('/dev/tpm0')],
  ['tpmrm0: the identity signs from another open file', () => wholeWay('/dev/tpmrm0', 2)],
  ['tpmrm0: many programs at once', () => inTurns('/dev/tpmrm0', '/dev/tpmrm0', REFUSAL_OF_MANAGER)],
  ['tpm0: one program at a time', tpm0IsExclusive],
  ['tpmrm0: objects and sessions of a closed file are flushed', leavesNothing],
  ['the driver: a response in pieces', readsInPieces],
  ['the driver: EBUSY while a response waits, EINVAL and E2BIG', refusesWrites],
  ['tpm0: opened and let go of, command by command', () => inTurns('/dev/tpm0', undefined, REFUSAL)],
  ['tpmrm0: the fourth session of an open file', runsOutOfSessions],
  ['a user who is in no group', forbidden],
  ['no device: the paths are named', noDevice],
];

let failed = 0;
for (const [name, check] of checks) {
  try {
    await check();
    print(`ok    ${name}`);
  } catch (error) {
    failed += 1;
    print(`FAIL  ${name}: ${error instanceof Error ? error.stack : String(error)}`);
  }
}
print(`${checks.length - failed} passed, ${failed} failed`);

async function wholeWay(path: string, devices = 1): Promise<void> {
  const all = await Promise.all(Array.from({ length: devices }, () => tpm2Hsm({ link: `tpm2:${path}` })));
  const [first] = all;
  if (first === undefined) return;
  const hubKey = randomBytes(32);
  await first.activate(await sealed(first, randomBytes(32)), signal);
  await first.stage(await sealed(first, hubKey), signal);
  await first.commit(signal);
  for (const hsm of all) {
    const data = Buffer.alloc(3000, 7);
    const signature = Buffer.from(await hsm.sign(data, 0, signal)).toString('hex');
    equal(signature, createHmac('sha256', hubKey).update(data).digest('hex'));
  }
  await Promise.all(all.map((hsm) => hsm.close()));
}

async function sealed(hsm: Tpm2Hsm, key: Buffer): Promise<Uint8Array> {
  const { endorsementKey, storageRootKey } = await hsm.endorsement(signal);
  return sealKey(endorsementKey, storageRootKey, key).blob;
}

async function inTurns(one: string, other: string | undefined, refusal: string): Promise<void> {
  const links = [one, other].filter((path) => path !== undefined).map((path) => new DeviceLink(path, systemClock));
  const ask = async (link: DeviceLink): Promise<void> =>
    equal(Buffer.from(await link.transceive(NO_SUCH_COMMAND, 60_000)).toString('hex'), refusal);
  await Promise.all(links.map(ask));
  await Promise.all(links.map(ask));
  await Promise.all(links.map((link) => link.close()));
}

async function tpm0IsExclusive(): Promise<void> {
  const owner = openSync('/dev/tpm0', constants.O_RDWR);
  const link = new DeviceLink('/dev/tpm0', systemClock);
  const error = await reasonOf(link.transceive(NO_SUCH_COMMAND, 60_000));
  equal(String(error.code), 'ERR_DPS_HSM_TPM_BUSY');
  closeSync(owner);
  equal(Buffer.from(await link.transceive(NO_SUCH_COMMAND, 60_000)).toString('hex'), REFUSAL);
  await link.close();
}

/** A session is started and abandoned; the raw device then lists none. */
async function leavesNothing(): Promise<void> {
  for (let count = 0; count < 10; count += 1) {
    const link = new DeviceLink('/dev/tpmrm0', systemClock);
    const response = Buffer.from(await link.transceive(START_SESSION, 60_000));
    equal(response.subarray(6, 10).toString('hex'), '00000000');
    await link.close();
  }
  const raw = new DeviceLink('/dev/tpm0', systemClock);
  for (const first of ['80000000', '02000000', '03000000']) {
    const list = Buffer.from(`80010000001600 00017a00000001${first}000000fe`.replace(/ /g, ''), 'hex');
    const response = Buffer.from(await raw.transceive(list, 60_000));
    equal(response.subarray(15, 19).toString('hex'), '00000000');
  }
  await raw.close();
}

/** The resource manager has three slots, and so has this TPM, which is asked first: no ENOMEM, but SESSION_MEMORY. */
async function runsOutOfSessions(): Promise<void> {
  const link = new DeviceLink('/dev/tpmrm0', systemClock);
  const codes: string[] = [];
  for (let count = 0; count < 5; count += 1) {
    // Its sessions go with the file.
    if (count === 4) link.rest();
    codes.push(Buffer.from(await link.transceive(START_SESSION, 60_000)).toString('hex', 6, 10));
  }
  await link.close();
  equal(codes.join(' '), '00000000 00000000 00000000 00000903 00000000');
}

async function forbidden(): Promise<void> {
  process.seteuid?.(1000);
  try {
    const error = await reasonOf(new DeviceLink('/dev/tpmrm0', systemClock).transceive(NO_SUCH_COMMAND, 60_000));
    equal(String(error.code), 'ERR_DPS_HSM_TPM_PERMISSION');
  } finally {
    process.seteuid?.(0);
  }
}

async function readsInPieces(): Promise<void> {
  const descriptor = openSync('/dev/tpmrm0', constants.O_RDWR);
  writeSync(descriptor, NO_SUCH_COMMAND);
  const pieces = [1, 4, 20].map((size) => {
    const piece = Buffer.alloc(size);
    return piece.subarray(0, readSync(descriptor, piece, 0, size, null)).toString('hex');
  });
  closeSync(descriptor);
  equal(pieces.join(' '), '80 01000000 0a000b0143');
}

async function refusesWrites(): Promise<void> {
  const descriptor = openSync('/dev/tpmrm0', constants.O_RDWR);
  const codeOf = (bytes: Buffer): string => {
    try {
      writeSync(descriptor, bytes);
      return 'taken';
    } catch (error) {
      return String((error as { code?: unknown }).code);
    }
  };
  equal(codeOf(Buffer.from('80010000004000000fff', 'hex')), 'EINVAL');
  equal(codeOf(Buffer.alloc(4097)), 'E2BIG');
  equal(codeOf(NO_SUCH_COMMAND), 'taken');
  equal(codeOf(NO_SUCH_COMMAND), 'EBUSY');
  closeSync(descriptor);
}

async function noDevice(): Promise<void> {
  const error = await reasonOf(new DeviceLink('/dev/tpmrm7', systemClock).transceive(NO_SUCH_COMMAND, 60_000));
  equal(String(error.code), 'ERR_DPS_HSM_TPM_UNREACHABLE');
}

async function reasonOf(promise: Promise<unknown>): Promise<{ readonly code?: unknown }> {
  return promise.then(
    () => ({ code: 'It succeeded.' }),
    (error: { readonly code?: unknown }) => error,
  );
}

function equal(got: string, expected: string): void {
  if (got !== expected) throw new Error(`got ${got}, not ${expected}`);
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}
