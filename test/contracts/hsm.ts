import { createHmac, createPrivateKey, X509Certificate } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { createSecureContext } from 'node:tls';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Hsm } from '../../src/core/attestation.js';
import { registrationIdProblem } from '../../src/core/identifiers.js';

export interface HsmUnderTest {
  readonly hsm: Hsm;
  readonly registrationId: string;
  /** Texts that must show up nowhere: keys in every spelling they might be printed in, passphrases. */
  readonly secrets: readonly string[];
  readonly dispose?: () => Promise<void>;
}

/** What every `Hsm` owes to the machine that drives it. Run it on each provider. */
export function describeHsmContract(name: string, setUp: () => Promise<HsmUnderTest>): void {
  describe(`${name} fulfils the HSM contract`, () => {
    let subject: HsmUnderTest;
    beforeAll(async () => {
      subject = await setUp();
    });
    afterAll(async () => {
      await subject.hsm.close?.();
      await subject.dispose?.();
    });

    it('says a legal registration id, the same every time', async () => {
      const { hsm, registrationId } = subject;
      expect(await hsm.registrationId(signalThatStays())).toBe(registrationId);
      expect(await hsm.registrationId(signalThatStays())).toBe(registrationId);
      expect(registrationIdProblem(registrationId)).toBeUndefined();
    });

    it('has at least one slot, and every slot works', async () => {
      const slots = subject.hsm.slots ?? 1;
      expect(Number.isInteger(slots) && slots >= 1).toBe(true);
      for (let slot = 0; slot < slots; slot += 1) await useSlot(subject.hsm, slot);
    });

    it('refuses a slot that is not there', async () => {
      if (subject.hsm.kind === 'tpm') return;
      const beyond = subject.hsm.slots ?? 1;
      for (const slot of [beyond, -1, 0.5]) {
        await expect(useSlot(subject.hsm, slot)).rejects.toMatchObject({
          name: 'HsmError',
          code: 'ERR_DPS_HSM_OPERATION',
        });
      }
    });

    it('does nothing for a signal that has aborted, in any method', async () => {
      for (const call of everyCall(subject.hsm, AbortSignal.abort(new Error('enough')))) {
        await expect(call()).rejects.toMatchObject({ code: 'ERR_DPS_CANCELLED', cause: { message: 'enough' } });
      }
    });

    it('leaves no listener on a signal', async () => {
      const { signal } = new AbortController();
      await subject.hsm.registrationId(signal);
      await useSlot(subject.hsm, 0, signal);
      expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    });

    it('shows no secret when it is printed', async () => {
      expect(subject.secrets.length).toBeGreaterThan(0);
      await useSlot(subject.hsm, 0);
      expectNoSecrets(subject.hsm, subject.secrets);
    });

    it('can be used many times at once', async () => {
      const results = await Promise.all(Array.from({ length: 8 }, () => useSlot(subject.hsm, 0)));
      for (const result of results) expect(result).toEqual(results[0]);
    });
  });
}

/** Fails when any of `secrets` can be seen in `value`, however it is printed. */
export function expectNoSecrets(value: unknown, secrets: readonly string[]): void {
  const printed = [
    inspect(value, { showHidden: true, depth: Number.POSITIVE_INFINITY, getters: true, maxStringLength: null }),
    JSON.stringify(value) ?? '',
    String(value),
    value instanceof Error ? `${value.message} ${value.stack}` : '',
  ].join('\n');
  for (const secret of secrets) expect(printed.includes(secret)).toBe(false);
}

function signalThatStays(): AbortSignal {
  return new AbortController().signal;
}

const DATA = new TextEncoder().encode('0ne00111111%2Fregistrations%2Fdev-1\n1663952627');

async function useSlot(hsm: Hsm, slot: number, signal = signalThatStays()): Promise<unknown> {
  switch (hsm.kind) {
    case 'symmetricKey': {
      const signature = await hsm.sign(DATA, slot, signal);
      const key = await hsm.exportKey?.(slot, signal);
      expect(signature).toHaveLength(32);
      // A Buffer would print and compare differently from what the contract says.
      expect(Object.getPrototypeOf(signature)).toBe(Uint8Array.prototype);
      if (key !== undefined) {
        const expected = createHmac('sha256', Buffer.from(key, 'base64')).update(DATA).digest();
        expect(Buffer.from(signature).equals(expected)).toBe(true);
      }
      return signature;
    }
    case 'x509': {
      const credential = await hsm.tlsCredential(slot, signal);
      const { certificateChainPem, privateKeyPem, passphrase } = credential;
      const leaf = new X509Certificate(certificateChainPem);
      const key = createPrivateKey({ key: privateKeyPem, ...(passphrase === undefined ? {} : { passphrase }) });
      expect(leaf.checkPrivateKey(key)).toBe(true);
      expect(leaf.subject).toContain(`CN=${await hsm.registrationId(signal)}`);
      createSecureContext({
        cert: certificateChainPem,
        key: privateKeyPem,
        ...(passphrase === undefined ? {} : { passphrase }),
      });
      return credential;
    }
    case 'tpm': {
      const { endorsementKey, storageRootKey } = await hsm.endorsement(signal);
      expect(endorsementKey.length).toBeGreaterThan(0);
      expect(storageRootKey.length).toBeGreaterThan(0);
      return { endorsementKey, storageRootKey };
    }
  }
}

function everyCall(hsm: Hsm, signal: AbortSignal): (() => Promise<unknown>)[] {
  const id = (): Promise<unknown> => hsm.registrationId(signal);
  switch (hsm.kind) {
    case 'symmetricKey':
      return [
        id,
        () => hsm.sign(DATA, 0, signal),
        ...(hsm.exportKey === undefined ? [] : [async () => hsm.exportKey?.(0, signal)]),
      ];
    case 'x509':
      return [id, () => hsm.tlsCredential(0, signal)];
    case 'tpm':
      return [
        id,
        () => hsm.endorsement(signal),
        () => hsm.activate(DATA, signal),
        () => hsm.sign(DATA, 0, signal),
        () => hsm.stage(DATA, signal),
        () => hsm.commit(signal),
        () => hsm.discard(signal),
      ];
  }
}
