import { constants, createDecipheriv, createHmac, createPrivateKey, privateDecrypt } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { readActivationBlob } from '../../../hsm/tpm2/activation-blob.js';
import * as commands from '../../../hsm/tpm2/commands.js';
import { hmacSha256, kdfa } from '../../../hsm/tpm2/key-derivation.js';
import { encodeCommand, readResponse, readResponseHead } from '../../../hsm/tpm2/messages.js';
import { type CommandSession, password } from '../../../hsm/tpm2/sessions.js';
import { nameOf, readTpmtPublic, tpm2b } from '../../../hsm/tpm2/structures.js';
import { EK_POLICY, ekTemplate, srkTemplate } from '../../../hsm/tpm2/templates.js';
import type { TpmLink } from '../../../hsm/tpm2.js';
import { tpm2Hsm } from '../../../hsm/tpm2.js';
import { decodeBase64 } from '../../../src/core/bytes.js';
import { sealKey } from './sealed-key.js';
import { bytesOf, hexOf, messageOf, VECTORS } from './vectors.js';

const { softwareActivation: software, recordedExchange: recorded } = VECTORS;

describe('templates', () => {
  it.each([
    ['tcg', 'ekTemplate_unique256zero', 'srkTemplate_unique256zero'],
    ['azure-node-c', 'ekTemplate_uniqueEmpty', 'srkTemplate_uniqueEmpty'],
    ['azure-java', 'ekTemplate_uniqueEmpty', 'srkTemplate_uniqueEmpty'],
  ] as const)('%s', (name, ek, srk) => {
    expect(hexOf(ekTemplate(name).publicArea)).toBe(VECTORS.constants[ek]);
    expect(hexOf(srkTemplate(name).publicArea)).toBe(VECTORS.constants[srk]);
    expect(ekTemplate(name).hierarchy).toBe(name === 'azure-java' ? commands.OWNER : commands.ENDORSEMENT);
    expect(srkTemplate(name).hierarchy).toBe(commands.OWNER);
  });

  it('know the policy of the EK', () => {
    expect(hexOf(EK_POLICY)).toBe(VECTORS.constants.ekPolicy_PolicySecretEndorsement);
  });
});

describe('names and derived keys', () => {
  it('KDFa', () => {
    for (const { key, label, contextU, contextV, bits, out } of VECTORS.kdfa) {
      expect(hexOf(kdfa(bytesOf(key), label, bytesOf(contextU), bytesOf(contextV), bits))).toBe(out);
    }
  });

  it('names of EK, SRK and the HMAC key', () => {
    expect(hexOf(nameOf(bytesOf(software.endorsementKey_TPM2B_PUBLIC).subarray(2)))).toBe(software.ekName);
    expect(hexOf(nameOf(bytesOf(software.storageRootKey_TPM2B_PUBLIC).subarray(2)))).toBe(software.srkName);
    expect(hexOf(readActivationBlob(bytesOf(software.blob)).name)).toBe(software.intermediate.duplicate.objectName);
  });

  it('reads the public areas', () => {
    const ek = readTpmtPublic(bytesOf(software.endorsementKey_TPM2B_PUBLIC).subarray(2), 'it');
    expect(ek).toMatchObject({ type: 'rsa', keyBits: 2048, exponent: 65537, nameAlg: 0x000b });
    expect(ek.type === 'rsa' && hexOf(ek.modulus)).toBe(software.ekPrivate_rsa_hex.n);
    expect(readTpmtPublic(readActivationBlob(bytesOf(software.blob)).publicArea, 'it')).toMatchObject({
      type: 'keyedHash',
      scheme: 5,
      hash: 0x000b,
      attributes: 0x0004_0440,
    });
  });

  it('signatures', () => {
    for (const signature of software.signatures) {
      expect(hexOf(hmacSha256(bytesOf(software.hmacKey), messageOf(signature)))).toBe(signature.hmacSha256);
    }
  });
});

