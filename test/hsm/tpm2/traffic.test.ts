import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readActivationBlob } from '../../../hsm/tpm2/activation-blob.js';
import { parseTpmLink } from '../../../hsm/tpm2/links/link-uri.js';
import { openTpmLink } from '../../../hsm/tpm2/links/open-link.js';
import { TpmFormatError } from '../../../hsm/tpm2/structures.js';
import { type TpmLink, tpm2Hsm } from '../../../hsm/tpm2.js';
import { isDpsError } from '../../../src/errors.js';
import { systemClock } from '../../../src/system-clock.js';
import { expectSignsWith, failureOf, HANDLES, signal, softwareHmac, TpmBench } from './tpm-bench.js';
import { bytesOf, VECTORS } from './vectors.js';

/** What crosses the bus, seen and changed by somebody in between. */
describe('a listener on the bus', () => {
  let bench: TpmBench;
  beforeEach(async () => {
    bench = await TpmBench.start();
  });
  afterEach(() => bench.stop());

  const tapped = (change: (command: Buffer, response: Buffer) => Uint8Array): Promise<TpmLink> =>
    bench.tapped(async (command, pass) => change(command, await pass()));

  it.each([true, false])('sees the inner key only when parameters are not encrypted: %s', async (encryptParameters) => {
    const seen: Buffer[] = [];
    const refused: number[] = [];
    const link = await tapped((command, response) => {
      seen.push(command, response);
      if (response.readUInt32BE(6) !== 0) refused.push(command.readUInt32BE(6));
      return response;
    });
    const hsm = await tpm2Hsm({ link, encryptParameters });
    const innerKey = randomBytes(16);
    const key = randomBytes(32);
    await hsm.activate(await bench.sealed(hsm, key, { innerKey }), signal);
    await expectSignsWith(hsm, key);
    await expectSignsWith(hsm, key, randomBytes(3000));
    const all = Buffer.concat(seen);
    expect(all.includes(innerKey)).toBe(!encryptParameters);
    expect(all.includes(key)).toBe(false);
    // Only the look at the two empty handles: nothing is asked of the TPM that it has to refuse.
    expect(refused).toEqual([0x173, 0x173]);
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('is found out when it changes what is encrypted', async () => {
    const link = await tapped((command, response) => {
      if (command.readUInt32BE(6) === 0x147) response[18] = (response[18] ?? 0) ^ 1;
      return response;
    });
    const hsm = await tpm2Hsm({ link });
    const error = await failureOf(hsm.activate(await bench.sealed(hsm, randomBytes(32)), signal));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_RESPONSE' });
    expect(error.message).toContain('changed on its way');
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('is found out when it gives a key the name of another', async () => {
    const NAME_OFFSET = 10 + 316 + 2;
    const link = await tapped((command, response) => {
      if (command.readUInt32BE(6) === 0x173) response[NAME_OFFSET + 33] = (response[NAME_OFFSET + 33] ?? 0) ^ 1;
      return response;
    });
    await (await bench.device()).endorsement(signal);
    const error = await failureOf((await tpm2Hsm({ link })).endorsement(signal));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_RESPONSE' });
    expect(error.message).toContain('do not belong together');
  });

  it('is found out when it says that another key was loaded', async () => {
    const link = await tapped((command, response) => {
      if (command.readUInt32BE(6) === 0x157) response[20] = (response[20] ?? 0) ^ 1;
      return response;
    });
    const hsm = await tpm2Hsm({ link });
    await hsm.activate(await bench.sealed(hsm, randomBytes(32)), signal);
    const error = await failureOf(hsm.sign(randomBytes(3), 0, signal));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_RESPONSE' });
    expect(error.message).toContain('another key than it was given');
    expect(await bench.probe.leaks()).toEqual([]);
  });

  it('is found out when a signature has another length', async () => {
    const { hsm, key } = await bench.provisioned();
    await expectSignsWith(hsm, key);
    const short = Buffer.from(
      `8002 00000029 00000000 00000016 0014 ${'ab'.repeat(20)} 0000 01 0000`.replace(/ /g, ''),
      'hex',
    );
    const link = await tapped((command, response) => (command.readUInt32BE(6) === 0x155 ? short : response));
    const error = await failureOf((await tpm2Hsm({ link })).sign(randomBytes(3), 0, signal));
    expect(error).toMatchObject({ code: 'ERR_DPS_HSM_TPM_RESPONSE' });
    expect(error.message).toContain('signed with 20 bytes');
  });

  it('gets an error out of the device, whatever it changes, and nothing else', async () => {
    let count = 0;
    let at = -1;
    let change = (response: Buffer): Buffer => response;
    const link = await tapped((_, response) => {
      count += 1;
      return count === at ? change(response) : response;
    });
    const hsm = await tpm2Hsm({ link });
    const key = randomBytes(32);
    await bench.provision(hsm);
    const changes = fc.oneof(
      fc.record({ offset: fc.nat(1000), bit: fc.nat(7) }).map(({ offset, bit }) => (response: Buffer): Buffer => {
        const changed = Buffer.from(response);
        const index = offset % changed.length;
        changed[index] = (changed[index] ?? 0) ^ (1 << bit);
        return changed;
      }),
      fc.nat(1000).map(
        (length) =>
          (response: Buffer): Buffer =>
            response.subarray(0, length % response.length),
      ),
      fc.uint8Array({ maxLength: 64 }).map(
        (more) =>
          (response: Buffer): Buffer =>
            Buffer.concat([response, more]),
      ),
      fc.uint8Array({ maxLength: 200 }).map((other) => (): Buffer => Buffer.from(other)),
    );
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 20 }), changes, async (command, next) => {
        const blob = await bench.sealed(hsm, key);
        count = 0;
        at = command;
        change = next;
        const error: unknown = await hsm.activate(blob, signal).then(
          () => hsm.sign(Buffer.from('text'), 0, signal).catch((reason: unknown) => reason),
          (reason: unknown) => reason,
        );
        at = -1;
        if (!(error instanceof Uint8Array)) expect(isDpsError(error) ? error.code : error).toMatch(/^ERR_DPS_HSM_TPM_/);
        // Handles may have been changed, too: what the TPM still holds by that is not ours to find.
        await bench.swtpm.powerCycle();
        await hsm.activate(blob, signal);
        await expectSignsWith(hsm, key);
      }),
      { numRuns: 40 },
    );
  });
});

