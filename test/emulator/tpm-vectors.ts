import { readFileSync } from 'node:fs';
import type { KdfaVector } from '../vectors/kdfa-vector.js';

interface Activation {
  readonly endorsementKey_TPM2B_PUBLIC: string;
  readonly storageRootKey_TPM2B_PUBLIC: string;
  readonly srkName: string;
  readonly registrationId: string;
  readonly hmacKey: string;
  readonly uriPlaintext_utf8: string;
  readonly intermediate: {
    readonly credential: { readonly seed: string };
    readonly duplicate: { readonly innerWrapKey: string; readonly seed: string };
    readonly keyedHash: { readonly obfuscationSeedValue: string };
  };
  readonly fields: Readonly<Record<string, string>>;
}

/** Members of an RSA key in hex. */
export type HexJwk = Readonly<Record<'n' | 'e' | 'd' | 'p' | 'q' | 'dp' | 'dq' | 'qi', string>>;

interface SoftwareActivation extends Activation {
  readonly ekPrivate_rsa_hex: HexJwk;
  readonly srkPrivate_rsa_hex: HexJwk;
  readonly ekName: string;
  readonly signatures: readonly { readonly message_utf8?: string; readonly hmacSha256: string }[];
}

interface Vectors {
  readonly kdfa: readonly KdfaVector[];
  readonly softwareActivation: SoftwareActivation;
  readonly recordedExchange: Activation;
}

/** A full activation recorded against a software TPM; its origin stands in the file. */
export const VECTORS: Vectors = JSON.parse(
  readFileSync(new URL('../vectors/tpm-activation.json', import.meta.url), 'utf8'),
) as Vectors;

export const fromHex = (hex: string): Buffer => Buffer.from(hex, 'hex');