describe('the blob', () => {
  it('is taken apart into its fields', () => {
    const blob = readActivationBlob(decodeBase64(software.authenticationKey_base64) ?? new Uint8Array());
    const { fields } = software;
    expect(hexOf(tpm2b(blob.credential))).toBe(fields.f1_TPM2B_ID_OBJECT);
    expect(hexOf(tpm2b(blob.credentialSecret))).toBe(fields.f2_TPM2B_ENCRYPTED_SECRET_ek);
    expect(hexOf(tpm2b(blob.duplicate))).toBe(fields.f3_TPM2B_PRIVATE);
    expect(hexOf(tpm2b(blob.duplicateSeed))).toBe(fields.f4_TPM2B_ENCRYPTED_SECRET_srk);
    expect(hexOf(tpm2b(blob.publicArea))).toBe(fields.f5_TPM2B_PUBLIC);
  });

  it.each(['softwareActivation', 'recordedExchange'] as const)('is made as in %s', (which) => {
    const made = remake(VECTORS[which]);
    const { fields, intermediate } = VECTORS[which];
    expect(hexOf(made.fields[0] ?? Buffer.alloc(0))).toBe(fields.f1_TPM2B_ID_OBJECT);
    expect(hexOf(made.fields[2] ?? Buffer.alloc(0))).toBe(fields.f3_TPM2B_PRIVATE);
    expect(hexOf(made.fields[4] ?? Buffer.alloc(0))).toBe(fields.f5_TPM2B_PUBLIC);
    expect(hexOf(made.fields[5] ?? Buffer.alloc(0))).toBe(fields.f6_TPM2B_DATA_encUri);
    expect(hexOf(made.intermediate.innerIntegrity ?? Buffer.alloc(0))).toBe(intermediate.duplicate.innerIntegrity);
    expect(hexOf(made.intermediate.outerHmac ?? Buffer.alloc(0))).toBe(intermediate.duplicate.outerHmac);
    expect(made.blob).toHaveLength(bytesOf(VECTORS[which].blob).length);
  });

  it('is opened with the private keys, that of the vectors and one made here', () => {
    for (const blob of [bytesOf(software.blob), remake(software).blob]) {
      const { innerKey, hmacKey } = open(blob);
      expect(hexOf(innerKey)).toBe(software.intermediate.duplicate.innerWrapKey);
      expect(hexOf(hmacKey)).toBe(software.hmacKey);
    }
  });

  it('is refused when anything is missing or too much', () => {
    const blob = bytesOf(software.blob);
    for (let length = 0; length < blob.length; length += 1) {
      expect(() => readActivationBlob(blob.subarray(0, length))).toThrow(/field \d/);
    }
    expect(() => readActivationBlob(Buffer.concat([blob, Buffer.alloc(1)]))).toThrow('1 bytes follow');
    const emptyUri = Buffer.concat([blob.subarray(0, 764), Buffer.alloc(2)]);
    expect(hexOf(readActivationBlob(emptyUri).name)).toBe(software.intermediate.duplicate.objectName);
  });

  it('is refused when the key in it does not sign with HMAC-SHA256', () => {
    const blob = bytesOf(software.blob);
    const publicAt = 54 + 258 + 144 + 258 + 2;
    for (const [offset, value] of [
      [1, 0x01],
      [3, 0x04],
      [5, 0x00],
      [11, 0x0a],
      [13, 0x04],
    ] as const) {
      const changed = Buffer.from(blob);
      changed[publicAt + offset] = value;
      expect(() => readActivationBlob(changed)).toThrow();
    }
  });
});

