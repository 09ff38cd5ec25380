import { createHmac } from 'node:crypto';
import type { SymmetricKeyHsm, TpmHsm, X509Hsm } from '../../src/core/attestation.js';

/** Not a secret: made up for the tests. */
export const DEVICE_KEY = 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=';

const hmac = (key: string, data: Uint8Array): Uint8Array =>
  new Uint8Array(createHmac('sha256', Buffer.from(key, 'base64')).update(data).digest());

export interface FakeSymmetricKeyHsm extends SymmetricKeyHsm {
  /** What was signed, as text. */
  readonly signed: string[];
  /** The next signatures fail with these. */
  readonly failures: unknown[];
}

/** Signs with a key per slot. */
export function fakeSymmetricKeyHsm(keys: readonly string[] = [DEVICE_KEY]): FakeSymmetricKeyHsm {
  const signed: string[] = [];
  const failures: unknown[] = [];
  return {
    kind: 'symmetricKey',
    signed,
    failures,
    registrationId: async () => 'dev-1',
    sign: async (data, slot) => {
      if (failures.length > 0) throw failures.shift();
      signed.push(new TextDecoder().decode(data));
      return hmac(keys[slot] ?? '', data);
    },
    exportKey: async (slot) => keys[slot] ?? '',
  };
}

/** Signs, and keeps its key. */
export function sealedSymmetricKeyHsm(): SymmetricKeyHsm {
  const { exportKey: _key, ...hsm } = fakeSymmetricKeyHsm();
  return hsm;
}

/** The texts stand for PEM: nothing here opens TLS. */
export function fakeX509Hsm(): X509Hsm {
  return {
    kind: 'x509',
    registrationId: async () => 'dev-1',
    tlsCredential: async () => ({ certificateChainPem: 'CHAIN', privateKeyPem: 'PRIVATE', passphrase: 'PASSPHRASE' }),
  };
}

export function fakeTpmHsm(): TpmHsm {
  const nothing = async (): Promise<void> => {};
  return {
    kind: 'tpm',
    registrationId: async () => 'dev-1',
    endorsement: async () => ({ endorsementKey: new Uint8Array(0), storageRootKey: new Uint8Array(0) }),
    activate: nothing,
    sign: async (data) => hmac(DEVICE_KEY, data),
    stage: nothing,
    commit: nothing,
    discard: nothing,
  };
}