describe('a link that breaks', () => {
  it('in any command of a commit leaves an identity that signs, also after the discard that follows', async () => {
    const bench = await TpmBench.start();
    try {
      const inner = await openTpmLink(parseTpmLink(bench.swtpm.uri), systemClock);
      let left = 0;
      const link: TpmLink = {
        place: inner.place,
        transceive: async (command, timeoutMs) => {
          left -= 1;
          if (left === 0) throw new Error('the wire is cut');
          return inner.transceive(command, timeoutMs);
        },
        rest: () => inner.rest(),
        close: () => inner.close(),
      };
      const hsm = await tpm2Hsm({ link });
      let current = await bench.provision(hsm);
      // With the old identity at the first handle, then with it at the second, and somebody else's at the first meanwhile.
      for (const state of ['first', 'second', 'overtaken'] as const) {
        for (let command = 1, isOver = false; !isOver; command += 1) {
          current = await bench.provision(hsm);
          if (state !== 'first') {
            await hsm.stage(await bench.sealed(hsm, current), signal);
            await bench.probe.evict(HANDLES.identity);
          }
          const device = await bench.device({ link });
          const next = randomBytes(32);
          await device.stage(await bench.sealed(device, next), signal);
          if (state === 'overtaken') current = await bench.provision(await bench.device());
          left = command;
          const failure: unknown = await device.commit(signal).catch((error: unknown) => error);
          isOver = left > 0;
          left = 0;
          expect(isOver || failure === undefined || isDpsError(failure)).toBe(true);
          await device.discard(signal);
          const signature = Buffer.from(await (await bench.device()).sign(Buffer.from('x'), 0, signal)).toString('hex');
          expect([current, next].map((key) => softwareHmac(key, Buffer.from('x')))).toContain(signature);
          await bench.swtpm.powerCycle();
        }
      }
    } finally {
      await bench.stop();
    }
  }, 120_000);
});

describe('what is no key of a service', () => {
  it('is refused with its own error, whatever it is', () => {
    const blob = bytesOf(VECTORS.softwareActivation.blob);
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 1200 }),
          fc.record({ offset: fc.nat(blob.length - 1), value: fc.nat(255) }).map(({ offset, value }) => {
            const changed = Buffer.from(blob);
            changed[offset] = value;
            return changed;
          }),
        ),
        (bytes) => {
          try {
            expect(readActivationBlob(bytes).name).toHaveLength(34);
          } catch (error) {
            expect(error).toBeInstanceOf(TpmFormatError);
          }
        },
      ),
    );
  });
});

describe('two processes on one new TPM', () => {
  it('come to the same keys', async () => {
    const bench = await TpmBench.start();
    try {
      const [first, second] = [await bench.device(), await bench.device()];
      const [one, other] = await Promise.all([first.endorsement(signal), second.endorsement(signal)]);
      expect(one).toEqual(other);
      expect(await bench.probe.leaks()).toEqual([]);
    } finally {
      await bench.stop();
    }
  });

  it('leave one of their identities when both are provisioned at once', async () => {
    const bench = await TpmBench.start();
    try {
      const devices = [await bench.device(), await bench.device()];
      await Promise.all(devices.map((hsm) => hsm.endorsement(signal)));
      const keys = [randomBytes(32), randomBytes(32)];
      const blobs = await Promise.all(devices.map((hsm, index) => bench.sealed(hsm, keys[index] ?? Buffer.alloc(0))));
      const ends = await Promise.all(
        devices.map(async (hsm, index) => {
          try {
            await hsm.stage(blobs[index] ?? Buffer.alloc(0), signal);
            await hsm.commit(signal);
            return 'committed';
          } catch (error) {
            await hsm.discard(signal).catch(() => undefined);
            return isDpsError(error) ? error.code : error;
          }
        }),
      );
      for (const end of ends) expect(end).toMatch(/^committed$|^ERR_DPS_HSM_TPM_(HANDLE|FULL)$/);
      expect(await bench.probe.leaks()).toEqual([]);
      if (!ends.includes('committed')) return;
      const signature = Buffer.from(await (await bench.device()).sign(Buffer.from('x'), 0, signal)).toString('hex');
      expect(keys.map((key) => softwareHmac(key, Buffer.from('x')))).toContain(signature);
    } finally {
      await bench.stop();
    }
  });
});
