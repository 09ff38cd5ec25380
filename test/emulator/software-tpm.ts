/** As much of a TPM as opens a blob of the service: two RSA keys, and the rules that a TPM enforces on the way. */
import { constants, createDecipheriv, createHash, createHmac, createPrivateKey, privateDecrypt } from 'node:crypto';
import { fromHex, type HexJwk, VECTORS } from './tpm-vectors.js';

export class SoftwareTpm {
  readonly endorsementKey: Buffer;
  readonly storageRootKey: Buffer;
  readonly #endorsementPrivate: ReturnType<typeof importKey>;
  readonly #storageRootPrivate: ReturnType<typeof importKey>;

  /** With the keys of the vectors. */
  constructor() {
    const vector = VECTORS.softwareActivation;
    this.endorsementKey = fromHex(vector.endorsementKey_TPM2B_PUBLIC);
    this.storageRootKey = fromHex(vector.storageRootKey_TPM2B_PUBLIC);
    this.#endorsementPrivate = importKey(vector.ekPrivate_rsa_hex);
    this.#storageRootPrivate = importKey(vector.srkPrivate_rsa_hex);
  }

  /** What a device sends about itself. */
  get tpm(): { endorsementKey: string; storageRootKey: string } {
    return {
      endorsementKey: this.endorsementKey.toString('base64'),
      storageRootKey: this.storageRootKey.toString('base64'),
    };
  }

  /** ActivateCredential and Import: the HMAC key. Throws where a TPM would refuse. */
  activate(blob: Uint8Array): Buffer {
    const [credential, credentialSecret, duplicate, duplicateSecret, publicArea, uri, ...more] = splitSized(blob);
    if (more.length > 0 || credential === undefined || credentialSecret === undefined || duplicate === undefined)
      throw new Error('LAYOUT');
    if (duplicateSecret === undefined || publicArea === undefined || uri === undefined) throw new Error('LAYOUT');
    const innerKey = unsize(
      unprotect(
        decrypt(this.#endorsementPrivate, 'IDENTITY', credentialSecret),
        credential,
        nameOf(this.storageRootKey),
      ),
    );
    const name = Buffer.concat([fromHex('000b'), sha256(publicArea)]);
    const wrapped = unprotect(decrypt(this.#storageRootPrivate, 'DUPLICATE', duplicateSecret), duplicate, name);
    const [integrity, sensitive] = splitSized(cfb(innerKey, wrapped));
    if (integrity === undefined || sensitive === undefined) throw new Error('LAYOUT');
    const sized = Buffer.concat([Buffer.from([0, sensitive.length]), sensitive]);
    if (!sha256(Buffer.concat([sized, name])).equals(integrity)) throw new Error('INTEGRITY');
    return readSensitive(sensitive, publicArea);
  }
}

/** Type keyedHash, empty password, obfuscation value, key; the public area must be made of them. */
function readSensitive(sensitive: Buffer, publicArea: Buffer): Buffer {
  const [password, obfuscation, key] = splitSized(sensitive.subarray(2));
  if (sensitive.readUInt16BE(0) !== 8 || password?.length !== 0 || obfuscation === undefined || key === undefined)
    throw new Error('LAYOUT');
  const unique = sha256(Buffer.concat([obfuscation, key])).toString('hex');
  if (publicArea.toString('hex') !== `0008000b0004044000000005000b0020${unique}`) throw new Error('BINDING');
  return key;
}

function importKey(jwk: HexJwk): ReturnType<typeof createPrivateKey> {
  const members = Object.entries(jwk).map(([key, hex]) => [key, key === 'kty' ? hex : base64Url(hex)]);
  return createPrivateKey({ key: Object.fromEntries(members), format: 'jwk' });
}

const base64Url = (hex: string): string => fromHex(hex).toString('base64url');

function decrypt(key: ReturnType<typeof importKey>, label: string, secret: Buffer): Buffer {
  const oaepLabel = Buffer.from(`${label}\0`);
  return privateDecrypt({ key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha256', oaepLabel }, secret);
}

function unprotect(seed: Buffer, content: Buffer, name: Buffer): Buffer {
  const mac = unsizeStart(content);
  const encrypted = content.subarray(2 + mac.length);
  const expected = hmac(deriveOneBlock(seed, 'INTEGRITY', Buffer.alloc(0), 256), Buffer.concat([encrypted, name]));
  if (!expected.equals(mac)) throw new Error('INTEGRITY');
  return cfb(deriveOneBlock(seed, 'STORAGE', name, 128), encrypted);
}

function deriveOneBlock(seed: Buffer, label: string, context: Buffer, bits: number): Buffer {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bits);
  return hmac(seed, Buffer.concat([fromHex('00000001'), Buffer.from(`${label}\0`), context, length])).subarray(
    0,
    bits / 8,
  );
}

function cfb(key: Buffer, content: Buffer): Buffer {
  // What Azure's clients say: AES-128, whatever length the key has.
  if (key.length !== 16) throw new Error('KEY_SIZE');
  const cipher = createDecipheriv('aes-128-cfb', key, Buffer.alloc(16));
  return Buffer.concat([cipher.update(content), cipher.final()]);
}

function splitSized(bytes: Uint8Array): Buffer[] {
  const fields: Buffer[] = [];
  for (let rest = Buffer.from(bytes); rest.length > 0; ) {
    const field = unsizeStart(rest);
    fields.push(field);
    rest = rest.subarray(2 + field.length);
  }
  return fields;
}

function unsizeStart(bytes: Buffer): Buffer {
  const end = 2 + bytes.readUInt16BE(0);
  if (end > bytes.length) throw new Error('LAYOUT');
  return bytes.subarray(2, end);
}

function unsize(bytes: Buffer): Buffer {
  const content = unsizeStart(bytes);
  if (content.length !== bytes.length - 2) throw new Error('LAYOUT');
  return content;
}

const nameOf = (publicKey: Buffer): Buffer => Buffer.concat([fromHex('000b'), sha256(publicKey.subarray(2))]);
const sha256 = (content: Buffer): Buffer => createHash('sha256').update(content).digest();
const hmac = (key: Buffer, content: Buffer): Buffer => createHmac('sha256', key).update(content).digest();