describe('the recorded exchange', () => {
  const steps = recorded.exchange.map(({ step, command, response }) => ({
    step,
    command,
    response: bytesOf(response),
  }));
  const ek = { handle: 0x8101_0001 };
  const srk = { handle: 0x8100_0001 };
  const identity = { handle: 0x8100_0100 };

  /** Encodes as we do, compares with the record, and reads the recorded response. */
  function replay<T>(index: number, command: commands.TpmCommand<T>, ...sessions: CommandSession[]): T {
    const { step, command: expected, response } = steps[index] ?? { step: '', command: '', response: Buffer.alloc(0) };
    expect(command.name).toBe(step);
    expect(hexOf(encodeCommand(command, sessions))).toBe(expected);
    return readResponse(command, sessions, readResponseHead(response, step), () => undefined);
  }

  it('is what our commands and readers make of it, byte for byte', () => {
    const blob = readActivationBlob(bytesOf(recorded.blob));
    replay(0, commands.startup());
    const madeEk = replay(
      2,
      commands.createPrimary(commands.ENDORSEMENT, ekTemplate('azure-node-c').publicArea),
      password(),
    );
    expect(hexOf(tpm2b(madeEk.publicArea))).toBe(recorded.endorsementKey_TPM2B_PUBLIC);
    replay(3, commands.evictControl(madeEk, ek.handle), password());
    replay(4, commands.flushContext(madeEk.handle));
    const madeSrk = replay(
      6,
      commands.createPrimary(commands.OWNER, srkTemplate('azure-node-c').publicArea),
      password(),
    );
    expect(hexOf(tpm2b(madeSrk.publicArea))).toBe(recorded.storageRootKey_TPM2B_PUBLIC);
    replay(7, commands.evictControl(madeSrk, srk.handle), password());
    expect(replay(9, commands.getProperty(0x10d))).toBe(1024);

    const nonceCaller = bytesOf(recorded.nonceCaller);
    const session = replay(10, commands.startAuthSession({ type: 'policy', nonceCaller }));
    replay(11, commands.policySecret(commands.ENDORSEMENT, session.handle), password());
    const innerKey = replay(
      12,
      commands.activateCredential(srk, ek, blob.credential, blob.credentialSecret),
      password(),
      recordedPolicy(session.handle),
    );
    expect(hexOf(innerKey)).toBe(recorded.intermediate.duplicate.innerWrapKey);
    const { publicArea, duplicate, duplicateSeed: encryptedSeed } = blob;
    const wrapped = replay(13, commands.importKey(srk, { innerKey, publicArea, duplicate, encryptedSeed }), password());
    const loaded = replay(14, commands.load(srk, wrapped, publicArea), password());
    expect(hexOf(loaded.name)).toBe(recorded.intermediate.duplicate.objectName);
    replay(16, commands.evictControl(loaded, identity.handle), password());
    replay(17, commands.flushContext(loaded.handle));
    signAsRecorded();
  });

  function signAsRecorded(): void {
    const [first, second, long] = recorded.signatures;
    if (first === undefined || second === undefined || long === undefined) throw new Error('signatures are missing');
    expect(hexOf(replay(18, commands.hmac(identity, messageOf(first)), password()))).toBe(first.hmacSha256);
    expect(hexOf(replay(19, commands.hmac(identity, messageOf(second)), password()))).toBe(second.hmacSha256);
    const data = messageOf(long);
    const sequence = replay(20, commands.hmacStart(identity), password());
    replay(21, commands.sequenceUpdate(sequence, data.subarray(0, 1024)), password());
    replay(22, commands.sequenceUpdate(sequence, data.subarray(1024, 2048)), password());
    const digest = replay(23, commands.sequenceComplete(sequence, data.subarray(2048)), password());
    expect(hexOf(digest)).toBe(long.hmacSha256);
  }

  it.each([1, 5, 15])('refuses in step %i, as the TPM did', (index) => {
    const head = readResponseHead(steps[index]?.response ?? Buffer.alloc(0), 'it');
    expect(head.code & 0xbf).toBe(0x8b);
  });

  it('is refused when a response is cut or longer than it says', () => {
    for (const { response, step } of steps) {
      for (let length = 0; length < response.length; length += 1) {
        expect(() => readResponseHead(response.subarray(0, length), step)).toThrow();
      }
      expect(() => readResponseHead(Buffer.concat([response, Buffer.alloc(1)]), step)).toThrow('says that it has');
    }
  });

  it('is refused when what is inside a response is cut or too much, with the size set right', () => {
    const readers = [
      [2, commands.createPrimary(commands.ENDORSEMENT, Buffer.alloc(0)), password()],
      [9, commands.getProperty(0x10d)],
      [10, commands.startAuthSession({ type: 'policy', nonceCaller: Buffer.alloc(16) })],
      [11, commands.policySecret(commands.ENDORSEMENT, 0x0300_0000), password()],
      [
        13,
        commands.importKey(srk, {
          innerKey: Buffer.alloc(16),
          publicArea: Buffer.alloc(1),
          duplicate: Buffer.alloc(1),
          encryptedSeed: Buffer.alloc(1),
        }),
        password(),
      ],
      [14, commands.load(srk, Buffer.alloc(1), Buffer.alloc(1)), password()],
      [18, commands.hmac(identity, Buffer.alloc(1)), password()],
      [23, commands.sequenceComplete(0x8000_0001, Buffer.alloc(1)), password()],
    ] as const;
    for (const [index, command, ...sessions] of readers) {
      const whole = steps[index]?.response ?? Buffer.alloc(0);
      const read = (bytes: Buffer): unknown => {
        const resized = Buffer.from(bytes);
        resized.writeUInt32BE(resized.length, 2);
        const head = readResponseHead(resized, command.name);
        return readResponse(command as commands.TpmCommand<unknown>, sessions, head, () => undefined);
      };
      expect(() => read(whole)).not.toThrow();
      for (let length = 10; length < whole.length; length += 1) expect(() => read(whole.subarray(0, length))).toThrow();
      expect(() => read(Buffer.concat([whole, Buffer.alloc(1)]))).toThrow();
    }
  });

  it('gives the registration id of its EK', async () => {
    const link: TpmLink = {
      place: 'the record',
      transceive: async (command) => {
        const step = recorded.exchange[hexOf(command) === recorded.exchange[1]?.command ? 2 : 0];
        return step?.step === 'CreatePrimary' ? readPublicAnswer() : bytesOf(step?.response ?? '');
      },
      rest: () => undefined,
      close: async () => undefined,
    };
    const hsm = await tpm2Hsm({ link });
    expect(await hsm.registrationId(new AbortController().signal)).toBe(recorded.registrationId);
  });

  function readPublicAnswer(): Uint8Array {
    const publicArea = bytesOf(recorded.endorsementKey_TPM2B_PUBLIC);
    const name = tpm2b(nameOf(publicArea.subarray(2)));
    const body = Buffer.concat([publicArea, name, name]);
    const head = Buffer.from('80010000000000000000', 'hex');
    head.writeUInt32BE(10 + body.length, 2);
    return Buffer.concat([head, body]);
  }
});

