import { readFileSync } from 'node:fs';
import type { KdfaVector } from '../../vectors/kdfa-vector.js';

interface Activation {
  readonly hmacKey: string;
  readonly intermediate: Readonly<Record<'credential' | 'duplicate' | 'keyedHash', Readonly<Record<string, string>>>>;
  readonly fields: Readonly<Record<string, string>>;
  readonly blob: string;
  readonly signatures: readonly {
    readonly message_utf8?: string;
    readonly message_repeat?: { readonly byte: string; readonly count: number };
    readonly hmacSha256: string;
  }[];
  readonly endorsementKey_TPM2B_PUBLIC: string;
  readonly storageRootKey_TPM2B_PUBLIC: string;
  readonly registrationId: string;
  readonly srkName: string;
}

/** `test/vectors/tpm-activation.json`; everything in it is hex. */
export const VECTORS = JSON.parse(
  readFileSync(new URL('../../vectors/tpm-activation.json', import.meta.url), 'utf8'),
) as {
  readonly constants: Readonly<Record<string, string>>;
  readonly kdfa: readonly KdfaVector[];
  readonly softwareActivation: Activation & {
    readonly ekPrivate_rsa_hex: Readonly<Record<string, string>>;
    readonly srkPrivate_rsa_hex: Readonly<Record<string, string>>;
    readonly ekName: string;
    readonly uriPlaintext_utf8: string;
    readonly authenticationKey_base64: string;
  };
  readonly recordedExchange: Activation & {
    readonly nonceCaller: string;
    readonly exchange: readonly { readonly step: string; readonly command: string; readonly response: string }[];
  };
};

export const bytesOf = (hex: string): Buffer => Buffer.from(hex, 'hex');
export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

export function messageOf({ message_utf8, message_repeat }: Activation['signatures'][number]): Buffer {
  if (message_utf8 !== undefined) return Buffer.from(message_utf8);
  return Buffer.alloc(message_repeat?.count ?? 0, bytesOf(message_repeat?.byte ?? ''));
}
