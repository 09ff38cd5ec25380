import { concatBytes } from '../../src/core/bytes.js';
import { ENDORSEMENT, OWNER, type TpmEntity } from './commands.js';
import { EMPTY_TPM2B, TPM_ALG, tpm2b, u16, u32 } from './structures.js';

/**
 * What EK and SRK are made from. A primary key follows from the hierarchy's seed and the WHOLE template, so one TPM has
 * as many EKs, and registration ids, as there are templates in use.
 *
 * - `tcg`: the TCG's default, `unique` of 256 zero bytes. The EK of the maker's certificate, of the C# SDK, of
 *   `tpm2_createek` and `swtpm_setup`.
 * - `azure-node-c`: Microsoft's Node and C SDKs, `unique` empty.
 * - `azure-java`: Microsoft's Java SDK, `unique` empty and the EK in the owner hierarchy: another one after TPM2_Clear.
 */
export type KeyTemplateName = 'tcg' | 'azure-node-c' | 'azure-java';

export const KEY_TEMPLATE_NAMES: readonly KeyTemplateName[] = ['tcg', 'azure-node-c', 'azure-java'];

export interface KeyTemplate {
  readonly hierarchy: TpmEntity;
  /** `TPMT_PUBLIC` */
  readonly publicArea: Uint8Array;
}

/** PolicySecret of the endorsement hierarchy: SHA-256(SHA-256(32 zero bytes, 00000151, 4000000b)). */
export const EK_POLICY: Uint8Array = Uint8Array.of(
  ...[0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xb3, 0xf8, 0x1a, 0x90, 0xcc, 0x8d, 0x46, 0xa5, 0xd7, 0x24],
  ...[0xfd, 0x52, 0xd7, 0x6e, 0x06, 0x52, 0x0b, 0x64, 0xf2, 0xa1, 0xda, 0x1b, 0x33, 0x14, 0x69, 0xaa],
);

export function ekTemplate(name: KeyTemplateName): KeyTemplate {
  const publicArea = storageKeyTemplate(0x0003_00b2, EK_POLICY, uniqueOf(name));
  return { hierarchy: name === 'azure-java' ? OWNER : ENDORSEMENT, publicArea };
}

export function srkTemplate(name: KeyTemplateName): KeyTemplate {
  return { hierarchy: OWNER, publicArea: storageKeyTemplate(0x0003_0472, new Uint8Array(), uniqueOf(name)) };
}

function uniqueOf(name: KeyTemplateName): Uint8Array {
  return new Uint8Array(name === 'tcg' ? 256 : 0);
}

/** RSA 2048 with AES-128-CFB for what it protects, exponent 65537 (written as 0). */
function storageKeyTemplate(attributes: number, policy: Uint8Array, unique: Uint8Array): Uint8Array {
  return concatBytes(
    u16(TPM_ALG.RSA),
    u16(TPM_ALG.SHA256),
    u32(attributes),
    policy.length === 0 ? EMPTY_TPM2B : tpm2b(policy),
    u16(TPM_ALG.AES),
    u16(128),
    u16(TPM_ALG.CFB),
    u16(TPM_ALG.NULL),
    u16(2048),
    u32(0),
    tpm2b(unique),
  );
}
