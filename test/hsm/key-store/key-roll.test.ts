import { createPrivateKey, createSecretKey, type KeyObject, randomBytes, X509Certificate } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { makePrivateKey, makeSigningRequest } from '../../../hsm/key-store/signing-request.js';
import type { KeyStoreHsm } from '../../../hsm/software-key-store.js';
import type { SymmetricKeyHsm, X509Hsm } from '../../../src/core/attestation.js';
import { makeSelfSigned } from '../../../src/emulator/pki.js';
import { failureOf } from '../../fakes/failure-of.js';
import { base64Of, certified, makeTestStore, signRequest, symmetric } from './store-bench.js';

const { signal } = new AbortController();
const NEVER_MIND = { wallMs: () => Date.parse('2026-06-01T00:00:00Z') };

describe('a key roll', () => {
  it('tries the staged key first, and keeps the one in use until the hub accepted it', async () => {
    const { store } = await makeTestStore();
    const [old, next] = [createSecretKey(randomBytes(64)), createSecretKey(randomBytes(64))];
    await store.add('a', symmetric('dev-1', old));
    await store.stage('a', symmetric('dev-1', next));
    const hsm = await store.hsm('a');
    expect(hsm.slots).toBe(2);
    expect(hsm.stagedSlot).toBe(0);
    expect(await keysOf(hsm)).toEqual([base64Of(next), base64Of(old)]);
    await hsm.accepted(1, signal);
    expect((await store.describe('a')).staged).toBeDefined();
    await hsm.accepted(0, signal);
    await hsm.accepted(0, signal);
    expect((await store.describe('a')).staged).toBeUndefined();
    const after = await store.hsm('a');
    expect(after.stagedSlot).toBeUndefined();
    expect(await keysOf(after)).toEqual([base64Of(next)]);
  });

  it('calls each key by a name of its own, which stays with it wherever it is', async () => {
    const { store } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    const [old] = (await store.hsm('a')).keyIds;
    await store.stage('a', symmetric('dev-1'));
    const rolling = await store.hsm('a');
    const [next] = rolling.keyIds;
    expect(rolling.keyIds).toEqual([next, old]);
    expect(next).not.toBe(old);
    await rolling.accepted(0, signal);
    expect(rolling.keyIds).toEqual([next, old]);
    expect((await store.hsm('a')).keyIds).toEqual([next]);
    await store.stage('a', symmetric('dev-1'));
    const again = (await store.hsm('a')).keyIds;
    expect(again).toEqual([expect.any(String), next]);
    expect([old, next]).not.toContain(again[0]);
    await store.discard('a');
    expect((await store.hsm('a')).keyIds).toEqual([next]);
  });

  it('never commits another key than the one that was accepted', async () => {
    const { store } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    await store.stage('a', symmetric('dev-1'));
    const hsm = await store.hsm('a');
    await store.discard('a');
    expect((await failureOf(hsm.accepted(0, signal))).message).toContain('There is nothing to commit');
    await store.stage('a', symmetric('dev-1'));
    expect((await failureOf(hsm.accepted(0, signal))).message).toContain('another was staged since');
    expect((await store.describe('a')).staged).toBeDefined();
  });

  it('can be discarded', async () => {
    const { store } = await makeTestStore();
    const old = createSecretKey(randomBytes(64));
    await store.add('a', symmetric('dev-1', old));
    expect((await failureOf(store.discard('a'))).message).toContain('There is nothing to discard');
    expect((await failureOf(store.commit('a'))).message).toContain('There is nothing to commit');
    await store.stage('a', symmetric('dev-1'));
    await store.discard('a');
    expect(await keysOf(await store.hsm('a'))).toEqual([base64Of(old)]);
  });

  it('is for the same device, with a key of the same kind, one at a time', async () => {
    const { store } = await makeTestStore();
    await store.add('a', symmetric('dev-1'));
    expect(await failureOf(store.stage('a', symmetric('dev-2')))).toMatchObject({
      code: 'ERR_DPS_HSM_REGISTRATION_ID',
      message: expect.stringContaining('is for the registration id "dev-1"'),
    });
    expect((await failureOf(store.stage('a', await certified('dev-1')))).message).toContain('holds a symmetric key');
    await store.stage('a', symmetric('dev-1'));
    expect((await failureOf(store.stage('a', symmetric('dev-1')))).message).toContain('has a staged key already');
  });

  it('takes a certificate for a key whose request was signed elsewhere', async () => {
    const { store } = await makeTestStore();
    const key = await makePrivateKey('ec-p256');
    await store.add('a', { kind: 'x509', key, certificates: [], registrationId: 'dev-1' });
    const waiting = await failureOf(store.hsm('a'));
    expect(waiting).toMatchObject({ code: 'ERR_DPS_HSM_CERTIFICATE_INVALID' });
    expect(waiting.message).toContain('keys import --key-name a --cert-file');
    const other = new X509Certificate((await makeSelfSigned({ commonName: 'dev-1' })).certificatePem);
    expect(await failureOf(store.attach('a', [other], 'other.pem'))).toMatchObject({
      code: 'ERR_DPS_HSM_KEY_MISMATCH',
    });
    const mine = await signRequest(makeSigningRequest(key, 'dev-1'));
    const wrongName = await signRequest(makeSigningRequest(key, 'dev-2'));
    expect(await failureOf(store.attach('a', [wrongName], 'x.pem'))).toMatchObject({
      code: 'ERR_DPS_HSM_REGISTRATION_ID',
    });
    await store.attach('a', [mine], 'mine.pem');
    expect(await (await store.hsm('a')).registrationId(signal)).toBe('dev-1');
  });

  it('leaves out a certificate that is out of date as long as there is another', async () => {
    const { store } = await makeTestStore({ clock: NEVER_MIND });
    const old = await makeSelfSigned({
      commonName: 'dev-1',
      notBeforeMs: Date.parse('2024-01-01'),
      notAfterMs: Date.parse('2025-01-01'),
    });
    const good = await makeSelfSigned({
      commonName: 'dev-1',
      notBeforeMs: Date.parse('2026-01-01'),
      notAfterMs: Date.parse('2027-01-01'),
    });
    const [expired, valid] = [old, good].map(({ privateKeyPem, certificatePem }) => ({
      kind: 'x509' as const,
      key: createPrivateKey(privateKeyPem),
      certificates: [new X509Certificate(certificatePem)],
    }));
    if (expired === undefined || valid === undefined) throw new Error('unreachable');
    await store.add('a', expired);
    expect(await failureOf(store.hsm('a'))).toMatchObject({ code: 'ERR_DPS_HSM_CERTIFICATE_EXPIRED' });
    await store.stage('a', valid);
    const hsm = (await store.hsm('a')) as X509Hsm & { stagedSlot: number | undefined };
    expect([hsm.slots, hsm.stagedSlot]).toEqual([1, 0]);
    expect((await hsm.tlsCredential(0, signal)).privateKeyPem).toBe(good.privateKeyPem);
  });

  it('stages a renewed certificate for the key in use beside it, first in line, and commits that very one', async () => {
    const { store } = await makeTestStore();
    const key = await makePrivateKey('ec-p256');
    const [old, next, later] = [await issuedFor(key), await issuedFor(key), await issuedFor(key)];
    await store.add('a', { kind: 'x509', key, certificates: [old] });
    const { current, staged } = await store.stageCertificates('a', [next], 'next.pem');
    expect(staged?.id).not.toBe(current.id);
    const hsm = (await store.hsm('a')) as X509Hsm & KeyStoreHsm;
    expect([hsm.slots, hsm.stagedSlot, await chainsOf(hsm)]).toEqual([2, 0, [next.toString(), old.toString()]]);
    expect((await failureOf(store.stageCertificates('a', [later], 'x.pem'))).message).toContain('a staged key already');
    await store.discard('a');
    await store.stageCertificates('a', [later], 'later.pem');
    expect((await failureOf(hsm.accepted(0, signal))).message).toContain('another was staged since');
    await ((await store.hsm('a')) as KeyStoreHsm).accepted(0, signal);
    expect(await chainsOf((await store.hsm('a')) as X509Hsm)).toEqual([later.toString()]);
  });

  it('stages a certificate for a key of the entry and its device only', async () => {
    const { store } = await makeTestStore();
    const key = await makePrivateKey('ec-p256');
    await store.add('a', { kind: 'x509', key, certificates: [await issuedFor(key)] });
    const foreign = new X509Certificate((await makeSelfSigned({ commonName: 'dev-1' })).certificatePem);
    const wrongName = await signRequest(makeSigningRequest(key, 'dev-2'));
    expect(await failureOf(store.stageCertificates('a', [foreign], 'x.pem'))).toMatchObject({
      code: 'ERR_DPS_HSM_KEY_MISMATCH',
    });
    expect(await failureOf(store.stageCertificates('a', [wrongName], 'x.pem'))).toMatchObject({
      code: 'ERR_DPS_HSM_REGISTRATION_ID',
    });
    await store.add('s', symmetric('dev-1'));
    expect((await failureOf(store.stageCertificates('s', [foreign], 'x.pem'))).message).toContain('a symmetric key');
    expect((await store.describe('a')).staged).toBeUndefined();
  });

  it('replaces what is in use, not what is staged, when a certificate for both is attached', async () => {
    const { store } = await makeTestStore();
    const key = await makePrivateKey('ec-p256');
    const [old, next, later] = [await issuedFor(key), await issuedFor(key), await issuedFor(key)];
    await store.add('a', { kind: 'x509', key, certificates: [old] });
    await store.stageCertificates('a', [next], 'next.pem');
    await store.attach('a', [later], 'later.pem');
    expect(await chainsOf((await store.hsm('a')) as X509Hsm)).toEqual([next.toString(), later.toString()]);
  });

  it('gives a staged copy of the key in use the certificate that it waits for, and leaves the one in use alone', async () => {
    const { store } = await makeTestStore();
    const key = await makePrivateKey('ec-p256');
    const [old, next] = [await issuedFor(key), await issuedFor(key)];
    await store.add('a', { kind: 'x509', key, certificates: [old] });
    await store.stage('a', { kind: 'x509', key, certificates: [] });
    await store.stageCertificates('a', [next], 'next.pem');
    expect(await chainsOf((await store.hsm('a')) as X509Hsm)).toEqual([next.toString(), old.toString()]);
  });

  it('never commits a certificate that took the place of the accepted one in the meantime', async () => {
    const { store } = await makeTestStore();
    const [inUse, key] = [await certified('dev-1'), await makePrivateKey('ec-p256')];
    await store.add('a', inUse);
    await store.stage('a', { kind: 'x509', key, certificates: [await issuedFor(key)] });
    const hsm = await store.hsm('a');
    await store.attach('a', [await issuedFor(key)], 'renewed.pem');
    expect((await failureOf(hsm.accepted(0, signal))).message).toContain('another was staged since');
  });

  it('cannot commit a key without certificate', async () => {
    const { store } = await makeTestStore();
    await store.add('a', await certified('dev-1'));
    await store.stage('a', { kind: 'x509', key: await makePrivateKey('ec-p256'), certificates: [] });
    expect((await store.hsm('a')).slots).toBe(1);
    expect((await failureOf(store.commit('a'))).message).toContain('has no certificate yet');
  });
});

function issuedFor(key: KeyObject): Promise<X509Certificate> {
  return signRequest(makeSigningRequest(key, 'dev-1'));
}

async function chainsOf(hsm: X509Hsm): Promise<string[]> {
  const slots = Array.from({ length: hsm.slots ?? 1 }, (_, slot) => slot);
  return Promise.all(slots.map(async (slot) => (await hsm.tlsCredential(slot, signal)).certificateChainPem));
}

async function keysOf(hsm: { kind: string; slots?: number }): Promise<(string | undefined)[]> {
  const slots = Array.from({ length: hsm.slots ?? 1 }, (_, slot) => slot);
  return Promise.all(slots.map((slot) => (hsm as SymmetricKeyHsm).exportKey?.(slot, signal)));
}
