import { createHmac, randomBytes } from 'node:crypto';
import { makeActivationBlob } from '../../../src/emulator/tpm-activation.js';
import { parseStorageKey, type StorageKey } from '../../../src/emulator/tpm-storage-key.js';

export { Swtpm } from '../../hsm/tpm2/swtpm-process.js';

/** Base64 of both `TPM2B_PUBLIC`. */
interface Keys {
  readonly endorsementKey: string;
  readonly storageRootKey: string;
}

/** As the emulator makes it. */
export function blobFor({ endorsementKey, storageRootKey }: Keys, hmacKey: Uint8Array): Buffer {
  return Buffer.from(
    makeActivationBlob({
      endorsementKey: parsed(endorsementKey),
      storageRootKey: parsed(storageRootKey),
      hmacKey,
      uri: 'hub.example/devices/dev-1',
      randomBytes: (size) => randomBytes(size),
    }),
  );
}

/** The six fields of a blob, each with its size. */
export function fieldsOf(blob: Buffer): Buffer[] {
  const fields: Buffer[] = [];
  for (let offset = 0; offset < blob.length; ) {
    const end = offset + 2 + blob.readUInt16BE(offset);
    fields.push(blob.subarray(offset, end));
    offset = end;
  }
  return fields;
}

/** A contestant that signs with another key measures nothing. */
export function requireSignature(signature: string, textBase64: string, key: Uint8Array): void {
  const expected = createHmac('sha256', key).update(Buffer.from(textBase64, 'base64')).digest('hex');
  if (signature !== expected) throw new Error(`It signed ${signature}, not ${expected}.`);
}

function parsed(text: string): StorageKey {
  const key = parseStorageKey(Buffer.from(text, 'base64'));
  if ('problem' in key) throw new Error(key.problem);
  return key;
}
