import { randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tpm2Hsm } from '../../../hsm/tpm2.js';
import type { HsmError } from '../../../src/errors.js';
import { systemClock } from '../../../src/system-clock.js';
import { expectSignsWith, failureOf, HANDLES, signal, signatureOf, TpmBench } from './tpm-bench.js';
import { makeKernelDouble, startRawPeer, type TpmPeer } from './tpm-peer.js';

/** Every row by a real TPM, driven into that state. */
describe('what a TPM refuses', () => {
  let bench: TpmBench;
  beforeEach(async () => {
    bench = await TpmBench.start();
  });
  afterEach(async () => {
    await bench.stop();
  });

  function expectError(error: HsmError, code: string, ...words: string[]): void {
    expect(error.code).toBe(code);
    for (const word of words) expect(error.message).toContain(word);
    expect(error.message).toMatch(/\.$/);
  }

  it('the password of the owner hierarchy is missing or wrong', async () => {
    await bench.probe.changeAuth('owner', 'secret');
    for (const options of [{}, { ownerAuth: 'wrong secret' }]) {
      const error = await failureOf((await bench.device(options)).endorsement(signal));
      expectError(error, 'ERR_DPS_HSM_TPM_AUTH', 'EvictControl', 'TPM_RC_BAD_AUTH (0x9a2, session 1)', 'hsm.ownerAuth');
      expect(error.message).not.toContain('secret');
    }
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('the password of the endorsement hierarchy is missing or wrong', async () => {
    const { hsm } = await bench.provisioned();
    await bench.probe.changeAuth('endorsement', 'secret');
    const blob = await bench.sealed(hsm, randomBytes(32));
    for (const device of [hsm, await bench.device({ endorsementAuth: 'no secret' })]) {
      const error = await failureOf(device.activate(blob, signal));
      expectError(error, 'ERR_DPS_HSM_TPM_AUTH', 'PolicySecret', 'TPM_RC_BAD_AUTH (0x9a2', 'hsm.endorsementAuth');
      expect(error).toMatchObject({ operation: 'activate challenge', retryable: false });
    }
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('a hierarchy is disabled', async () => {
    await (await bench.device()).endorsement(signal);
    await bench.probe.disable('endorsement');
    const error = await failureOf((await bench.device()).endorsement(signal));
    expectError(error, 'ERR_DPS_HSM_TPM_HIERARCHY', 'CreatePrimary', 'TPM_RC_HIERARCHY (0x185', 'disabled');
  });

  it('the TPM is in lockout, and the key is one that counts tries', async () => {
    const hsm = await bench.device();
    const attributes = 0x0004_0040;
    await hsm.activate(await bench.sealed(hsm, randomBytes(32), { attributes }), signal);
    await bench.probe.lockOut();
    const error = await failureOf(signatureOf(hsm));
    expectError(error, 'ERR_DPS_HSM_TPM_LOCKOUT', 'HMAC', 'TPM_RC_LOCKOUT (0x921)', 'tpm2_dictionarylockout');
    // What the service really sends works all the same.
    await expectSignsWith(hsm, await bench.provision(hsm));
  });

  it.each([
    ['EK', HANDLES.ek, 'for endorsementKey with option hsm.handles,'],
    ['SRK', HANDLES.srk, 'for storageRootKey with option hsm.handles,'],
  ])('the handle of the %s holds an ECC key', async (name, handle, option) => {
    await bench.probe.occupy('ecc', handle);
    const error = await failureOf((await bench.device()).endorsement(signal));
    expectError(error, 'ERR_DPS_HSM_TPM_HANDLE', `0x${handle.toString(16)}`, name, 'an ECC key', option);
    expect(error.message.includes('systemd')).toBe(name === 'SRK');
    expect(await bench.probe.persistent()).toContain(handle);
    await expectSignsWith(
      await bench.device({ transientPrimaries: true }),
      (await bench.provisioned({ transientPrimaries: true })).key,
    );
  });

  it('the handle of the EK holds a storage key that is no EK', async () => {
    await bench.probe.occupy('rsa-storage', HANDLES.ek);
    const error = await failureOf((await bench.device()).endorsement(signal));
    expectError(error, 'ERR_DPS_HSM_TPM_HANDLE', 'a storage key with another policy');
  });

  it('the handle of the SRK holds an RSA key of another kind', async () => {
    await bench.probe.occupy('rsa-signing', HANDLES.srk);
    const error = await failureOf((await bench.device()).endorsement(signal));
    expectError(error, 'ERR_DPS_HSM_TPM_HANDLE', 'an RSA key that is no storage key');
  });

  it.each([
    ['identity', HANDLES.identity],
    ['stagedIdentity', HANDLES.staged],
  ])('the handle of the %s holds something else', async (option, handle) => {
    await bench.probe.occupy('rsa-signing', handle);
    const hsm = await bench.device();
    const error = await failureOf(bench.provision(hsm));
    expectError(error, 'ERR_DPS_HSM_TPM_HANDLE', 'an RSA key of 2048 bits', `for ${option} with option hsm.handles.`);
    await hsm.discard(signal);
    expect((await failureOf(signatureOf(hsm))).code).toBe('ERR_DPS_HSM_TPM_HANDLE');
    expect(await bench.probe.persistent()).toContain(handle);
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('the key was sealed to another TPM', async () => {
    const other = await TpmBench.start();
    try {
      const foreign = await other.sealed(await other.device(), randomBytes(32));
      const hsm = await bench.device();
      const error = await failureOf(hsm.activate(foreign, signal));
      expectError(
        error,
        'ERR_DPS_HSM_TPM_BLOB',
        'ActivateCredential',
        'TPM_RC_',
        'not sealed to the EK and SRK of this TPM',
      );
      expect(await bench.probe.leaks()).toEqual([]);
      await expectSignsWith(hsm, await bench.provision(hsm));
    } finally {
      await other.stop();
    }
  });

  it.each([
    ['credential', 30, 'ActivateCredential', 'TPM_RC_INTEGRITY (0x1df, parameter 1)'],
    ['credential secret', 54 + 100, 'ActivateCredential', 'TPM_RC_'],
    ['duplicated key', 54 + 258 + 60, 'Import', 'TPM_RC_INTEGRITY (0x3df, parameter 3)'],
    ['seed', 54 + 258 + 144 + 100, 'Import', 'TPM_RC_'],
    ['public area', 54 + 258 + 144 + 258 + 40, 'Import', 'TPM_RC_INTEGRITY (0x3df, parameter 3)'],
  ])('one byte of the key is changed, in the %s', async (_, offset, command, words) => {
    const hsm = await bench.device();
    const blob = await bench.sealed(hsm, randomBytes(32));
    blob[offset] = (blob[offset] ?? 0) ^ 0x01;
    const error = await failureOf(hsm.activate(blob, signal));
    expectError(error, 'ERR_DPS_HSM_TPM_BLOB', command, words);
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it.each([
    ['too long', 65, undefined, 'Import', 'TPM_RC_KEY_SIZE (0x3c7'],
    ['fixed to a TPM', 32, 0x0004_0442, 'Import', 'TPM_RC_ATTRIBUTES (0x2c2'],
    ['for decrypting, too', 32, 0x0006_0440, 'Import', 'TPM_RC_SCHEME (0x2d2'],
  ])('the key is %s', async (_, length, attributes, command, words) => {
    const hsm = await bench.device();
    const parts = attributes === undefined ? {} : { attributes };
    const blob = await bench.sealed(hsm, randomBytes(length), parts);
    expectError(await failureOf(hsm.activate(blob, signal)), 'ERR_DPS_HSM_TPM_BLOB', command, words);
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('the key cannot be used with a password', async () => {
    const hsm = await bench.device();
    await hsm.activate(await bench.sealed(hsm, randomBytes(32), { attributes: 0x0004_0400 }), signal);
    expectError(await failureOf(signatureOf(hsm)), 'ERR_DPS_HSM_TPM_BLOB', 'TPM_RC_AUTH_UNAVAILABLE (0x12f)');
  });

  it('what came from the service is no key', async () => {
    const hsm = await bench.device();
    const blob = await bench.sealed(hsm, randomBytes(32));
    const broken = [Buffer.alloc(0), randomBytes(40), blob.subarray(0, 700), Buffer.concat([blob, Buffer.alloc(3)])];
    for (const bytes of broken) {
      expectError(await failureOf(hsm.activate(bytes, signal)), 'ERR_DPS_HSM_TPM_BLOB', 'Register again');
      expectError(await failureOf(hsm.stage(bytes, signal)), 'ERR_DPS_HSM_TPM_BLOB', 'Register again');
    }
  });

  it('other programs have filled the slots', async () => {
    const hsm = await bench.device();
    const blob = await bench.sealed(hsm, randomBytes(32));
    const sessions = [
      await bench.probe.leaveSession(),
      await bench.probe.leaveSession(),
      await bench.probe.leaveSession(),
    ];
    const error = await failureOf(hsm.activate(blob, signal));
    expectError(error, 'ERR_DPS_HSM_TPM_FULL', 'StartAuthSession', 'TPM_RC_SESSION_MEMORY (0x903)', '/dev/tpmrm0');
    expect(error.retryable).toBe(true);
    // Others' sessions are not ours to end.
    expect((await bench.probe.leaks()).map((handle) => handle & 0xff_ffff)).toEqual(
      sessions.map((handle) => handle & 0xff_ffff),
    );
    for (const session of sessions) await bench.probe.flush(session);
    const objects = [await bench.probe.occupy('ecc'), await bench.probe.occupy('ecc')];
    expectError(await failureOf(hsm.activate(blob, signal)), 'ERR_DPS_HSM_TPM_FULL', 'TPM_RC_OBJECT_MEMORY (0x902)');
    expect(await bench.probe.leaks()).toEqual(objects);
    for (const object of objects) await bench.probe.flush(object);
    await hsm.activate(blob, signal);
  });

  it('persistent memory is full', async () => {
    const hsm = await bench.device();
    const blob = await bench.sealed(hsm, randomBytes(32));
    const object = await bench.probe.occupy('ecc');
    const be32 = (value: number): string => value.toString(16).padStart(8, '0');
    for (let handle = 0x8120_0000; ; handle += 1) {
      const full = await bench.probe.command('00000120', 0x4000_0001, be32(handle), Buffer.alloc(0), be32(object)).then(
        () => false,
        (error: Error) => error.message.includes('14b'),
      );
      if (full) break;
    }
    await bench.probe.flush(object);
    expectError(
      await failureOf(hsm.stage(blob, signal)),
      'ERR_DPS_HSM_TPM_FULL',
      'TPM_RC_NV_SPACE (0x14b)',
      'tpm2_evictcontrol',
    );
    expect(await bench.probe.leaks()).toEqual([]);
  });
});

describe('where there is no TPM to talk to', () => {
  it('the device is missing', async () => {
    const error = await failureOf((await tpm2Hsm({ link: 'tpm2:/dev/tpmrm99' })).registrationId(signal));
    expect(error.code).toBe('ERR_DPS_HSM_TPM_UNREACHABLE');
    expect(error.message).toContain('There is no TPM device /dev/tpmrm99');
    expect(error.retryable).toBe(false);
  });

  it('the device is no device', async () => {
    const bench = await TpmBench.start();
    try {
      const file = join(bench.swtpm.folder, 'tpm0');
      writeFileSync(file, 'precious');
      mkdirSync(join(bench.swtpm.folder, 'folder'));
      for (const path of [file, '/dev/null', join(bench.swtpm.folder, 'folder'), join(file, 'tpm0')]) {
        const error = await failureOf((await tpm2Hsm({ link: `tpm2:${path}` })).registrationId(signal));
        expect(error.code).toMatch(/^ERR_DPS_HSM_TPM_(UNREACHABLE|RESPONSE)$/);
        expect(error.message).toContain(path);
      }
      const { readFileSync } = await import('node:fs');
      expect(readFileSync(file, 'utf8')).toBe('precious');
    } finally {
      await bench.stop();
    }
  });

  it('the server is missing, and comes', async () => {
    const bench = await TpmBench.start();
    try {
      const { hsm, key } = await bench.provisioned();
      await bench.swtpm.powerOff();
      const error = await failureOf(signatureOf(hsm));
      expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_UNREACHABLE', retryable: true });
      expect(error.message).toContain(bench.swtpm.socketPath);
      await bench.swtpm.powerOn();
      await expectSignsWith(hsm, key);
    } finally {
      await bench.stop();
    }
  });

  it('the server goes away in the middle of a command, and comes back', async () => {
    const bench = await TpmBench.start();
    try {
      const { hsm, key } = await bench.provisioned();
      bench.swtpm.pause();
      const failing = failureOf(signatureOf(hsm));
      await bench.swtpm.powerOff();
      expect((await failing).code).toMatch(/^ERR_DPS_HSM_TPM_(CONNECTION_LOST|UNREACHABLE)$/);
      await bench.swtpm.powerOn();
      await expectSignsWith(hsm, key);
    } finally {
      await bench.stop();
    }
  });

  it.each([
    ['open', 'EACCES', 'ERR_DPS_HSM_TPM_PERMISSION', 'usually tss'],
    ['open', 'EPERM', 'ERR_DPS_HSM_TPM_PERMISSION', 'usually tss'],
    ['open', 'EBUSY', 'ERR_DPS_HSM_TPM_BUSY', '/dev/tpmrm0'],
    ['open', 'ENODEV', 'ERR_DPS_HSM_TPM_UNREACHABLE', 'driver is loaded'],
    ['write', 'EIO', 'ERR_DPS_HSM_TPM_CONNECTION_LOST', 'kernel log'],
    ['write', 'ETIME', 'ERR_DPS_HSM_TPM_CONNECTION_LOST', 'kernel log'],
    ['write', 'EPIPE', 'ERR_DPS_HSM_TPM_CONNECTION_LOST', 'kernel log'],
    ['write', 'ENOMEM', 'ERR_DPS_HSM_TPM_FULL', 'no room for another'],
  ] as const)('%s of the device fails with %s', async (at, code, expected, words) => {
    const double = makeKernelDouble(() => 'silence');
    double.failing = { at, code };
    const hsm = await tpm2Hsm({ link: double.link(systemClock) });
    const error = await failureOf(hsm.registrationId(signal));
    expect(error.code).toBe(expected);
    expect(error.message).toContain(words);
    expect(await double.openEnds()).toBe(0);
  });

  it('this process may not connect to the socket', async () => {
    if (process.getuid?.() === 0) return expectNoPermissionAsAnother();
    const bench = await TpmBench.start();
    try {
      chmodSync(bench.swtpm.socketPath, 0o000);
      const error = await failureOf((await bench.device()).registrationId(signal));
      expect(error.code).toBe('ERR_DPS_HSM_TPM_PERMISSION');
    } finally {
      await bench.stop();
    }
  });
});

/** Root may do everything: a process that has given that up tries. */
async function expectNoPermissionAsAnother(): Promise<void> {
  const { seteuid } = process;
  if (seteuid === undefined) throw new Error('root without seteuid');
  const bench = await TpmBench.start();
  try {
    chmodSync(bench.swtpm.folder, 0o755);
    chmodSync(bench.swtpm.socketPath, 0o600);
    const hsm = await bench.device();
    seteuid(65534);
    const failing = failureOf(hsm.registrationId(signal)).finally(() => seteuid(0));
    const error = await failing;
    expect(error.code).toBe('ERR_DPS_HSM_TPM_PERMISSION');
    expect(error.message).toContain('may not connect');
  } finally {
    seteuid(0);
    await bench.stop();
  }
}

describe('what is no answer', () => {
  let peer: TpmPeer;
  beforeEach(async () => {
    peer = await startRawPeer(() => 'silence');
  });
  afterEach(() => peer.close());

  it.each([
    ['a cut response', { response: Buffer.from('8001000000200000', 'hex'), cutAfter: 8 }, 'RESPONSE', 'and no more'],
    [
      'half a response',
      { response: Buffer.from('80010000002000000000aabb', 'hex'), cutAfter: 12 },
      'RESPONSE',
      'and no more',
    ],
    ['noise', { response: Buffer.from('SSH-2.0-OpenSSH_9.2p1\r\n') }, 'RESPONSE', 'no response of a TPM 2.0'],
    ['the tag of nothing', { response: Buffer.from('12340000000a00000000', 'hex') }, 'RESPONSE', 'begins with 1234'],
    [
      'a public area that is none',
      { response: Buffer.from('800100000012000000000004deadbeef0000', 'hex') },
      'RESPONSE',
      'cannot be used',
    ],
    ['an answer of a TPM 1.2', { response: Buffer.from('00c40000000a0000001e', 'hex') }, 'FAILURE', 'TPM_RC_BAD_TAG'],
    ['an unknown code', { response: Buffer.from('80010000000a0000016e', 'hex') }, 'FAILURE', 'unknown code (0x16e)'],
    [
      'a code of the resource manager',
      { response: Buffer.from('80010000000a000b0143', 'hex') },
      'FAILURE',
      'TPM_RC_COMMAND_CODE (0xb0143, from the resource manager)',
    ],
    [
      'a TPM that failed its test',
      { response: Buffer.from('80010000000a00000101', 'hex') },
      'FAILURE',
      'tpm2_gettestresult',
    ],
    [
      'a TPM that cannot be started',
      { response: Buffer.from('80010000000a00000100', 'hex') },
      'NOT_STARTED',
      'TPM2_Startup did not help',
    ],
  ])('%s', async (_, answer, code, words) => {
    peer.answering = () => answer;
    const hsm = await tpm2Hsm({ link: peer.link(systemClock) });
    const error = await failureOf(hsm.registrationId(signal));
    expect(error.code).toBe(`ERR_DPS_HSM_TPM_${code}`);
    expect(error.message).toContain(words);
    expect(await peer.openEnds()).toBe(0);
  });
});
