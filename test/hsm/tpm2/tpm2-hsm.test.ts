import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { KeyTemplateName } from '../../../hsm/tpm2.js';
import { describeHsmContract, expectNoSecrets } from '../../contracts/hsm.js';
import { expectSignsWith, failureOf, HANDLES, signal, signatureOf, softwareHmac, TpmBench } from './tpm-bench.js';

describeHsmContract('a TPM', async () => {
  const bench = await TpmBench.start();
  const { hsm, key } = await bench.provisioned({ ownerAuth: '' });
  const registrationId = await hsm.registrationId(signal);
  const secrets = [key.toString('hex'), key.toString('base64'), key.toString('latin1')];
  return { hsm, registrationId, secrets, dispose: () => bench.stop() };
});

describe('a TPM as HSM', () => {
  let bench: TpmBench;
  beforeEach(async () => {
    bench = await TpmBench.start();
  });
  afterEach(async () => {
    expect(await bench.probe.leaks()).toEqual([]);
    await bench.stop();
  });

  it('makes EK and SRK where they are expected, once', async () => {
    const first = await (await bench.device()).endorsement(signal);
    expect(first.endorsementKey).toHaveLength(316);
    expect(first.storageRootKey).toHaveLength(284);
    expect(Buffer.from(first.endorsementKey).toString('base64')).toMatch(/^AToAAQALAAMAsgAg/);
    expect(Buffer.from(first.storageRootKey).toString('base64')).toMatch(/^ARoAAQALAAMEcgAA/);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.ek]);
    expect(await (await bench.device()).endorsement(signal)).toEqual(first);
  });

  it('says what the operator needs for the enrollment', async () => {
    const hsm = await bench.device();
    const { endorsementKey, storageRootKey } = await hsm.endorsement(signal);
    const identity = await hsm.identity(signal);
    const registrationId = await hsm.registrationId(signal);
    expect(registrationId).toMatch(/^[a-z2-7]{52}$/);
    expect(identity).toEqual({
      registrationId,
      endorsementKey: Buffer.from(endorsementKey).toString('base64'),
      storageRootKey: Buffer.from(storageRootKey).toString('base64'),
      enrollment: {
        registrationId,
        attestation: { type: 'tpm', tpm: { endorsementKey: Buffer.from(endorsementKey).toString('base64') } },
      },
    });
    const named = await bench.device({ registrationId: 'pump-7' });
    expect(await named.registrationId(signal)).toBe('pump-7');
    expect((await named.identity(signal)).enrollment.registrationId).toBe('pump-7');
  });

  it.each([
    [{}],
    [{ encryptParameters: false }],
    [{ transientPrimaries: true }],
    [{ transientPrimaries: true, encryptParameters: false }],
    [{ template: 'azure-node-c' as const }],
    [{ template: 'azure-java' as const }],
    [{ template: 'azure-java' as const, transientPrimaries: true }],
    [
      {
        handles: {
          endorsementKey: 0x8101_0009,
          storageRootKey: 0x8100_0009,
          identity: 0x8100_0200,
          stagedIdentity: 0x817f_ffff,
        },
      },
    ],
  ])('goes the whole way with %j', async (options) => {
    const { hsm, key } = await bench.provisioned(options);
    await expectSignsWith(hsm, key);
    const expected =
      'handles' in options ? [0x8100_0009, 0x8100_0200, 0x8101_0009] : [HANDLES.srk, HANDLES.identity, HANDLES.ek];
    const isTransient = 'transientPrimaries' in options;
    expect(await bench.probe.persistent()).toEqual(isTransient ? [HANDLES.identity] : expected);
    await expectSignsWith(await bench.device(options), key);
  });

  it('has another identity with each template, and the same one always with the same', async () => {
    const ids: string[] = [];
    for (const template of ['tcg', 'azure-node-c', 'azure-java'] as const satisfies KeyTemplateName[]) {
      const derived = await bench.device({ template, transientPrimaries: true });
      const id = await derived.registrationId(signal);
      expect(await derived.registrationId(signal)).toBe(id);
      ids.push(id);
    }
    expect(new Set(ids).size).toBe(3);
    expect(await (await bench.device()).registrationId(signal)).toBe(ids[0]);
    // What is there already counts, whatever the template says.
    expect(await (await bench.device({ template: 'azure-node-c' })).registrationId(signal)).toBe(ids[0]);
  });

  it('gets along with the slots that others leave of three: one for its keys, two for all else', async () => {
    const hsm = await bench.device({ transientPrimaries: true });
    const others = [await bench.probe.occupy('ecc'), await bench.probe.occupy('ecc')] as const;
    await hsm.endorsement(signal);
    await bench.probe.flush(others[1]);
    const key = await bench.provision(hsm);
    await expectSignsWith(hsm, key, randomBytes(3000));
    expect(await bench.probe.leaks()).toEqual([others[0]]);
    await bench.probe.flush(others[0]);
  });

  it('makes no key where the TPM does not say that there is none', async () => {
    const link = await bench.tapped((command, pass) =>
      command.readUInt32BE(6) === 0x173 ? Promise.resolve(Buffer.from('80010000000a00000101', 'hex')) : pass(),
    );
    const error = await failureOf((await bench.device({ link })).endorsement(signal));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_FAILURE' });
    expect(await bench.probe.persistent()).toEqual([]);
  });

  it('derives a transient key once, as long as the TPM is not reset: a chip may take a minute for it', async () => {
    let made = 0;
    const link = await bench.tapped((command, pass) => {
      if (command.readUInt32BE(6) === 0x131) made += 1;
      return pass();
    });
    const hsm = await bench.device({ link, transientPrimaries: true });
    await bench.provision(hsm);
    expect(made).toBe(2);
    await bench.swtpm.powerCycle();
    await bench.provision(hsm);
    expect(made).toBe(4);
  });

  it('signs inputs of any length', async () => {
    const { hsm, key } = await bench.provisioned();
    for (const length of [0, 1, 68, 100, 1023, 1024, 1025, 2048, 2049, 5500]) {
      await expectSignsWith(hsm, key, randomBytes(length));
    }
  });

  it.each([0, 1, 16, 32, 64])('takes in a key of %i bytes', async (length) => {
    const hsm = await bench.device();
    const key = randomBytes(length);
    await hsm.activate(await bench.sealed(hsm, key), signal);
    await expectSignsWith(hsm, key);
  });

  it('takes in a key whose inner wrap is AES-256', async () => {
    const hsm = await bench.device();
    const key = randomBytes(32);
    await hsm.activate(await bench.sealed(hsm, key, { innerKey: randomBytes(32) }), signal);
    await expectSignsWith(hsm, key);
  });

  it('leaves the nonce key out of persistent memory', async () => {
    const hsm = await bench.device();
    await hsm.activate(await bench.sealed(hsm, randomBytes(32)), signal);
    await signatureOf(hsm);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.ek]);
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('signs with the identity in use before it is asked to do anything else', async () => {
    const { key } = await bench.provisioned();
    await expectSignsWith(await bench.device(), key);
  });

  it('knows no other slot than 0', async () => {
    const { hsm } = await bench.provisioned();
    const error = await failureOf(hsm.sign(randomBytes(3), 1, signal));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_OPERATION', operation: 'sign' });
  });

  it('keeps the identity in use beside a staged one, until that is committed', async () => {
    const { hsm, key } = await bench.provisioned();
    const next = randomBytes(32);
    await hsm.stage(await bench.sealed(hsm, next), signal);
    await expectSignsWith(hsm, next);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.staged, HANDLES.ek]);
    // The power fails now: whoever comes next knows nothing of the stage.
    await bench.swtpm.powerCycle();
    const afterwards = await bench.device();
    await expectSignsWith(afterwards, key);
    // The leftover is in nobody's way.
    await expectSignsWith(afterwards, await bench.provision(afterwards));
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
  });

  it('drops a staged identity that is discarded, and the nonce key with it', async () => {
    const { hsm, key } = await bench.provisioned();
    await hsm.activate(await bench.sealed(hsm, randomBytes(32)), signal);
    await hsm.stage(await bench.sealed(hsm, randomBytes(32)), signal);
    await hsm.discard(signal);
    await expectSignsWith(hsm, key);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
    await hsm.discard(signal);
    await expectSignsWith(hsm, key);
  });

  it('leaves nothing of a first identity that is discarded', async () => {
    const hsm = await bench.device();
    await hsm.stage(await bench.sealed(hsm, randomBytes(32)), signal);
    await hsm.discard(signal);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.ek]);
    expect(await failureOf(signatureOf(hsm))).toMatchObject({ code: 'ERR_DPS_HSM_TPM_NO_IDENTITY' });
  });

  it('goes on where a commit was broken off: the second handle alone is the identity', async () => {
    const { hsm } = await bench.provisioned();
    const next = randomBytes(32);
    await hsm.stage(await bench.sealed(hsm, next), signal);
    await bench.probe.evict(HANDLES.identity);
    const afterwards = await bench.device();
    await expectSignsWith(afterwards, next);
    // A stage must not touch it, a discard neither, and a commit comes to the usual end.
    await afterwards.stage(await bench.sealed(afterwards, randomBytes(32)), signal);
    await expectSignsWith(await bench.device(), next);
    await afterwards.discard(signal);
    await expectSignsWith(afterwards, next);
    const last = await bench.provision(afterwards);
    await expectSignsWith(await bench.device(), last);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
  });

  it('signs with what was committed, also when the second handle cannot be emptied', async () => {
    const { hsm } = await bench.provisioned();
    await hsm.stage(await bench.sealed(hsm, randomBytes(32)), signal);
    await bench.probe.evict(HANDLES.identity);
    const link = await bench.tapped((command, pass) => unlessEvicting(HANDLES.staged, command, pass));
    const afterwards = await bench.device({ link });
    // From now on it knows that what is in use is at the second handle.
    await signatureOf(afterwards);
    const key = await bench.provision(afterwards);
    await expectSignsWith(afterwards, key);
    await expectSignsWith(await bench.device(), key);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.staged, HANDLES.ek]);
  });

  it('writes to persistent memory no more often than it must, also when a commit is done again', async () => {
    let writes = 0;
    let isLost = (_writes: number): boolean => false;
    const link = await bench.tapped(async (command, pass) => {
      const response = await pass();
      if (command.readUInt32BE(6) !== EVICT_CONTROL) return response;
      writes += 1;
      if (isLost(writes)) throw new Error('the answer is lost');
      return response;
    });
    const hsm = await bench.device({ link });
    await bench.provision(hsm);
    const key = randomBytes(32);
    const blob = await bench.sealed(hsm, key);
    writes = 0;
    await hsm.stage(blob, signal);
    expect(writes).toBe(1);
    writes = 0;
    // The old key has gone, the new one is in its place, and nobody was told.
    isLost = (count) => count === 2;
    await failureOf(hsm.commit(signal));
    await hsm.commit(signal);
    expect(writes).toBe(3);
    await expectSignsWith(await bench.device(), key);
  });

  it('takes back what a commit that failed had put at the second handle', async () => {
    const { hsm } = await bench.provisioned();
    await hsm.stage(await bench.sealed(hsm, randomBytes(32)), signal);
    await bench.probe.evict(HANDLES.identity);
    const link = await bench.tapped((command, pass) => unlessEvicting(HANDLES.identity, command, pass));
    const late = await bench.device({ link });
    // It waits in memory, for what is at the second handle is in use; then another program is faster.
    await late.stage(await bench.sealed(late, randomBytes(32)), signal);
    const key = await bench.provision(await bench.device());
    expect(await failureOf(late.commit(signal))).toMatchObject({ code: 'ERR_DPS_HSM_TPM_BUSY' });
    expect(await bench.probe.persistent()).toContain(HANDLES.staged);
    await late.discard(signal);
    expect(await bench.probe.persistent()).toEqual([HANDLES.srk, HANDLES.identity, HANDLES.ek]);
    await expectSignsWith(late, key);
  });

  it('refuses to commit what was not staged', async () => {
    const { hsm } = await bench.provisioned();
    expect(await failureOf(hsm.commit(signal))).toMatchObject({ operation: 'commit hub identity' });
  });

  it('still signs when somebody took a staged key out of the TPM', async () => {
    const hsm = await bench.device();
    const key = randomBytes(32);
    await hsm.stage(await bench.sealed(hsm, key), signal);
    await bench.probe.evict(HANDLES.staged);
    await expectSignsWith(hsm, key);
    await hsm.commit(signal);
    await expectSignsWith(await bench.device(), key);
  });

  it.each([true, false])(
    'outlives a power cut in the same process, transient primaries: %s',
    async (transientPrimaries) => {
      const { hsm, key } = await bench.provisioned({ transientPrimaries });
      const nonceKey = randomBytes(32);
      await hsm.activate(await bench.sealed(hsm, nonceKey), signal);
      await bench.swtpm.powerCycle();
      await expectSignsWith(hsm, nonceKey);
      await hsm.discard(signal);
      await expectSignsWith(hsm, key);
      await expectSignsWith(hsm, await bench.provision(hsm));
    },
  );

  it.each([true, false])(
    'outlives a reset before any of its commands, transient primaries: %s',
    async (transientPrimaries) => {
      let left = 0;
      const link = await bench.tapped(async (_, pass) => {
        left -= 1;
        if (left === 0) await bench.swtpm.powerCycle();
        return pass();
      });
      const hsm = await bench.device({ link, transientPrimaries });
      const data = randomBytes(3000);
      for (let command = 1, isOver = false; !isOver; command += 1) {
        const keys = [randomBytes(32), randomBytes(32)] as const;
        const blobs = [await bench.sealed(hsm, keys[0]), await bench.sealed(hsm, keys[1])] as const;
        left = command;
        await hsm.activate(blobs[0], signal);
        await expectSignsWith(hsm, keys[0], data);
        await hsm.stage(blobs[1], signal);
        await hsm.commit(signal);
        isOver = left > 0;
        left = 0;
        await expectSignsWith(hsm, keys[1], data);
      }
    },
    120_000,
  );

  it('says what happened after the owner cleared the TPM, and can be provisioned again', async () => {
    const { hsm } = await bench.provisioned();
    const id = await hsm.registrationId(signal);
    const old = await bench.sealed(hsm, randomBytes(32));
    await bench.probe.clear();
    for (const device of [hsm, await bench.device()]) {
      const error = await failureOf(signatureOf(device));
      expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_NO_IDENTITY', operation: 'sign', retryable: false });
      expect(error.message).toContain('the TPM was cleared since');
    }
    expect(await failureOf(hsm.activate(old, signal))).toMatchObject({ code: 'ERR_DPS_HSM_TPM_BLOB' });
    expect(await hsm.registrationId(signal)).toBe(id);
    await expectSignsWith(hsm, await bench.provision(hsm));
  });

  it('works with passwords on both hierarchies, and shows neither', async () => {
    await bench.probe.changeAuth('owner', 'own secret');
    await bench.probe.changeAuth('endorsement', 'endorsed secret');
    const { hsm, key } = await bench.provisioned({ ownerAuth: 'own secret', endorsementAuth: 'endorsed secret' });
    await expectSignsWith(hsm, key);
    await expectSignsWith(hsm, await bench.provision(hsm));
    expectNoSecrets(hsm, ['own secret', 'endorsed secret']);
  });

  it('starts a TPM that was not started', async () => {
    const other = await TpmBench.start({ flags: 'not-need-init' });
    try {
      const { hsm, key } = await other.provisioned();
      await expectSignsWith(hsm, key);
      await other.swtpm.powerCycle();
      await expectSignsWith(hsm, key);
    } finally {
      await other.stop();
    }
  });

  it('is shared by two devices, whose commands mix', async () => {
    const { hsm, key } = await bench.provisioned();
    const other = await bench.device();
    const texts = Array.from({ length: 20 }, () => randomBytes(60));
    const signatures = await Promise.all(texts.map((text, index) => signatureOf(index % 2 === 0 ? hsm : other, text)));
    expect(signatures).toEqual(texts.map((text) => softwareHmac(key, text)));
  });

  it('is used for one thing at a time, whatever is asked of it at once', async () => {
    const { hsm, key } = await bench.provisioned();
    const long = randomBytes(4000);
    const results = await Promise.all([
      signatureOf(hsm, long),
      hsm.registrationId(signal),
      signatureOf(hsm, long),
      hsm.endorsement(signal),
      signatureOf(hsm, long),
      signatureOf(hsm, long),
    ]);
    expect(results[0]).toBe(softwareHmac(key, long));
    expect(new Set([results[0], results[2], results[4], results[5]]).size).toBe(1);
  });

  it('does nothing any more when it is closed', async () => {
    const { hsm } = await bench.provisioned();
    await hsm.close();
    await hsm.close();
    expect((await failureOf(signatureOf(hsm))).message).toContain('closed');
  });
});

const EVICT_CONTROL = 0x120;

/** The TPM cannot write just now where something is to be removed from `handle`. */
async function unlessEvicting(handle: number, command: Buffer, pass: () => Promise<Buffer>): Promise<Buffer> {
  const isMeant = command.readUInt32BE(6) === EVICT_CONTROL && command.readUInt32BE(14) === handle;
  return isMeant ? Buffer.from('80010000000a00000923', 'hex') : pass();
}
