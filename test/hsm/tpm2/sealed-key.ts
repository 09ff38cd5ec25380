import {
  constants,
  createCipheriv,
  createHash,
  createHmac,
  createPublicKey,
  publicEncrypt,
  randomBytes,
} from 'node:crypto';

/**
 * The service's half, written from the reference and not from the device's code: an HMAC key, sealed so that only the
 * TPM with both EK and SRK can take it in. Everything that the service draws by lot can be given.
 */
export interface SealedKeyParts {
  readonly innerKey?: Buffer;
  readonly obfuscation?: Buffer;
  readonly duplicationSeed?: Buffer;
  readonly credentialSeed?: Buffer;
  /** Default: sign, userWithAuth, noDA. */
  readonly attributes?: number;
  readonly uri?: Buffer;
}

export interface SealedKey {
  readonly blob: Buffer;
  readonly fields: readonly Buffer[];
  readonly name: Buffer;
  readonly intermediate: Readonly<Record<string, Buffer>>;
}

const sha256 = (...parts: Buffer[]): Buffer => createHash('sha256').update(Buffer.concat(parts)).digest();
const hmac = (key: Buffer, ...parts: Buffer[]): Buffer =>
  createHmac('sha256', key).update(Buffer.concat(parts)).digest();
const be16 = (value: number): Buffer => Buffer.from([value >> 8, value & 255]);
const be32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const sized = (bytes: Buffer): Buffer => Buffer.concat([be16(bytes.length), bytes]);
const cfb = (key: Buffer, bytes: Buffer): Buffer =>
  createCipheriv(`aes-${key.length * 8}-cfb`, key, Buffer.alloc(16)).update(bytes);
const derive = (key: Buffer, label: string, context: Buffer, bits: number): Buffer =>
  hmac(key, be32(1), Buffer.from(`${label}\0`), context, be32(bits)).subarray(0, bits / 8);

/** `ek` and `srk` are marshalled TPM2B_PUBLICs of RSA 2048 keys. */
export function sealKey(ek: Uint8Array, srk: Uint8Array, key: Buffer, parts: SealedKeyParts = {}): SealedKey {
  const inner = parts.innerKey ?? randomBytes(16);
  const obfuscation = parts.obfuscation ?? randomBytes(32);
  const duplicationSeed = parts.duplicationSeed ?? randomBytes(32);
  const credentialSeed = parts.credentialSeed ?? randomBytes(32);

  const unique = sha256(obfuscation, key);
  const head = Buffer.concat([Buffer.from('0008000b', 'hex'), be32(parts.attributes ?? 0x0004_0440)]);
  const publicArea = Buffer.concat([head, Buffer.from('00000005000b', 'hex'), sized(unique)]);
  const name = Buffer.concat([be16(0x000b), sha256(publicArea)]);

  const sensitive = sized(Buffer.concat([be16(8), sized(Buffer.alloc(0)), sized(obfuscation), sized(key)]));
  const innerIntegrity = sha256(sensitive, name);
  const innerWrapped = cfb(inner, Buffer.concat([sized(innerIntegrity), sensitive]));
  const outerWrapped = cfb(derive(duplicationSeed, 'STORAGE', name, 128), innerWrapped);
  const outerHmac = hmac(derive(duplicationSeed, 'INTEGRITY', Buffer.alloc(0), 256), outerWrapped, name);

  const srkName = Buffer.concat([be16(0x000b), sha256(Buffer.from(srk.subarray(2)))]);
  const encIdentity = cfb(derive(credentialSeed, 'STORAGE', srkName, 128), sized(inner));
  const integrityHmac = hmac(derive(credentialSeed, 'INTEGRITY', Buffer.alloc(0), 256), encIdentity, srkName);

  const fields = [
    sized(Buffer.concat([sized(integrityHmac), encIdentity])),
    sized(oaep(ek, 'IDENTITY\0', credentialSeed)),
    sized(Buffer.concat([sized(outerHmac), outerWrapped])),
    sized(oaep(srk, 'DUPLICATE\0', duplicationSeed)),
    sized(publicArea),
    sized(cfb(inner, parts.uri ?? Buffer.from('https://hub.example/devices/dev-1'))),
  ];
  return {
    blob: Buffer.concat(fields),
    fields,
    name,
    intermediate: {
      innerIntegrity,
      innerWrapped,
      outerWrapped,
      outerHmac,
      encIdentity,
      integrityHmac,
      unique,
      srkName,
    },
  };
}

function oaep(publicKey: Uint8Array, label: string, message: Buffer): Buffer {
  const key = createPublicKey({
    key: { kty: 'RSA', e: 'AQAB', n: Buffer.from(publicKey.slice(-256)).toString('base64url') },
    format: 'jwk',
  });
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return publicEncrypt({ key, padding, oaepHash: 'sha256', oaepLabel: Buffer.from(label) }, message);
}