/** The record keeps its policy session, which ours ends. */
function recordedPolicy(handle: number): CommandSession {
  const step = recorded.exchange[12]?.command ?? '';
  const attributes = step.slice((10 + 8 + 4 + 9 + 6) * 2, (10 + 8 + 4 + 9 + 7) * 2);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(handle);
  return { authorize: () => Buffer.concat([head, bytesOf(`0000${attributes}0000`)]) };
}

function remake({
  endorsementKey_TPM2B_PUBLIC: ek,
  storageRootKey_TPM2B_PUBLIC: srk,
  hmacKey,
  intermediate,
}: typeof recorded | typeof software) {
  const { credential, duplicate, keyedHash } = intermediate;
  return sealKey(bytesOf(ek), bytesOf(srk), bytesOf(hmacKey), {
    innerKey: bytesOf(duplicate.innerWrapKey ?? ''),
    obfuscation: bytesOf(keyedHash.obfuscationSeedValue ?? ''),
    duplicationSeed: bytesOf(duplicate.seed ?? ''),
    credentialSeed: bytesOf(credential.seed ?? ''),
    uri: Buffer.from(software.uriPlaintext_utf8),
  });
}

/** What a TPM does with the blob, done with the private keys. Written from the specification, apart from `sealKey`. */
function open(blob: Buffer): { innerKey: Buffer; hmacKey: Buffer } {
  const parts = readActivationBlob(blob);
  const none = new Uint8Array();
  const credentialSeed = unwrap(software.ekPrivate_rsa_hex, 'IDENTITY\0', parts.credentialSecret);
  const srkName = bytesOf(software.srkName);
  const encIdentity = parts.credential.subarray(34);
  const integrityKey = kdfa(credentialSeed, 'INTEGRITY', none, none, 256);
  expect(hexOf(parts.credential.subarray(2, 34))).toBe(mac(integrityKey, encIdentity, srkName));
  const innerKey = decrypt(kdfa(credentialSeed, 'STORAGE', srkName, none, 128), encIdentity).subarray(2);

  const seed = unwrap(software.srkPrivate_rsa_hex, 'DUPLICATE\0', parts.duplicateSeed);
  const outer = parts.duplicate.subarray(34);
  expect(hexOf(parts.duplicate.subarray(2, 34))).toBe(mac(kdfa(seed, 'INTEGRITY', none, none, 256), outer, parts.name));
  const inner = decrypt(kdfa(seed, 'STORAGE', parts.name, none, 128), outer);
  const sensitive = decrypt(innerKey, inner).subarray(34);
  return { innerKey, hmacKey: sensitive.subarray(sensitive.length - 32) };
}

function mac(key: Uint8Array, ...parts: Uint8Array[]): string {
  return createHmac('sha256', key).update(Buffer.concat(parts)).digest('hex');
}

function decrypt(key: Uint8Array, bytes: Uint8Array): Buffer {
  return createDecipheriv('aes-128-cfb', key, Buffer.alloc(16)).update(bytes);
}

function unwrap(members: Readonly<Record<string, string>>, label: string, secret: Uint8Array): Buffer {
  const text = (name: string): string => bytesOf(members[name] ?? '').toString('base64url');
  const [n, e, d, p, q, dp, dq, qi] = ['n', 'e', 'd', 'p', 'q', 'dp', 'dq', 'qi'].map(text);
  const key = createPrivateKey({
    key: { kty: 'RSA', n, e, d, p, q, dp, dq, qi } as Record<string, string>,
    format: 'jwk',
  });
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return privateDecrypt({ key, padding, oaepHash: 'sha256', oaepLabel: Buffer.from(label) }, secret);
}
